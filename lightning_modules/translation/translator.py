"""The networks of a model file at work: slices to slices, and how much its last rounds disagree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fedi2i.errors import ConfigError
from lightning_modules.evaluation.validation import translate_seen
from lightning_modules.training.hardware import Hardware
from lightning_modules.translation.model_file import ModelFile, Weights, build_network
from partitions.preparation.intensities import Scale, fixed_scale
from partitions.preparation.scaling import HOUNSFIELD, SUV_UNIT, is_computed_tomography

RELATIVE = Scale(0.0, 1000.0)
"""Of a target without a unit: a new patient has no target to take its two percentiles from, so the
values are thousandths of the way from the lower to the upper one."""
LEAST_MODELS = 2
"""Global models that a disagreement needs."""


class Translator:
    """Translates prepared slices with one model.

    It computes in full precision whatever the training did: half precision is a quarter of a HU,
    and brain floating point four of them, over the window of a CT.

    Args:
        model: as it was read.
        device: Lightning's name of where to compute, ``cpu`` or ``gpu``.
        threads: torch threads.
        batch: slices or patches at a time; what bounds the memory.
    """

    def __init__(self, model: ModelFile, device: str = "cpu", threads: int = 1, batch: int = 8):
        self.card = model.card
        self._model = model
        self._hardware = Hardware(device, "32-true", threads)
        self._batch = batch
        self._network = build_network(model.card, model.weights)

    @property
    def scale(self) -> Scale:
        """The scale of what it writes."""
        return fixed_scale(self.card.preparation.target_scaling) or RELATIVE

    def translate(
        self, source: NDArray[np.float32], heights: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """Intensities in [0, 1], (slices, rows, columns), to the same.

        Args:
            source: one volume; of several contrasts behind each other, see ``SourceView``.
            heights: which slices of the scan these are, see ``SourceView.around``; by default all.
        """
        return self._run(source, self._network, heights)

    def disagreement(
        self, source: NDArray[np.float32], heights: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """Standard deviation over the run's last global models, voxel by voxel.

        It tells where training had not settled. It is no confidence interval: models of successive
        rounds have seen the same patients, and may agree on what is wrong.

        Args:
            source: as for ``translate``.
            heights: likewise.

        Returns:
            In parts of the target's scale, (slices, rows, columns).
        """
        shape = (len(source) // self.card.network.contrasts, *source.shape[1:])
        mean, squares = np.zeros(shape), np.zeros(shape)
        for number, weights in enumerate(self._model.earlier.values(), 1):
            # Welford's method: one model in memory at a time, and no difference of large sums.
            found = self._run(source, build_network(self.card, weights), heights)
            before = found - mean
            mean += before / number
            squares += before * (found - mean)
        return np.asarray(np.sqrt(squares / len(self._model.earlier)), dtype=np.float32)

    def _run(
        self,
        source: NDArray[np.float32],
        network: torch.nn.Module,
        heights: Sequence[int] | None,
    ) -> NDArray[np.float32]:
        volume, view = torch.from_numpy(source), self.card.network.view
        places = range(len(source) // view.contrasts) if heights is None else heights
        found = translate_seen(network, volume, self._hardware, view, places, self._batch)
        return np.asarray(found.clamp(0.0, 1.0).numpy(), dtype=np.float32)


def check_uncertainty(path: Path, earlier: dict[int, Weights]) -> None:
    """Refuse to show a disagreement of fewer than two models.

    Raises:
        ConfigError: naming the file and what it lacks.
    """
    if len(earlier) < LEAST_MODELS:
        raise ConfigError(
            f"--uncertainty: {path} holds {len(earlier)} of its run's last global models, and a "
            "disagreement needs two; a run of two rounds or more keeps them (a swarm, whose "
            "server sees no model before the end, keeps none)"
        )


def modality_of(sequence: str, unit: str) -> str:
    """DICOM's word for a domain's modality, as its name and its unit tell.

    Args:
        sequence: the domain's name, e.g. ``t1`` or ``cbct``.
        unit: of its scaling.
    """
    if unit == SUV_UNIT:
        return "PT"
    return "CT" if unit == HOUNSFIELD or is_computed_tomography(sequence) else "MR"
