"""An update as an attacker sees it, and the slices that it was made of, to hold against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lightning_modules.configuration import ExperimentConfig
from lightning_modules.networks.building import build_networks
from partitions.preparation import PreparedSplit


@dataclass(frozen=True)
class SeenUpdate:
    """An update and what it was made of.

    Attributes:
        received: the weights before it.
        sent: those after it, as they left.
        noise: what leaves where nothing was trained.
        splits: the slices it was trained on.
        inside: numbers of their patients.
    """

    received: Mapping[str, Tensor]
    sent: Mapping[str, Tensor]
    noise: Mapping[str, Tensor]
    splits: Sequence[PreparedSplit]
    inside: tuple[int, ...]

    @property
    def gradient(self) -> dict[str, Tensor]:
        """What was seen, as a gradient up to a factor."""
        return {key: self.received[key] - value for key, value in self.sent.items()}

    @property
    def of_generator(self) -> dict[str, Tensor]:
        """The generator's part of it, by the keys of its own state_dict."""
        prefix = "generator."
        return {
            key.removeprefix(prefix): value
            for key, value in self.gradient.items()
            if key.startswith(prefix)
        }

    @property
    def noise_norm(self) -> float:
        """Length of the noise on the generator."""
        parts = [
            float((value - self.received[key]).square().sum())
            for key, value in self.noise.items()
            if key.startswith("generator.")
        ]
        return float(np.sqrt(sum(parts)))

    def networks(self, experiment: ExperimentConfig) -> dict[str, torch.nn.Module]:
        """The networks as the attacker has them; what is not shared is seeded, as at the site."""
        before = build_networks(experiment.model, experiment.seed)
        before.load_state_dict({**before.state_dict(), **self.received})
        found = dict(before.items())
        if "discriminator" in found:
            after = build_networks(experiment.model, experiment.seed)
            after.load_state_dict({**after.state_dict(), **self.received, **self.sent})
            found["judge"] = after["discriminator"]
        return found

    def judged(self, experiment: ExperimentConfig) -> dict[str, torch.nn.Module]:
        """The generator, and the discriminator that judged it: the one after its own step."""
        found = self.networks(experiment)
        judge = {"discriminator": found["judge"]} if "judge" in found else {}
        return {"generator": found["generator"], **judge}

    def slices(self, array: str) -> np.ndarray:
        """The slices of the update, as they are stored."""
        return np.concatenate([slices_of(split, array) for split in self.splits])


def slices_of(split: PreparedSplit, array: str) -> np.ndarray:
    """The stored slices of a split's subjects, one array after the other."""
    spans = [getattr(split, array)[s.start : s.stop] for s in split.subjects]
    return np.concatenate(spans)
