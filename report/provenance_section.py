"""Where the numbers come from: sites, settings, metric definitions, versions, machine, cost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from report.diagnostics import job_label
from report.grouped_rows import table_class
from report.markup import Markup, foldable, joined, note, row, table, tag
from report.number_format import NONE, byte_size, duration, thousands
from report.records import Arm, Run

NOT_RECORDED = "not recorded in run.json"


def provenance_section(run: Run) -> Markup:
    """Tables 5 to 7 and the small tables of settings, versions, machine and manifests."""
    about = run.about
    pairs = tag(
        "div",
        _pairs("Machine", about.machine),
        _pairs("Versions", about.versions),
        class_="columns",
    )
    run_facts = {"created": about.created, "seed": about.seed}
    return tag(
        "section",
        tag("h2", "Provenance", id="provenance"),
        _sites(run),
        _arms(run),
        _pairs("Table 7. Metric definitions (preset)", about.preset, wide=True),
        _pairs("Run", run_facts),
        pairs,
        _pairs("Data manifests (SHA-256)", about.manifests, wide=True, class_="hash"),
        foldable("Settings", _settings(about.experiment)),
    )


def _sites(run: Run) -> Markup:
    test = run.test_rows
    body = [
        row(
            site.name,
            tag("td", site.description or NONE, class_="text"),
            "unseen" if site.unseen else "federated",
            str(site.train),
            str(site.val),
            str(site.test),
            str(int(test[test["site"] == site.name]["subject"].nunique())),
        )
        for site in run.about.sites
    ]
    header = [
        "",
        tag("th", "description", scope="col", class_="text"),
        *("role", "train", "val", "test", "evaluated"),
    ]
    caption = tag("b", "Table 5. Hospitals")
    return table(Markup(f"{caption} · patients per split"), header, body, class_="numbers")


def _arms(run: Run) -> Markup:
    body = [
        row(
            job_label(arms),
            thousands(arms[0].rounds),
            thousands(arms[0].steps),
            duration(arms[0].seconds),
            byte_size(arms[0].bytes_sent),
            tag("td", _notes(arms), class_="text"),
        )
        for arms in _trainings(run)
    ]
    header = [
        *("", "rounds", "steps", "time", "sent"),
        tag("th", "note", scope="col", class_="text"),
    ]
    caption = tag("b", "Table 6. Training cost per arm")
    personal = any(arm.kind == "personal" for arm in run.about.arms)
    text = joined(
        [
            caption,
            " · wall-clock time, bytes sent over the network (1 MB = 10⁶ bytes)",
            " · all models of one training in one row" if personal else "",
        ]
    )
    return table(text, header, body, class_=table_class(body, "numbers"))


def _trainings(run: Run) -> list[list[Arm]]:
    """The arms that one training made, which share its cost: each cost is shown once."""
    trainings: dict[tuple[object, ...], list[Arm]] = {}
    for arm in run.about.arms:
        cost = (arm.job, arm.rounds, arm.steps, arm.seconds, arm.bytes_sent)
        trainings.setdefault(cost, []).append(arm)
    return list(trainings.values())


def _notes(arms: Sequence[Arm]) -> str:
    notes = dict.fromkeys(arm.note for arm in arms if arm.note)
    return "; ".join(notes) or NONE


def _pairs(title: str, values: Mapping[str, Any], wide: bool = False, class_: str = "") -> Markup:
    if not values:
        return tag("div", tag("h3", title), note(NOT_RECORDED))
    items = [
        part
        for key, value in values.items()
        for part in (tag("dt", str(key)), tag("dd", _text(value)))
    ]
    classes = " ".join(filter(None, ("wide-pairs" if wide else "", class_)))
    return tag("div", tag("h3", title), tag("dl", *items, class_=classes))


def _settings(experiment: Mapping[str, Any]) -> Markup:
    """Top-level sections side by side, nested keys with dots."""
    if not experiment:
        return note(NOT_RECORDED)
    plain = {key: value for key, value in experiment.items() if not isinstance(value, dict)}
    nested = {key: value for key, value in experiment.items() if isinstance(value, dict)}
    groups = ([("general", plain)] if plain else []) + list(nested.items())
    return tag(
        "div", *(_pairs(name, dict(flattened(values))) for name, values in groups), class_="columns"
    )


def flattened(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested mappings as (dotted key, value) pairs, in order."""
    pairs: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, dict) and value:
            pairs += flattened(value, f"{prefix}{key}.")
        else:
            pairs.append((f"{prefix}{key}", value))
    return pairs


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and not any(isinstance(item, (dict, list)) for item in value):
        return ", ".join(_text(item) for item in value) or "(none)"
    return json.dumps(value, ensure_ascii=False)
