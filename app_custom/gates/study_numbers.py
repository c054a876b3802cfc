"""What a study in a running federation may learn of a site's test patients, and the site's word.

Number, mean and standard deviation per metric may leave, where the site's own file says so. Rows of
patients and pictures stay in the site's own folder (``app_custom.study``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedi2i.errors import ConfigError
from fedi2i.typed_config import number, switch
from lightning_modules.metrics.interface import Metric

if TYPE_CHECKING:  # which imports torch; whoever reads a job's configuration need not wait for it
    from lightning_modules.evaluation.summaries import Summary

LEAST_PATIENTS = 3
"""The fewest that a site's ``least_patients`` may ask for: of two patients mean and standard
deviation are both values."""

GLOBAL, PERSONAL, LOCAL = MODELS = ("test", "test_personal", "test_local")
"""Which model is told of: the received one, completed by what the site keeps to itself; the site's
personal one beside it; the one that the site has trained alone."""
PATIENTS, MEAN, SD = NUMBERS = ("patients", "mean", "sd")

_MOST_PATIENTS = 1e7


@dataclass(frozen=True)
class SharedStudies:
    """Whether a site takes part in studies, and what it says of its test patients.

    Attributes:
        folder: in which rows, pictures and models of studies are written, each study in a folder of
            its own; ``{site}`` stands for the site's name. Without it no test patient is measured.
        share: whether number, mean and standard deviation per metric go to the server.
        least_patients: fewest test patients of whom any such number leaves.
    """

    folder: str | None = None
    share: bool = switch(False)
    least_patients: int = number(5, low=LEAST_PATIENTS)

    def __post_init__(self) -> None:
        """Refuse to share what is measured nowhere."""
        if self.share and self.folder is None:
            raise ConfigError(
                "studies.share is true, but studies.folder names no folder for rows and pictures; "
                "name one, or leave 'share' out"
            )


def study_bounds(metrics: Mapping[str, Metric]) -> dict[str, tuple[float, float]]:
    """Smallest and largest value by name of all numbers of a study.

    Args:
        metrics: those whose means a site may send.
    """
    bounds = {}
    for name, metric in metrics.items():
        low, high = metric.sendable
        for model in MODELS:
            bounds[f"{model}/{name}/{PATIENTS}"] = (float(LEAST_PATIENTS), _MOST_PATIENTS)
            bounds[f"{model}/{name}/{MEAN}"] = (low, high)
            bounds[f"{model}/{name}/{SD}"] = (0.0, high - low)
    return bounds


def study_numbers(model: str, found: Mapping[str, Summary]) -> dict[str, float]:
    """The numbers of one model by the names under which they leave.

    Args:
        model: one of ``MODELS``.
        found: by metric.
    """
    return {
        f"{model}/{metric}/{what}": float(getattr(summary, what))
        for metric, summary in found.items()
        for what in NUMBERS
    }


def is_study_number(name: str) -> bool:
    """Whether a number that may leave tells of a site's test patients."""
    return name.partition("/")[0] in MODELS


def study_fault(values: Mapping[str, float]) -> str:
    """Say which number of test patients must not leave; empty if all may.

    Every mean and standard deviation needs, in the same answer, the whole number of its patients.
    """
    for name in filter(is_study_number, values):
        of_metric = name.rpartition("/")[0]
        patients = values.get(f"{of_metric}/{PATIENTS}", math.nan)
        if not (patients >= LEAST_PATIENTS and float(patients).is_integer()):
            return f"'{name}' is given, and not of how many patients (at least {LEAST_PATIENTS})"
    return ""
