"""Write a reader study: a folder per reader to be handed over, and the key that stays."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from fedi2i.digest import file_digest
from fedi2i.errors import ConfigError
from fedi2i.files import private_folder
from report.readers.design import CLOSER, PREFERENCE, TARGET, Item
from report.readers.form import instructions, render_form
from report.readers.key import Key, write_key
from report.readers.pictures import Gallery, png

FILLED = "filled"
SHEET_FILE = "sheet.csv"
FORM_FILE = "judge.html"
INSTRUCTIONS_FILE = "instructions.txt"
PICTURES = "pictures"
COLUMNS = ("study", "reader", "item", "task", "answer", "seconds")
SIDES = ("left", "right")


def write_study(out: Path, key: Key, gallery: Gallery) -> None:
    """Write the folder of a reader study, whole or not at all.

    Args:
        out: the folder, which must not exist or be empty.
        key: what was drawn; its digests of pictures are filled in here.
        gallery: the pictures.

    Raises:
        ConfigError: the folder holds something.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out}: is there already and not empty; give a new folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=out.parent, prefix=".writing-"))
    try:
        private_folder(draft)
        digests = {
            reader: _write_reader(draft / reader, reader, items, key, gallery)
            for reader, items in key.sheets.items()
        }
        private_folder(draft / FILLED)
        write_key(draft, replace(key, pictures=digests))
        _same_times(draft)
        draft.replace(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def changed_folders(folder: Path, key: Key) -> list[str]:
    """A sentence for every reader's folder that is still here and whose pictures were changed."""
    sentences = []
    for reader, digests in key.pictures.items():
        place = folder / reader / PICTURES
        found = {path.name: file_digest(path) for path in place.glob("*.png")}
        if place.is_dir() and found != digests:
            sentences.append(f"{place}: holds other pictures than the study was drawn with.")
    return sentences


def new_study_name() -> str:
    """A name for the sheets of one study that nothing can be computed from."""
    return secrets.token_hex(6)


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def pictures_of(item: Item, key: Key, gallery: Gallery) -> dict[str, bytes]:
    """The picture files of one item, in the order in which they stand beside each other.

    Returns:
        File name, made of the item's number and the side, to the content of a PNG file.
    """
    patient = item.case.patient
    if item.case.task != PREFERENCE:
        return {f"{item.number}.png": png(gallery.pictures[patient, item.shown[0]])}
    left, right = (
        (f"{item.number}-{side}.png", png(gallery.pictures[patient, arm]))
        for side, arm in zip(SIDES, item.shown, strict=True)
    )
    if key.plan.question != CLOSER:
        return dict((left, right))
    middle = (f"{item.number}-target.png", png(gallery.pictures[patient, TARGET]))
    return dict((left, middle, right))


def empty_sheet(study: str, reader: str, items: tuple[Item, ...]) -> str:
    """The sheet to fill in: a line per item, answers empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((study, reader, item.number, item.case.task, "", "") for item in items)
    return stream.getvalue()


def _write_reader(
    folder: Path, reader: str, items: tuple[Item, ...], key: Key, gallery: Gallery
) -> Mapping[str, str]:
    """Write one reader's folder; its digests of pictures."""
    (folder / PICTURES).mkdir(parents=True)
    files = {item.number: pictures_of(item, key, gallery) for item in items}
    digests = {}
    for pictures in files.values():
        for name, content in pictures.items():
            (folder / PICTURES / name).write_bytes(content)
            digests[name] = hashlib.sha256(content).hexdigest()
    texts = {
        SHEET_FILE: empty_sheet(key.study, reader, items),
        INSTRUCTIONS_FILE: instructions(key),
        FORM_FILE: render_form(key, reader, items, files),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return digests


def _same_times(folder: Path) -> None:
    """Give every file and folder one time, so that none tells when its picture was made."""
    moment = datetime.now(UTC).timestamp()
    for path in sorted(folder.rglob("*"), reverse=True):
        os.utime(path, (moment, moment))
