"""What an audit writes: numbers for everybody's eyes, and pictures for the site's alone."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from fedi2i import __version__
from fedi2i.cores import available_cores
from fedi2i.files import PRIVATE_FILE, replacing, write_csv, write_text
from jobs.privacy.catalogue import privacy_values
from jobs.running.audit.inversion import (
    ENOUGH_SIGNS,
    inversion_of,
    inversion_pieces,
)
from jobs.running.audit.linking import linking_of
from jobs.running.audit.membership import membership_of
from jobs.running.audit.people import people
from jobs.running.audit.pieces import CPU_SECONDS, Found
from jobs.running.audit.plan import AuditPlan
from lightning_modules.configuration import experiment_values

FORMAT = 1
JSON_FILE, CSV_FILE = "audit.json", "audit.csv"
PRIVATE = "site-only"
"""Folder of everything that shows a patient, or a value of a single one."""
PICTURES_FILE = "pictures.npz"
CSV_COLUMNS = ("mechanism", "epsilon", "attack", "quantity", "value", "low", "high", "p", "trials")


def findings_of(plan: AuditPlan, results: Mapping[str, Found]) -> dict[str, Any]:
    """Everything that the audit found, without a value or a name of a single patient."""
    mechanisms = []
    for mechanism in plan.mechanisms:
        membership = membership_of(plan, mechanism, results)
        record = mechanism.privacy.record
        mechanisms.append(
            {
                "label": mechanism.label,
                "settings": privacy_values(mechanism.privacy),
                "promise": record.promise if record else "nothing is promised",
                "epsilon": _finite(mechanism.epsilon(plan.experiment)),
                "quality": membership.pop("quality"),
                "membership": membership,
                "inversion": inversion_of(plan, mechanism, results),
                "linking": linking_of(plan, mechanism, results),
            }
        )
    inversion: Any = mechanisms[0]["inversion"]
    signs = inversion["linear"]["everywhere"] if inversion else None
    return {
        "format": FORMAT,
        "title": plan.title,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "fedi2i": __version__,
        "seed": plan.experiment.seed,
        "computed": plan.site.computed,
        "quick": plan.quick,
        "site": plan.site.site,
        "patients": len(people(plan.site)),
        "sites": sorted(site.site for site in plan.sites),
        "permutations": plan.sizes.permutations,
        "cpu_seconds": round(sum(float(found[CPU_SECONDS]) for found in results.values()), 1),
        "machine": f"{available_cores()} cores, {platform.machine()}",
        "experiment": experiment_values(plan.experiment),
        "enough_signs": ENOUGH_SIGNS,
        "not_inverted": plan.not_inverted,
        "strong_enough": None if signs is None else signs >= ENOUGH_SIGNS,
        "mechanisms": mechanisms,
    }


def write_findings(
    plan: AuditPlan, findings: Mapping[str, Any], found: Mapping[str, Found], out: Path
) -> None:
    """Write pictures, table and record; the record comes last, as it says that all is there."""
    pictures = _pictures(plan, found)
    with replacing(out / PRIVATE / PICTURES_FILE, PRIVATE_FILE) as temporary:
        np.savez_compressed(temporary, **pictures)  # type: ignore[arg-type]
    write_csv(out / CSV_FILE, CSV_COLUMNS, csv_rows(findings))
    write_text(out / JSON_FILE, json.dumps(findings, indent=1, allow_nan=False) + "\n")


def csv_rows(findings: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    """One number a row."""
    for mechanism in findings["mechanisms"]:
        who = (mechanism["label"], _shown(mechanism["epsilon"]))
        for name, value in mechanism["quality"].items():
            yield (*who, "image quality", name, value, "", "", "", "")
        for row in mechanism["membership"]["attacks"]:
            trials = row["member_trials"] + row["non_member_trials"]
            values = (row["auc"], row["low"], row["high"], row["p"], trials)
            yield (*who, row["label"], "AUC", *values)
            few = row["few_alarms"]
            asked = f"members found at {few['at']:.0%} false alarms"
            yield (*who, row["label"], asked, few["found"], few["low"], few["high"], "", trials)
        largest = mechanism["membership"]["largest"]
        chosen = f"largest of {largest['chosen_from']} AUCs, p corrected for the choice"
        yield (*who, "membership", chosen, largest["auc"], "", "", largest["p"], "")
        if mechanism["inversion"] is not None:
            yield from _inversion_rows(who, mechanism["inversion"])
        linking = mechanism["linking"]
        if linking is not None:
            values = (linking["right"], "", "", linking["p"], linking["trials"])
            yield (*who, "property of a site", "updates named right", *values)


def _inversion_rows(
    who: tuple[Any, ...], inversion: Mapping[str, Any]
) -> Iterator[tuple[Any, ...]]:
    linear = inversion["linear"]
    for name in ("everywhere", "inside", "guess"):
        told = f"signs right, {name}"
        yield (*who, "linear inversion", told, linear[name], "", "", "", linear["slices"])
    yield from _matching_rows(who, inversion["matching"])


def _matching_rows(
    who: tuple[Any, ...], rows: list[Mapping[str, Any]]
) -> Iterator[tuple[Any, ...]]:
    for row in rows:
        known = "source known" if row["source_known"] else "nothing known"
        attack = f"gradient matching, {row['update']}, {known}"
        for domain, images in row["images"].items():
            for what, like in images.items():
                for name, value in like.items():
                    told = f"{domain}, {what}, {name}"
                    yield (*who, attack, told, value, "", "", "", row["slices"])
            rate = row["identified"][domain]
            told = f"{domain}, patient identified"
            yield (*who, attack, told, rate["share"], rate["low"], rate["high"], "", row["slices"])


def _pictures(plan: AuditPlan, results: Mapping[str, Found]) -> dict[str, np.ndarray]:
    """All pictures by ``number of the mechanism/update/known/slice/…``; no patient is named."""
    labels = [mechanism.label for mechanism in plan.mechanisms]
    pictures = {}
    for piece in inversion_pieces(plan):
        known = "known" if piece.source_known else "unknown"
        number = labels.index(piece.mechanism.label)
        for key, image in results[piece.name].items():
            if key.startswith("picture/"):
                place = f"{number}/{piece.amount}/{known}/{piece.person + 1}"
                grey = np.clip(np.round(255 * image), 0, 255).astype(np.uint8)
                pictures[f"{place}/{key.removeprefix('picture/')}"] = grey
    return pictures


def _finite(value: float | None) -> float | None:
    """None where there is no epsilon, or none that a number could be."""
    return value if value is not None and math.isfinite(value) else None


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
