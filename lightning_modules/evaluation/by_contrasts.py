"""Results of patients by the contrasts of the source that they have.

Where patients lack contrasts, one mean over all of them says how many lack what as much as how good
a model is. Here they are told apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fedi2i.files import write_csv
from lightning_modules.evaluation.validation import mean_over_patients

CONTRASTS_FILE = "contrasts.csv"
COLUMNS = ("arm", "contrasts", "patients", "metric", "value")

Held = Mapping[tuple[str, str], Sequence[str]]
"""The contrasts that a patient has, by site and subject."""


def write_by_contrasts(
    out: Path, rows: Iterable[tuple[str, str, str, str, str, str, float]], held: Held
) -> None:
    """Write ``contrasts.csv``: of every arm the means over patients who have the same contrasts.

    An earlier evaluation's file is taken away where sources are of one contrast.

    Args:
        out: folder.
        rows: of ``results.csv``.
        held: nothing where the source is one contrast.
    """
    (out / CONTRASTS_FILE).unlink(missing_ok=True)
    if not held:
        return
    measured: dict[tuple[str, str], dict[tuple[str, str], dict[str, float]]] = defaultdict(dict)
    for arm, site, _, subject, _, metric, value in rows:
        group = measured[arm, "+".join(held[site, subject])]
        group.setdefault((site, subject), {})[metric] = value
    found = [
        (arm, contrasts, len(patients), name.partition("/")[2], value)
        for (arm, contrasts), patients in measured.items()
        for name, value in mean_over_patients(list(patients.values())).items()
    ]
    write_csv(out / CONTRASTS_FILE, COLUMNS, found)
