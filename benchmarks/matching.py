"""FedMA's coordinate descent: merged pairs with and without it, for many pairs of networks.

Usage: ``make benchmark-matching`` (or ``python benchmarks/matching.py --data data/demo``). A pair
is two generators, trained apart on the slices of two sites with the L1 term; from independent or
from common first weights. Each pair is averaged plainly, after the forward pass alone
(``matching_sweeps: 0``) and after sweeps of coordinate descent. The figure is the *excess*: the L1
error of the average on the sites' validation patients minus the mean error of the two.

The table is written after every pair, and a pair that stands in it is not trained again: stop and
start at will. The last lines count the pairs in which descent was better than the forward pass
alone, with the two-sided sign test.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import combinations
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest

from fedi2i.files import write_csv
from jobs.writing.federation import DEFAULT_FILE, read_federated_experiment
from lightning_modules.configuration import ExperimentConfig, experiment_from, experiment_values
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.evaluation.validation import (
    load_translator,
    patient_metrics,
    patients,
    translate,
)
from lightning_modules.matching.channel_groups import ChannelGroups
from lightning_modules.matching.matching import MatchSettings, match
from lightning_modules.matching.network_groups import network_groups
from lightning_modules.matching.permutations import moved_fraction, permute
from lightning_modules.networks.building import build_networks
from lightning_modules.networks.generators.catalogue import build_generator
from lightning_modules.seeding import derive_seed
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.learner import Learner
from lightning_modules.training.local_state import LocalStateStore
from partitions.manifest import read_manifest
from partitions.preparation import PreparedSite, prepare_site

STARTS = ("independent", "common")
MERGES: Mapping[str, int | None] = {"plain": None, "forward": 0, "descent": 20}
"""Sweeps of coordinate descent; None does not match at all."""

Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class Pair:
    """Two networks and what their averages lose.

    Attributes:
        start: ``independent`` or ``common`` first weights.
        seed: of the pair.
        steps: of training apart.
        sites: the two sites, joined by ``+``.
        single: mean L1 error of the two networks.
        plain: excess of the plain average.
        forward: excess after the forward pass alone.
        descent: excess after coordinate descent as well.
        moved_forward: part of the channels that the forward pass moved.
        moved_descent: the same after descent.
    """

    start: str
    seed: int
    steps: int
    sites: str
    single: float
    plain: float
    forward: float
    descent: float
    moved_forward: float
    moved_descent: float


def main() -> None:
    """Measure the pairs that the table lacks, and print what it says."""
    options = _parser().parse_args()
    torch.set_num_threads(options.threads)
    federated = read_federated_experiment(options.experiment)
    experiment = regression(federated.experiment, options.channels)
    sites = {
        name: _prepared(options.data / name, experiment) for name in federated.federation.sites
    }
    hardware = Hardware("cpu", "32-true", options.threads)
    wanted = [(start, seed) for seed in options.seeds for start in STARTS]
    for pair in measure(experiment, sites, hardware, options.steps, wanted, options.out):
        print(
            f"{pair.start:<12} seed {pair.seed} {pair.sites:<14} plain {pair.plain:+.4f} forward "
            f"{pair.forward:+.4f} descent {pair.descent:+.4f}",
            flush=True,
        )
    for line in verdicts(read_pairs(options.out)):
        print(line)


def regression(experiment: ExperimentConfig, channels: Sequence[int] | None) -> ExperimentConfig:
    """The experiment with the generator and the L1 term alone, and perhaps another width."""
    values: dict[str, Any] = experiment_values(experiment)
    values["model"]["name"], values["sharing"] = "regression", "generator"
    if channels:
        values["model"]["generator"]["channels"] = list(channels)
    return experiment_from({**values, "strategy": {}}, "benchmark")


def measure(
    experiment: ExperimentConfig,
    sites: Mapping[str, PreparedSite],
    hardware: Hardware,
    steps: int,
    wanted: Sequence[tuple[str, int]],
    table: Path,
) -> Iterator[Pair]:
    """Every pair of sites for every start and seed that the table lacks; written one by one."""
    networks = build_networks(experiment.model, experiment.seed)
    size = experiment.data.preparation.size
    groups = network_groups(networks, experiment.model, ["generator"], size)["generator"]
    scale = _Scale(experiment, list(sites.values()), hardware)
    for start, seed in wanted:
        known = {pair.sites for pair in read_pairs(table) if _place(pair) == (start, seed, steps)}
        missing = [names for names in combinations(sites, 2) if "+".join(names) not in known]
        trained = {
            name: _trained(experiment, sites[name], hardware, steps, start, seed)
            for name in sorted({name for names in missing for name in names})
        }
        for names in missing:
            one, other = (trained[name] for name in names)
            pair = _merged(one, other, groups, scale, (start, seed, steps, "+".join(names)))
            write_csv(
                table,
                [entry.name for entry in fields(Pair)],
                map(astuple, [*read_pairs(table), pair]),
            )
            yield pair


class _Scale:
    """Measures weights by their L1 error on the validation patients of all sites."""

    def __init__(
        self, experiment: ExperimentConfig, sites: Sequence[PreparedSite], hardware: Hardware
    ) -> None:
        self._generator = build_generator(experiment.model.generator)
        self._tested = [patient for site in sites for patient in patients(site.split("val"))]
        self._hardware = hardware

    def error(self, weights: Weights) -> float:
        state = {f"generator.{key}": torch.as_tensor(value) for key, value in weights.items()}
        load_translator(self._generator, state)
        return fmean(
            patient_metrics(translate(self._generator, p.source, self._hardware), p)["mae"]
            for p in self._tested
        )


def _trained(
    experiment: ExperimentConfig,
    site: PreparedSite,
    hardware: Hardware,
    steps: int,
    start: str,
    seed: int,
) -> Weights:
    """A generator trained at one site; its first weights are the seed's, or the site's own."""
    slices = TrainingSlices([site.split("train")])
    own = f"{start} {site.site}" if start == "independent" else start
    first = experiment_from({**experiment_values(experiment), "seed": seed}, "benchmark")
    networks = build_networks(first.model, derive_seed(seed, "benchmark", own))
    state = {key: value.clone() for key, value in networks.state_dict().items()}
    with TemporaryDirectory() as folder:
        store = LocalStateStore(Path(folder))
        learner = Learner(first, site.site, slices, hardware, store, steps=steps)
        result = learner.train(state, 0).state
    return {key.partition(".")[2]: value.numpy() for key, value in result.items()}


def _merged(
    one: Weights,
    other: Weights,
    groups: ChannelGroups,
    scale: _Scale,
    place: tuple[str, int, int, str],
) -> Pair:
    single = fmean([scale.error(one), scale.error(other)])
    excess, moved = {}, {}
    for name, sweeps in MERGES.items():
        aligned = other
        if sweeps is not None:
            found = match(one, other, groups, MatchSettings(sweeps=sweeps)).permutations
            aligned = permute(other, groups, found)
            fractions = moved_fraction(found)
            sizes = {group: len(order) for group, order in found.items()}
            total = sum(sizes.values())
            moved[name] = sum(fractions[g] * size for g, size in sizes.items()) / max(1, total)
        mean = {key: (value + aligned[key]) / 2 for key, value in one.items()}
        excess[name] = scale.error(mean) - single
    moves = {f"moved_{name}": fraction for name, fraction in moved.items()}
    return Pair(*place, single, **excess, **moves)


def verdicts(pairs: Sequence[Pair]) -> list[str]:
    """Per start and length: mean excesses, and how often descent was the better one."""
    lines = []
    for start, steps in sorted({(pair.start, pair.steps) for pair in pairs}):
        chosen = [pair for pair in pairs if (pair.start, pair.steps) == (start, steps)]
        better = sum(pair.descent < pair.forward for pair in chosen)
        worse = sum(pair.descent > pair.forward for pair in chosen)
        sign = binomtest(better, better + worse).pvalue if better + worse else 1.0
        means = {name: fmean(getattr(p, name) for p in chosen) for name in MERGES}
        told = ", ".join(f"{name} {mean:+.4f}" for name, mean in means.items())
        lines.append(
            f"{start}, {steps} steps, {len(chosen)} pairs: mean excess {told}; descent better in "
            f"{better}, worse in {worse} (sign test p = {sign:.3f}; pairs that share a network are "
            "not independent)"
        )
    return lines


def read_pairs(table: Path) -> list[Pair]:
    """The pairs of a table; none where it does not exist."""
    if not table.exists():
        return []
    kinds: dict[str, Any] = {"start": str, "seed": int, "steps": int, "sites": str}
    with table.open(newline="", encoding="utf-8") as stream:
        return [
            Pair(**{name: kinds.get(name, float)(text) for name, text in row.items()})
            for row in csv.DictReader(stream)
        ]


def _place(pair: Pair) -> tuple[str, int, int]:
    return pair.start, pair.seed, pair.steps


def _prepared(folder: Path, experiment: ExperimentConfig) -> PreparedSite:
    config = experiment.data.preparation
    return prepare_site(read_manifest(folder), config, folder / "prepared", progress=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data/demo"))
    parser.add_argument("--experiment", type=Path, default=DEFAULT_FILE)
    parser.add_argument("--out", type=Path, default=Path("runs/matching.csv"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103])
    parser.add_argument("--steps", type=int, default=400, help="of training apart")
    parser.add_argument("--channels", type=int, nargs="+", help="another width of the generator")
    parser.add_argument("--threads", type=int, default=1)
    return parser


if __name__ == "__main__":
    main()
