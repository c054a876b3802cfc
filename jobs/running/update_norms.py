"""How long the sites' updates are: what a clipping norm is chosen by, on data that may tell it.

Lengths of real patients' updates are data: whoever chooses C by them has spent privacy that no
ledger counts. So they are measured on the computed cohort, or on data that are public anyway.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch

from fedi2i.cores import available_cores
from fedi2i.errors import ConfigError, DataError
from jobs.running.prepared_data import prepared_manifests
from jobs.writing.federation import FederatedExperiment
from lightning_modules.combining.updates import SiteUpdate, network_of
from lightning_modules.combining.weighted_mean import weighted_mean
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.model_networks import role_of
from lightning_modules.strategies.catalogue import StrategyConfig
from lightning_modules.training.hardware import choose_hardware
from lightning_modules.training.learner import Learner, State
from lightning_modules.training.local_state import LocalStateStore
from partitions.preparation import prepare_site

FIRST_COUNTED = 1
"""In the first round updates from random weights are longer than later ones."""


@dataclass(frozen=True)
class UpdateNorm:
    """How long the update of one site's network is in one round.

    Attributes:
        round_number: from 0.
        site: the site.
        network: the shared network.
        norm: Euclidean norm of sent minus received, in units of the weights.
    """

    round_number: int
    site: str
    network: str
    norm: float


def update_norms(
    job: FederatedExperiment, data: Path, rounds: int, public: bool = False
) -> list[UpdateNorm]:
    """Train some rounds of FedAvg in this process and measure every site's update.

    Args:
        job: experiment and federation; its strategy and mechanism do not matter here.
        data: folder that holds one folder per site.
        rounds: two or more.
        public: whether the data are known to everybody, so that lengths of updates may be too.

    Raises:
        ConfigError: too few rounds.
        DataError: data of a site that are missing, or neither computed nor said to be public.
    """
    if rounds <= FIRST_COUNTED:
        raise ConfigError(f"--rounds {rounds}: write 2 or more; the first round does not count")
    experiment = replace(job.experiment, strategy=StrategyConfig())
    job = replace(job, experiment=experiment, federation=replace(job.federation, unseen=()))
    manifests = prepared_manifests(job, data)
    for manifest in manifests:
        if not (manifest.computed or public):
            raise DataError(
                f"{manifest.root}: not computed; lengths of patients' updates are data that no "
                "noise covers; take the computed cohort (fedi2i data demo), or say --public where "
                "everybody may know these scans"
            )
    hardware = choose_hardware(experiment.training.precision, available_cores())
    with TemporaryDirectory() as folder:
        learners = {}
        for manifest in manifests:
            cache = manifest.root / "prepared"
            prepared = prepare_site(manifest, experiment.data.preparation_at(manifest.site), cache)
            slices = TrainingSlices([prepared.split("train")])
            store = LocalStateStore(Path(folder) / manifest.site)
            learners[manifest.site] = Learner(experiment, manifest.site, slices, hardware, store)
        return list(_measured(learners, rounds))


def clipping_norms(norms: Sequence[UpdateNorm]) -> dict[str, float]:
    """The clipping norm of each role: the median over sites and rounds but the first."""
    found: dict[str, list[float]] = {}
    for one in norms:
        if one.round_number >= FIRST_COUNTED:
            found.setdefault(role_of(one.network), []).append(one.norm)
    return {role: float(f"{median(values):.2g}") for role, values in found.items()}


def _measured(learners: Mapping[str, Learner], rounds: int) -> Iterator[UpdateNorm]:
    state = next(iter(learners.values())).initial_state()
    for number in range(rounds):
        updates = []
        for site, learner in learners.items():
            result = learner.train(state, number)
            yield from _lengths(number, site, state, result.state)
            weights = {key: value.numpy() for key, value in result.state.items()}
            updates.append(SiteUpdate(site, weights, result.samples))
        state = {key: torch.as_tensor(np.array(v)) for key, v in weighted_mean(updates).items()}


def _lengths(number: int, site: str, received: State, trained: State) -> Iterator[UpdateNorm]:
    squares: dict[str, float] = {}
    for key, value in trained.items():
        change = float((value.double() - received[key].double()).square().sum())
        squares[network_of(key)] = squares.get(network_of(key), 0.0) + change
    for network, total in squares.items():
        yield UpdateNorm(number, site, network, math.sqrt(total))
