"""Read the findings of a leakage audit, and the pictures that stay at the site."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from fedi2i.errors import DataError

AUDIT_FILE = "audit.json"
PRIVATE = "site-only"
PICTURES_FILE = "pictures.npz"
FORMAT = 1
_UNPAIRED = "its slices are unpaired, and these attacks need pairs"
"""Why no image was sought where a file of an earlier release does not say it."""
_ABOUT = (
    *("title", "created", "fedi2i", "seed", "computed", "quick", "site", "patients", "sites"),
    *("permutations", "cpu_seconds", "machine", "experiment", "enough_signs", "strong_enough"),
)


@dataclass(frozen=True)
class Attack:
    """One membership attack under one mechanism; rates are shares of 1.

    Attributes:
        name: its key, the same under every mechanism.
        label: as shown to readers.
        auc: probability that a member scores above another patient.
        interval: of the AUC, by bootstrap over patients.
        chance: where the AUC of permuted memberships lies.
        p: of the permutations.
        member_trials: trials with members.
        non_member_trials: trials with others.
        at: false-positive rate of ``found``; 0 where there are too few trials for 1 %.
        found: members found there.
        found_interval: of that share.
        bound: false-positive rate that no false alarm still allows.
    """

    name: str
    label: str
    auc: float
    interval: tuple[float, float]
    chance: tuple[float, float]
    p: float
    member_trials: int
    non_member_trials: int
    at: float
    found: float
    found_interval: tuple[float, float]
    bound: float


@dataclass(frozen=True)
class Matching:
    """Gradient matching on one kind of update.

    Attributes:
        update: ``one slice``, ``one step`` or ``a round``.
        source_known: whether the attacker had the source image.
        slices: how many were rebuilt.
        images: domain -> what is compared -> ``ssim``, ``psnr`` and ``r``, means over the slices.
        identified: domain -> share of reconstructions nearest to their own patient, and interval.
        chance: that share for guessing.
    """

    update: str
    source_known: bool
    slices: int
    images: Mapping[str, Mapping[str, Mapping[str, float]]]
    identified: Mapping[str, Mapping[str, float]]
    chance: float


@dataclass(frozen=True)
class AuditedMechanism:
    """Everything that was found under one mechanism.

    Attributes:
        label: the mechanism and its settings.
        promise: what it promises.
        epsilon: what a site spends in the run; None where none is promised.
        psnr: on patients that a model was not trained on, mean over the models.
        psnr_spread: standard deviation over the models.
        ssim: as ``psnr``.
        attacks: by key.
        largest: key of the attack with the largest AUC.
        largest_p: its p-value, corrected for choosing.
        chosen_from: number of attacks it was chosen from.
        linear: shares of signs: ``everywhere``, ``inside``, ``guess``, ``worst``; and ``slices``.
            None where no image was sought in updates.
        matching: gradient matching.
        linking: ``right``, ``chance``, ``p``, ``trials`` and ``sites``, or None.
    """

    label: str
    promise: str
    epsilon: float | None
    psnr: float
    psnr_spread: float
    ssim: float
    attacks: Mapping[str, Attack]
    largest: str
    largest_p: float
    chosen_from: int
    linear: Mapping[str, float] | None
    matching: tuple[Matching, ...]
    linking: Mapping[str, float] | None


@dataclass(frozen=True)
class Audit:
    """The findings.

    Attributes:
        folder: where they are.
        about: the other keys of the file, see ``_ABOUT``; and ``not_inverted``, why no image was
            sought in updates.
        mechanisms: the first one is none.
    """

    folder: Path
    about: Mapping[str, Any]
    mechanisms: tuple[AuditedMechanism, ...]


def is_audit(folder: Path) -> bool:
    """Whether a folder holds an audit's findings."""
    return (folder / AUDIT_FILE).is_file()


def read_audit(folder: Path) -> Audit:
    """Read ``audit.json``.

    Raises:
        DataError: the file is damaged or of another release.
    """
    path = folder / AUDIT_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise DataError(f"{path}: written by another release; run the audit again")
        mechanisms = tuple(_mechanism(entry) for entry in content["mechanisms"])
        about = {key: content[key] for key in _ABOUT}
        about["not_inverted"] = str(content.get("not_inverted", _UNPAIRED))
        return Audit(folder, about, mechanisms)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: damaged ({error}); run 'fedi2i audit' again") from error


def read_pictures(folder: Path) -> dict[str, np.ndarray]:
    """Pictures by ``mechanism/update/known/slice/what``, uint8; none where they were taken away.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / PRIVATE / PICTURES_FILE
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except (OSError, ValueError, EOFError, BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged ({error}); run 'fedi2i audit' again") from error


def _mechanism(entry: Mapping[str, Any]) -> AuditedMechanism:
    membership, inversion = entry["membership"], entry["inversion"]
    return AuditedMechanism(
        label=str(entry["label"]),
        promise=str(entry["promise"]),
        epsilon=None if entry["epsilon"] is None else float(entry["epsilon"]),
        psnr=float(entry["quality"]["psnr"]),
        psnr_spread=float(entry["quality"]["psnr_spread"]),
        ssim=float(entry["quality"]["ssim"]),
        attacks={row["attack"]: _attack(row) for row in membership["attacks"]},
        largest=str(membership["largest"]["attack"]),
        largest_p=float(membership["largest"]["p"]),
        chosen_from=int(membership["largest"]["chosen_from"]),
        linear=dict(inversion["linear"]) if inversion else None,
        matching=tuple(
            Matching(**_without(row, "left")) for row in (inversion or {}).get("matching", ())
        ),
        linking=entry["linking"],
    )


def _attack(row: Mapping[str, Any]) -> Attack:
    few = row["few_alarms"]
    return Attack(
        name=str(row["attack"]),
        label=str(row["label"]),
        auc=float(row["auc"]),
        interval=(float(row["low"]), float(row["high"])),
        chance=(float(row["null_low"]), float(row["null_high"])),
        p=float(row["p"]),
        member_trials=int(row["member_trials"]),
        non_member_trials=int(row["non_member_trials"]),
        at=float(few["at"]),
        found=float(few["found"]),
        found_interval=(float(few["low"]), float(few["high"])),
        bound=float(few["bound"]),
    )


def _without(row: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != key}
