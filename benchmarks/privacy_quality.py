"""What the privacy mechanisms cost in image quality, at equal rounds and over several seeds.

Usage: ``python benchmarks/privacy_quality.py --data data/demo --out quality.csv``: FedAvg on the
sites of a data set in one process, at half the demo's size, with each mechanism and without; PSNR
and SSIM of the final model, as a mean over the sites' validation patients. Every run is a row of
the table, and a run that stands there is not repeated. Secure aggregation and encrypted averaging
are left out: their mean is FedAvg's to the last digits (``tests/strategies/test_secure_sum.py``).

``--price`` trains all sites' patients together instead, under patient-level differential privacy
with several noise multipliers, and prints epsilon beside PSNR.
"""

from __future__ import annotations

import argparse
import csv
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from jobs.privacy.catalogue import PrivacyConfig, privacy_from
from jobs.running.plain_loop import PlainLoop
from lightning_modules.combining.updates import Weights
from lightning_modules.configuration import ExperimentConfig, experiment_from
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.evaluation.validation import load_translator, validate
from lightning_modules.networks.generators.catalogue import build_generator
from lightning_modules.privacy.accountant import epsilon
from lightning_modules.privacy.patient_settings import PatientNoise
from lightning_modules.privacy.update_noise import system_noise
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.learner import Learner
from lightning_modules.training.local_state import LocalStateStore
from partitions.manifest import read_manifest
from partitions.preparation import PreparedSite, prepare_site

ARMS: dict[str, dict[str, Any]] = {
    "none": {},
    "update_noise, sigma 0.01": {"mechanism": "update_noise"},
    "update_noise, sigma 0.001": {"mechanism": "update_noise", "noise_multiplier": 0.001},
    "percentile": {"mechanism": "percentile"},
    "svt": {"mechanism": "svt"},
    "patient_noise, sigma 1": {"mechanism": "patient_noise"},
}
SHARED = ("generator", "generator+discriminator")
COLUMNS = ("arm", "shared", "seed", "psnr", "ssim")
CLIPPED_ALONE = 1e-9
"""So little noise is none: what clipping and drawing patients cost by themselves."""


@dataclass(frozen=True)
class Run:
    """One federated run: the mechanism, what is shared, the seed, and its image quality."""

    arm: str
    shared: str
    seed: int
    psnr: float
    ssim: float


def experiment_of(shared: str, seed: int, rounds: int, steps: int) -> ExperimentConfig:
    """The demo's experiment at half its size."""
    return experiment_from(
        {
            "seed": seed,
            "sharing": shared,
            "data": {"preparation": {"size": [48, 40], "spacing": 4.0}},
            "model": {"generator": {"channels": [16, 32, 64]}},
            "training": {"rounds": rounds, "steps": steps},
        },
        "benchmark",
    )


def measure(
    sites: Mapping[str, PreparedSite], experiment: ExperimentConfig, arm: str, folder: Path
) -> Run:
    """Train one federation with a mechanism.

    Args:
        sites: prepared sites by name.
        experiment: what they train.
        arm: one of ``ARMS``.
        folder: receives what sites keep.
    """
    privacy = privacy_from(ARMS[arm], "benchmark")
    record = privacy.record

    def leaving(site: str, received: Weights, trained: Weights) -> Weights:
        return _released(privacy, experiment, received, trained)

    arguments = record.learner(privacy.settings) if record and record.learner else {}
    hardware = Hardware("cpu", "32-true", torch.get_num_threads())
    loop = PlainLoop(experiment, sites, folder, hardware, leaving, arguments)
    loop.run(experiment.training.rounds)
    found = loop.validation()
    return Run(arm, experiment.sharing, experiment.seed, found["val/psnr"], found["val/ssim"])


def _released(
    privacy: PrivacyConfig, experiment: ExperimentConfig, received: Weights, trained: Weights
) -> Weights:
    record = privacy.record
    if record is None or record.released is None:
        return trained
    return dict(record.released(privacy.settings, experiment, received, trained, system_noise()))


def quality(
    data: Path,
    table: Path,
    seeds: Sequence[int],
    rounds: int,
    steps: int,
    scopes: Sequence[str] = SHARED,
) -> Iterator[Run]:
    """Measure every arm with every seed, and write each run into the table as it ends.

    Args:
        data: folder of a data set, a folder per site.
        table: rows that stand there are not measured again.
        seeds: of weights and orders of slices; noise comes from the system's entropy.
        rounds: of each run.
        steps: of each round.
        scopes: which networks are shared.
    """
    known = {(run.arm, run.shared, run.seed) for run in read_runs(table)}
    sites = _sites(data, experiment_of(scopes[0], 1, rounds, steps))
    for seed in seeds:
        for shared in scopes:
            for arm in ARMS:
                if (arm, shared, seed) in known:
                    continue
                experiment = experiment_of(shared, seed, rounds, steps)
                with tempfile.TemporaryDirectory() as folder:
                    run = measure(sites, experiment, arm, Path(folder))
                _append(table, run)
                yield run


def read_runs(table: Path) -> list[Run]:
    """The runs that a table holds; none where there is no table."""
    if not table.exists():
        return []
    with table.open(newline="", encoding="utf-8") as stream:
        return [
            Run(r["arm"], r["shared"], int(r["seed"]), float(r["psnr"]), float(r["ssim"]))
            for r in csv.DictReader(stream)
        ]


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
            "training": {"steps": steps, "batch_size": 8},
        },
        "benchmark",
    )
    sites = list(_sites(folder, experiment).values())
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
                slices=2,
                patients=patients,
            )
        with tempfile.TemporaryDirectory() as place:
            store = LocalStateStore(Path(place))
            learner = Learner(experiment, "all", training, hardware, store, patient_noise=noise)
            state = learner.train(learner.initial_state(), 0).state
        load_translator(generator, state, "generator")
        reached = fmean(
            validate(generator, site.split("val"), hardware)["val/psnr"] for site in followed
        )
        spends = math.inf
        if noise is not None and sigma:
            spends = epsilon([noise.release(experiment.model.name, steps)], 1 / (100 * patients))
        yield sigma, spends, reached


def _sites(folder: Path, experiment: ExperimentConfig) -> dict[str, PreparedSite]:
    places = sorted(path.parent for path in folder.glob("*/manifest.json"))
    prepared = {
        place.name: prepare_site(
            read_manifest(place), experiment.data.preparation, place / "prepared", progress=False
        )
        for place in places
    }
    return {name: site for name, site in prepared.items() if len(site.split("train").subjects)}


def _append(table: Path, run: Run) -> None:
    new = not table.exists()
    with table.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        if new:
            writer.writerow(COLUMNS)
        writer.writerow((run.arm, run.shared, run.seed, f"{run.psnr:.4f}", f"{run.ssim:.5f}"))


def main() -> None:
    """Print a line per run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of a data set")
    parser.add_argument("--out", type=Path, default=Path("quality.csv"), help="the table")
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103])
    parser.add_argument("--shared", nargs="+", choices=SHARED, default=list(SHARED))
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--price", action="store_true", help="of patient-level noise instead")
    parser.add_argument("--steps", type=int, help="of a round: 40; with --price in all: 500")
    parser.add_argument(
        "--noise", type=float, nargs="*", help="of --price; 0 clips alone, nothing trains plainly"
    )
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.price:
        noises = [None, 0.0, 0.5, 1.0, 2.0] if options.noise is None else options.noise or [None]
        for sigma, spends, reached in price(options.data, options.steps or 500, noises):
            words = "plain" if sigma is None else f"sigma {sigma:g}, epsilon {spends:.4g}"
            print(f"{words:<32} PSNR {reached:.2f} dB", flush=True)
        return
    steps = options.steps or 40
    for run in quality(
        options.data, options.out, options.seeds, options.rounds, steps, options.shared
    ):
        print(
            f"{run.arm:<28}{run.shared:<26}seed {run.seed}: {run.psnr:.2f} dB, {run.ssim:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
