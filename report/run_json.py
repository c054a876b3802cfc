"""Read ``run.json`` into a frozen record, naming the first missing or mistyped key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from report.arm_families import check_families, family_of
from report.errors import ReportError
from report.json_values import value_of
from report.records import SOURCE, Arm, RunDescription, Site

RESERVED_SITES = ("all", "server")
"""Names that stand for other things in the column ``site`` of ``curves.csv``."""


def read_run_json(path: Path) -> RunDescription:
    """Read and check ``run.json``.

    Raises:
        ReportError: the file is missing, empty, not JSON, or a key is missing or of a wrong type.
    """
    content = _read_object(path)
    where = str(path)
    about = RunDescription(
        title=value_of(content, "title", str, where),
        created=value_of(content, "created", str, where),
        seed=value_of(content, "seed", int, where),
        computed=value_of(content, "computed", bool, where),
        data_note=value_of(content, "data_note", str, where, ""),
        preset=value_of(content, "preset", dict, where),
        experiment=value_of(content, "experiment", dict, where, {}),
        versions=value_of(content, "versions", dict, where, {}),
        machine=value_of(content, "machine", dict, where, {}),
        manifests=value_of(content, "manifests", dict, where, {}),
        sites=tuple(_site(*entry) for entry in _entries(content, "sites", where)),
        arms=tuple(_arm(*entry) for entry in _entries(content, "arms", where)),
    )
    _check_names(about, where)
    return about


def _read_object(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise ReportError(f"{path}: missing; give the folder of a finished run")
    if path.stat().st_size == 0:
        raise ReportError(f"{path}: empty; run the experiment again")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ReportError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise ReportError(f"{path}: expected a JSON object, found a {type(content).__name__}")
    return content


def _entries(content: Mapping[str, Any], key: str, where: str) -> list[tuple[Any, str]]:
    entries = value_of(content, key, list, where)
    if not entries:
        raise ReportError(f"{where}: key '{key}' is an empty list; a run has at least one")
    return [(entry, f"{where}: {key}[{number}]") for number, entry in enumerate(entries)]


def _site(entry: Any, where: str) -> Site:
    return Site(
        name=value_of(entry, "name", str, where),
        unseen=value_of(entry, "unseen", bool, where),
        train=value_of(entry, "train", int, where),
        val=value_of(entry, "val", int, where),
        test=value_of(entry, "test", int, where),
        description=value_of(entry, "description", str, where, ""),
    )


def _arm(entry: Any, where: str) -> Arm:
    name = value_of(entry, "name", str, where)
    label = value_of(entry, "label", str, where, name)
    own = family_of(
        name,
        label,
        value_of(entry, "family", str, where, None),
        value_of(entry, "site", str, where, None),
        where,
    )
    return Arm(
        name=name,
        label=own.model_label if own else label,
        seconds=value_of(entry, "seconds", float, where, None),
        rounds=value_of(entry, "rounds", int, where, None),
        steps=value_of(entry, "steps", int, where, None),
        bytes_sent=value_of(entry, "bytes_sent", int, where, None),
        note=value_of(entry, "note", str, where, None) or "",
        site=own.site if own else None,
        family=own.family if own else None,
        family_label=own.label if own else "",
    )


def _check_names(about: RunDescription, where: str) -> None:
    sites = [site.name for site in about.sites]
    for kind, names in (("site", sites), ("arm", [arm.name for arm in about.arms])):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ReportError(f"{where}: {kind} '{twice[0]}' is listed twice; list it once")
    for name in RESERVED_SITES:
        if name in sites:
            raise ReportError(
                f"{where}: a site is called '{name}', which means something else in curves.csv; "
                "give it another name"
            )
    check_families(about, where)
    if all(arm.name == SOURCE for arm in about.arms):
        raise ReportError(f"{where}: no trained arm is listed; there is nothing to report")
    if about.seed < 0:
        raise ReportError(f"{where}: key 'seed' is {about.seed}; it must be 0 or larger")
