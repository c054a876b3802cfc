"""The accountant: which epsilon a list of noisy releases spends, and the noise for an epsilon.

A release is one use of the Gaussian mechanism, on everything that a site holds or on patients drawn
at random. Releases without sampling compose to one Gaussian mechanism, whose epsilon has a closed
form (Balle and Wang, ICML 2018, theorem 8; Dong, Roth and Su, JRSS-B 2022, corollary 2.13 and
section 3). With sampling the privacy loss distribution is composed numerically by ``dp-accounting``
(Google, Apache-2.0).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from scipy.optimize import brentq
from scipy.stats import norm

from fedi2i.errors import ConfigError

_LARGEST_EPSILON = 1e12
"""Above this an epsilon is a word for 'no protection' and its last digits mean nothing."""

_LARGEST_COMPOSED_MU = 40.0


@dataclass(frozen=True)
class Release:
    """Noisy releases of one kind.

    Attributes:
        noise_multiplier: standard deviation of the noise as a multiple of the clipping norm C.
        sensitivity: how far one unit can move the clipped sum, as a multiple of C: 1 where a unit
            is added or removed, 2 where the data of a unit that is known to take part are replaced.
        sampling_rate: probability with which a unit is drawn, independently of the others
            (Poisson sampling); 1 where all take part.
        count: number of such releases.
    """

    noise_multiplier: float
    sensitivity: float = 1.0
    sampling_rate: float = 1.0
    count: int = 1

    def __post_init__(self) -> None:
        """Refuse what no mechanism can be; accountants answer such values with a number."""
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier > 0):
            raise ConfigError(
                f"noise_multiplier is {self.noise_multiplier}; write a number above 0: without "
                "noise there is no guarantee to account for"
            )
        if self.sensitivity not in (1.0, 2.0):
            raise ConfigError(f"sensitivity is {self.sensitivity}; it is 1 or 2 clipping norms")
        if not 0 < self.sampling_rate <= 1:
            raise ConfigError(
                f"sampling_rate is {self.sampling_rate}; it is a probability above 0 and at most 1"
            )
        if self.count < 1:
            raise ConfigError(f"count is {self.count}; write 1 or more releases")
        if self.sampling_rate < 1 and self.sensitivity != 1.0:
            raise ConfigError(
                "sampling_rate is below 1 for the relation 'replace'; sampled releases are "
                "accounted for units that are added or removed"
            )

    @property
    def effective_noise(self) -> float:
        """Standard deviation of the noise as a multiple of what one unit can move."""
        return self.noise_multiplier / self.sensitivity


def epsilon(releases: Iterable[Release], delta: float) -> float:
    """The epsilon that all releases together spend at a delta.

    Args:
        releases: in any order; none spends nothing. Where sampled ones spend hundreds, the answer
            is an upper bound.
        delta: the probability with which the guarantee may fail, above 0 and below 1.

    Raises:
        ConfigError: an impossible delta.
    """
    check_delta(delta)
    listed = list(releases)
    if not listed:
        return 0.0
    if all(release.sampling_rate == 1 for release in listed) or _is_beyond_use(listed):
        return _gaussian_epsilon(_joint_mu(listed), delta)
    counts: Counter[tuple[float, float]] = Counter()
    for release in listed:
        counts[release.effective_noise, release.sampling_rate] += release.count
    return _sampled_epsilon(tuple(sorted(counts.items())), delta)


def check_delta(delta: float) -> None:
    """Refuse a delta that is no probability between 0 and 1.

    Raises:
        ConfigError: it is none.
    """
    if not 0 < delta < 1:
        raise ConfigError(f"delta is {delta}; write a probability above 0 and below 1, e.g. 1e-5")


def noise_for(target: float, delta: float, release: Release) -> float:
    """The noise multiplier with which releases spend a given epsilon.

    Args:
        target: the epsilon to spend, above 0.
        delta: see ``epsilon``.
        release: sensitivity, sampling rate and count; its own noise multiplier is not used.

    Raises:
        ConfigError: an impossible target or delta.
    """
    if not (math.isfinite(target) and target > 0):
        raise ConfigError(f"epsilon is {target}; write a number above 0")

    def excess(log_noise: float) -> float:
        noisy = Release(
            math.exp(log_noise), release.sensitivity, release.sampling_rate, release.count
        )
        return epsilon([noisy], delta) - target

    low, high = math.log(0.02), math.log(0.04)
    while excess(high) > 0:
        low, high = high, high + math.log(2)
    return math.exp(brentq(excess, low, high, xtol=1e-4)) if excess(low) > 0 else math.exp(low)


def _joint_mu(releases: Iterable[Release]) -> float:
    """Gaussian mechanisms on the same data are one, whose squared means add up."""
    return math.sqrt(sum(r.count / r.effective_noise**2 for r in releases))


def _gaussian_epsilon(mu: float, delta: float) -> float:
    """Solve Phi(mu/2 - eps/mu) - exp(eps) Phi(-mu/2 - eps/mu) = delta for eps."""

    def excess(eps: float) -> float:
        # exp(eps) overflows long before its product with the tail does.
        second = math.exp(eps + float(norm.logcdf(-mu / 2 - eps / mu)))
        return float(norm.cdf(mu / 2 - eps / mu)) - second - delta

    if excess(0.0) <= 0:
        return 0.0
    high = 1.0
    while excess(high) > 0:
        high *= 2
        if high > _LARGEST_EPSILON:
            return math.inf
    return float(brentq(excess, 0.0, high, xtol=1e-9, rtol=1e-12))


def _is_beyond_use(releases: Iterable[Release]) -> bool:
    """Whether sampled releases spend so much that to compose them would take gigabytes.

    The central limit of Dong, Roth and Su (section 5.2) tells: mu = q sqrt(n (exp(1/s^2) - 1)), and
    40 is an epsilon in the hundreds. Above, the closed form bounds it as if all took part.
    """
    squares = (
        r.count * r.sampling_rate**2 * math.expm1(min(r.effective_noise**-2, 700.0))
        for r in releases
    )
    return sum(squares) > _LARGEST_COMPOSED_MU**2


@cache  # it takes seconds, and a site asks for the same in every round
def _sampled_epsilon(counts: tuple[tuple[tuple[float, float], int], ...], delta: float) -> float:
    """Compose releases by (noise, sampling rate), each with its count."""
    from dp_accounting import dp_event
    from dp_accounting.pld import PLDAccountant

    accountant = PLDAccountant()
    for (noise, rate), count in counts:
        event = dp_event.GaussianDpEvent(noise)
        accountant.compose(
            event if rate == 1 else dp_event.PoissonSampledDpEvent(rate, event), count
        )
    return float(accountant.get_epsilon(delta))
