"""Ranks of the strategies over the runs of a study: a description beside the primary test.

A block is a seed, as all patients of one run move together; a patient would be no new block.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from report.numbers.over_seeds.crossed_t import FEWEST_SEEDS
from report.numbers.over_seeds.study import StudyAnalysis
from report.numbers.ranks import Ranks, rank_blocks
from report.numbers.rows import Population, TableRow, global_rows
from report.run.metrics import Metric


@dataclass(frozen=True)
class StudyRanks:
    """Ranks of the global strategies in the primary outcome.

    Attributes:
        metric: of which metric.
        population: over whose patients the values are means.
        rows: the strategies ranked, without copies of another and without diverged ones.
        like: row to those whose values are the same in every run.
        ranks: of ``rows``, in their order.
    """

    metric: Metric
    population: Population
    rows: tuple[TableRow, ...]
    like: dict[TableRow, tuple[TableRow, ...]]
    ranks: Ranks


def study_ranks(analysis: StudyAnalysis) -> StudyRanks | None:
    """Rank the global strategies seed by seed; None with fewer than three of them or of seeds."""
    primary = analysis.primary
    if primary is None or primary.metric.higher_is_better is None:
        return None
    values = _run_means(analysis, primary.population, primary.metric)
    like: dict[TableRow, tuple[TableRow, ...]] = {}
    for row in global_rows(analysis.rows):
        if row.name in values:
            first = next((one for one in like if values[one.name].equals(values[row.name])), None)
            if first is None:
                like[row] = ()
            else:
                like[first] = (*like[first], row)
    rows = tuple(like)
    blocks = values[[row.name for row in rows]].to_numpy(dtype=float)
    ranks = rank_blocks(blocks, primary.metric.higher_is_better)
    if ranks is None or len(blocks) < FEWEST_SEEDS:
        return None
    return StudyRanks(primary.metric, primary.population, rows, like, ranks)


def _run_means(analysis: StudyAnalysis, population: Population, metric: Metric) -> pd.DataFrame:
    """A line per seed and a column per arm; none for an arm of which a run has no number."""
    patients = population.values_in(analysis.patients)
    values = patients[patients["metric"] == metric.name]
    means = values.groupby(["seed", "row"])["value"].agg(lambda run: run.mean(skipna=False))
    return means.unstack("row").dropna(axis=1)
