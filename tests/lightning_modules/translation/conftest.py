"""Tiny models that were not trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from translated_scans import MakeModel, experiment_of

from lightning_modules.networks.building import build_networks
from lightning_modules.translation import translator
from lightning_modules.translation.model_card import SourceIntensities, card_of, training_record
from lightning_modules.translation.model_file import ModelFile, write_model


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    """Write a model file of a task; ``seeds`` draw its last rounds, the last one is the model."""

    def make(
        task: str = "t1:ct",
        seeds: tuple[int, ...] = (1,),
        intensities: SourceIntensities | None = None,
        **preparation: Any,
    ) -> Path:
        experiment = experiment_of(task, **preparation)
        drawn = [build_networks(experiment.model, seed)["generator"].state_dict() for seed in seeds]
        record = training_record(experiment, "tiny", [], "final", len(seeds))
        model = ModelFile(
            card_of(experiment, record, intensities),
            drawn[-1],
            dict(enumerate(drawn, 1)),
        )
        return write_model(tmp_path / f"{task.replace(':', '-')}.safetensors", model)

    return make


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network returns what it is given."""
    monkeypatch.setattr(translator, "build_network", lambda *_: torch.nn.Identity())
