"""Averages, paths and barriers: values by hand, and what is exact for equal networks."""

from __future__ import annotations

import numpy as np
import pytest
from matching_networks import REGISTERED, equal, random_state

from fedi2i.errors import ConfigError
from lightning_modules.matching.merging.averages import barrier, between, centroid

CASE = REGISTERED["U-Net, batch norm"]
PARTS = (0.0, 0.3, 0.5, 1.0)


def test_averages_and_paths_by_hand() -> None:
    one = {"w": np.asarray([1.0, -2.0], np.float32), "count": np.asarray(7)}
    other = {"w": np.asarray([3.0, 4.0], np.float32), "count": np.asarray(9)}
    third = {"w": np.asarray([-4.0, 1.0], np.float32), "count": np.asarray(9)}
    assert between(one, other, 0.25)["w"].tolist() == [1.5, -0.5]
    assert centroid([one, other, third])["w"].tolist() == [0.0, 1.0]
    assert centroid([one, other])["w"].dtype == np.float32
    assert int(centroid([one, other])["count"]) == 7


@pytest.mark.parametrize("seed", range(3))
def test_equal_networks_give_exactly_that_network(seed: int) -> None:
    state = random_state(CASE.example(), seed)
    copies = [{key: value.copy() for key, value in state.items()} for _ in range(3)]
    assert equal(centroid(copies), state)
    assert all(equal(between(copies[0], copies[1], part), state) for part in PARTS)


def test_the_mean_is_numpy_s_and_the_ends_of_a_path_are_its_ends() -> None:
    states = [random_state(CASE.example(), seed) for seed in range(4)]
    mean = centroid(states)
    for key, value in mean.items():
        if value.dtype.kind == "f":
            expected = np.mean([state[key].astype(np.float64) for state in states], axis=0)
            assert value == pytest.approx(expected, abs=1e-6)
    assert equal(between(states[0], states[1], 0.0), states[0])
    end = between(states[0], states[1], 1.0)
    assert all(end[key] == pytest.approx(value, abs=1e-6) for key, value in states[1].items())


def test_the_barrier_is_counted_from_the_straight_line_of_the_ends() -> None:
    assert barrier(PARTS, [1.0, 2.0, 2.5, 3.0]) == pytest.approx(0.5)
    assert barrier(PARTS, [1.0, 1.2, 1.1, 3.0]) == 0.0
    loss = 0.1 + 0.2
    assert barrier(PARTS, [loss] * 4) == 0.0


@pytest.mark.parametrize("parts", [(0.0, 0.5), (0.1, 1.0), ()])
def test_a_path_without_its_ends_is_refused(parts: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="from 0 to 1"):
        barrier(parts, [1.0] * len(parts))
    with pytest.raises(ConfigError, match="a loss at each"):
        barrier(PARTS, [1.0])


def test_no_network_has_no_average() -> None:
    with pytest.raises(ConfigError, match="give one or more"):
        centroid([])
