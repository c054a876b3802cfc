"""Choose the worst, median and best patient of a site by rule, never by eye."""

from __future__ import annotations

from dataclasses import dataclass

from report.methods import Method
from report.records import Run, Site


@dataclass(frozen=True)
class ChosenPatient:
    """A patient shown.

    Attributes:
        subject: its identifier.
        role: ``worst``, ``median``, ``best`` or ``only``.
        rank: 1 for the lowest PSNR among all test patients of the site.
        patients: number of test patients of the site.
    """

    subject: str
    role: str
    rank: int
    patients: int


def chosen_patients(run: Run, site: Site, ranked_by: Method) -> tuple[ChosenPatient, ...]:
    """The patients of a site to show.

    Patients are ordered by the PSNR of ``ranked_by``, equal values by identifier. The choice is
    among those with a stored target slice: the first is the worst, the last the best, number
    ``(m - 1) // 2`` counted from 0 the median (the lower of the two middle ones for an even m).
    """
    test = run.test_rows
    rows = test[
        (test["metric"] == "psnr")
        & (test["site"] == site.name)
        & test["arm"].isin([arm.name for arm in ranked_by.arms_at(site)])
    ]
    means = rows.groupby("subject")["value"].mean()
    ordered = sorted(means.index, key=lambda subject: (means[subject], subject))
    stored = [s for s in ordered if (site.name, s, "target") in run.slices]
    return tuple(
        ChosenPatient(stored[index], role, ordered.index(stored[index]) + 1, len(ordered))
        for role, index in _roles(len(stored))
    )


def _roles(count: int) -> list[tuple[str, int]]:
    if count == 0:
        return []
    if count == 1:
        return [("only", 0)]
    middle = [("median", (count - 1) // 2)] if count > 2 else []
    return [("worst", 0), *middle, ("best", count - 1)]
