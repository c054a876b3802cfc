"""Read ``run.json`` into a frozen record, naming the first missing or mistyped key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from report.errors import ReportError
from report.records import LOCAL_PREFIX, SOURCE, Arm, RunDescription, Site

_MISSING = object()


def read_run_json(path: Path) -> RunDescription:
    """Read and check ``run.json``.

    Raises:
        ReportError: the file is missing, empty, not JSON, or a key is missing or of a wrong type.
    """
    content = _read_object(path)
    where = str(path)
    about = RunDescription(
        title=_value(content, "title", str, where),
        created=_value(content, "created", str, where),
        seed=_value(content, "seed", int, where),
        computed=_value(content, "computed", bool, where),
        data_note=_value(content, "data_note", str, where, ""),
        preset=_value(content, "preset", dict, where),
        experiment=_value(content, "experiment", dict, where, {}),
        versions=_value(content, "versions", dict, where, {}),
        machine=_value(content, "machine", dict, where, {}),
        manifests=_value(content, "manifests", dict, where, {}),
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
    entries = _value(content, key, list, where)
    if not entries:
        raise ReportError(f"{where}: key '{key}' is an empty list; a run has at least one")
    return [(entry, f"{where}: {key}[{number}]") for number, entry in enumerate(entries)]


def _site(entry: Any, where: str) -> Site:
    return Site(
        name=_value(entry, "name", str, where),
        unseen=_value(entry, "unseen", bool, where),
        train=_value(entry, "train", int, where),
        val=_value(entry, "val", int, where),
        test=_value(entry, "test", int, where),
        description=_value(entry, "description", str, where, ""),
    )


def _arm(entry: Any, where: str) -> Arm:
    name = _value(entry, "name", str, where)
    return Arm(
        name=name,
        label=_value(entry, "label", str, where, name),
        seconds=_value(entry, "seconds", float, where, None),
        rounds=_value(entry, "rounds", int, where, None),
        steps=_value(entry, "steps", int, where, None),
        bytes_sent=_value(entry, "bytes_sent", int, where, None),
        note=_value(entry, "note", str, where, None) or "",
    )


def _value(content: Any, key: str, expected: type, where: str, default: Any = _MISSING) -> Any:
    """One value of the expected type; null or absent gives the default where there is one."""
    if not isinstance(content, dict):
        raise ReportError(f"{where}: expected a JSON object, found {content!r}")
    value = content.get(key)
    if value is None:
        if default is _MISSING:
            raise ReportError(f"{where}: key '{key}' is missing; write the run folder again")
        return default
    accepted = (int, float) if expected is float else (expected,)
    if not isinstance(value, accepted) or (expected is not bool and isinstance(value, bool)):
        raise ReportError(
            f"{where}: key '{key}' is {value!r}, expected a value of type {expected.__name__}"
        )
    return value


def _check_names(about: RunDescription, where: str) -> None:
    for kind, names in (
        ("site", [site.name for site in about.sites]),
        ("arm", [arm.name for arm in about.arms]),
    ):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ReportError(f"{where}: {kind} '{twice[0]}' is listed twice; list it once")
    known = {site.name for site in about.sites}
    for arm in about.arms:
        if arm.kind == "local" and arm.name.removeprefix(LOCAL_PREFIX) not in known:
            raise ReportError(
                f"{where}: arm '{arm.name}' names no listed site; known sites: "
                f"{', '.join(sorted(known))}"
            )
    if all(arm.name == SOURCE for arm in about.arms):
        raise ReportError(f"{where}: no trained arm is listed; there is nothing to report")
    if about.seed < 0:
        raise ReportError(f"{where}: key 'seed' is {about.seed}; it must be 0 or larger")
