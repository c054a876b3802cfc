"""Draw a reader study from a run and write it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fedi2i import __version__
from fedi2i.digest import file_digest
from fedi2i.errors import DataError
from report.numbers.rows import TableRow
from report.readers.design import Item, Plan, draw_sheets
from report.readers.folders import new_study_name, now, write_study
from report.readers.key import Key, StudiedArm
from report.readers.pictures import Gallery, chosen_rows, gather
from report.run.folder import read_run
from report.run.records import Run
from report.run.study import is_study

RUN_FILES = ("run.json", "results.csv", "slices.npz")


def prepare(folder: Path, plan: Plan, out: Path) -> tuple[Key, Gallery]:
    """Draw a study from a run's folder and write it to ``out``.

    Returns:
        What was drawn, and the pictures.

    Raises:
        UserError: the run cannot be used, the plan does not fit it, or ``out`` is not empty;
            nothing is written.
    """
    if is_study(folder):
        raise DataError(f"{folder}: is a study of several seeds; give the folder of one of them")
    run = read_run(folder)
    rows = chosen_rows(run, plan.arms)
    gallery = gather(run, rows, plan.sites, plan.patients)
    key = key_of(run, rows, gallery, plan, draw_sheets(gallery.patients, plan))
    write_study(out, key, gallery)
    return key, gallery


def key_of(
    run: Run,
    rows: Sequence[TableRow],
    gallery: Gallery,
    plan: Plan,
    sheets: Mapping[str, tuple[Item, ...]],
) -> Key:
    """The key of a study, still without the digests of its picture files."""
    return Key(
        study=new_study_name(),
        created=now(),
        release=__version__,
        title=run.about.title,
        computed=run.about.computed,
        plan=plan,
        arms=tuple(
            StudiedArm(
                row.name,
                row.label,
                {site: model for (arm, site), model in gallery.models.items() if arm == row.name},
            )
            for row in rows
        ),
        run_files={name: file_digest(run.folder / name) for name in RUN_FILES},
        sheets=sheets,
        pictures={},
    )
