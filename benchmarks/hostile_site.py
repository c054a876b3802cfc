"""One of four sites sends reversed updates: what becomes of FedAvg and of the robust strategies.

Usage: ``make figure-hostile`` (or ``python benchmarks/hostile_site.py --out FIGURE``). Runs the
demo experiment without messages (``jobs.running.plain_loop``), once with four honest
sites and once with one that sends w - 10 * (its update); writes a figure and prints its numbers:
mean validation PSNR over the three honest sites after each round.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import fmean

import torch

from jobs.running.plain_loop import PlainLoop
from jobs.writing.federation import DEFAULT_FILE, read_federated_experiment, with_strategy
from lightning_modules.combining.updates import Weights
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.evaluation.validation import load_translator, validate
from lightning_modules.networks.generators.catalogue import build_generator
from lightning_modules.strategies.catalogue import STRATEGIES
from lightning_modules.training.hardware import Hardware
from partitions.manifest import read_manifest
from partitions.preparation import PreparedSite, prepare_site

HOSTILE = "east"
HARDWARE = Hardware("cpu", "32-true", 1)
COMPARED = {
    strategy.label: strategy
    for strategy in STRATEGIES.values()
    if strategy.reference or strategy.robust
}
"""FedAvg and every strategy that is meant to withstand a minority of hostile sites."""


def main() -> None:
    """Run every federation twice, two at a time, and draw them."""
    options = _parser().parse_args()
    cases = [(name, hostile) for name in COMPARED for hostile in (False, True)]
    with ProcessPoolExecutor(options.at_once, multiprocessing.get_context("spawn")) as pool:
        runs = [
            pool.submit(run, options.data.resolve(), *case, options.rounds, options.steps)
            for case in cases
        ]
        curves = [found.result() for found in runs]
    for (name, hostile), curve in zip(cases, curves, strict=True):
        text = " ".join(f"{value:6.2f}" for value in curve)
        print(f"{name:<13}{'one hostile site' if hostile else 'four honest sites':<19}{text}")
    _draw(dict(zip(cases, curves, strict=True)), options.out)


def run(data: Path, name: str, hostile: bool, rounds: int, steps: int) -> list[float]:
    """Mean validation PSNR over the honest sites, of the initial model and after every round."""
    torch.set_num_threads(1)
    changes = {"experiment": {"training": {"rounds": rounds, "steps": steps}}}
    job = read_federated_experiment(DEFAULT_FILE, changes)
    sites = {site: _prepared(job.experiment, data / site) for site in job.federation.sites}
    experiment = with_strategy(job, COMPARED[name].name).experiment
    with tempfile.TemporaryDirectory() as folder:
        loop = PlainLoop(experiment, sites, Path(folder), HARDWARE, _reversed if hostile else None)
        curve = [_psnr(experiment, loop.weights, sites)]
        for _ in range(rounds):
            curve.append(_psnr(experiment, loop.run(1), sites))
    return curve


def _prepared(experiment: ExperimentConfig, folder: Path) -> PreparedSite:
    manifest = read_manifest(folder)
    return prepare_site(manifest, experiment.data.preparation, folder / "prepared", progress=False)


def _reversed(site: str, received: Weights, trained: Weights) -> Weights:
    """What the hostile site sends: its own update times -10."""
    if site != HOSTILE:
        return trained
    return {k: (received[k] - 10.0 * (v - received[k])).astype(v.dtype) for k, v in trained.items()}


def _psnr(experiment: ExperimentConfig, weights: Weights, sites: dict[str, PreparedSite]) -> float:
    generator = build_generator(experiment.model.generator)
    load_translator(generator, {k: torch.from_numpy(v.copy()) for k, v in weights.items()})
    honest = [prepared for site, prepared in sites.items() if site != HOSTILE]
    return fmean(validate(generator, site.split("val"), HARDWARE)["val/psnr"] for site in honest)


def _draw(curves: dict[tuple[str, bool], list[float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    colours = dict(zip(COMPARED, ("#000000", "#56B4E9", "#009E73", "#D55E00"), strict=True))
    # With four sites the median and the trimmed mean are the same: one shows beneath the other.
    widths = dict(zip(COMPARED, (1.5, 5.0, 1.5, 1.5), strict=True))
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for (name, hostile), curve in curves.items():
        label = f"{name}, one hostile site" if hostile else f"{name}, all honest"
        style = "-" if hostile else ":"
        marker = "o" if hostile else None
        look = {"color": colours[name], "linewidth": widths[name], "marker": marker}
        axes.plot(curve, style, label=label, **look)
    axes.set_xlabel("round")
    axes.set_ylabel("validation PSNR (dB), honest sites")
    axes.set_xticks(range(len(next(iter(curves.values())))))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _parser() -> argparse.ArgumentParser:
    repository = Path(__file__).resolve().parents[1]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=repository / "data" / "demo")
    parser.add_argument("--out", type=Path, default=repository / "docs/figures/hostile-site.png")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--at-once", type=int, default=2)
    return parser


if __name__ == "__main__":
    main()
