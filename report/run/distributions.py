"""Read how far each arm's slices, as a set, are from the real ones."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from fedi2i.errors import DataError
from fedi2i.site_names import ALL_SITES
from report.run.checks import check_names
from report.run.records import RunDescription, SetDistances

DISTRIBUTIONS_FILE = "distributions.csv"
KERNEL, TEXTURE = MEASURES = ("kid", "texture")
_TEXTS = ("arm", "site", "split", "measure", "extractor")
_NUMBERS = ("value", "standard_error", "patients", "slices")


def read_distributions(path: Path, about: RunDescription) -> SetDistances | None:
    """Read ``distributions.csv``; None where the run has none.

    Raises:
        DataError: it is damaged, names an arm or site that ``run.json`` does not list, has a row
            twice, or mixes extractors.
    """
    if not path.is_file():
        return None
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(_TEXTS, str), keep_default_na=False)
        rows = table[[*_TEXTS, *_NUMBERS]]
        rows = rows.assign(**{name: pd.to_numeric(rows[name]) for name in _NUMBERS})
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: damaged ({error}); evaluate again") from error
    rows = rows[(rows["split"] == "test") & rows["measure"].isin(MEASURES)]
    sites = {site.name for site in about.sites} | {ALL_SITES}
    check_names(rows, {arm.name for arm in about.arms} | {"source"}, sites, str(path))
    if rows.duplicated(["arm", "site", "measure"]).any():
        raise DataError(f"{path}: holds a row twice; evaluate again")
    extractors = sorted(set(rows[rows["measure"] == KERNEL]["extractor"]))
    if len(extractors) != 1:
        raise DataError(
            f"{path}: kernel distances of {len(extractors)} extractors, which cannot be compared; "
            "evaluate again"
        )
    return SetDistances(rows.drop(columns=["split", "extractor"]), extractors[0])
