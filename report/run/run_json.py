"""Read ``run.json`` into a frozen record, naming the first missing or mistyped key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedi2i.errors import DataError
from fedi2i.site_names import RESERVED
from report.run.arm_families import check_families, family_of
from report.run.metrics import KNOWN, Metric
from report.run.records import (
    UNTRAINED,
    Arm,
    Paper,
    PrimaryOutcome,
    Privacy,
    RunDescription,
    ShownWindow,
    Site,
    SpentTogether,
)

_MISSING = object()
_PAPER = ("text", "link", "equation")


def read_run_json(path: Path) -> RunDescription:
    """Read and check ``run.json``.

    Raises:
        DataError: the file is missing, empty, not JSON, or a key is missing or of a wrong type.
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
        metrics=_metrics(content, where),
        sites=tuple(_site(*entry) for entry in _entries(content, "sites", where)),
        arms=tuple(_arm(*entry) for entry in _entries(content, "arms", where)),
        shown=_shown(_value(content, "preset", dict, where), f"{where}: preset.shown"),
        primary=_primary(_value(content, "primary_outcome", dict, where, {}), where),
        spent_together=tuple(
            _spent(entry, f"{where}: spent_together[{number}]")
            for number, entry in enumerate(_value(content, "spent_together", list, where, []))
        ),
        design=_value(content, "design", str, where, ""),
        participation=_value(content, "participation", dict, where, {}),
        hostile={
            site: _value({site: entry}, site, dict, f"{where}: hostile")
            for site, entry in _value(content, "hostile", dict, where, {}).items()
        },
    )
    _check_names(about, where)
    return about


def _read_object(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise DataError(f"{path}: missing; give the folder of a finished run")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: empty; run the experiment again")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a JSON object, found a {type(content).__name__}")
    return content


def _entries(content: Mapping[str, Any], key: str, where: str) -> list[tuple[Any, str]]:
    entries = _value(content, key, list, where)
    if not entries:
        raise DataError(f"{where}: key '{key}' is an empty list; a run has at least one")
    return [(entry, f"{where}: {key}[{number}]") for number, entry in enumerate(entries)]


def _metrics(content: Mapping[str, Any], where: str) -> tuple[Metric, ...]:
    """What the run says of its metrics; release 0.1.0 said nothing, and knew only its own."""
    if content.get("metrics") is None:
        return KNOWN
    described = tuple(_metric(*entry) for entry in _entries(content, "metrics", where))
    if not any(metric.name == "psnr" and metric.higher_is_better for metric in described):
        raise DataError(
            f"{where}: metric 'psnr' is not described as one of which higher is better; the report "
            "ranks by it, so describe it under 'metrics'"
        )
    return described


def _metric(entry: Any, where: str) -> Metric:
    better = _value(entry, "better", str, where)
    if better not in ("higher", "lower"):
        raise DataError(f"{where}: key 'better' is '{better}'; it must be 'higher' or 'lower'")
    decimals = _value(entry, "decimals", int, where, None)
    if decimals is not None and decimals < 0:
        raise DataError(f"{where}: key 'decimals' is {decimals}; it must be 0 or larger")
    name = _value(entry, "name", str, where)
    return Metric(
        name=name,
        label=_value(entry, "label", str, where, name),
        unit=_value(entry, "unit", str, where, ""),
        higher_is_better=better == "higher",
        decimals=decimals,
        range=_range(entry, where),
    )


def _range(entry: Any, where: str) -> tuple[float | None, float | None] | None:
    """Smallest and largest value of a metric; a bound that is null does not exist."""
    bounds = _value(entry, "range", list, where, None)
    if bounds is None:
        return None
    if len(bounds) != 2 or any(
        bound is not None and (isinstance(bound, bool) or not isinstance(bound, int | float))
        for bound in bounds
    ):
        raise DataError(
            f"{where}: key 'range' is {bounds}; it must be two numbers, null for no end"
        )
    return bounds[0], bounds[1]


def _primary(entry: Mapping[str, Any], where: str) -> PrimaryOutcome:
    where = f"{where}: primary_outcome"
    patients = _value(entry, "patients", str, where, "federated")
    if patients not in ("federated", "unseen"):
        raise DataError(
            f"{where}: key 'patients' is '{patients}'; it must be 'federated' or 'unseen'"
        )
    return PrimaryOutcome(_value(entry, "metric", str, where, "psnr"), patients == "unseen")


def _shown(preset: Mapping[str, Any], where: str) -> ShownWindow:
    entry = _value(preset, "shown", dict, where, {})
    low, high = _value(entry, "low", float, where, 0.0), _value(entry, "high", float, where, 1.0)
    if not low < high:
        raise DataError(f"{where}: low {low:g} and high {high:g} must rise")
    return ShownWindow(low, high, _value(entry, "unit", str, where, ""))


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
    label = _value(entry, "label", str, where, name)
    own = family_of(
        name,
        label,
        _value(entry, "family", str, where, None),
        _value(entry, "site", str, where, None),
        where,
    )
    return Arm(
        name=name,
        label=own.model_label if own else label,
        seconds=_value(entry, "seconds", float, where, None),
        rounds=_value(entry, "rounds", int, where, None),
        steps=_value(entry, "steps", int, where, None),
        bytes_sent=_value(entry, "bytes_sent", int, where, None),
        note=_value(entry, "note", str, where, None) or "",
        site=own.site if own else None,
        family=own.family if own else None,
        family_label=own.label if own else "",
        does=_value(entry, "does", str, where, None),
        acts=_value(entry, "acts", bool, where, None),
        reference=_value(entry, "reference", bool, where, False),
        privacy=_privacy(_value(entry, "privacy", dict, where, None), where),
        paper=_paper(_value(entry, "paper", dict, where, None), where),
    )


def _paper(entry: dict[str, Any] | None, where: str) -> Paper | None:
    """Where a strategy comes from; a run before release 0.3 says nothing of it."""
    if entry is None:
        return None
    where = f"{where}: paper"
    text, link, equation = (_value(entry, key, str, where) for key in _PAPER)
    return Paper(text, link, equation)


def _privacy(entry: dict[str, Any] | None, where: str) -> Privacy | None:
    """The mechanism of a job; a run of release 0.2 says nothing of it."""
    if entry is None:
        return None
    where = f"{where}: privacy"
    mechanism = _value(entry, "mechanism", str, where)
    return Privacy(
        mechanism=mechanism,
        label=_value(entry, "label", str, where, mechanism),
        promise=_value(entry, "promise", str, where),
        guarantees=_value(entry, "guarantees", bool, where),
        unit=_value(entry, "unit", str, where, ""),
        relation=_value(entry, "relation", str, where, ""),
        delta=_value(entry, "delta", float, where, None),
        epsilon=_value(entry, "epsilon", float, where, None),
        settings=_value(entry, "settings", dict, where, {}),
    )


def _spent(entry: Any, where: str) -> SpentTogether:
    return SpentTogether(
        sites=tuple(_value(entry, "sites", list, where)),
        unit=_value(entry, "unit", str, where),
        relation=_value(entry, "relation", str, where),
        trainings=_value(entry, "trainings", int, where),
        delta=_value(entry, "delta", float, where),
        epsilon=_value(entry, "epsilon", float, where),
        added_up=_value(entry, "added_up", float, where),
    )


def _check_names(about: RunDescription, where: str) -> None:
    sites = [site.name for site in about.sites]
    listed = {
        "site": sites,
        "arm": [arm.name for arm in about.arms],
        "metric": [metric.name for metric in about.metrics],
    }
    for kind, names in listed.items():
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(f"{where}: {kind} '{twice[0]}' is listed twice; list it once")
    for name in RESERVED:
        if name in sites:
            raise DataError(
                f"{where}: a site is called '{name}', which means something else in curves.csv; "
                "give it another name"
            )
    check_families(about, where)
    _check_reference(about, where)
    _check_primary(about, where)
    if all(arm.name in UNTRAINED for arm in about.arms):
        raise DataError(f"{where}: no trained arm is listed; there is nothing to report")
    if about.seed < 0:
        raise DataError(f"{where}: key 'seed' is {about.seed}; it must be 0 or larger")


def _check_primary(about: RunDescription, where: str) -> None:
    known = [metric.name for metric in about.metrics]
    if about.primary.metric not in known:
        raise DataError(
            f"{where}: the primary outcome's metric '{about.primary.metric}' is not described "
            f"under 'metrics'; name one of {', '.join(known)}"
        )
    if about.primary.unseen and not about.unseen_sites:
        raise DataError(
            f"{where}: the primary outcome is that of unseen patients, but no site is unseen; say "
            "'federated' under 'primary_outcome'"
        )


def _check_reference(about: RunDescription, where: str) -> None:
    marked = [arm for arm in about.arms if arm.reference]
    for arm in marked:
        if arm.kind not in ("federated", "personal"):
            raise DataError(
                f"{where}: arm '{arm.name}' is the reference but is not federated; mark a "
                "federated arm, or none"
            )
    names = sorted({arm.job for arm in marked})
    if len(names) > 1:
        raise DataError(
            f"{where}: '{names[0]}' and '{names[1]}' are both the reference; mark one of them"
        )


def _value(content: Any, key: str, expected: type, where: str, default: Any = _MISSING) -> Any:
    """One value of the expected type; null or absent gives the default where there is one.

    Raises:
        DataError: the content is no object, or the key is missing or of another type.
    """
    if not isinstance(content, dict):
        raise DataError(f"{where}: expected a JSON object, found {content!r}")
    value = content.get(key)
    if value is None:
        if default is _MISSING:
            raise DataError(f"{where}: key '{key}' is missing; write the run folder again")
        return default
    accepted = (int, float) if expected is float else (expected,)
    if not isinstance(value, accepted) or (expected is not bool and isinstance(value, bool)):
        raise DataError(
            f"{where}: key '{key}' is {value!r}, expected a value of type {expected.__name__}"
        )
    return value
