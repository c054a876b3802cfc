"""Sites that send what they did not learn, in a study of robustness.

They exist in the loop of one process alone (``jobs.running.plain_loop``): what they do is written
here, which nothing at a site imports, and no job can carry it, as ``refuse_hostile_sites`` stands
before every job that is written. So nobody can tell a real site to be hostile, nor the simulator's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fedi2i.errors import ConfigError
from fedi2i.typed_config import check_values, nearest, number, word
from lightning_modules.combining.updates import Weights
from lightning_modules.seeding import derive_seed
from lightning_modules.strategies.interface import STAR

if TYPE_CHECKING:
    from jobs.writing.federation import FederatedExperiment

FLIP, SCALE, NOISE, ZEROS = "flip", "scale", "noise", "zeros"


@dataclass(frozen=True)
class HostileSite:
    """What a hostile site sends in place of w + u, the received weights and its own update.

    Attributes:
        does: ``flip`` sends w - factor * u, ``scale`` w + factor * u, ``noise`` w and normal noise
            of factor times the length of u in every array, ``zeros`` zeros.
        factor: see above.
    """

    does: str = word(FLIP, FLIP, SCALE, NOISE, ZEROS, meaning="what a hostile site sends")
    factor: float = number(1.0, above=True, most=1e6, meaning="times its own update")


class HostileSites:
    """Changes what hostile sites send; what honest ones send stays as it is.

    Args:
        sites: what each hostile site does, by name.
        seed: the experiment's, of the noise.
    """

    def __init__(self, sites: Mapping[str, HostileSite], seed: int) -> None:
        self._sites = dict(sites)
        self._noise = {
            site: np.random.default_rng(derive_seed(seed, "hostile", site)) for site in sites
        }

    def __call__(self, site: str, received: Weights, trained: Weights) -> Weights:
        """What a site sends in a round.

        Args:
            site: its name.
            received: the global model.
            trained: what it has trained; whole numbers in it, which count, stay as they are.
        """
        if site not in self._sites:
            return trained
        return {
            key: self._sent(site, received[key], value) if value.dtype.kind == "f" else value
            for key, value in trained.items()
        }

    def _sent(self, site: str, received: np.ndarray, trained: np.ndarray) -> np.ndarray:
        does, factor = self._sites[site].does, self._sites[site].factor
        update = trained - received
        if does == ZEROS:
            return np.zeros_like(trained)
        if does == NOISE:
            noise = self._noise[site].normal(size=update.shape)
            length = np.linalg.norm(update) / max(float(np.linalg.norm(noise)), 1e-12)
            update = noise * length
        sign = -1.0 if does == FLIP else 1.0
        return np.asarray(received + sign * factor * update, dtype=trained.dtype)


def check_hostile_sites(
    hostile: Mapping[str, HostileSite], sites: Sequence[str], where: str
) -> None:
    """Refuse hostile sites that do not train, or behaviours that cannot be.

    Raises:
        ConfigError: naming the key; also where no honest site is left to measure the model at.
    """
    for site, record in hostile.items():
        if site not in sites:
            raise ConfigError(
                f"{where} names '{site}', which does not train; {nearest(site, sites)}"
            )
        check_values(record, where, f"{site}.")
    if hostile and set(hostile) >= set(sites):
        raise ConfigError(f"{where} names every site that trains; leave one of them honest")


def check_one_process(job: FederatedExperiment, where: str) -> None:
    """Refuse hostile sites beside what the loop of one process does not have.

    Raises:
        ConfigError: naming what has to be left out.
    """
    if not job.federation.hostile:
        return
    strategy, federation = job.experiment.strategy.record, job.federation
    rule = strategy.server
    unfit = {
        f"strategy '{strategy.name}'": rule is None
        or strategy.topology != STAR
        or rule.matches_channels
        or strategy.site.has_personal_models
        or job.experiment.strategy.initialisation != "shared",
        f"privacy.mechanism '{job.privacy.mechanism}'": job.privacy.acts,
        "federation.compression": federation.compression != "none",
        "federation.initial_model": bool(federation.initial_model),
    }
    for what, found in unfit.items():
        if found:
            raise ConfigError(
                f"{where}: federation.hostile names {', '.join(sorted(federation.hostile))}, but "
                f"hostile sites exist in one process alone, which has no {what}; leave one out"
            )


def refuse_hostile_sites(job: FederatedExperiment) -> None:
    """Refuse to write a job that has hostile sites.

    Raises:
        ConfigError: naming them.
    """
    if job.federation.hostile:
        raise ConfigError(
            f"federation.hostile names {', '.join(sorted(job.federation.hostile))}: no job has "
            "hostile sites, which exist in the one process of 'fedi2i study' and 'fedi2i compare' "
            "alone; leave them out of an exported job"
        )
