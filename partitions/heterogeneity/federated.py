"""Read what NVFlare's federated statistics wrote at the server: numbers of sites, no patients.

Global values in that file are passed over: they are sums over sites of which some may be withheld.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedi2i.errors import DataError
from partitions.heterogeneity.sites import Ages, SiteImages, SiteView
from partitions.manifest import AGE
from partitions.preparation.configuration import DOMAINS

FEATURES = (AGE, *DOMAINS)
"""What sites send numbers of: the ages, and the mean intensities of either domain."""
GROUP = "patients"
"""What NVFlare calls the data set of the features."""
_ALL_SITES = "Global"


def read_federated(path: Path) -> tuple[SiteView, ...]:
    """The sites of a ``statistics.json``; one that withheld its numbers has no patients.

    Raises:
        DataError: the file is missing or is not what the job ``statistics`` writes.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        sites = sorted({site for f in FEATURES for site in content[f]["count"]} - {_ALL_SITES})
        return tuple(_view(site, content) for site in sites)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise DataError(
            f"{path}: is not the result of the job 'statistics' ({error}); it is written to the "
            "run's folder at the server"
        ) from error


def _view(site: str, content: Mapping[str, Any]) -> SiteView:
    counts = {name: int(_of(content[name], "count", site) or 0) for name in FEATURES}
    mean = _of(content[AGE], "mean", site)
    images = {
        domain: SiteImages(counts[domain], np.array([share for _, _, share in bins]) / _sum(bins))
        for domain in DOMAINS
        if (bins := _of(content[domain], "histogram", site))
    }
    return SiteView(
        site=site,
        patients=max(counts.values()),
        scans=None,
        splits={},
        ages=Ages(counts[AGE], mean=None if mean is None else float(mean)),
        categories={},
        images=images,
    )


def _of(statistics: Mapping[str, Any], name: str, site: str) -> Any:
    """A site's value of a statistic, or None where it was withheld."""
    return statistics.get(name, {}).get(site, {}).get(GROUP)


def _sum(bins: list[list[float]]) -> float:
    return sum(share for _, _, share in bins)
