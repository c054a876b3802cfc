"""Merge the models of one cell in every way, and measure what each loses."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from jobs.running.matching.kept import Row
from jobs.running.matching.plan import BEST_SINGLE, CHOSEN, Cell, MatchingStudy
from jobs.running.matching.scale import TEST, VAL, Scale, Score, network_state
from jobs.running.matching.training import Data, trainings_of
from lightning_modules.matching.merging.averages import barrier, between, centroid
from lightning_modules.matching.merging.controls import moved, planted, recovered
from lightning_modules.matching.merging.merges import MERGES, PLAIN, Parts, aligned
from lightning_modules.matching.merging.universe import matrices_of, universe_of
from lightning_modules.matching.permutations import Permutations, State, permute

ENSEMBLE, MEAN_SINGLE = "ensemble", "mean-single"
NOISES = (1.0, 2.0, 3.0)
"""Of planted permutations, in standard deviations of each tensor."""


@dataclass(frozen=True)
class Merged:
    """One merge of a cell's models.

    Attributes:
        permutations: of every model.
        centroid: the average.
        seconds: that finding the permutations took.
    """

    permutations: Mapping[str, Permutations]
    centroid: State
    seconds: float


@dataclass(frozen=True)
class Bench:
    """A cell's models, ready to be merged and measured.

    Attributes:
        cell: what they are.
        states: their translators by member.
        scale: measures them.
        parts: the same for merges.
    """

    cell: Cell
    states: Mapping[str, State]
    scale: Scale
    parts: Parts

    def row(self, merge: str, quantity: str, value: float, split: str = "") -> Row:
        """A measured value of this cell."""
        cell = self.cell
        return Row(
            cell.seed, cell.start.name, cell.width, cell.models, merge, quantity, value, split
        )

    def scores(self, split: str) -> dict[str, Score]:
        """Of every single model."""
        return {name: self.scale.score([state], split) for name, state in self.states.items()}

    @property
    def best(self) -> str:
        """The single model with the smallest error on validation patients."""
        scores = self.scores(VAL)
        return min(scores, key=lambda name: scores[name].l1)


def bench_of(study: MatchingStudy, cell: Cell, data: Data, out: Path) -> Bench:
    """Read a cell's trained models.

    Raises:
        DataError: one is missing.
    """
    scale = Scale(study, study.experiment(cell.seed, cell.width), data)
    states: dict[str, State] = {
        member: {
            key: value.numpy()
            for key, value in network_state(training.trained(data, out), scale.translator).items()
        }
        for member, training in trainings_of(study, cell).items()
    }
    slices = scale.slices(study.config.activation_slices)
    return Bench(cell, states, scale, Parts(states, scale.groups, scale.build, slices))


def merge(bench: Bench, way: str) -> Merged:
    """Merge a cell's models in one way."""
    started = time.perf_counter()
    found = MERGES[way](bench.parts)
    seconds = time.perf_counter() - started
    return Merged(found, centroid(list(aligned(bench.parts, found).values())), seconds)


def chosen(bench: Bench, merges: Mapping[str, Merged]) -> str:
    """The merge whose average has the smallest error on validation patients."""
    return min(merges, key=lambda way: bench.scale.score([merges[way].centroid], VAL).l1)


def merge_rows(study: MatchingStudy, bench: Bench) -> Iterator[Row]:
    """Everything that is measured of a cell: rivals, averages, and paths where it is a pair."""
    merges = {way: merge(bench, way) for way in study.config.merges}
    for split in bench.scale.splits:
        yield from _rival_rows(bench, split)
        for way, found in merges.items():
            yield from _average_rows(bench, way, found.centroid, split)
        yield from _average_rows(bench, CHOSEN, merges[chosen(bench, merges)].centroid, split)
    for way, found in merges.items():
        yield from _matching_rows(bench, way, found)
        yield bench.row(CHOSEN, f"is_{way}", float(way == chosen(bench, merges)))
        if bench.cell.models == 2:
            yield from _path_rows(bench, way, found, study.config.path_points)


def _rival_rows(bench: Bench, split: str) -> Iterator[Row]:
    singles = bench.scores(split)
    rivals = {
        MEAN_SINGLE: Score(*map(fmean, zip(*singles.values(), strict=True))),
        BEST_SINGLE: singles[bench.best],
        ENSEMBLE: bench.scale.score(list(bench.states.values()), split),
    }
    for name, score in rivals.items():
        yield bench.row(name, "l1", score.l1, split)
        yield bench.row(name, "psnr", score.psnr, split)


def _average_rows(bench: Bench, way: str, average: State, split: str) -> Iterator[Row]:
    score = bench.scale.score([average], split)
    single = fmean(one.l1 for one in bench.scores(split).values())
    yield bench.row(way, "l1", score.l1, split)
    yield bench.row(way, "psnr", score.psnr, split)
    yield bench.row(way, "excess", score.l1 - single, split)


def _matching_rows(bench: Bench, way: str, found: Merged) -> Iterator[Row]:
    others = list(found.permutations.values())[1:]
    universe = universe_of(list(bench.states.values()), bench.scale.groups)
    yield bench.row(way, "moved", fmean(moved(own) for own in others))
    matrices = [matrices_of(own) for own in found.permutations.values()]
    yield bench.row(way, "similarity", universe.objective(matrices))
    yield bench.row(way, "seconds", found.seconds)


def _path_rows(bench: Bench, way: str, found: Merged, points: int) -> Iterator[Row]:
    """The path is measured on test patients alone: nothing is chosen by it."""
    one, other = aligned(bench.parts, found.permutations).values()
    parts = [float(part) for part in np.linspace(0.0, 1.0, points + 2)]
    on_path = [between(one, other, part) for part in parts]
    losses = [bench.scale.score([state], TEST).l1 for state in on_path]
    yield bench.row(way, "barrier", barrier(parts, losses), TEST)
    for part, loss in zip(parts, losses, strict=True):
        yield bench.row(way, f"path_l1@{part:.4g}", loss, TEST)


def control_rows(bench: Bench, ways: Sequence[str]) -> Iterator[Row]:
    """What every way of merging does to models whose right alignment is known.

    The first model of a cell stands beside itself, beside a copy in another order, and beside such
    copies under noise.
    """
    first = next(iter(bench.states.values()))
    seed, groups = bench.cell.seed, bench.scale.groups
    for way in [way for way in ways if way != PLAIN]:
        found = _to_first(bench, way, first, first)
        yield bench.row(way, "identity_moved", moved(found))
        for noise in (0.0, *NOISES):
            copy, back = planted(first, groups, seed, noise)
            found = _to_first(bench, way, first, copy)
            name = f"noise_{noise:g}_recovered" if noise else "planted_recovered"
            yield bench.row(way, name, recovered(found, back))
            if not noise:
                yield bench.row(
                    way, "planted_l1_gap", _gap(bench, first, permute(copy, groups, found))
                )
    shuffled, _ = planted(first, groups, seed)
    yield bench.row(PLAIN, "shuffled_alone_l1_gap", _gap(bench, first, shuffled))
    yield bench.row(PLAIN, "shuffled_mean_l1_gap", _gap(bench, first, centroid([first, shuffled])))


def _to_first(bench: Bench, way: str, first: State, other: State) -> Permutations:
    parts = bench.parts
    pair = Parts({"first": first, "other": dict(other)}, parts.groups, parts.build, parts.slices)
    return MERGES[way](pair)["other"]


def _gap(bench: Bench, one: State, other: State) -> float:
    """How much larger the error of the second network is, on validation patients."""
    score = bench.scale.score
    return score([other], VAL).l1 - score([one], VAL).l1
