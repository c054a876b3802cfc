"""Read what NVFlare's federated statistics wrote at the server: numbers of sites, no patients.

Global values in that file are passed over: they are sums over sites of which some may be withheld.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
        DataError: the file is missing or is not what the job ``statistics`` writes, or a site has
            sent numbers that cannot be.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        sites = sorted({site for f in FEATURES for site in content[f]["count"]} - {_ALL_SITES})
        views = tuple(_view(site, content) for site in sites)
        _check_bins(views)
        return views
    except OddNumbersError as error:
        raise DataError(
            f"{path}: {error}; run the job again without the site, and ask it for its log"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise DataError(
            f"{path}: is not the result of the job 'statistics' ({error}); it is written to the "
            "run's folder at the server"
        ) from error


class OddNumbersError(Exception):
    """A site has sent numbers that no patients can have."""


def _view(site: str, content: Mapping[str, Any]) -> SiteView:
    counts = {name: _count(name, _of(content[name], "count", site), site) for name in FEATURES}
    mean = _of(content[AGE], "mean", site)
    images = {
        domain: SiteImages(counts[domain], _shares(domain, bins, site))
        for domain in DOMAINS
        if (bins := _of(content[domain], "histogram", site))
    }
    return SiteView(
        site=site,
        patients=max(counts.values()),
        scans=None,
        splits={},
        ages=Ages(counts[AGE], mean=None if mean is None else _number("mean age", mean, site)),
        categories={},
        images=images,
    )


def _of(statistics: Mapping[str, Any], name: str, site: str) -> Any:
    """A site's value of a statistic, or None where it was withheld."""
    return statistics.get(name, {}).get(site, {}).get(GROUP)


def _count(feature: str, value: Any, site: str) -> int:
    count = 0.0 if value is None else _number(f"count of '{feature}'", value, site)
    if count < 0 or not count.is_integer():
        raise OddNumbersError(f"site '{site}' counts {count:g} patients of '{feature}'")
    return int(count)


def _shares(domain: str, bins: list[list[float]], site: str) -> NDArray[np.float64]:
    """A histogram whose bins add up to 1."""
    what = f"histogram of '{domain}'"
    shares = [_number(what, share, site) for _, _, share in bins]
    total = sum(shares)
    if min(shares) < 0 or not 0 < total < math.inf:
        raise OddNumbersError(f"site '{site}' sent a {what} with shares below 0 or of no sum")
    return np.array(shares) / total


def _number(what: str, value: Any, site: str) -> float:
    """A finite number that a site sent.

    Raises:
        OddNumbersError: it is something else.
    """
    try:
        number = float(value) if isinstance(value, Real) else math.nan
    except OverflowError:  # whole numbers have no end
        number = math.inf
    if not math.isfinite(number):
        raise OddNumbersError(f"site '{site}' sent a {what} that is no finite number")
    return number


def _check_bins(views: Sequence[SiteView]) -> None:
    """Refuse histograms that cannot be compared.

    Raises:
        OddNumbersError: naming the site whose bins are other than most sites' are.
    """
    numbers = {
        (view.site, domain): len(images.histogram)
        for view in views
        for domain, images in view.images.items()
    }
    usual = Counter(numbers.values()).most_common(1)
    for (site, domain), number in numbers.items():
        if number != usual[0][0]:
            raise OddNumbersError(
                f"site '{site}' sent a histogram of '{domain}' with {number} bins, and others have "
                f"{usual[0][0]}"
            )
