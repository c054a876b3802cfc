"""Put together what a drawn reader study has to remember."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from fedi2i import __version__
from fedi2i.digest import file_digest
from report.numbers.rows import TableRow
from report.readers.design import Item
from report.readers.folders import new_study_name, now
from report.readers.key import Key, StudiedArm
from report.readers.pictures import Gallery
from report.run.records import Run

RUN_FILES = ("run.json", "results.csv", "slices.npz")


def key_of(
    run: Run,
    rows: Sequence[TableRow],
    gallery: Gallery,
    sheets: Mapping[str, tuple[Item, ...]],
    options: argparse.Namespace,
) -> Key:
    """The key of a study, still without the digests of its picture files."""
    return Key(
        study=new_study_name(),
        created=now(),
        release=__version__,
        title=run.about.title,
        computed=run.about.computed,
        seed=options.seed,
        question=options.question,
        repeated=options.repeated,
        patients_of_a_site=options.patients,
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
