"""Costs of the privacy mechanisms, each beside the same work without it.

Usage: ``python benchmarks/privacy.py`` or ``python benchmarks/privacy.py patient_noise``. Work with
and without a mechanism alternates in one process, so that a noisy machine disturbs both alike; the
figures are medians. A mechanism's costs are one function in ``MECHANISMS`` that yields rows.

``python benchmarks/privacy.py --price data/demo`` trains the demo cohort's patients together, at
half its size, under patient-level differential privacy, and prints epsilon beside image quality.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import torch

from lightning_modules.configuration import experiment_from
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.evaluation.validation import load_translator, validate
from lightning_modules.networks.generators.catalogue import build_generator
from lightning_modules.privacy.accountant import epsilon
from lightning_modules.privacy.patient_settings import PatientNoise
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.learner import Learner
from lightning_modules.training.local_state import LocalStateStore
from partitions.manifest import read_manifest
from partitions.preparation import PreparedSplit, PreparedSubject, prepare_site


@dataclass(frozen=True)
class Row:
    """One cost.

    Attributes:
        what: what was measured, in a few words.
        plain: without the mechanism.
        private: with it.
        unit: of both, e.g. ``ms``.
    """

    what: str
    plain: float
    private: float
    unit: str


CASES: dict[str, dict[str, Any]] = {
    "demo, 96 x 80, U-Net 16-128": {"size": (96, 80), "channels": [16, 32, 64, 128], "d": 16},
    "half size, 48 x 40, U-Net 8-32": {"size": (48, 40), "channels": [8, 16, 32], "d": 8},
}
PATIENTS, SLICES = 4, 2
"""Drawn for a step, and slices of each; the plain step takes a batch of as many slices."""


def patient_noise(repeats: int) -> Iterator[Row]:
    """A step of both networks by patient-level differential privacy beside a plain one."""
    for name, case in CASES.items():
        plain, private = step_seconds(case, repeats)
        yield Row(
            f"step of both networks, {PATIENTS} x {SLICES} slices, {name}",
            1e3 * plain,
            1e3 * private,
            "ms",
        )


def step_seconds(case: dict[str, Any], repeats: int, steps: int = 8) -> tuple[float, float]:
    """Median seconds of a step without and with patient-level differential privacy.

    Every patient is drawn for every step of each network, so that the work is always the same.
    """
    experiment = experiment_from(
        {
            "data": {"preparation": {"size": list(case["size"])}},
            "model": {
                "generator": {"channels": case["channels"]},
                "discriminator": {"channels": case["d"], "layers": 2},
            },
            "training": {"steps": steps, "batch_size": PATIENTS * SLICES},
        },
        "benchmark",
    )
    noise = PatientNoise(sampling_rate=1.0, slices=SLICES, patients=PATIENTS)
    slices = _random_slices(case["size"])
    with tempfile.TemporaryDirectory() as folder:
        learners = [
            Learner(
                experiment,
                "site",
                slices,
                Hardware("cpu", "32-true", torch.get_num_threads()),
                LocalStateStore(Path(folder)),
                patient_noise=chosen,
            )
            for chosen in (None, noise)
        ]
        state = learners[0].initial_state()
        seconds: list[list[float]] = [[], []]
        for number in range(repeats + 1):
            for learner, found in zip(learners, seconds, strict=True):
                found.append(learner.train(state, number).seconds / steps)
    # The first rounds load and allocate.
    return median(seconds[0][1:]), median(seconds[1][1:])


MECHANISMS: dict[str, Callable[[int], Iterator[Row]]] = {
    "patient_noise": patient_noise,
}
"""A mechanism to its costs; each gets how often to repeat."""

CLIPPED_ALONE = 1e-9
"""So little noise is none: what clipping and drawing patients cost by themselves."""


def price(
    folder: Path, steps: int, noises: Sequence[float | None], rate: float = 4 / 35
) -> Iterator[tuple[float | None, float, float]]:
    """Yield noise multiplier, epsilon and the mean validation PSNR over sites, in dB.

    Args:
        folder: of a data set, a folder per site.
        steps: of both networks, from fresh weights; one run per noise multiplier.
        noises: noise multipliers; 0 clips and draws alone, None trains without the mechanism.
        rate: probability with which a patient is drawn.
    """
    experiment = experiment_from(
        {
            "data": {"preparation": {"size": [48, 40], "spacing": 4.0}},
            "training": {"steps": steps, "batch_size": PATIENTS * SLICES},
        },
        "benchmark",
    )
    sites = [
        prepare_site(
            read_manifest(place), experiment.data.preparation, place / "prepared", progress=False
        )
        for place in sorted(path.parent for path in folder.glob("*/manifest.json"))
    ]
    training = TrainingSlices([site.split("train") for site in sites])
    patients = len(training.patients())
    followed = [site for site in sites if len(site.split("train").subjects)]
    hardware = Hardware("cpu", "32-true", torch.get_num_threads())
    generator = build_generator(experiment.model.generator)
    for sigma in noises:
        noise = None
        if sigma is not None:
            noise = PatientNoise(
                noise_multiplier=sigma or CLIPPED_ALONE,
                sampling_rate=rate,
                slices=SLICES,
                patients=patients,
            )
        with tempfile.TemporaryDirectory() as place:
            store = LocalStateStore(Path(place))
            learner = Learner(experiment, "all", training, hardware, store, patient_noise=noise)
            state = learner.train(learner.initial_state(), 0).state
        load_translator(generator, state, "generator")
        quality = fmean(
            validate(generator, site.split("val"), hardware)["val/psnr"] for site in followed
        )
        spends = math.inf
        if noise is not None and sigma:
            spends = epsilon([noise.release(experiment.model.name, steps)], 1 / (100 * patients))
        yield sigma, spends, quality


def main() -> None:
    """Print a line per cost."""
    options = _parser().parse_args()
    torch.set_num_threads(options.threads)
    if options.price:
        noises = [None, 0.0, 0.5, 1.0, 2.0] if options.noise is None else options.noise or [None]
        for sigma, spends, quality in price(options.price, options.steps, noises):
            words = "plain" if sigma is None else f"sigma {sigma:g}, epsilon {spends:.4g}"
            print(f"{words:<32} PSNR {quality:.2f} dB", flush=True)
        return
    for mechanism in options.mechanisms or MECHANISMS:
        print(mechanism, flush=True)
        for row in MECHANISMS[mechanism](options.repeats):
            print(
                f"  {row.what:<72} plain {row.plain:10.4g} {row.unit}, private "
                f"{row.private:10.4g} {row.unit}: {row.private / row.plain:5.2f} x",
                flush=True,
            )


def _random_slices(size: tuple[int, int], each: int = 8) -> TrainingSlices:
    random = np.random.default_rng(0)
    count = PATIENTS * each
    source, target = random.integers(0, 65536, (2, count, *size), dtype=np.uint16)
    subjects = tuple(
        PreparedSubject(f"s{number}", number * each, (number + 1) * each, None, {})
        for number in range(PATIENTS)
    )
    mask = np.ones((count, *size), np.uint8)
    return TrainingSlices([PreparedSplit(source, target, mask, None, subjects)])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mechanisms", nargs="*", choices=[*MECHANISMS, []], help="default: all")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--price", type=Path, metavar="FOLDER", help="of a data set")
    parser.add_argument("--steps", type=int, default=500, help="of --price")
    parser.add_argument(
        "--noise", type=float, nargs="*", help="of --price; 0 clips alone, nothing trains plainly"
    )
    parser.add_argument("--threads", type=int, default=1)
    return parser


if __name__ == "__main__":
    main()
