"""Wall time of NVFlare's simulator with this project against Flower's simulation of the same work.

Usage: ``python benchmarks/flower.py --data data/demo [--rounds 6] [--steps 150]``, in an
environment that holds this project and ``flwr[simulation]``, which is none of its requirements.
Both run the demo's FedAvg over four sites: the same learners, slices, steps, validation of every
round's global model and one thread per site. Both are started as a command and measured to its end,
one after the other, in one call. The final models are held to each other: the work was the same.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

from jobs.writing.federation import DEFAULT_FILE, FederatedExperiment, read_federated_experiment
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.evaluation.validation import load_translator, validate
from lightning_modules.networks.building import build_networks, build_translator
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.learner import Learner
from lightning_modules.training.local_state import LocalStateStore
from partitions.manifest import read_manifest
from partitions.preparation import PreparedSite, prepare_site

HARDWARE = Hardware("cpu", "32-true", 1)
MODEL = "server/simulate_job/app_server/FL_global_model.pt"
BESIDE, BENCHMARKS = Path(sys.executable).parent, Path(__file__).resolve().parent


def main() -> None:
    """Run both and print the table; with ``--model-out`` run Flower's part alone."""
    options = _parser().parse_args()
    data = options.data.resolve()
    if options.model_out:
        flower(data, options.rounds, options.steps, options.at_once, options.model_out)
        return
    with tempfile.TemporaryDirectory() as folder:
        ours = simulator(data, options, Path(folder))
        theirs = flower_command(data, options, Path(folder))
        models = [torch.load(path, weights_only=True) for _, path in (ours, theirs)]
    (first, _), (second, _) = ours, theirs
    farthest = max(float((models[0]["model"][k] - v).abs().max()) for k, v in models[1].items())
    print(f"{options.rounds} rounds of {options.steps} steps; largest difference {farthest:.1e}")
    print(f"nvflare simulator -t {options.at_once}: {first:.1f} s, ratio 1.00")
    print(f"Flower, {options.at_once} at once: {second:.1f} s, ratio {second / first:.2f}")


def simulator(data: Path, options: argparse.Namespace, folder: Path) -> tuple[float, Path]:
    """Seconds of the simulator's command, and the final model."""
    job, workspace = folder / "fedavg", folder / "workspace"
    length = ["--rounds", str(options.rounds), "--steps", str(options.steps)]
    _run([str(BESIDE / "fedi2i"), "jobs", "export", "fedavg", *length, "--out", str(job)])
    prepare = ["jobs", "workspace", str(workspace), "--dataset", f"demo={data}"]
    _run([str(BESIDE / "fedi2i"), *prepare])
    command = [str(BESIDE / "nvflare"), "simulator", str(job), "-w", str(workspace)]
    return _run([*command, "-t", str(options.at_once)]), workspace / MODEL


def flower_command(data: Path, options: argparse.Namespace, folder: Path) -> tuple[float, Path]:
    """Seconds of Flower's part as a command of its own, and the final model."""
    path = folder / "flower.pt"
    values = {"rounds": options.rounds, "steps": options.steps, "at-once": options.at_once}
    numbers = [part for key, value in values.items() for part in (f"--{key}", str(value))]
    rest = ["--data", str(data), "--model-out", str(path), *numbers]
    # Flower's processes look the functions up in a module that they can import by its name.
    command = [sys.executable, "-c", "import flower; flower.main()", *rest]
    return _run(command, PYTHONPATH=f"{BENCHMARKS}{os.pathsep}{BENCHMARKS.parent}"), path


def _run(command: list[str], **more: str) -> float:
    started = time.perf_counter()
    environment = {**os.environ, **more}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"error: {' '.join(command[:3])} failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return seconds


def flower(data: Path, rounds: int, steps: int, at_once: int, out: Path) -> None:
    """FedAvg by Flower's own server and simulation; writes the final state_dict."""
    from flwr.app import ArrayRecord, Context
    from flwr.clientapp import ClientApp
    from flwr.server import Grid
    from flwr.serverapp import ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation

    job, server, client = described(rounds, steps), ServerApp(), ClientApp()

    @server.main()
    def serve(grid: Grid, context: Context) -> None:
        networks = build_networks(job.experiment.model, job.experiment.seed)
        strategy = FedAvg(min_available_nodes=len(job.federation.sites))
        result = strategy.start(grid, ArrayRecord(networks.state_dict()), num_rounds=rounds)
        torch.save(dict(result.arrays.to_torch_state_dict()), out)

    client.train()(lambda message, context: _train(message, context, data, rounds, steps))
    client.evaluate()(lambda message, context: _evaluate(message, context, data, rounds, steps))
    share = {"num_cpus": (os.cpu_count() or 1) / at_once, "num_gpus": 0.0}
    run_simulation(
        server, client, len(job.federation.sites), backend_config={"client_resources": share}
    )


def _train(message: Any, context: Any, data: Path, rounds: int, steps: int) -> Any:
    from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict

    site = _site(context, rounds, steps)
    state = message.content["arrays"].to_torch_state_dict()
    with tempfile.TemporaryDirectory() as kept:
        learner = Learner(
            described(rounds, steps).experiment,
            site,
            TrainingSlices([prepared(data, site, rounds, steps).split("train")]),
            HARDWARE,
            LocalStateStore(Path(kept)),
        )
        done = learner.train(state, int(message.content["config"]["server-round"]) - 1)
    metrics = MetricRecord({"num-examples": done.samples})
    content = RecordDict({"arrays": ArrayRecord(dict(done.state)), "metrics": metrics})
    return Message(content=content, reply_to=message)


def _evaluate(message: Any, context: Any, data: Path, rounds: int, steps: int) -> Any:
    from flwr.app import Message, MetricRecord, RecordDict

    site = _site(context, rounds, steps)
    state: Mapping[str, Any] = message.content["arrays"].to_torch_state_dict()
    generator = build_translator(described(rounds, steps).experiment.model)
    load_translator(generator, state)
    patients = prepared(data, site, rounds, steps).split("val")
    measured = validate(generator, patients, HARDWARE)
    # Flower takes the same keys from everybody, and not every site has lesions.
    metrics = {"num-examples": 1, "psnr": measured["val/psnr"], "ssim": measured["val/ssim"]}
    return Message(content=RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)


def _site(context: Any, rounds: int, steps: int) -> str:
    torch.set_num_threads(1)
    sites = sorted(described(rounds, steps).federation.sites)
    return sites[int(context.node_config["partition-id"])]


@cache
def described(rounds: int, steps: int) -> FederatedExperiment:
    """The demo's experiment with another length."""
    training = {"rounds": rounds, "steps": steps}
    return read_federated_experiment(DEFAULT_FILE, {"experiment": {"training": training}})


@cache
def prepared(data: Path, site: str, rounds: int, steps: int) -> PreparedSite:
    """A site's slices, from the cache that the simulator's sites read, too."""
    config = described(rounds, steps).experiment.data.preparation_at(site)
    folder = data / site
    return prepare_site(read_manifest(folder), config, folder / "prepared", progress=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data/demo"))
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=150, help="per site and round")
    parser.add_argument("--at-once", type=int, default=4, help="sites that train beside each other")
    parser.add_argument("--model-out", type=Path, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
