"""Measure translators by their error on patients of all sites, and no weights twice."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor, nn

from jobs.running.matching.plan import MatchingStudy
from jobs.running.matching.training import ONE_THREAD, Data
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.evaluation.validation import Patient, patients, translate_patient
from lightning_modules.matching.channel_groups import ChannelGroups
from lightning_modules.matching.merging.activations import load_state
from lightning_modules.matching.network_groups import network_groups
from lightning_modules.matching.permutations import State
from lightning_modules.metrics.interface import image_pair
from lightning_modules.networks.building import build_networks
from lightning_modules.networks.generators.catalogue import build_generator
from partitions.preparation.configuration import DOMAINS

VAL, TEST, UNSEEN = "val", "test", "unseen"


class Score(NamedTuple):
    """Of a translator, as means over patients.

    Attributes:
        l1: mean absolute error inside the mask, of intensities in [0, 1].
        psnr: in dB, inside the mask.
    """

    l1: float
    psnr: float


class Scale:
    """Measures translators of one experiment.

    Args:
        study: the study.
        experiment: of one seed and width.
        data: the prepared sites.

    Attributes:
        splits: what can be measured on: validation and test patients of the sites that train, and
            all patients of unseen sites where there are any.
        groups: channel groups of the translator.
        translator: its name in a model's state.
    """

    def __init__(self, study: MatchingStudy, experiment: ExperimentConfig, data: Data) -> None:
        federation = study.job.federation
        self._config = experiment.model
        self._prepared = [data.site(name, experiment) for name in federation.sites]
        unseen = [data.site(name, experiment) for name in federation.unseen]
        self._patients: dict[str, list[Patient]] = {
            split: [p for site in self._prepared for p in patients(site.split(split))]
            for split in (VAL, TEST)
        }
        self._patients[UNSEEN] = [p for site in unseen for p in patients(site.split(TEST))]
        self.splits = tuple(split for split, found in self._patients.items() if found)
        self.translator = self._config.described.translator
        networks = build_networks(self._config, experiment.seed)
        size = experiment.data.preparation.size
        named = network_groups(networks, self._config, [self.translator], size)
        self.groups: ChannelGroups = named[self.translator]
        self._network = self.build()
        self._known: dict[tuple[str, str], Score] = {}

    def build(self) -> nn.Module:
        """A translator of this experiment, whose weights mean nothing yet."""
        return build_generator(self._config.generator, self._config.view)

    def score(self, states: Sequence[State], split: str) -> Score:
        """The score of one translator, or of the mean of several ones' outputs."""
        key = ("/".join(_digest(state) for state in states), split)
        if key not in self._known:
            self._known[key] = self._measured(states, split)
        return self._known[key]

    def slices(self, count: int) -> Tensor:
        """Training slices of all sites for comparing activations, spread evenly over them.

        Returns:
            (slices, channels, rows, columns) in [-1, 1], as the translator is shown them; fewer
            where there are no more.
        """
        splits = [site.split("train") for site in self._prepared]
        found = TrainingSlices(splits, DOMAINS, self._config.view)
        places = torch.linspace(0, len(found) - 1, min(count, len(found))).round().long().numpy()
        return found.batch(places)["source"]

    def _measured(self, states: Sequence[State], split: str) -> Score:
        predictions: list[list[Tensor]] = [[] for _ in self._patients[split]]
        for state in states:
            network = load_state(self._network, state)
            for patient, found in zip(self._patients[split], predictions, strict=True):
                found.append(translate_patient(network, patient, ONE_THREAD, self._config.view))
        pairs = [
            image_pair(torch.stack(found).mean(dim=0), patient.target, patient.mask)
            for patient, found in zip(self._patients[split], predictions, strict=True)
        ]
        return Score(
            l1=fmean(float(pair.error.abs().mean()) for pair in pairs),
            psnr=fmean(pair.psnr(1.0) for pair in pairs),
        )


def network_state(state: Mapping[str, Tensor], network: str) -> dict[str, Tensor]:
    """The tensors of one network of a model, by its own keys."""
    prefix = f"{network}."
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def _digest(state: State) -> str:
    content = hashlib.sha256()
    for key in sorted(state):
        content.update(key.encode())
        content.update(state[key].tobytes())
    return content.hexdigest()
