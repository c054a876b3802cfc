"""A site's numbers for NVFlare's federated statistics: of patients, never of voxels.

NVFlare leaves the number of records of a site below its least number in the answer, and divides the
sum of the others by the number of all (``StatisticsPrivacyCleanser.cleanse``, ``get_means`` of
2.9.0). And its least number counts whatever ``count`` returns: of intensities these would be
voxels, so that a single patient would pass. Therefore everything here is counted in patients, and a
site with too few of them counts none and gives no other number.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.statistics_spec import (
    Bin,
    DataType,
    Feature,
    Histogram,
    HistogramType,
    Statistics,
)

from app_custom.gates.allowed_statistics import MOST_BINS, check_statistics
from app_custom.gates.job_limits import check_pixels, check_readable
from app_custom.nvflare_context import local_folder, site_name
from app_custom.participant.release import Releases
from app_custom.participant.site_configuration import (
    SiteConfig,
    data_folder,
    path_for_site,
    read_site_config,
)
from app_custom.privacy.patient_noise.policy import check_demand
from app_custom.privacy.update_filters import keeps_to_the_ledger
from fedi2i.typed_config import record_from
from partitions.heterogeneity.federated import FEATURES, GROUP
from partitions.heterogeneity.intensities import BINS
from partitions.heterogeneity.sites import SiteView, view_of
from partitions.manifest import AGE, read_manifest
from partitions.preparation import PreparationConfig, prepare_site


class SiteStatistics(Statistics):
    """Ages, and mean intensities and histograms of source and target, over a site's patients.

    Args:
        dataset: the data set, as sites map it.
        preparation: how scans are prepared, what differs from the defaults.
        least_patients: fewest patients of whom any number is given, as far as the job is concerned;
            the site's own file may ask for more.
        release: the release of FedI2I that wrote the job.

    Raises:
        ConfigError: unknown or impossible settings.
    """

    def __init__(
        self,
        dataset: str,
        preparation: Mapping[str, Any],
        least_patients: int = 0,
        release: str = "",
    ) -> None:
        super().__init__()
        self._least = least_patients
        self._dataset = dataset
        self._preparation = record_from(PreparationConfig, preparation, "SiteStatistics")
        self._release = release
        self._site: tuple[str, SiteConfig] | None = None

    def initialize(self, fl_ctx: FLContext) -> None:
        """Read the site's own file, and hold the job against it; no data is looked at yet.

        Raises:
            JobRefusedError: the site sends no statistics, or not of such a job.
            ConfigError: its file cannot be used.
        """
        config = read_site_config(local_folder(fl_ctx))
        check_job_statistics(config, self._release, self._preparation, keeps_to_the_ledger(fl_ctx))
        self._site = site_name(fl_ctx), config

    def features(self) -> dict[str, list[Feature]]:
        """What there are numbers of."""
        return {GROUP: [Feature(name, DataType.FLOAT) for name in FEATURES]}

    def count(self, dataset_name: str, feature_name: str) -> int:
        """The number of patients; 0 where they are fewer than the site or the job asks for."""
        return len(self._values(feature_name))

    def sum(self, dataset_name: str, feature_name: str) -> float:
        """The sum over patients, in years or in parts of the intensity range."""
        return float(self._enough(feature_name).sum())

    def stddev(self, dataset_name: str, feature_name: str) -> float:
        """The standard deviation over patients."""
        return float(self._enough(feature_name).std(ddof=1))

    def variance_with_mean(
        self, dataset_name: str, feature_name: str, global_mean: float, global_count: float
    ) -> float:
        """This site's part of the variance over all patients of all sites.

        The server chooses the mean and the count. A list in place of one mean, or a mean so large
        that rounding sorts the values, would tell patients apart. Therefore the sum of squares is
        computed from number, mean and variance of the values, which leave anyway.

        Raises:
            ValueError: no finite mean or count, or a site with too few patients.
            TypeError: something else than a number in place of either.
        """
        values = self._enough(feature_name)
        mean, count = _finite(global_mean), _finite(global_count)
        squares = len(values) * (values.var() + (values.mean() - mean) ** 2)
        return float(squares / max(count - 1, 1))

    def histogram(
        self, dataset_name: str, feature_name: str, num_of_bins: int, low: float, high: float
    ) -> Histogram:
        """The sum over patients of the shares of their voxels in each bin; empty for ages.

        Raises:
            ValueError: bins that are not asked for by our jobs, or a site with too few patients.
            TypeError: something else than numbers in place of the bins.
        """
        self._enough(feature_name)
        if feature_name == AGE:  # a bin of ages may hold a single patient
            return Histogram(HistogramType.STANDARD, [])
        divides = 1 <= operator.index(num_of_bins) <= MOST_BINS and BINS % num_of_bins == 0
        if (_finite(low), _finite(high)) != (0, 1) or not divides:
            raise ValueError(f"{num_of_bins} bins from {low} to {high} are not given")
        images = self._view.images[feature_name]
        shares = images.histogram.reshape(num_of_bins, -1).sum(axis=1) * images.patients
        edges = np.linspace(0, 1, num_of_bins + 1)
        bins = [
            Bin(float(edges[n]), float(edges[n + 1]), round(float(share), 4))
            for n, share in enumerate(shares)
        ]
        return Histogram(HistogramType.STANDARD, bins)

    def failure_count(self, dataset_name: str, feature_name: str) -> int:
        """No patient who is counted fails."""
        return 0

    def _enough(self, feature: str) -> NDArray[np.float64]:
        """The values of a feature, of enough patients.

        Raises:
            ValueError: there are too few; NVFlare leaves the number out of the answer.
        """
        values = self._values(feature)
        if not values.size:
            raise ValueError(f"too few patients for numbers of '{feature}'; none is given")
        return values

    def _values(self, feature: str) -> NDArray[np.float64]:
        """A value per patient, or none at all where the patients are too few."""
        if feature == AGE:
            values = np.array(self._view.ages.values)
        elif feature in self._view.images:
            values = self._view.images[feature].features[:, 0]
        else:
            values = np.zeros(0)
        _, config = self._opened
        least = max(self._least, config.statistics.least_patients)
        return values if len(values) >= least else np.zeros(0)

    @property
    def _opened(self) -> tuple[str, SiteConfig]:
        if self._site is None:
            raise RuntimeError("NVFlare has not initialised the statistics")
        return self._site

    @cached_property
    def _view(self) -> SiteView:
        site, config = self._opened
        folder = data_folder(config, self._dataset, site)
        manifest = read_manifest(folder, expected_site=site)
        cache = path_for_site(config.cache, site) if config.cache else folder / "prepared"
        prepared = prepare_site(manifest, self._preparation, Path(cache), progress=False)
        return view_of(manifest, prepared)


def _finite(value: Any) -> float:
    """A number that the server sent.

    Raises:
        ValueError: it is not finite, or a text that is no number.
        TypeError: it is something else, such as a list.
    """
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} is no finite number; nothing is computed with it")
    return number


def check_job_statistics(
    config: SiteConfig, release: str, preparation: PreparationConfig, under_noise: bool = False
) -> None:
    """Hold a job of statistics against a site's own file.

    Args:
        config: the site's.
        release: that wrote the job.
        preparation: how it wants scans prepared.
        under_noise: whether what leaves must keep to a privacy budget, which covers no statistics.

    Raises:
        JobRefusedError: naming the limit.
    """
    check_statistics(config.statistics, under_noise)
    check_demand(config.patient_privacy, None)
    check_readable(config.limits, encrypted=False, masked=False)
    check_pixels(config.limits, preparation.size)
    Releases(job=release).check(config.limits)
