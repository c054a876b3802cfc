"""Write an impact assessment (GDPR, Article 35) and a record of processing (Article 30), begun.

What the settings say is filled in. What only people know, or must judge, is asked for in a numbered
place; the list of these places ends the document. Nobody is named and nothing is judged here.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from app_custom.gates.job_limits import JobLimits
from app_custom.participant.site_configuration import FILE_NAME as SITE_FILE
from app_custom.participant.used_data import RECORD
from app_custom.privacy.update_filters import ANCHOR, LEDGER
from fedi2i import __version__
from fedi2i.errors import ConfigError
from fedi2i.files import write_text
from jobs.governance.facts import Processing
from partitions.withdrawn_patients import FILE_NAME as WITHDRAWN

DOCUMENTS = {
    "impact-assessment.md": "impact_assessment.md.jinja",
    "processing-record.md": "processing_record.md.jinja",
}
"""File name to template."""
_FILES = {
    "site": SITE_FILE,
    "ledger": LEDGER,
    "anchor": ANCHOR,
    "used": RECORD,
    "withdrawn": WITHDRAWN,
}
_MOST_EXPONENT = 16.0


class OpenItems:
    """The places of one document that a person fills in; numbered in the order they are asked."""

    def __init__(self) -> None:
        self.items: list[str] = []

    def __call__(self, what: str) -> str:
        """Ask for something; returns the marked place."""
        self.items.append(what)
        return f"**[{len(self.items)}: {what}]**"


def render(processing: Processing) -> dict[str, str]:
    """Both documents by file name, in Markdown.

    Args:
        processing: what is processed.
    """
    texts = {}
    for name, template in DOCUMENTS.items():
        ask = OpenItems()
        text = (
            _environment()
            .get_template(template)
            .render(
                processing=processing,
                job=processing.job,
                limits=JobLimits(),
                ask=ask,
                open_items=ask.items,
                version=__version__,
                files=_FILES,
                promises=list(promises(processing)),
                **risks(processing),
            )
        )
        texts[name] = re.sub(r"\n{3,}", "\n\n", text)
    return texts


def promises(processing: Processing) -> Iterator[str]:
    """What each training's mechanism promises and costs, as lines of a list."""
    for training in processing.trainings:
        label = plain(training.label)
        if training.mechanism is None:
            yield (
                f"- {label}: no mechanism; updates are not bounded, noised or hidden, and whoever "
                "receives one can attack it."
            )
            continue
        yield f"- {label}: {plain(training.mechanism.promise)}."
        yield f"  - Settings: {settings_text(training.settings)}."
        if training.epsilon is not None:
            delta = training.settings.get("delta")
            yield (
                f"  - By them a site spends epsilon {number(training.epsilon)}"
                f"{f' at delta {delta:g}' if delta is not None else ''} on one run: the odds of a "
                f"guess may change by a factor of {odds(training.epsilon)}."
            )
        for site, spent in training.measured.items():
            yield (
                f"  - {plain(site)} had spent epsilon {number(spent)} in total when the run ended."
            )


def risks(processing: Processing) -> dict[str, str]:
    """What the settings say of three risks; how much that weighs is for a person to judge."""
    trainings = processing.trainings
    promised = [(plain(t.label), t.epsilon) for t in trainings if t.epsilon is not None]
    without = [training.label for training in trainings if training.epsilon is None]
    membership = "; ".join(
        f"{label}: epsilon {number(e)}, the odds of a guess change by a factor of {odds(e)}"
        for label, e in promised
    )
    if without:
        none = f"no guarantee for {plain(', '.join(without))}"
        membership = f"{membership}; {none}" if membership else none
    read = [training.label for training in trainings if not training.hides_updates]
    inversion = (
        f"updates of single sites are read under {plain(', '.join(read))}; the sites' least sizes "
        "refuse jobs of single steps and slices"
        if read
        else "the server reads no single site's update (what sites could read with its help: "
        "docs/privacy.md); the sum is read by all"
    )
    sites = processing.training_sites
    two_sites = (
        f"{sites} sites: each computes the other's model from the mean, whatever mechanism hides "
        "single updates; sites refuse this unless their own file says least_sites: 2"
        if sites == 2
        else f"{sites} sites, and at least {processing.job.federation.needed} for each round; all "
        "but one together can compute from the mean what the last one sent"
    )
    return {"membership": membership, "inversion": inversion, "two_sites": two_sites}


def write(processing: Processing, out: Path, replace: bool) -> list[Path]:
    """Write both documents; returns their paths.

    Args:
        processing: what is processed.
        out: the folder.
        replace: whether documents that are there are written over.

    Raises:
        ConfigError: one is there, which a person may have filled in.
    """
    texts = render(processing)
    there = [out / name for name in texts if (out / name).exists()]
    if there and not replace:
        raise ConfigError(
            f"{there[0]}: is there, and somebody may have filled it in; give another --out, or "
            "--replace to begin anew"
        )
    for name, text in texts.items():
        write_text(out / name, text)
    return [out / name for name in texts]


def _environment() -> Environment:
    """Templates of Markdown in which every unknown name is an error."""
    environment = Environment(
        loader=PackageLoader("jobs.governance"),
        autoescape=False,  # the filter `plain` does it, for Markdown
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["plain"] = plain
    return environment


def plain(value: Any) -> str:
    """A value as text that is no Markdown, HTML or table: it may come from anybody's file."""
    text = html.escape(" ".join(str(value).split()), quote=False)
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", text)


def odds(epsilon: float) -> str:
    """By which factor an epsilon lets the odds of a guess change, in words.

    The factor is e to the epsilon, but for a share delta of outcomes (Dwork and Roth 2014, section
    2.3, doi:10.1561/0400000042).
    """
    if epsilon > _MOST_EXPONENT:
        return "more than ten million: no protection to speak of"
    return f"up to {number(math.exp(epsilon))}"


def number(value: float) -> str:
    """A number with three significant digits, without an exponent."""
    return f"{float(f'{value:.3g}'):,.10g}"


def settings_text(settings: Mapping[str, Any]) -> str:
    """Settings in a line."""
    return ", ".join(f"{plain(key)} {plain(value)}" for key, value in settings.items()) or "none"
