"""What a GPU gives: results beside the CPU's, time and memory of each network, federated rounds.

Usage: ``make benchmark-gpu`` (or ``python benchmarks/gpu.py --out runs/gpu.md``). At most eight
minutes; the results are one table in Markdown. Where torch finds no GPU the script says so and
writes no table. The exit code is 1 where a measurement failed or differs from the CPU by more than
its tolerance.

Training beside the CPU takes eight steps of plain SGD from one start on the same slices: with Adam
the sign of a gradient near zero would decide a whole step. The generator's mean loss may differ by
2 %; in fp32 the distance between the two ends may be 1 % of the way from the start (in bf16 the
small gradients of so few steps are mostly rounding). TF32 is off for this comparison alone. A step
of a network is forward, backward and Adam on random slices. The federated rounds are those of
``nvflare simulator ... -t 4 -gpu 0`` on the smoke cohort, with all four sites on one GPU.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedi2i.errors import UserError
from fedi2i.files import write_text
from jobs.writing.export import export_job
from jobs.writing.federation import DEFAULT_FILE, read_federated_experiment
from jobs.writing.workspace import prepare_workspace
from lightning_modules.configuration import ExperimentConfig, experiment_from
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.networks.configuration import DiscriminatorConfig, GeneratorConfig
from lightning_modules.networks.discriminator import PatchGAN
from lightning_modules.networks.generators.catalogue import build_generator
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.learner import Learner
from lightning_modules.training.local_state import LocalStateStore
from partitions.computed.cohort import write_cohort
from partitions.preparation import PreparedSplit, PreparedSubject

LIMIT_SECONDS = 8 * 60
LIGHTNING_NAMES = {"fp32": "32-true", "bf16": "bf16-mixed"}
LOSS_TOLERANCE, DISTANCE_TOLERANCE = 0.02, 0.01
"""Largest difference of the losses, and in fp32 of the weights after training; see above."""

MODELS: dict[str, dict[str, Any]] = {
    "pix2pix with U-Net": {"name": "pix2pix", "generator": {"channels": [16, 32, 64]}},
    "CycleGAN with ResNet": {
        "name": "cyclegan",
        "generator": {"kind": "resnet", "channels": [16, 32, 64], "residual_units": 2},
    },
}
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "U-Net generator": lambda: build_generator(GeneratorConfig(channels=(32, 64, 128, 256, 256))),
    "ResNet generator": lambda: build_generator(
        GeneratorConfig(kind="resnet", channels=(64, 128, 256), residual_units=9)
    ),
    "PatchGAN": lambda: PatchGAN(DiscriminatorConfig(channels=64)),
}
ROUNDS = 4
SIMULATOR_OPTIONS = ("-t", "4", "-gpu", "0")
_ROUND = re.compile(r"^(\S+ \S+) - .*Round (\d+) (started|finished)\.", re.MULTILINE)
_DEVICE = re.compile(r"computing on (\w+) in (\S+)")


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        what: the measurement.
        precision: fp32 or bf16.
        seconds: of a step or a round, as the measurement says; None where it is not the question.
        mebibytes: of GPU memory at the peak; None where it is not known.
        found: what else there is to say.
        good: whether the measurement succeeded and is within its tolerance.
    """

    what: str
    precision: str
    seconds: float | None = None
    mebibytes: float | None = None
    found: str = ""
    good: bool = True


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write the table."""
    options = _parser().parse_args(arguments)
    if not torch.cuda.is_available():
        print("torch finds no GPU on this machine, so there is nothing to measure")
        return 0
    until = time.monotonic() + LIMIT_SECONDS
    rows: list[Row] = []
    for row in measurements(torch.device("cuda"), until):
        rows.append(row)
        print(_line(row), flush=True)
        write_text(options.out, table(rows))  # what is measured is kept whatever comes next
    print(f"wrote {options.out}")
    return 0 if all(row.good for row in rows) else 1


def measurements(device: torch.device, until: float) -> Iterator[Row]:
    """All rows, one after the other; a measurement that fails is a row that says why.

    Args:
        device: of the networks' steps.
        until: on ``time.monotonic``'s clock; what has not begun by then is left out.
    """
    tasks: list[tuple[str, str, Callable[[], Row]]] = []
    for name in MODELS:
        for precision in LIGHTNING_NAMES:
            what = f"{name}: eight training steps"
            tasks.append((what, precision, _bound(beside_the_cpu, what, name, precision, "gpu")))
    for name in NETWORKS:
        for precision in LIGHTNING_NAMES:
            what = f"{name}, 256 x 256, batch 8: a step"
            tasks.append((what, precision, _bound(network_step, what, name, precision, device)))
    rounds = "four sites on one GPU: a round of 40 steps a site"
    tasks.append((rounds, "auto", lambda: federated_rounds(rounds, until)))
    for what, precision, measure in tasks:
        if time.monotonic() > until:
            yield Row(what, precision, found="left out: the time is over", good=False)
            continue
        try:
            yield measure()
        except (RuntimeError, OSError, UserError, subprocess.SubprocessError) as error:
            reason = " ".join(str(error).split())[:300]
            yield Row(what, precision, found=f"failed: {reason}", good=False)


def beside_the_cpu(what: str, model: str, precision: str, accelerator: str, steps: int = 8) -> Row:
    """Train the same steps on the CPU in full precision and on the accelerator."""
    experiment = _experiment(model, steps)
    start, expected, loss = trained(experiment, Hardware("cpu", "32-true", 1))
    tf32 = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        hardware = Hardware(accelerator, LIGHTNING_NAMES[precision], 1)
        _, found, other_loss = trained(experiment, hardware)
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = tf32
    distance, difference = relative_distance(start, expected, found), abs(other_loss / loss - 1)
    good = difference <= LOSS_TOLERANCE
    said = f"loss {other_loss:.5g}, on the CPU {loss:.5g} (may differ by {LOSS_TOLERANCE:.0%})"
    if precision == "fp32":
        good = good and distance <= DISTANCE_TOLERANCE
        said += f"; weights {distance:.2g} of the way apart (may be {DISTANCE_TOLERANCE})"
    return Row(what, precision, found=f"{'equal' if good else 'NOT EQUAL'}: {said}", good=good)


def trained(
    experiment: ExperimentConfig, hardware: Hardware
) -> tuple[dict[str, Tensor], dict[str, Tensor], float]:
    """The weights before and after one round, and the generator's mean loss."""
    side = experiment.data.preparation.size[0]
    with tempfile.TemporaryDirectory() as folder:
        store = LocalStateStore(Path(folder))
        learner = Learner(experiment, "north", random_slices(side), hardware, store)
        start = learner.initial_state()
        result = learner.train(start, 0)
    return start, result.state, result.metrics["train/loss_generator"]


def relative_distance(
    start: dict[str, Tensor], expected: dict[str, Tensor], found: dict[str, Tensor]
) -> float:
    """Distance between two ends over the way from the start to the expected one."""

    def norm(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
        squares = sum(float((one[k].double() - other[k].double()).square().sum()) for k in one)
        return float(np.sqrt(squares))

    return norm(expected, found) / norm(expected, start)


def random_slices(side: int, count: int = 16) -> TrainingSlices:
    """Seeded slices of noise at four scales, whose target is the inverted source."""
    rng = np.random.default_rng(0)
    source = np.zeros((count, side, side))
    for scale in (1, 2, 4, 8):
        coarse = rng.random((count, side // scale, side // scale))
        source += np.kron(coarse, np.ones((1, scale, scale))) / 4
    levels = (source * 65535).round().astype(np.uint16)
    subject = PreparedSubject("s0", 0, count, None, {})
    mask = np.ones(levels.shape, np.uint8)
    return TrainingSlices([PreparedSplit(levels, 65535 - levels, mask, None, (subject,))])


def network_step(
    what: str,
    name: str,
    precision: str,
    device: torch.device,
    side: int = 256,
    batch: int = 8,
    steps: int = 30,
) -> Row:
    """Median seconds of a step of one network alone, and its peak memory."""
    torch.manual_seed(0)
    network = NETWORKS[name]().to(device)
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)
    pictures = 2 if isinstance(network, PatchGAN) else 1
    inputs = [torch.rand(batch, 1, side, side, device=device) for _ in range(pictures)]
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    seconds = []
    for _ in range(steps):
        started = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = network(*inputs).float().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if on_gpu:
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if on_gpu else None
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    # The first steps choose kernels and allocate.
    return Row(what, precision, median(seconds[steps // 3 :]), peak, f"{millions:.1f} M parameters")


def federated_rounds(what: str, until: float, options: tuple[str, ...] = SIMULATOR_OPTIONS) -> Row:
    """Rounds of NVFlare's simulator after the first, in which processes start."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_cohort(folder / "smoke", seed=2026, size="smoke")
        experiment = DEFAULT_FILE.with_name("smoke.yaml")
        changes = {"experiment": {"training": {"rounds": ROUNDS}}}
        export_job("fedavg", read_federated_experiment(experiment, changes), folder / "fedavg")
        workspace = prepare_workspace(folder / "ws", {"smoke": folder / "smoke"})
        command = [str(Path(sys.executable).with_name("nvflare")), "simulator"]
        command += [str(folder / "fedavg"), "-w", str(workspace), *options]
        torch.cuda.empty_cache()  # what this process has kept would count; a no-op without a GPU
        with _UsedMemory() as memory:
            log = _run(command, max(1.0, until - time.monotonic()))
    devices = " and ".join(sorted({" in ".join(found) for found in _DEVICE.findall(log)}))
    quality = re.findall(r"after \d+ round\(s\): mean validation PSNR ([\d.]+)", log)
    learnt = len(quality) > 1 and float(quality[-1]) > float(quality[0]) + 1.0
    said = (
        f"on {devices or 'no known device'}; PSNR {' to '.join([*quality[:1], *quality[-1:]])} dB"
    )
    on_gpu = devices.startswith("gpu") or "-gpu" not in options
    return Row(what, "auto", seconds_per_round(log), memory.mebibytes, said, learnt and on_gpu)


def seconds_per_round(log: str) -> float:
    """From the start of the second round to the end of the last, over their number.

    Raises:
        RuntimeError: the log has no such rounds.
    """
    moments = {
        (int(number), what): datetime.strptime(moment, "%Y-%m-%d %H:%M:%S,%f")
        for moment, number, what in _ROUND.findall(log)
    }
    last = max((number for number, what in moments if what == "finished"), default=0)
    if last < 1 or (1, "started") not in moments:
        raise RuntimeError(f"the simulator finished no second round: {log[-300:]}")
    return (moments[last, "finished"] - moments[1, "started"]).total_seconds() / last


def table(rows: list[Row]) -> str:
    """The rows in Markdown, below a line that says what they were measured on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    lines = [
        f"{device}, torch {torch.__version__}, CUDA {torch.version.cuda}.",
        "",
        "| Measurement | Precision | Milliseconds | Peak memory (MiB) | Found |",
        "|---|---|---:|---:|---|",
        *(_line(row) for row in rows),
    ]
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    milliseconds = "" if row.seconds is None else f"{1e3 * row.seconds:.1f}"
    memory = "" if row.mebibytes is None else f"{row.mebibytes:.0f}"
    found = row.found.replace("|", "/")
    return f"| {row.what} | {row.precision} | {milliseconds} | {memory} | {found} |"


def _experiment(model: str, steps: int) -> ExperimentConfig:
    networks = MODELS[model]
    pairing = "paired" if networks["name"] == "pix2pix" else "unpaired"
    rates = {"learning_rate_generator": 1e-3, "learning_rate_discriminator": 1e-3}
    values = {
        "data": {"preparation": {"size": [64, 64], "pairing": pairing}},
        "model": {**networks, "discriminator": {"channels": 16, "layers": 2}},
        "training": {"rounds": 1, "steps": steps, "batch_size": 4, "optimizer": "sgd", **rates},
    }
    return experiment_from(values, "benchmark")


def _bound(function: Callable[..., Row], *values: object) -> Callable[[], Row]:
    return lambda: function(*values)


def _run(command: list[str], timeout: float) -> str:
    """Run the simulator to its end; returns its log."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        log, _ = process.communicate(timeout=timeout)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)  # the sites' processes too
        process.communicate()
        raise
    if process.returncode:
        raise RuntimeError(f"the simulator failed: {log[-300:]}")
    return log


class _UsedMemory:
    """The largest memory of the GPU that all processes use while it is open."""

    mebibytes: float | None = None

    def __enter__(self) -> _UsedMemory:
        self._stop = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._watch.join()

    def _look(self) -> None:
        while torch.cuda.is_available() and not self._stop.wait(0.5):
            free, whole = torch.cuda.mem_get_info()
            self.mebibytes = max(self.mebibytes or 0.0, (whole - free) / 2**20)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu.md"), help="the table")
    return parser


if __name__ == "__main__":
    sys.exit(main())
