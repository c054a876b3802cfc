"""Wall time of ``nvflare simulator jobs/fedavg`` against the same steps in a plain PyTorch loop.

Usage: ``make benchmark`` (or ``python benchmarks/federation_overhead.py [--threads 4 1]``). All
variants run one after the other on the same cores in one call, so that their ratios mean
something on a noisy machine. The plain loop does the same number of optimizer steps on the same
slices with all cores, without Lightning, NVFlare, validation or start-up time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch
from process_memory import watch_memory

from fedi2i.cores import available_cores
from jobs.writing.federation import DEFAULT_FILE, read_federated_experiment, strategy_overrides
from jobs.writing.workspace import prepare_workspace
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.data.batches import SliceOrder
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.losses.adversarial import AdversarialLoss
from lightning_modules.networks.building import build_networks
from partitions.manifest import read_manifest
from partitions.preparation import prepare_site

REPOSITORY = Path(__file__).resolve().parents[1]
WARM_UP_STEPS = 3


def main() -> None:
    """Run and print the table."""
    options = _parser().parse_args()
    job = read_federated_experiment(DEFAULT_FILE, {"experiment": strategy_overrides("fedavg")})
    data = options.data.resolve()
    sites = job.federation.sites
    steps = job.experiment.training.steps * job.experiment.training.rounds
    print(f"{len(sites)} sites x {steps} steps on {available_cores()} cores")
    plain = sum(plain_loop(job.experiment, data / site, steps) for site in sites)
    print(f"plain PyTorch loop, {available_cores()} threads: {plain:.1f} s, ratio 1.00")
    for threads in options.threads:
        seconds, peaks = simulate(data, threads)
        print(
            f"nvflare simulator jobs/fedavg -t {threads}: {seconds:.1f} s, "
            f"ratio {seconds / plain:.2f}"
        )
        for name, peak in sorted(peaks.items()):
            print(f"    peak memory of {name}: {peak / 2**20:.0f} MiB")


def plain_loop(experiment: ExperimentConfig, folder: Path, steps: int) -> float:
    """Seconds for the steps of one site: the same networks, losses, batches and optimizers."""
    torch.set_num_threads(available_cores())
    training = experiment.training
    prepared = prepare_site(
        read_manifest(folder), experiment.data.preparation, folder / "prepared", progress=False
    )
    slices = TrainingSlices([prepared.split("train")])
    order = SliceOrder(experiment.seed, folder.name, len(slices), training.batch_size)
    networks = build_networks(experiment.model, experiment.seed)
    generator, discriminator = networks["generator"], networks["discriminator"]
    betas = (training.beta1, training.beta2)
    adam_g = torch.optim.Adam(generator.parameters(), training.learning_rate_generator, betas)
    adam_d = torch.optim.Adam(
        discriminator.parameters(), training.learning_rate_discriminator, betas
    )
    loss = AdversarialLoss(experiment.model.adversarial_loss)
    started = time.perf_counter()
    for step, indices in enumerate(order.indices(0, steps + WARM_UP_STEPS)):
        if step == WARM_UP_STEPS:
            started = time.perf_counter()
        batch = slices.batch(indices)
        source, target = batch["source"], batch["target"]
        translated = generator(source)
        on_d = loss.discriminator(
            discriminator(source, target), discriminator(source, translated.detach())
        )
        adam_d.zero_grad()
        on_d.backward()
        adam_d.step()
        discriminator.requires_grad_(False)
        on_g = loss.generator(discriminator(source, translated))
        on_g = on_g + experiment.model.lambda_l1 * (translated - target).abs().mean()
        discriminator.requires_grad_(True)
        adam_g.zero_grad()
        on_g.backward()
        adam_g.step()
    return time.perf_counter() - started


def simulate(data: Path, threads: int) -> tuple[float, dict[str, int]]:
    """Seconds and peak resident memory per process of one simulator run, start to end."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = prepare_workspace(Path(folder) / "ws", {"demo": data})
        command = [
            str(Path(sys.executable).with_name("nvflare")),
            "simulator",
            str(REPOSITORY / "jobs" / "fedavg"),
            "-w",
            str(workspace),
            "-t",
            str(threads),
        ]
        started = time.perf_counter()
        with (Path(folder) / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            peaks: dict[str, int] = {}
            watch = threading.Thread(target=watch_memory, args=(process, peaks))
            watch.start()
            process.wait()
        seconds = time.perf_counter() - started
        watch.join()
        model = workspace / "server" / "simulate_job" / "app_server" / "FL_global_model.pt"
        if process.returncode or not model.exists():
            sys.exit(f"error: the simulator failed:\n{(Path(folder) / 'log').read_text()[-2000:]}")
        return seconds, peaks


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=REPOSITORY / "data" / "demo")
    parser.add_argument("--threads", type=int, nargs="+", default=[4, 1])
    return parser


if __name__ == "__main__":
    main()
