"""Updates as integers modulo 2^bits, so that sums of them are exact and can be masked.

A value x of an update becomes n * round(x * 2^fraction), with the site's weight n. All sites'
words add up to the sum from which the weighted mean follows; rounding moves it by at most
2^-(fraction + 1), for any number of sites. Two more words go along: n, and 1. Their sums say
whether all sites are in the sum, which a sum under masks that do not cancel does not show.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from fedi2i.errors import ConfigError, DataError

Arrays = Mapping[str, np.ndarray]

MOST_WEIGHT = {32: 255, 64: 1 << 20}
"""By the number of bits: the largest weight of one site."""
_CHECK_WORDS = 2


@dataclass(frozen=True)
class Encoded:
    """An update as integers.

    Attributes:
        words: flat, uint32 or uint64: the values in the order of their names, the weight, 1.
        clipped: number of values that were beyond the bound and are now at it.
    """

    words: np.ndarray
    clipped: int


@dataclass(frozen=True)
class OpenedSum:
    """What the sum of all sites' words says.

    Attributes:
        mean: the weighted mean of the values, float64, by name.
        weight: the sum of the sites' weights.
        sites: how many sites are in the sum.
    """

    mean: dict[str, np.ndarray]
    weight: int
    sites: int


@dataclass(frozen=True)
class IntegerCode:
    """How updates become integers; the same at all participants of a job.

    Attributes:
        bits: 32 or 64.
        fraction: binary digits after the point.
        bound: values of an update beyond it, in the units of the weights, are clipped to it.
        slices_per_weight: training slices that make one unit of a site's weight.

    Raises:
        ConfigError: a value that no code has.
    """

    bits: int = 32
    fraction: int = 20
    bound: float = 1.0
    slices_per_weight: int = 4

    def __post_init__(self) -> None:
        """Refuse what is no code."""
        if self.bits not in MOST_WEIGHT:
            raise ConfigError(f"bits is {self.bits}; write 32 or 64")
        if not 1 <= self.fraction < self.bits:
            raise ConfigError(f"fraction_bits is {self.fraction}; write from 1 to {self.bits - 1}")
        if not 0 < self.bound < float("inf"):
            raise ConfigError(f"bound is {self.bound}; write a finite number above 0")
        if self.slices_per_weight < 1:
            raise ConfigError(f"slices_per_weight is {self.slices_per_weight}; write 1 or more")

    @property
    def kind(self) -> np.dtype:
        """The type of the words."""
        return np.dtype(np.uint32 if self.bits == 32 else np.uint64)

    def check_no_overflow(self, sites: int) -> None:
        """Refuse a code in which the sum over some sites could leave the range of the integers.

        By arithmetic, not by looking at values: a sum that overflows looks like any other.

        Args:
            sites: the most sites in a sum.

        Raises:
            ConfigError: naming the remedy.
        """
        most = sites * MOST_WEIGHT[self.bits] * self._largest
        if most >= 1 << (self.bits - 1):
            raise ConfigError(
                f"the sum over {sites} sites, of weights up to {MOST_WEIGHT[self.bits]} and values "
                f"up to {self.bound:g} with {self.fraction} binary digits, does not fit into "
                f"{self.bits} bits; take a smaller fraction_bits or bound, or bits: 64"
            )

    def weight_of(self, samples: float) -> int:
        """A site's weight in the mean, from its number of training slices.

        Raises:
            DataError: it is larger than the integers allow.
        """
        weight = max(1, round(samples / self.slices_per_weight))
        if weight > MOST_WEIGHT[self.bits]:
            least = -(-int(samples) // MOST_WEIGHT[self.bits])
            raise DataError(
                f"{samples:.0f} training slices are a weight of {weight}, and {self.bits} bits "
                f"take at most {MOST_WEIGHT[self.bits]}; write slices_per_weight: {least} or more "
                "into the job's privacy section"
            )
        return weight

    def encode(self, update: Arrays, weight: int) -> Encoded:
        """Turn one network's update into words.

        Args:
            update: key to what training changed.
            weight: the site's weight.

        Raises:
            DataError: an array that holds no floating-point numbers, NaN or infinity, or a weight
                that is too large.
        """
        if not 1 <= weight <= MOST_WEIGHT[self.bits]:
            raise DataError(f"a weight of {weight} does not fit into {self.bits} bits")
        values = np.empty(sum(value.size for value in update.values()), np.float64)
        end = 0
        for key in sorted(update):
            if not np.issubdtype(update[key].dtype, np.floating):
                raise DataError(f"'{key}' holds whole numbers, of which no mean can be taken")
            start, end = end, end + update[key].size
            values[start:end] = update[key].reshape(-1)
        if not np.isfinite(values).all():
            raise DataError("the update holds NaN or infinity; a sum would hide whose it is")
        clipped = int(np.count_nonzero(np.abs(values) > self.bound))
        np.clip(values, -self.bound, self.bound, out=values)
        values *= 2.0**self.fraction
        whole = np.empty(values.size + _CHECK_WORDS, np.int64)
        whole[:-_CHECK_WORDS] = np.rint(values)
        whole[:-_CHECK_WORDS] *= weight
        whole[-_CHECK_WORDS:] = weight, 1
        return Encoded(whole.astype(np.uint64).astype(self.kind), clipped)

    def length(self, values: int) -> int:
        """Number of words for a number of values."""
        return values + _CHECK_WORDS

    def decode(self, total: np.ndarray, like: Arrays) -> OpenedSum:
        """Read the weighted mean from the sum of all sites' words, modulo 2^bits.

        Args:
            total: the sum.
            like: arrays of the names and shapes of the update.

        Raises:
            DataError: the sum has another length, or no weight.
        """
        if total.size != self.length(sum(value.size for value in like.values())):
            raise DataError(f"a sum of {total.size} words does not fit the model")
        weight, sites = (int(word) for word in total[-_CHECK_WORDS:])
        if weight < 1:
            raise DataError("the weights of all sites add up to nothing")
        signed = total.view(np.dtype(f"i{self.bits // 8}"))
        mean: dict[str, np.ndarray] = {}
        end = 0
        for key in sorted(like):
            start, end = end, end + like[key].size
            values = signed[start:end].astype(np.float64) / (weight * 2.0**self.fraction)
            mean[key] = values.reshape(like[key].shape)
        return OpenedSum(mean, weight, sites)

    def _rounded(self, bound: float) -> int:
        return int(np.rint(bound * 2.0**self.fraction))

    @property
    def _largest(self) -> int:
        """The largest word that a value can become, before its weight."""
        return self._rounded(self.bound)


def check_sum(found: OpenedSum, weights: Iterable[int]) -> None:
    """Refuse a sum that does not hold what the sites said, each once.

    A sum in which a mask is left over is uniform noise: read as a mean it can look harmless, as a
    random weight of a billion divides it to nothing.

    Args:
        found: the opened sum.
        weights: the stated weight of every site of the set.

    Raises:
        DataError: saying what does not add up.
    """
    stated = list(weights)
    if found.sites != len(stated):
        raise DataError(
            f"the sum counts {found.sites} sites where {len(stated)} answered: a mask is left over"
        )
    if found.weight != sum(stated):
        raise DataError(
            f"the weights in the sum are {found.weight}, and the sites stated {sum(stated)}"
        )
