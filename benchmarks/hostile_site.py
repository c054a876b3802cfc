"""One of four sites sends reversed updates: what becomes of FedAvg, the median, the trimmed mean.

Usage: ``make figure-hostile`` (or ``python benchmarks/hostile_site.py --out FIGURE``). Runs the
demo experiment in a plain loop, with the product's learners and aggregators, once with four honest
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
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from jobs.writing.federation import DEFAULT_FILE, read_federated_experiment
from lightning_modules.combining.updates import SiteUpdate, network_of, networks_of
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.evaluation.validation import load_translator, validate
from lightning_modules.networks.generators.catalogue import build_generator
from lightning_modules.strategies.fedavg import FedAvgAggregator
from lightning_modules.strategies.fedmedian import FedMedianAggregator
from lightning_modules.strategies.trimmed_mean import TrimmedMeanAggregator
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.learner import Learner
from lightning_modules.training.local_state import LocalStateStore
from partitions.manifest import read_manifest
from partitions.preparation import PreparedSite, prepare_site

HOSTILE = "east"
HARDWARE = Hardware("cpu", "32-true", 1)
MAKERS: dict[str, Any] = {
    "FedAvg": lambda: FedAvgAggregator(1),
    "FedMedian": lambda: FedMedianAggregator(1),
    "Trimmed mean": lambda: TrimmedMeanAggregator(1, trim_fraction=0.25),
}


def main() -> None:
    """Run all six federations, two at a time, and draw them."""
    options = _parser().parse_args()
    cases = [(name, hostile) for name in MAKERS for hostile in (False, True)]
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
    aggregator = MAKERS[name]()
    aggregator.fl_ctx = SimpleNamespace()
    with tempfile.TemporaryDirectory() as folder:
        learners = {
            site: _learner(job.experiment, site, prepared, Path(folder) / site)
            for site, prepared in sites.items()
        }
        weights = {k: v.numpy() for k, v in learners[HOSTILE].initial_state().items()}
        curve = [_psnr(job.experiment, weights, sites)]
        for number in range(rounds):
            updates = [
                _update(learner, site, weights, number, hostile)
                for site, learner in sorted(learners.items())
            ]
            weights = _combined(aggregator, updates, weights)
            curve.append(_psnr(job.experiment, weights, sites))
    return curve


def _prepared(experiment: ExperimentConfig, folder: Path) -> PreparedSite:
    manifest = read_manifest(folder)
    return prepare_site(manifest, experiment.data.preparation, folder / "prepared", progress=False)


def _learner(
    experiment: ExperimentConfig, site: str, prepared: PreparedSite, folder: Path
) -> Learner:
    slices = TrainingSlices([prepared.split("train")])
    return Learner(experiment, site, slices, HARDWARE, LocalStateStore(folder))


def _update(
    learner: Learner, site: str, weights: dict[str, np.ndarray], number: int, hostile: bool
) -> SiteUpdate:
    received = {key: torch.from_numpy(value.copy()) for key, value in weights.items()}
    result = learner.train(received, number)
    sent = {key: value.numpy() for key, value in result.state.items()}
    if hostile and site == HOSTILE:
        sent = {k: (weights[k] - 10.0 * (v - weights[k])).astype(v.dtype) for k, v in sent.items()}
    return SiteUpdate(site, sent, float(result.samples))


def _combined(
    aggregator: Any, updates: list[SiteUpdate], weights: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    combined: dict[str, np.ndarray] = {}
    for network in networks_of(weights):
        before = {k: value for k, value in weights.items() if network_of(k) == network}
        combined |= aggregator.combine(network, [u.of(network) for u in updates], before)
    return combined


def _psnr(
    experiment: ExperimentConfig, weights: dict[str, np.ndarray], sites: dict[str, PreparedSite]
) -> float:
    generator = build_generator(experiment.model.generator)
    load_translator(generator, {k: torch.from_numpy(v.copy()) for k, v in weights.items()})
    honest = [prepared for site, prepared in sites.items() if site != HOSTILE]
    return fmean(validate(generator, site.split("val"), HARDWARE)["val/psnr"] for site in honest)


def _draw(curves: dict[tuple[str, bool], list[float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    colours = dict(zip(MAKERS, ("#000000", "#56B4E9", "#D55E00"), strict=True))
    # With four sites the median and the trimmed mean are the same: one shows beneath the other.
    widths = dict(zip(MAKERS, (1.5, 5.0, 1.5), strict=True))
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
