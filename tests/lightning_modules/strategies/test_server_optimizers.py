"""FedAvgM, FedAdam and FedYogi against recursions worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from server_rules import Server

from lightning_modules.combining.updates import SiteUpdate
from lightning_modules.combining.weighted_mean import weighted_mean

KEY = "generator.w"
RATES = {"server_learning_rate_generator": 0.5, "server_learning_rate_discriminator": 0.25}
TAU = 0.1


def fedavgm(momentum: float = 0.5, rate: float = 0.5) -> Server:
    rates = {**RATES, "server_learning_rate_generator": rate}
    return Server("fedavgm", is_parameter=is_weight, server_momentum=momentum, **rates)


def fedadam(second_moment: str = "adam") -> Server:
    return Server(
        "fedadam",
        is_parameter=is_weight,
        server_optimizer=second_moment,
        server_beta1=0.9,
        server_beta2=0.99,
        server_tau=TAU,
        **RATES,
    )


def is_weight(key: str) -> bool:
    return "running" not in key


def rounds(aggregator: Server, steps: Sequence[float]) -> list[float]:
    """Global weight after each round, when the sites' mean moves by the given steps."""
    weight, path = np.array([1.0]), []
    for step in steps:
        # two sites of 1 and 3 samples whose weighted mean is weight + step
        updates = [
            SiteUpdate("a", {KEY: weight + step - 3.0}, 1),
            SiteUpdate("b", {KEY: weight + step + 1.0}, 3),
        ]
        weight = aggregator.combine("generator", updates, {KEY: weight})[KEY]
        path.append(float(weight[0]))
    return path


def test_fedavgm_follows_the_scalar_recursion() -> None:
    # v: 1, 0.5 * 1 + 2 = 2.5, 0.5 * 2.5 - 1 = 0.25; w += 0.5 v
    assert rounds(fedavgm(), [1.0, 2.0, -1.0]) == pytest.approx([1.5, 2.75, 2.875])


def test_fedadam_follows_the_scalar_recursion() -> None:
    # m1 = .1, v1 = .99 * .01 + .01 = .0199; m2 = .29, v2 = .019701 + .04 = .059701
    first = 1.0 + 0.5 * 0.1 / (np.sqrt(0.0199) + TAU)
    second = first + 0.5 * 0.29 / (np.sqrt(0.059701) + TAU)
    assert rounds(fedadam(), [1.0, 2.0]) == pytest.approx([first, second])


def test_fedyogi_follows_the_scalar_recursion() -> None:
    # v1 = .01 - .01 * 1 * sign(.01 - 1) = .02; v2 = .02 - .01 * .0001 * sign(.02 - .0001)
    first = 1.0 + 0.5 * 0.1 / (np.sqrt(0.02) + TAU)
    second = first + 0.5 * 0.091 / (np.sqrt(0.02 - 1e-6) + TAU)
    assert rounds(fedadam("yogi"), [1.0, 0.01]) == pytest.approx([first, second])


def test_yogi_forgets_large_updates_more_slowly_than_adam() -> None:
    steps = [5.0, *[0.01] * 30]
    adam, yogi = fedadam(), fedadam("yogi")
    rounds(adam, steps)
    rounds(yogi, steps)
    name = f"second_moment/{KEY}"
    assert yogi.memory[name] > adam.memory[name]


def test_every_role_has_its_own_learning_rate() -> None:
    aggregator = fedavgm(momentum=0.0)
    for network, rate in (("generator", 0.5), ("discriminator", 0.25)):
        key = f"{network}.w"
        moved = aggregator.combine(
            network, [SiteUpdate("a", {key: np.array([3.0])}, 1)], {key: np.array([1.0])}
        )
        assert float(moved[key][0]) == 1.0 + 2.0 * rate


@pytest.mark.parametrize("make", [fedavgm, fedadam])
def test_buffers_are_averaged_and_not_optimised(
    make: Callable[[], Server],
) -> None:
    aggregator = make()
    anchor = {KEY: np.zeros(2, np.float32), "generator.running_mean": np.zeros(2, np.float32)}
    moved = {key: np.array([1.0, 3.0], np.float32) for key in anchor}
    combined = aggregator.combine("generator", [SiteUpdate("a", moved, 1)], anchor)
    np.testing.assert_array_equal(combined["generator.running_mean"], [1.0, 3.0])
    assert not np.array_equal(combined[KEY], moved[KEY])
    assert all(KEY in name for name in aggregator.memory)


def test_a_step_of_one_without_momentum_is_the_mean_to_the_last_bit() -> None:
    rng = np.random.default_rng(3)
    anchor = {KEY: rng.normal(size=1000).astype(np.float32)}
    updates = [
        SiteUpdate(site, {KEY: rng.normal(size=1000).astype(np.float32)}, n)
        for site, n in (("a", 3), ("b", 7), ("c", 11))
    ]
    combined = fedavgm(momentum=0.0, rate=1.0).combine("generator", updates, anchor)
    assert combined[KEY].tobytes() == weighted_mean(updates)[KEY].tobytes()


@pytest.mark.parametrize("make", [fedavgm, fedadam])
def test_a_model_loaded_in_the_middle_is_where_the_next_step_starts(
    make: Callable[[], Server],
) -> None:
    """NVFlare's own server optimizer steps a copy of its own and loses a loaded model."""
    aggregator = make()
    rounds(aggregator, [1.0])
    for name in list(aggregator.memory):
        aggregator.memory[name] = np.zeros_like(aggregator.memory[name])
    loaded = {KEY: np.array([100.0])}
    stays = [SiteUpdate("a", {KEY: np.array([100.0])}, 1)]
    assert float(aggregator.combine("generator", stays, loaded)[KEY][0]) == 100.0
