"""Ways of upsampling in the generator: step time, validation PSNR and checkerboard side by side.

Usage: ``make benchmark-upsampling`` (or ``python benchmarks/upsampling.py --data data/demo``).
Every way trains pix2pix on the pooled slices of all sites from the same seed. The ways take turns,
a stretch of steps each, so that a noisy machine disturbs all alike; the step time is the median
over stretches. The checkerboard is measured on translations of the validation patients (see
``lightning_modules.evaluation.checkerboard``); that of their targets is the mark to compare with.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from jobs.writing.federation import DEFAULT_FILE, read_federated_experiment
from lightning_modules.configuration import ExperimentConfig, experiment_from, experiment_values
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.evaluation.checkerboard import Checkerboard, checkerboard
from lightning_modules.evaluation.validation import (
    Patient,
    load_translator,
    patient_metrics,
    patients,
    translate,
)
from lightning_modules.networks.configuration import UPSAMPLINGS
from lightning_modules.networks.generators.catalogue import build_generator
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.learner import Learner, State
from lightning_modules.training.local_state import LocalStateStore
from partitions.manifest import read_manifest
from partitions.preparation import PreparedSite, prepare_site


@dataclass
class Way:
    """One way of upsampling while it is measured."""

    name: str
    learner: Learner
    state: State
    experiment: ExperimentConfig
    seconds: list[float] = field(default_factory=list)


def main() -> None:
    """Print a line per way, and one for the targets."""
    options = _parser().parse_args()
    torch.set_num_threads(options.threads)
    federated = read_federated_experiment(options.experiment)
    values = {**experiment_values(federated.experiment), "seed": options.seed}
    experiment = experiment_from(values, "benchmark")
    sites = [_prepared(options.data / name, experiment) for name in federated.federation.sites]
    hardware = Hardware("cpu", "32-true", options.threads)
    print(f"{'way':<12}{'steps':>7}{'ms/step':>9}{'PSNR':>8}{'axis':>7}{'corner':>8}")
    for line in measure(experiment, sites, hardware, options.stretches, options.steps):
        print(line, flush=True)


def measure(
    experiment: ExperimentConfig,
    sites: Sequence[PreparedSite],
    hardware: Hardware,
    stretches: int,
    steps: int,
) -> list[str]:
    """Train every way for ``stretches`` times ``steps`` steps, in turns."""
    tested = [patient for site in sites for patient in patients(site.split("val"))]
    with TemporaryDirectory() as folder:
        ways = [_way(name, experiment, sites, hardware, folder, steps) for name in UPSAMPLINGS]
        lines = [_line(way, tested, hardware, 0) for way in ways]
        for number in range(stretches):
            for way in ways:
                result = way.learner.train(way.state, number)
                way.state = {**way.state, **result.state}
                way.seconds.append(result.seconds / steps)
        lines += [_line(way, tested, hardware, stretches * steps) for way in ways]
    target = measured([patient.target for patient in tested])
    return [*lines, f"{'targets':<12}{'':>24}{target.axis:>7.2f}{target.corner:>8.2f}"]


def measured(volumes: Sequence[Tensor]) -> Checkerboard:
    """The checkerboard of all slices of some patients."""
    return checkerboard(torch.cat(list(volumes)))


def _way(
    name: str,
    experiment: ExperimentConfig,
    sites: Sequence[PreparedSite],
    hardware: Hardware,
    folder: str,
    steps: int,
) -> Way:
    values: dict[str, Any] = experiment_values(experiment)
    values["model"]["generator"]["upsampling"] = name
    changed = experiment_from(values, "benchmark")
    slices = TrainingSlices([site.split("train") for site in sites])
    store = LocalStateStore(Path(folder) / name)
    learner = Learner(changed, "pooled", slices, hardware, store, steps=steps)
    return Way(name, learner, learner.initial_state(), changed)


def _line(way: Way, tested: Sequence[Patient], hardware: Hardware, steps: int) -> str:
    generator = build_generator(way.experiment.model.generator)
    load_translator(generator, way.state)
    translated = [translate(generator, patient.source, hardware) for patient in tested]
    scores = zip(translated, tested, strict=True)
    psnr = fmean(patient_metrics(images, patient)["psnr"] for images, patient in scores)
    found = measured(translated)
    milliseconds = f"{1e3 * median(way.seconds):.1f}" if way.seconds else ""
    head = f"{way.name:<12}{steps:>7}{milliseconds:>9}{psnr:>8.2f}"
    return f"{head}{found.axis:>7.2f}{found.corner:>8.2f}"


def _prepared(folder: Path, experiment: ExperimentConfig) -> PreparedSite:
    config = experiment.data.preparation
    return prepare_site(read_manifest(folder), config, folder / "prepared", progress=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data/demo"))
    parser.add_argument("--experiment", type=Path, default=DEFAULT_FILE)
    parser.add_argument("--seed", type=int, default=101)
    parser.add_argument("--stretches", type=int, default=10)
    parser.add_argument("--steps", type=int, default=60, help="of a stretch")
    parser.add_argument("--threads", type=int, default=1)
    return parser


if __name__ == "__main__":
    main()
