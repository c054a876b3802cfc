"""Read one run folder and check it, once, before anything is computed or drawn."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Set
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from fedi2i.errors import DataError
from fedi2i.site_names import RESERVED
from report.run.checks import check_names, check_results, without_undefined
from report.run.distributions import DISTRIBUTIONS_FILE, read_distributions
from report.run.records import Run, RunDescription, Slice
from report.run.run_json import read_run_json

RESULT_KEYS = ("arm", "site", "split", "subject", "metric")
PRESET = "preset"
CURVE_KEYS = ("arm", "site", "round", "metric")
FIRST_DATA_LINE = 2
NOT_A_NUMBER = ("", "nan")
"""How a diverged model's value is written: by pandas as nothing, by everyone else as ``nan``."""

SliceKey = tuple[str, str, str]
"""Site, subject, and what the slice shows."""


def read_run(folder: Path) -> Run:
    """Read ``run.json`` and ``results.csv``; ``curves.csv``, ``slices.npz``, ``distributions.csv``.

    The last three may be missing.

    Raises:
        DataError: the first thing that is missing, damaged or contradictory.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such run folder; give the folder of a finished run")
    about = read_run_json(folder / "run.json")
    path = folder / "results.csv"
    results, undefined = without_undefined(
        _of_one_preset(read_rows(path, RESULT_KEYS), about, path)
    )
    check_results(results, about, str(path))
    curves = _read_curves(folder / "curves.csv", about)
    sets = read_distributions(folder / DISTRIBUTIONS_FILE, about)
    run = Run(folder, about, results, curves, {}, undefined, sets)
    return replace(run, slices=read_slices(folder / "slices.npz", run.diverged))


def _of_one_preset(results: pd.DataFrame, about: RunDescription, path: Path) -> pd.DataFrame:
    """The rows without their preset, once all have that of the run.

    Releases before 0.3 wrote none: theirs are ``mr``.

    Raises:
        DataError: rows of two presets, or of another one than ``run.json`` names.
    """
    if PRESET not in results:
        if about.preset.get("unit"):
            raise DataError(
                f"{path}: has no column '{PRESET}', but run.json names '{about.preset['name']}'; "
                "evaluate again"
            )
        return results
    found = sorted(results[PRESET].unique())
    if len(found) > 1:
        raise DataError(
            f"{path}: mixes rows of the presets {' and '.join(map(repr, found))}, whose figures "
            "cannot be compared; evaluate all arms by one preset"
        )
    named = about.preset.get("name")
    if found != [named]:
        raise DataError(
            f"{path}: its rows are of preset '{found[0]}', but run.json names '{named}'; evaluate "
            "again, or write the run folder again"
        )
    return results.drop(columns=PRESET)


def read_rows(path: Path, keys: tuple[str, ...]) -> pd.DataFrame:
    """Read the key columns of a long CSV file as text and the column ``value`` as numbers.

    Args:
        path: the CSV file.
        keys: columns that together identify a row.

    Returns:
        The rows in file order, columns ``keys`` (str), ``preset`` (str) where the file has it, and
        ``value`` (float; infinite or NaN where the file says so).

    Raises:
        DataError: the file is missing, empty or damaged, a column is missing, a key is empty, a
            value is a word, or a row stands twice.
    """
    rows = _read_text_columns(path)
    missing = [column for column in (*keys, "value") if column not in rows.columns]
    if missing:
        raise DataError(f"{path}: column '{missing[0]}' is missing; write the run folder again")
    if rows.empty:
        raise DataError(f"{path}: has a header but no rows; run the experiment again")
    texts = (*keys, PRESET) if PRESET in rows.columns else keys
    rows = rows[[*texts, "value"]].fillna("")
    _refuse_empty_keys(rows, texts, path)
    numbers = pd.to_numeric(rows["value"], errors="coerce")
    words = numbers.isna() & ~rows["value"].str.strip().str.lower().isin(NOT_A_NUMBER)
    _refuse_first(words, rows, path, keys, "is not a number; write the run folder again")
    _refuse_first(rows.duplicated(list(keys)), rows, path, keys, "appears twice; keep one")
    return rows.assign(value=numbers.astype(float))


def _read_text_columns(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"{path}: missing; give the folder of a finished run")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: empty; run the experiment again")
    try:
        # text first: a subject called "NA" or "007" must keep its name
        return pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False)
    except (ValueError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{path}: cannot be read as CSV ({reason})") from error


def _refuse_empty_keys(rows: pd.DataFrame, keys: tuple[str, ...], path: Path) -> None:
    for column in keys:
        empty = rows[column].str.strip() == ""
        if empty.any():
            line = int(np.argmax(empty.to_numpy())) + FIRST_DATA_LINE
            raise DataError(f"{path}: line {line} has no {column}; write the run folder again")


def _refuse_first(
    wrong: pd.Series, rows: pd.DataFrame, path: Path, keys: tuple[str, ...], complaint: str
) -> None:
    if not wrong.any():
        return
    index = int(np.argmax(wrong.to_numpy()))
    name = ", ".join(f"{key} {rows[key].iloc[index]}" for key in keys)
    raise DataError(f"{path}: line {index + FIRST_DATA_LINE} ({name}) {complaint}")


def _read_curves(path: Path, about: RunDescription) -> pd.DataFrame | None:
    if not path.exists():
        return None
    rows = read_rows(path, CURVE_KEYS)
    jobs = {arm.job for arm in about.arms}
    sites = {site.name for site in about.sites} | set(RESERVED)
    check_names(rows, jobs, sites, str(path))
    rounds = pd.to_numeric(rows["round"], errors="coerce")
    wrong = rounds.isna() | (rounds % 1 != 0)
    if wrong.any():
        line = int(np.argmax(wrong.to_numpy())) + FIRST_DATA_LINE
        raise DataError(f"{path}: line {line} has a round that is not a whole number")
    return rows.assign(round=rounds.astype(int))


def read_slices(path: Path, diverged: Set[str]) -> Mapping[SliceKey, Slice]:
    """Read the 2D pictures of the report; a missing file gives an empty mapping.

    Args:
        path: ``slices.npz``.
        diverged: arms whose slices are left out where they hold values that are no numbers.

    Returns:
        Site, subject and what to a float32 array of shape (rows, columns), clipped to [0, 1].

    Raises:
        DataError: the file is damaged, a key is not ``<site>/<subject>/<what>``, an array is not
            2D, holds NaN though its arm has not diverged, or differs in shape from the other slices
            of its subject.
    """
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: np.asarray(archive[name]) for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read as NPZ ({error}); write it again") from error
    slices = {}
    for name, array in arrays.items():
        key = _slice_key(name, path)
        picture = _picture(name, array, path)
        if np.isfinite(picture).all():
            slices[key] = np.clip(picture, 0.0, 1.0)
        elif key[-1] not in diverged:
            raise DataError(f"{path}: '{name}' holds NaN or infinite values; write it again")
    _check_shapes(slices, path)
    return slices


def _slice_key(name: str, path: Path) -> SliceKey:
    parts = name.split("/")
    if len(parts) < 3:
        raise DataError(f"{path}: key '{name}' is not of the form <site>/<subject>/<what>")
    return parts[0], "/".join(parts[1:-1]), parts[-1]


def _picture(name: str, array: np.ndarray, path: Path) -> Slice:
    if array.ndim != 2 or array.size == 0 or array.dtype.kind not in "fiub":
        raise DataError(
            f"{path}: '{name}' is {array.dtype} of shape {array.shape}, expected a 2D number array"
        )
    return array.astype(np.float32)


def _check_shapes(slices: Mapping[SliceKey, Slice], path: Path) -> None:
    shapes: dict[tuple[str, str], tuple[int, ...]] = {}
    for (site, subject, what), picture in slices.items():
        expected = shapes.setdefault((site, subject), picture.shape)
        if picture.shape != expected:
            raise DataError(
                f"{path}: '{site}/{subject}/{what}' has shape {picture.shape}, other slices of "
                f"this subject have {expected}; store slices of one grid"
            )
