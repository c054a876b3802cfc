"""What a run left in the server's folder."""

from __future__ import annotations

from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from provision.poc.run import metric_values

Model = dict[str, torch.Tensor]


def check_learnt(run_folder: Path, rounds: int) -> None:
    """The model has learnt, and nothing came along that should not."""
    metrics = metric_values(run_folder)
    before, after = (metrics["all", number, "val/psnr"] for number in (0, rounds))
    assert after > before + 1.0
    # No participant was wrongly taken for lost, and no picture came along.
    log = (run_folder / "log.txt").read_text()
    assert "is lost" not in log and "no usable update" not in log
    assert not list(run_folder.rglob("*.png"))
    for kind, names in streamed(run_folder).items():
        assert bool(names) is (kind == "scalars"), (kind, names)


def check_equal(one: Path, other: Path) -> None:
    """Both runs ended with the same weights, bit for bit."""
    first, second = model_in(one), model_in(other)
    assert first.keys() == second.keys()
    assert [key for key, value in first.items() if not value.equal(second[key])] == []


def model_in(run_folder: Path) -> Model:
    path = run_folder / "app_server" / "FL_global_model.pt"
    model: Model = torch.load(path, weights_only=True)["model"]
    return model


def streamed(run_folder: Path) -> dict[str, set[str]]:
    """Names of the curves and of the pictures that the sites sent for TensorBoard."""
    names: dict[str, set[str]] = {"scalars": set(), "images": set()}
    for folder in {path.parent for path in run_folder.rglob("events.out.tfevents.*")}:
        events = EventAccumulator(str(folder))
        events.Reload()
        for kind, found in names.items():
            found.update(events.Tags()[kind])
    return names
