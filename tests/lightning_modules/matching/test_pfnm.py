"""FedMA's published cost, written here independently, against our matching and averaging.

Probabilistic federated neural matching (Yurochkin et al., ICML 2019, arXiv:1905.12022), which FedMA
uses layer by layer. With unit variance priors everywhere and no new channels allowed:

    gain(i, l) = ||m + w_l / s2 + c_i||^2 / (1 / s02 + 1 / s2 + n_i / s2)
               - ||m + c_i||^2 / (1 / s02 + n_i / s2)  +  2 log(n_i / (J - n_i))

with m = mu0 / s02, w_l the site's channel l, and c_i the sum of the n_i channels of other sites,
divided by s2, that global channel i has collected.
"""

from __future__ import annotations

import numpy as np
import pytest
from matching_networks import Case, State, mlp, random_state
from scipy.optimize import linear_sum_assignment

from lightning_modules.matching.matching import match

FloatArray = np.ndarray


def _pfnm_gain(
    site: FloatArray,
    collected: FloatArray,
    counts: FloatArray,
    sites: int,
    variance: float,
    prior_variance: float,
    prior_mean: float,
) -> FloatArray:
    """(global channels, site channels): gain of assigning one to the other; rows are channels."""
    mean = np.full(site.shape[1], prior_mean / prior_variance)
    gain = np.empty((len(collected), len(site)))
    for i, (total, count) in enumerate(zip(collected, counts, strict=True)):
        without = 1 / prior_variance + count / variance
        for j, channel in enumerate(site):
            joined = mean + channel / variance + total / variance
            gain[i, j] = joined @ joined / (without + 1 / variance)
            gain[i, j] -= (mean + total / variance) @ (mean + total / variance) / without
            gain[i, j] += 2 * np.log(count / (sites - count))
    return gain


def _posterior_mean(
    channels: list[FloatArray], variance: float, prior_variance: float, prior_mean: float = 0.0
) -> FloatArray:
    total = prior_mean / prior_variance + sum(channels) / variance
    return total / (1 / prior_variance + len(channels) / variance)


def test_i17_the_published_cost_of_a_two_by_two_case_worked_out_by_hand() -> None:
    # J = 2 and n = 1, so the logarithm is 0. With s2 = 1, s02 = 1/2, mu0 = 0: the two
    # denominators are 2 + 1 + 1 = 4 and 2 + 1 = 3.
    collected = np.array([[1.0, 0.0], [0.0, 2.0]])
    site = np.array([[0.0, 1.0], [3.0, 0.0]])
    expected = np.array(
        [
            [(1 + 1) / 4 - 1 / 3, 16 / 4 - 1 / 3],  # |(1,1)|^2 = 2, |(4,0)|^2 = 16
            [9 / 4 - 4 / 3, (9 + 4) / 4 - 4 / 3],  # |(0,3)|^2 = 9, |(3,2)|^2 = 13
        ]
    )
    gain = _pfnm_gain(site, collected, np.array([1, 1]), 2, 1.0, 0.5, 0.0)
    np.testing.assert_allclose(gain, expected, rtol=1e-12)
    assert linear_sum_assignment(gain, maximize=True)[1].tolist() == [1, 0]


# Three layers: the first group's incoming weights are all that is settled when its turn comes.
CASE = Case(lambda: mlp((7, 9, 8, 2), bias=False), ((1, 7),), 2)


@pytest.mark.parametrize(
    ("variance", "prior_variance", "prior_mean"), [(1.0, 1.0, 0.0), (0.3, 2.0, 0.1), (4.0, 0.5, -1)]
)
@pytest.mark.parametrize("sites", [2, 5])
def test_i17_for_fixed_size_and_equal_counts_ours_is_the_published_assignment(
    sites: int, variance: float, prior_variance: float, prior_mean: float
) -> None:
    groups = CASE.groups_found()
    for seed in range(5):
        states = [random_state(CASE.example(), 10 * seed + s, std=1.0) for s in range(sites)]
        others, site = states[:-1], states[-1]
        # The other sites are aligned already; what they have collected is (J - 1) times their mean.
        mean: State = {k: np.mean([s[k] for s in others], axis=0) for k in site}
        ours = match(mean, site, groups, only=["0"]).permutations["0"]
        gain = _pfnm_gain(
            site["0.weight"].astype(np.float64),
            (sites - 1) * mean["0.weight"].astype(np.float64),
            np.full(9, sites - 1),
            sites,
            variance,
            prior_variance,
            prior_mean,
        )
        published = linear_sum_assignment(gain, maximize=True)[1]
        assert ours.tolist() == published.tolist()
        assert ours.tolist() != list(range(9))


@pytest.mark.parametrize(("sites", "variance", "prior"), [(2, 1.0, 1.0), (4, 1.0, 1.0), (3, 2, 5)])
def test_i17_the_published_average_shrinks_identical_sites_and_ours_does_not(
    sites: int, variance: float, prior: float
) -> None:
    """I4 fails for it: J sites with one model get J / (J + s2 / s02) of that model."""
    weight = random_state(CASE.example(), 1)["0.weight"].astype(np.float64)
    published = _posterior_mean([weight] * sites, variance, prior)
    np.testing.assert_allclose(published, weight * sites / (sites + variance / prior), rtol=1e-12)
    assert np.abs(published).sum() < 0.95 * np.abs(weight).sum()
    np.testing.assert_allclose(sum([weight / sites] * sites), weight, rtol=1e-12)
