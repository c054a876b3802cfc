"""The rows of ``curves.csv`` that say whether a strategy acted, kept apart from the curves."""

from __future__ import annotations

import pandas as pd

from report.records import Run

ROLES = ("generator", "discriminator")
SERVER, ALL_SITES = "server", "all"
SITE_RATIO, SERVER_RATIO, MOVED = "strategy/ratio_", "strategy/server_ratio_", "fedma/moved_"
MOVED_GROUP = "fedma/moved/"
BYTES_SENT, BYTES_RECEIVED = "traffic/bytes_sent", "traffic/bytes_received"

_PREFIXES = ("strategy/", "fedma/", "traffic/")


def is_diagnostic(metric: str) -> bool:
    """Whether a metric says what a strategy did, not how good its model is."""
    return metric.startswith(_PREFIXES)


def diagnostic_rows(run: Run) -> pd.DataFrame:
    """The rows job, site, round, metric, value of all diagnostics; empty when there are none."""
    if run.curves is None:
        return pd.DataFrame(columns=["arm", "site", "round", "metric", "value"])
    return run.curves[run.curves["metric"].map(is_diagnostic)]


def per_round(rows: pd.DataFrame, metric: str, whole: str | None) -> pd.Series:
    """The value of each round of one job.

    Args:
        rows: the diagnostics of the job.
        metric: which one.
        whole: the site whose rows are that value (``server``), or None for the mean over hospitals,
            each with equal weight. Where there are no such rows, those of ``all`` are taken.

    Returns:
        Indexed by round, in order; empty when nothing was recorded.
    """
    found = rows[rows["metric"] == metric]
    wanted = ~found["site"].isin((SERVER, ALL_SITES)) if whole is None else found["site"] == whole
    chosen = found[wanted] if wanted.any() else found[found["site"] == ALL_SITES]
    return chosen.groupby("round")["value"].mean()
