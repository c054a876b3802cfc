"""Training on patches of volumes: time and memory by the size of the patch and of the volumes.

Usage: ``python benchmarks/volumes.py``. Every line is measured in a process of its own, on random
volumes that are mapped into memory: how long a patch takes to be cut, how long a step of pix2pix
takes, and how much more memory a process holds at most while it trains and while it translates one
whole volume. Memory is anonymous: pages of mapped files are the system's, which takes them back
when it needs them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from process_memory import PeakMemory

from lightning_modules.configuration import ExperimentConfig, experiment_from
from lightning_modules.data.batches import BatchSource
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.evaluation.validation import patients as patients_of
from lightning_modules.evaluation.validation import translate_patient
from lightning_modules.networks.generators.catalogue import build_generator
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.learner import Learner, RoundResult
from lightning_modules.training.local_state import LocalStateStore
from partitions.preparation import PreparedSplit, PreparedSubject

Shape = tuple[int, int, int]
VOLUMES: tuple[Shape, ...] = ((48, 96, 96), (96, 192, 192), (155, 240, 240))
PATCHES: tuple[Shape, ...] = ((16, 32, 32), (32, 32, 32), (48, 48, 48))
PATIENTS = 2
_SMALLEST: Shape = (12, 24, 24)
_CUTS = 50
_HEADER = (
    f"{'volume':>13}{'patch':>11}{'stored MB':>11}{'cut ms':>8}{'step ms':>9}"
    f"{'training MiB':>14}{'volume s':>10}{'volume MiB':>12}"
)


@dataclass(frozen=True)
class Measured:
    """One line.

    Attributes:
        stored: bytes of the volumes on the disk.
        cut: seconds for cutting one patch of both domains.
        step: seconds per step of both networks.
        training: bytes of anonymous memory that training took at most.
        whole: seconds for translating one volume.
        translating: bytes that this took at most, the volume's own two included.
    """

    stored: int
    cut: float
    step: float
    training: int
    whole: float
    translating: int


def main() -> None:
    """Print a line for every volume and patch."""
    options = _parser().parse_args()
    print(_HEADER)
    context = multiprocessing.get_context("spawn")
    for volume in VOLUMES:
        for patch in PATCHES:
            with context.Pool(1) as pool:
                found = pool.apply(measure, (volume, patch, options.steps))
            print(line(volume, patch, found), flush=True)


def line(volume: Shape, patch: Shape, found: Measured) -> str:
    """What was measured, as a line of the table."""
    return (
        f"{'x'.join(map(str, volume)):>13}{'x'.join(map(str, patch)):>11}"
        f"{found.stored / 1e6:>11.1f}{1e3 * found.cut:>8.2f}{1e3 * found.step:>9.1f}"
        f"{found.training / 2**20:>14.1f}{found.whole:>10.2f}{found.translating / 2**20:>12.1f}"
    )


def measure(
    volume: Shape, patch: Shape, steps: int, channels: Sequence[int] = (8, 16, 32)
) -> Measured:
    """Train and translate in this process, with one thread.

    Args:
        volume: slices, rows and columns of a patient.
        patch: of the model.
        steps: of training that are timed.
        channels: of the generator.
    """
    torch.set_num_threads(1)
    hardware = Hardware("cpu", "32-true", 1)
    experiment = experiment_of(volume, patch, steps, channels)
    with TemporaryDirectory() as name, _mapped(Path(name), volume) as split:
        slices = TrainingSlices([split])
        # Once before on the smallest patch: first steps load code, and what a process has freed
        # it need not ask the system for again.
        smallest = experiment_of(volume, _SMALLEST, 1, (4, 8))
        _trained(smallest, slices, hardware, Path(name) / "first")
        with PeakMemory() as training:
            result = _trained(experiment, slices, hardware, Path(name) / "state")
        generator = build_generator(experiment.model.generator, experiment.model.view)
        with PeakMemory() as translating:
            patient = next(patients_of(split))
            started = time.perf_counter()
            translate_patient(generator, patient, hardware, experiment.model.view)
            whole = time.perf_counter() - started
        stored = sum(array.nbytes for array in (split.source, split.target, split.mask))
        cut = _cutting(experiment, slices)
    return Measured(stored, cut, result.seconds / steps, training.growth, whole, translating.growth)


def _trained(
    experiment: ExperimentConfig, slices: TrainingSlices, hardware: Hardware, folder: Path
) -> RoundResult:
    """What a site does in a round, from its own first weights."""
    learner = Learner(experiment, "benchmark", slices, hardware, LocalStateStore(folder))
    return learner.train(learner.initial_state(), 0)


def experiment_of(
    volume: Shape, patch: Shape, steps: int, channels: Sequence[int] = (8, 16, 32)
) -> ExperimentConfig:
    """pix2pix on patches, one in every step."""
    values = {
        "data": {"preparation": {"size": list(volume[1:])}},
        "model": {
            "patch": list(patch),
            "generator": {"channels": list(channels)},
            "discriminator": {"channels": 8, "layers": 2},
        },
        "training": {"steps": steps, "batch_size": 1},
    }
    return experiment_from(values, "benchmark")


def _cutting(experiment: ExperimentConfig, slices: TrainingSlices) -> float:
    source = BatchSource("pix2pix", slices.seen_as(experiment.model.view), 1, "benchmark", 1)
    started = time.perf_counter()
    for _ in source.batches(0, _CUTS):
        pass
    return (time.perf_counter() - started) / _CUTS


@contextmanager
def _mapped(folder: Path, volume: Shape) -> Iterator[PreparedSplit]:
    """Random volumes on the disk, mapped into memory; the mask is the middle of every slice."""
    shape = (PATIENTS * volume[0], *volume[1:])
    rng = np.random.default_rng(0)
    arrays = {}
    for name, kind in (("source", np.uint16), ("target", np.uint16), ("mask", np.uint8)):
        written = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", kind, shape)
        for number in range(len(written)):
            one = rng.integers(0, 65536, volume[1:], dtype=np.uint16)
            written[number] = one if name != "mask" else 0
        if name == "mask":
            rows, columns = (slice(side // 4, -(side // 4)) for side in volume[1:])
            written[:, rows, columns] = 1
        written.flush()
        del written
        arrays[name] = np.load(folder / f"{name}.npy", mmap_mode="r")
    subjects = tuple(
        PreparedSubject(f"s{number}", number * volume[0], (number + 1) * volume[0], None, {})
        for number in range(PATIENTS)
    )
    yield PreparedSplit(**arrays, lesion=None, subjects=subjects)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30, help="of training; by default 30")
    return parser


if __name__ == "__main__":
    main()
