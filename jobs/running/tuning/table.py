"""The table of a tuning, a row per run, and the rule that chooses a point of a grid from it.

The rule: the point with the best mean validation PSNR over the seeds, unless the point that the
authors use is no further below it than the spread over seeds; then the authors' point.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from statistics import fmean, stdev

from fedi2i.errors import DataError
from fedi2i.files import write_csv

TABLE_FILE = "tuning.csv"
FEWEST_SEEDS = 2


@dataclass(frozen=True)
class TunedRun:
    """One run of a tuning: a row of the table.

    Attributes:
        grid: the grid's name.
        point: the settings, as ``key=value`` joined by spaces.
        published: whether it is the authors' point.
        seed: the experiment's seed.
        psnr: final validation PSNR in dB, mean over sites; of the sites' own models where the
            strategy gives every site one beside the global model.
        ssim: the same for SSIM of the global model.
        rounds: of the run.
        steps: optimizer steps of each network, over all sites and rounds.
        key: changes with data and settings; rows with several keys are not compared.
    """

    grid: str
    point: str
    published: bool
    seed: int
    psnr: float
    ssim: float
    rounds: int
    steps: int
    key: str


@dataclass(frozen=True)
class Choice:
    """What the rule chose of one grid.

    Attributes:
        point: the chosen settings.
        means: point -> mean PSNR over the seeds.
        spreads: point -> standard deviation over the seeds.
        best: the point with the largest mean.
        kept_published: whether the authors' point was taken although another has a larger mean.
    """

    point: str
    means: Mapping[str, float]
    spreads: Mapping[str, float]
    best: str
    kept_published: bool

    def text(self, grid: str) -> str:
        """The choice in one sentence."""
        mean, spread = self.means[self.point], self.spreads[self.point]
        told = f"{grid}: {self.point} ({mean:.2f} dB, {spread:.2f} dB over seeds)"
        if not self.kept_published:
            return f"{told}, the best mean"
        lead = self.means[self.best] - mean
        return f"{told}, the authors' point: {self.best} leads by {lead:.2f} dB, within the spread"


def choose_point(runs: Sequence[TunedRun]) -> Choice:
    """Apply the rule to the runs of one grid.

    The spread is the larger of the two standard deviations over seeds, of the best point and of the
    authors'. With seeds in common both points move together, so that this is more than what the
    difference itself varies by: the rule leans towards the authors.

    Raises:
        DataError: points with different seeds, fewer than two of them, or no authors' point.
    """
    scores: dict[str, dict[int, float]] = {}
    for run in runs:
        scores.setdefault(run.point, {})[run.seed] = run.psnr
    seeds = {frozenset(of_point) for of_point in scores.values()}
    if len(seeds) != 1 or len(next(iter(seeds))) < FEWEST_SEEDS:
        raise DataError(
            f"grid '{runs[0].grid if runs else ''}': every point needs a run with each of the same "
            f"{FEWEST_SEEDS} or more seeds; finish the tuning"
        )
    published = next((run.point for run in runs if run.published), None)
    if published is None:
        raise DataError(f"grid '{runs[0].grid}': no row of the authors' point; tune it again")
    means = {point: fmean(of_point.values()) for point, of_point in scores.items()}
    spreads = {point: stdev(of_point.values()) for point, of_point in scores.items()}
    best = max(means, key=lambda point: means[point])
    within = means[best] - means[published] <= max(spreads[best], spreads[published])
    chosen = published if within else best
    return Choice(chosen, means, spreads, best, kept_published=chosen != best)


def read_table(table: Path) -> list[TunedRun]:
    """The runs of a table; none where it does not exist.

    Raises:
        DataError: it is no table of a tuning.
    """
    if not table.exists():
        return []
    names = [field.name for field in fields(TunedRun)]
    try:
        with table.open(newline="", encoding="utf-8") as stream:
            rows = csv.DictReader(stream)
            if rows.fieldnames != names:
                raise ValueError(f"its first line is not {','.join(names)}")
            return [_tuned_run(row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{table}: no table of a tuning ({error}); move it away") from error


def _tuned_run(row: Mapping[str, str]) -> TunedRun:
    return TunedRun(
        grid=row["grid"],
        point=row["point"],
        published={"True": True, "False": False}[row["published"]],
        seed=int(row["seed"]),
        psnr=float(row["psnr"]),
        ssim=float(row["ssim"]),
        rounds=int(row["rounds"]),
        steps=int(row["steps"]),
        key=row["key"],
    )


def keep(table: Path, run: TunedRun) -> None:
    """Write the table with this run in the place of an earlier one of the same point and seed."""
    place = (run.grid, run.point, run.seed)
    others = [row for row in read_table(table) if (row.grid, row.point, row.seed) != place]
    rows = sorted([*others, run], key=lambda row: (row.grid, row.point, row.seed))
    write_csv(table, [field.name for field in fields(TunedRun)], map(astuple, rows))


def runs_of(
    table: Path, grid: str, points: Collection[str], seeds: Sequence[int]
) -> list[TunedRun]:
    """The runs of some points of a grid with some seeds.

    Raises:
        DataError: they are from different data or settings, or the file is no table of a tuning.
    """
    found = [
        row
        for row in read_table(table)
        if row.grid == grid and row.point in points and row.seed in seeds
    ]
    if len({row.key for row in found}) > 1:
        raise DataError(f"{table}: rows of '{grid}' from different data or settings")
    return found
