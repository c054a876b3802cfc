"""The key of a reader study: what every item shows. Readers never get it.

It is one JSON file beside the readers' folders, open to the account that drew the study alone, with
a digest over all of it and one of every picture.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedi2i.digest import digest
from fedi2i.errors import DataError
from fedi2i.files import PRIVATE_FILE, write_text
from report.readers.design import PREFERENCE, TURING, Case, Item, Patient, Plan

KEY_FILE = "key.json"
LAYOUT = 1
REAL, TRANSLATED = "real", "translated"
LEFT, RIGHT, EQUAL = "left", "right", "equal"
ANSWERS = {TURING: (REAL, TRANSLATED), PREFERENCE: (LEFT, RIGHT, EQUAL)}


@dataclass(frozen=True)
class StudiedArm:
    """An arm of a reader study.

    Attributes:
        name: as in the run.
        label: as shown in results.
        models: site to the model whose pictures stand for the arm there.
    """

    name: str
    label: str
    models: Mapping[str, str]


@dataclass(frozen=True)
class Key:
    """What was drawn, for whom, and what each item shows.

    Attributes:
        study: a name that sheets bear, which says nothing.
        created: when it was drawn.
        release: of this software.
        title: of the run.
        computed: whether the images are computed, not acquired.
        plan: what the study was to be.
        arms: those of the plan, in its order.
        run_files: names of the run's files to their digests.
        sheets: reader to items, in the order in which they are judged.
        pictures: reader to names of picture files to their digests.
    """

    study: str
    created: str
    release: str
    title: str
    computed: bool
    plan: Plan
    arms: tuple[StudiedArm, ...]
    run_files: Mapping[str, str]
    sheets: Mapping[str, tuple[Item, ...]]
    pictures: Mapping[str, Mapping[str, str]]

    @property
    def labels(self) -> dict[str, str]:
        """Arm to label."""
        return {arm.name: arm.label for arm in self.arms}

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that readers have."""
        return self.plan.tasks

    @property
    def patients(self) -> int:
        """Number of patients shown."""
        first = next(iter(self.sheets.values()))
        return len({item.case.patient for item in first})


def write_key(folder: Path, key: Key) -> None:
    """Write the key, readable by this account alone."""
    content: dict[str, Any] = {"layout": LAYOUT} | asdict(key)
    content = json.loads(json.dumps(content))  # what will be read: lists, no tuples
    content["digest"] = digest(content)
    write_text(folder / KEY_FILE, json.dumps(content, indent=1) + "\n", PRIVATE_FILE)


def read_key(folder: Path) -> Key:
    """Read the key of a study's folder.

    Raises:
        DataError: it is missing, damaged, of another layout, or was changed.
    """
    path = folder / KEY_FILE
    if not path.is_file():
        raise DataError(
            f"{path}: missing; give the folder that 'fedi2i readers prepare' wrote, with its key"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found, layout = content.pop("digest"), content.pop("layout")
        if layout != LAYOUT:
            raise DataError(f"{path}: is of layout {layout}, and this release reads {LAYOUT}")
        if digest({"layout": layout} | content) != found:
            raise DataError(f"{path}: was changed after it was written; use the original")
        return _key(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: damaged ({error}); use the original") from error


def _key(content: dict[str, Any]) -> Key:
    return Key(
        **content
        | {
            "plan": _plan(content["plan"]),
            "arms": tuple(StudiedArm(**arm) for arm in content["arms"]),
            "sheets": {
                reader: tuple(_item(item) for item in items)
                for reader, items in content["sheets"].items()
            },
        }
    )


def _plan(content: dict[str, Any]) -> Plan:
    lists: dict[str, Any] = {
        name: tuple(content[name]) for name in ("arms", "readers", "tasks", "sites")
    }
    return Plan(**content | lists)


def _item(content: dict[str, Any]) -> Item:
    case = content["case"]
    return Item(
        number=content["number"],
        case=Case(case["task"], Patient(**case["patient"]), tuple(case["shown"])),
        swapped=content["swapped"],
        repeats=content["repeats"],
    )
