"""Federated averaging that begins with a merged model.

The discriminators stay at their sites: a site goes on with the one that it trained, and only the
translator is sent and averaged. Averaging discriminators makes them useless (they no longer tell
real from fake), and a translator shares no hidden channel with them, so that its order is its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from jobs.running.matching.kept import Row
from jobs.running.matching.merging import Bench, chosen, merge
from jobs.running.matching.plan import BEST_SINGLE, CHOSEN, MatchingStudy
from jobs.running.matching.scale import network_state
from jobs.running.matching.training import Data, steps_from, trainings_of
from lightning_modules.matching.merging.averages import centroid
from lightning_modules.matching.permutations import Array, State


def start_of(study: MatchingStudy, bench: Bench, begun_with: str) -> State:
    """The translator that the rounds begin with.

    Args:
        study: the study.
        bench: the models.
        begun_with: a merge, ``chosen`` or ``best-single``.
    """
    if begun_with == BEST_SINGLE:
        return bench.states[bench.best]
    if begun_with == CHOSEN:
        merges = {way: merge(bench, way) for way in study.config.merges}
        return merges[chosen(bench, merges)].centroid
    return merge(bench, begun_with).centroid


def round_rows(
    study: MatchingStudy, bench: Bench, data: Data, out: Path, begun_with: str
) -> Iterator[Row]:
    """The error of the global translator after every round, the merge itself being round 0."""
    rounds = study.config.rounds
    experiment = study.experiment(bench.cell.seed, bench.cell.width)
    sites = dict(study.members(bench.cell.models))
    models = {
        member: training.trained(data, out)
        for member, training in trainings_of(study, bench.cell).items()
    }
    present = start_of(study, bench, begun_with)
    for number in range(rounds.count + 1):
        for split in bench.scale.splits:
            score = bench.scale.score([present], split)
            yield bench.row(begun_with, f"round_l1@{number}", score.l1, split)
            yield bench.row(begun_with, f"round_psnr@{number}", score.psnr, split)
        if number == rounds.count:
            return
        for member, model in models.items():
            received = {**model, **_named(present, bench.scale.translator)}
            prepared = [data.site(sites[member], experiment)]
            arm = f"{member}, after the merge"
            models[member] = steps_from(received, experiment, arm, prepared, rounds.steps, number)
        present = centroid(
            [_arrays(network_state(model, bench.scale.translator)) for model in models.values()]
        )


def _named(state: State, network: str) -> dict[str, Tensor]:
    return {f"{network}.{key}": torch.from_numpy(value.copy()) for key, value in state.items()}


def _arrays(state: Mapping[str, Tensor]) -> dict[str, Array]:
    return {key: value.numpy() for key, value in state.items()}
