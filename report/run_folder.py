"""Read one run folder and check it, once, before anything is drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from report.audit import check_names, check_results
from report.csv_rows import FIRST_DATA_LINE, read_rows
from report.errors import ReportError
from report.records import Run, RunDescription
from report.run_json import RESERVED_SITES, read_run_json
from report.slices import read_slices

RESULT_KEYS = ("arm", "site", "split", "subject", "metric")
CURVE_KEYS = ("arm", "site", "round", "metric")


def read_run(folder: Path) -> Run:
    """Read ``run.json``, ``results.csv`` and, where present, ``curves.csv`` and ``slices.npz``.

    Raises:
        ReportError: the first thing that is missing, damaged or contradictory.
    """
    if not folder.is_dir():
        raise ReportError(f"{folder}: no such run folder; give the folder of a finished run")
    about = read_run_json(folder / "run.json")
    results = read_rows(folder / "results.csv", RESULT_KEYS)
    check_results(results, about, str(folder / "results.csv"))
    return Run(
        folder=folder,
        about=about,
        results=results,
        curves=_read_curves(folder / "curves.csv", about),
        slices=read_slices(folder / "slices.npz"),
    )


def _read_curves(path: Path, about: RunDescription) -> pd.DataFrame | None:
    if not path.exists():
        return None
    rows = read_rows(path, CURVE_KEYS)
    jobs = {arm.job for arm in about.arms}
    sites = {site.name for site in about.sites} | set(RESERVED_SITES)
    check_names(rows, jobs, sites, str(path))
    rounds = pd.to_numeric(rows["round"], errors="coerce")
    wrong = rounds.isna() | (rounds % 1 != 0)
    if wrong.any():
        line = int(np.argmax(wrong.to_numpy())) + FIRST_DATA_LINE
        raise ReportError(f"{path}: line {line} has a round that is not a whole number")
    return rows.assign(round=rounds.astype(int))
