"""Train an arm with hostile sites: ``python -m jobs.running.hostile.arm JOB --data D --out OUT``.

What NVFlare's simulator writes of an arm this writes as well, but for the bytes that travel: model
and metrics of the sites that are honest, as a hostile site's word is worth nothing. An interrupted
arm begins anew.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import torch
from omegaconf import OmegaConf

from app_custom.server.global_metrics import mean_rows
from fedi2i.commands import ArgumentParser, run_program
from fedi2i.files import write_text
from fedi2i.metric_files import FILE_NAME, SAMPLES, MetricRow, write_metrics
from fedi2i.typed_config import as_dict
from jobs.running.arm_process import ArmProcess
from jobs.running.plain_loop import PlainLoop, loop_of
from jobs.writing.federation import FederatedExperiment, read_federated_experiment
from jobs.writing.job_folder import run_name
from lightning_modules.configuration import experiment_values
from lightning_modules.sharing.tensor_file import write_tensors
from lightning_modules.training.hardware import choose_hardware, threads_for

MODEL_FILE, JOB_FILE = "model.pt", "job.yaml"


def hostile_process(
    name: str, job: FederatedExperiment, data: Path, data_key: str, out: Path
) -> ArmProcess:
    """The process of an arm; its settings are written to its folder.

    Args:
        name: the arm's name.
        job: experiment and federation, under the arm's strategy.
        data: folder that holds one prepared folder per site.
        data_key: changes with the data.
        out: run folder.
    """
    folder = out / "arms" / name
    values = {
        "federation": as_dict(job.federation),
        "experiment": experiment_values(job.experiment),
    }
    write_text(folder / JOB_FILE, OmegaConf.to_yaml(OmegaConf.create(values)))
    module = (sys.executable, "-m", "jobs.running.hostile.arm")
    return ArmProcess(
        name=name,
        command=(*module, str(folder / JOB_FILE), "--data", str(data), "--out", str(folder)),
        log=out / "logs" / f"{name}.log",
        produces=folder / MODEL_FILE,
        key=f"{run_name(name, job)}/{data_key}",
        show=("global model after", "error:"),
    )


def train(job: FederatedExperiment, data: Path, out: Path) -> None:
    """Train a job to its end in this process; write its model and its metrics.

    Raises:
        UserError: data or settings that cannot be used.
    """
    training, sites = job.experiment.training, job.federation.sites
    hardware = choose_hardware(training.precision, threads_for(len(sites)))
    rows: list[MetricRow] = []
    with TemporaryDirectory(prefix="sites-") as kept:
        loop = loop_of(job, data, Path(kept), hardware)
        honest = [site for site in sites if site not in job.federation.hostile]
        for _ in range(training.rounds):
            rows += _measured(loop, honest)
            loop.run(1)
            there = loop.took_part[-1]
            rows += [(site, len(loop.took_part) - 1, SAMPLES, loop.samples[site]) for site in there]
        rows += _measured(loop, honest)
    write_metrics(out / FILE_NAME, [*rows, *mean_rows(rows)])
    weights = {key: torch.from_numpy(value.copy()) for key, value in loop.weights.items()}
    write_tensors(out / MODEL_FILE, {"model": weights})


def _measured(loop: PlainLoop, honest: Sequence[str]) -> Iterator[MetricRow]:
    """The rows of the honest sites' validation; says their mean PSNR."""
    found = {site: loop.validation_at(site) for site in honest}
    psnr = fmean(metrics["val/psnr"] for metrics in found.values())
    print(
        f"global model after {loop.round_number} round(s): mean validation PSNR {psnr:.2f} dB at "
        "the honest sites",
        flush=True,
    )
    for site, metrics in found.items():
        for metric, value in metrics.items():
            yield site, loop.round_number, metric, value


def main(arguments: Sequence[str] | None = None) -> int:
    """Train one arm; return the exit code."""
    return run_program(_parser, arguments)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m jobs.running.hostile.arm", description=__doc__)
    parser.add_argument("job", type=Path, help="YAML file with federation and experiment")
    parser.add_argument("--data", type=Path, required=True, help="holds one folder per site")
    parser.add_argument("--out", type=Path, required=True, help="receives model and metrics")
    parser.set_defaults(run=_run)
    return parser


def _run(options: argparse.Namespace) -> None:
    train(read_federated_experiment(options.job), options.data, options.out)


if __name__ == "__main__":
    sys.exit(main())
