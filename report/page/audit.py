"""The page of a leakage audit, and the page of its pictures, which stays at the site."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from report.figures.leak import REFERENCE_ATTACK, draw_leak
from report.figures.style import as_address
from report.number_format import number, p_value, percent
from report.page.provenance import flattened
from report.page.render import environment
from report.run.audit import PRIVATE, Audit, AuditedMechanism, Matching

AUDIT_PAGE = "audit.html"
PICTURES_PAGE = "pictures.html"
SMALLEST_P = 0.05
COMPARED = ("rebuilt", "mean", "random", "nearest")
PICTURED = ("truth", *COMPARED)
MOST_PICTURED = 6


@dataclass(frozen=True)
class Gap:
    """One line of the table of what is not protected.

    Attributes:
        what: leaks.
        seen_by: whom.
        measured: by this audit, or a dash.
        helps: what would.
    """

    what: str
    seen_by: str
    measured: str
    helps: str


@dataclass(frozen=True)
class PictureRow:
    """The pictures of one slice: name to address."""

    number: int
    pictures: Mapping[str, str]


@dataclass(frozen=True)
class PictureGroup:
    """Pictures of one mechanism and one kind of update."""

    title: str
    rows: Sequence[PictureRow]


def render_audit(audit: Audit, has_pictures: bool) -> str:
    """The page of numbers; it shows no picture of a patient."""
    return (
        environment()
        .get_template("audit.html")
        .render(
            about=audit.about,
            mechanisms=audit.mechanisms,
            reference=REFERENCE_ATTACK,
            summary=summary(audit),
            figure=as_address(draw_leak(audit)),
            gaps=gaps(audit),
            settings=flattened(audit.about["experiment"]),
            pictures=f"{PRIVATE}/{PICTURES_PAGE}" if has_pictures else None,
            compared=COMPARED,
            smallest_p=SMALLEST_P,
        )
    )


def render_pictures(audit: Audit, pictures: Mapping[str, np.ndarray]) -> str:
    """The page of pictures: patients' data."""
    groups = [
        group
        for index, mechanism in enumerate(audit.mechanisms)
        for group in _groups(str(index), mechanism, pictures)
    ]
    return (
        environment()
        .get_template("audit_pictures.html")
        .render(about=audit.about, groups=groups, most=MOST_PICTURED)
    )


def summary(audit: Audit) -> list[str]:
    """What was found, in sentences."""
    return [
        f"{row.label[0].upper()}{row.label[1:]}: {_membership_sentence(row)} "
        f"{_inversion_sentence(row)}"
        for row in audit.mechanisms
    ]


def gaps(audit: Audit) -> list[Gap]:
    """What is not protected, whatever the mechanism."""
    none = audit.mechanisms[0]
    best = none.attacks[none.largest]
    few = none.attacks[REFERENCE_ATTACK]
    signs = (
        f"{percent(none.linear['everywhere'])} of the signs of one slice"
        if none.linear
        else f"not attacked: {audit.about['not_inverted']}"
    )
    linking = none.linking
    named = (
        f"{percent(linking['right'])} named right, chance {percent(linking['chance'])}"
        if linking
        else "fewer than three sites here"
    )
    found = f"{percent(few.found)} of members found at {_alarms(few.at)}"
    return [
        Gap(
            "The model: who was a training patient",
            "every site, and whoever is given the model",
            f"AUC {number(best.auc, 2)}, {found} (one site, no mechanism)",
            "patient-level differential privacy; more patients. Encryption and masks do not: the "
            "sum is what they open",
        ),
        Gap(
            "A site's update in the clear",
            "the server",
            signs,
            "encrypted averaging or secure aggregation, or noise at the site",
        ),
        Gap(
            "A job that asks for one step on one slice",
            "the submitter and the server",
            signs,
            "the least sizes in the site's own file, which refuse it",
        ),
        Gap(
            "Which scanner or site an update is from",
            "the server, or whoever has updates without names",
            named,
            "the federation tells the server its sites anyway; secure aggregation hides single "
            "updates",
        ),
        Gap(
            "Validation metrics, losses, numbers of slices, pictures and curves that a site agreed "
            "to send",
            "the server; metrics also the other sites",
            "not attacked",
            "share none, or round coarsely: no noise covers them",
        ),
        Gap(
            "What stronger attacks would find",
            "whoever has more time, images or knowledge",
            "not tried: learned priors, features of large networks, many rounds of one patient",
            "nothing here proves safety; only an accounted epsilon is a bound",
        ),
    ]


def _membership_sentence(row: AuditedMechanism) -> str:
    best = row.attacks[row.largest]
    told = (
        f"the strongest of {row.chosen_from} membership attacks ({best.label}) reaches AUC "
        f"{number(best.auc, 2)}, p {_p(row.largest_p)} after correction for choosing it"
    )
    if row.largest_p < SMALLEST_P:
        return f"{told}: membership leaks."
    return f"{told}: not told from chance by these trials, which does not prove that none leaks."


def _inversion_sentence(row: AuditedMechanism) -> str:
    quality = f"PSNR {number(row.psnr, 1)} dB."
    if row.linear is None:
        return quality
    return (
        f"From the update of one slice the linear attack gets "
        f"{percent(row.linear['everywhere'])} of the signs right (guessing: "
        f"{percent(row.linear['guess'])}). {quality}"
    )


def _p(value: float) -> str:
    text = p_value(value)
    return text if text.startswith("<") else f"= {text}"


def _alarms(rate: float) -> str:
    return "1 % false alarms" if rate else "no false alarm"


def _groups(
    place: str, mechanism: AuditedMechanism, pictures: Mapping[str, np.ndarray]
) -> list[PictureGroup]:
    groups = []
    for row in mechanism.matching:
        known = "known" if row.source_known else "unknown"
        prefix = f"{place}/{row.update}/{known}/"
        numbers = sorted({int(key.split("/")[3]) for key in pictures if key.startswith(prefix)})
        rows = [
            PictureRow(number, _addresses(f"{prefix}{number}/", row, pictures))
            for number in numbers[:MOST_PICTURED]
        ]
        title = (
            f"{mechanism.label}: {row.update}, {'source' if row.source_known else 'nothing'} known"
        )
        groups.append(PictureGroup(title, rows))
    return groups


def _addresses(prefix: str, row: Matching, pictures: Mapping[str, np.ndarray]) -> dict[str, str]:
    names = [f"{domain}/{what}" for domain in row.images for what in PICTURED]
    if f"{prefix}linear/found" in pictures:
        names += ["linear/truth", "linear/found"]
    return {name.replace("/", ": "): _address(pictures[f"{prefix}{name}"]) for name in names}


def _address(picture: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="png")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
