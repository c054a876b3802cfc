"""What needs no network, measured on validation patients: the floor of every curve over rounds.

A curve shows validation patients. Beside it the value of a constant on test patients would be that
of other people.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from statistics import fmean

from fedi2i.metric_files import MetricRow
from fedi2i.site_names import ALL_SITES
from lightning_modules.evaluation.baselines import SiteBaselines
from lightning_modules.evaluation.validation import mean_over_patients, patient_metrics, patients
from lightning_modules.metrics.presets.catalogue import on_prepared_slices
from partitions.preparation import PreparedSite

BASELINES_FILE = "baselines.csv"
FIRST_ROUND = 0
"""A baseline is the same in every round; it is written once."""

ArmRow = tuple[str, str, int, str, float]
"""Arm, then a row of its metrics file."""


def followed_baselines(
    sites: Sequence[PreparedSite],
    baselines: Mapping[str, SiteBaselines],
    unseen: Collection[str],
    preset: str,
) -> Iterator[ArmRow]:
    """The rows of all baselines: means over each site's validation patients, and over sites.

    Args:
        sites: those that trained, and unseen ones, which have no validation patients.
        baselines: by site.
        unseen: names of unseen sites.
        preset: of the experiment; its metrics of the rounds are measured, on prepared slices.
    """
    rows: dict[str, list[MetricRow]] = defaultdict(list)
    for site in sites:
        if site.site not in unseen:
            for arm, metrics in _site_means(site, baselines[site.site], preset).items():
                rows[arm] += [
                    (site.site, FIRST_ROUND, name, value) for name, value in metrics.items()
                ]
    for arm, of_sites in rows.items():
        for row in (*of_sites, *_means_over_sites(of_sites)):
            yield arm, *row


def _site_means(
    site: PreparedSite, baselines: SiteBaselines, preset: str
) -> dict[str, dict[str, float]]:
    """By arm the means over the site's validation patients, as ``val/psnr`` and so on."""
    measured_by = on_prepared_slices(preset).in_rounds
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for patient in patients(site.split("val")):
        for arm, prediction in baselines.predictions(patient).items():
            found[arm].append(patient_metrics(prediction, patient, measured_by))
    return {arm: mean_over_patients(values) for arm, values in found.items()}


def _means_over_sites(rows: Sequence[MetricRow]) -> Iterator[MetricRow]:
    for name in dict.fromkeys(row[2] for row in rows):
        values = [row[3] for row in rows if row[2] == name]
        yield ALL_SITES, FIRST_ROUND, name, fmean(values)
