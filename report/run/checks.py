"""Checks between the files of a run: a table is made only from rows that agree with each other."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from fedi2i.errors import DataError
from report.run.records import SOURCE, RunDescription

PSNR_TOLERANCE_DB = 1e-3


def check_results(results: pd.DataFrame, about: RunDescription, where: str) -> None:
    """Refuse results that would give a wrong or an unfair table.

    Args:
        results: rows arm, site, split, subject, metric, value.
        about: the content of ``run.json``.
        where: the file's name for error messages.

    Raises:
        DataError: an unlisted arm or site, a listed arm without test rows, no PSNR, an infinite
            value other than +inf PSNR, arms evaluated on different patients of a site, or a PSNR
            that disagrees with the mean squared error.
    """
    listed = {arm.name for arm in about.arms}
    check_names(results, listed, {site.name for site in about.sites}, where)
    test = results[results["split"] == "test"]
    evaluated = set(test["arm"])
    for arm in about.arms:
        if arm.name not in evaluated:
            raise DataError(
                f"{where}: arm '{arm.name}' of run.json has no test rows; evaluate it or remove it "
                "from run.json"
            )
    if not (test["metric"] == "psnr").any():
        raise DataError(f"{where}: no test row holds the metric 'psnr'; the report ranks by it")
    _check_infinite(results, where)
    _check_same_patients(test, where)
    _check_psnr(results, about, where)


def without_undefined(results: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Take out what a metric cannot say of a patient, and count it.

    Some metrics are NaN for a patient whatever the prediction, such as MS-SSIM where nothing of the
    mask is left at the coarsest scale: then all arms have NaN, among them the source. NaN of some
    arms is what diverged models leave.

    Args:
        results: rows arm, site, split, subject, metric, value.

    Returns:
        The other rows, and the number of test patients without a value by metric.
    """
    keys = ["site", "split", "subject", "metric"]
    nothing = results["value"].isna().groupby([results[key] for key in keys]).transform("all")
    nothing &= results["metric"] != "psnr"  # without it there is no result at all
    test = results[nothing & (results["split"] == "test")]
    counts = test.drop_duplicates(keys).groupby("metric").size()
    return results[~nothing], {str(metric): int(count) for metric, count in counts.items()}


def check_names(rows: pd.DataFrame, arms: set[str], sites: set[str], where: str) -> None:
    """Refuse rows of arms (``source`` apart) and sites that ``run.json`` does not list."""
    _refuse_unknown(rows["arm"].unique(), arms | {SOURCE}, "arm", where)
    _refuse_unknown(rows["site"].unique(), sites, "site", where)


def _refuse_unknown(names: Iterable[str], known: set[str], kind: str, where: str) -> None:
    for name in names:
        if name not in known:
            raise DataError(
                f"{where}: {kind} '{name}' is not listed in run.json; "
                f"listed: {', '.join(sorted(known))}"
            )


def _check_infinite(results: pd.DataFrame, where: str) -> None:
    # a perfect copy has mse 0 and PSNR +inf; nothing else may be infinite
    allowed = (results["metric"] == "psnr") & (results["value"] == np.inf)
    wrong = results[np.isinf(results["value"]) & ~allowed]
    if not wrong.empty:
        row = wrong.iloc[0]
        raise DataError(
            f"{where}: {row['metric']} of arm {row['arm']}, subject {row['subject']} is "
            f"{row['value']}; only PSNR may be +infinite"
        )


def _check_same_patients(test: pd.DataFrame, where: str) -> None:
    for (site, metric), rows in test.groupby(["site", "metric"], sort=False):
        patients = {str(arm): set(of_arm["subject"]) for arm, of_arm in rows.groupby("arm")}
        everyone = set().union(*patients.values())
        for arm, subjects in patients.items():
            if subjects != everyone:
                subject = sorted(everyone - subjects)[0]
                raise DataError(
                    f"{where}: arm '{arm}' has no {metric} for subject '{subject}' at site "
                    f"'{site}' although another arm has; evaluate all arms on the same patients"
                )


def _check_psnr(results: pd.DataFrame, about: RunDescription, where: str) -> None:
    """PSNR = 10 log10(range^2 / mse) in dB for every patient, where the run stores ``mse``."""
    keys = ["arm", "site", "split", "subject"]
    psnr = results[results["metric"] == "psnr"]
    mse = results[results["metric"] == "mse"]
    if mse.empty:
        return
    data_range = _data_range(about)
    pairs = psnr.merge(mse, how="left", on=keys, suffixes=("_psnr", "_mse"), indicator="origin")
    for pair in pairs.itertuples():
        name = f"{where}: arm {pair.arm}, subject {pair.subject}"
        if pair.origin == "left_only":
            raise DataError(
                f"{name} has a psnr but no mse although other rows have; evaluate again"
            )
        _check_pair(name, float(pair.value_psnr), float(pair.value_mse), data_range)


def _check_pair(name: str, psnr: float, mse: float, data_range: float) -> None:
    if np.isnan(psnr) or np.isnan(mse):
        return  # of a diverged model; there is nothing to compare
    if mse < 0:
        raise DataError(f"{name} has a negative mse ({mse}); evaluate again")
    expected = psnr_from_mse(mse, data_range)
    if psnr != expected and not abs(psnr - expected) <= PSNR_TOLERANCE_DB:
        raise DataError(
            f"{name} has psnr {psnr:.4f} dB, but its mse {mse:.6g} and data range {data_range:g} "
            f"mean {expected:.4f} dB; evaluate all rows with the preset of run.json"
        )


def psnr_from_mse(mse: float, data_range: float) -> float:
    """Peak signal-to-noise ratio in dB; +inf for an error of zero."""
    return float("inf") if mse == 0 else float(10 * np.log10(data_range**2 / mse))


def _data_range(about: RunDescription) -> float:
    given = about.preset.get("data_range")
    try:
        data_range = float(str(given))
    except ValueError:
        data_range = float("nan")
    if not 0 < data_range < float("inf"):
        raise DataError(
            f"run.json: preset.data_range is {given!r}; give the number PSNR was computed with"
        )
    return data_range
