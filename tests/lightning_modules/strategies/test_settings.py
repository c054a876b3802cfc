"""Settings of strategies: what is filled in, and what is refused in one sentence."""

from __future__ import annotations

import math
from typing import Any

import pytest

from fedi2i.errors import ConfigError
from fedi2i.typed_config import allowed_values
from lightning_modules.configuration import experiment_from, experiment_values
from lightning_modules.strategies.catalogue import STRATEGIES, settings_of
from lightning_modules.strategies.interface import by_role


def strategy(**values: Any) -> dict[str, Any]:
    return experiment_values(experiment_from({"strategy": values}, "job"))["strategy"]


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_s_own_settings_are_filled_in_and_no_others(name: str) -> None:
    values = strategy(name=name)
    assert set(values) == {"name", "initialisation", *settings_of(STRATEGIES[name])}


@pytest.mark.parametrize("name", STRATEGIES)
def test_spelled_out_settings_give_the_same_strategy_again(name: str) -> None:
    once = experiment_from({"strategy": {"name": name}}, "job")
    assert experiment_from(experiment_values(once), "job") == once


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"name": "fedaverage"}, "did you mean 'fedavg'"),
    (
        {"name": "fedprox", "mu": 0.1},
        "unknown key 'strategy.mu'; (did you mean 'name'|known: .*mu_)",
    ),
    ({"name": "fedprox", "mu_generator": -0.1}, "strategy.mu_generator is -0.1; it must be"),
    ({"name": "fedprox", "mu_generator": math.nan}, "strategy.mu_generator is nan"),
    ({"name": "fedprox", "mu_discriminator": math.inf}, "strategy.mu_discriminator is inf"),
    ({"name": "fedavg", "mu_generator": 0.1}, "belongs to fedprox, but strategy.name is 'fedavg'"),
    ({"name": "fedavgm", "server_momentum": 1.0}, r"it must be in \[0, 1\)"),
    ({"name": "fedavgm", "server_learning_rate_generator": 0.0}, "above 0 and at most"),
    ({"name": "fedadam", "server_optimizer": "yogy"}, "did you mean 'yogi'"),
    ({"name": "fedadam", "server_tau": 0.0}, "strategy.server_tau is 0"),
    (
        {"name": "fedadam", "server_beta2": 1.5},
        r"strategy.server_beta2 is 1.5; it must be in \[0, 1",
    ),
    ({"name": "scaffold", "control_weight": -1.0}, "strategy.control_weight is -1"),
    ({"name": "feddyn", "alpha_generator": -1.0}, "strategy.alpha_generator is -1"),
    ({"name": "ditto", "lambda_generator": -1.0}, "strategy.lambda_generator is -1"),
    (
        {"name": "trimmed_mean", "trim_fraction": 0.5},
        r"strategy.trim_fraction is 0.5; .* \[0, 0.5\)",
    ),
    ({"name": "fedma", "matching_sweeps": -1}, "strategy.matching_sweeps is -1"),
    ({"name": "fedma", "stay_margin": 1.0}, "strategy.stay_margin is 1"),
    ({"name": "fedma", "initialisation": "random"}, "known: independent, shared"),
    ({"name": "fedprox", "initialisation": "independent"}, "starts from the server's model"),
    ({"name": "fedprox", "mu_generator": "much"}, "strategy.mu_generator"),
]


NUMBERS = [
    (name, field.name, min(allowed.high, allowed.most))
    for name, record in STRATEGIES.items()
    for field, allowed in allowed_values(record.settings)
    if not allowed.words and not isinstance(field.default, bool)
]


@pytest.mark.parametrize(("name", "key", "highest"), NUMBERS)
def test_every_number_of_a_strategy_has_an_upper_bound(name: str, key: str, highest: float) -> None:
    assert math.isfinite(highest)
    beyond = type(highest)(2 * highest + 1)
    with pytest.raises(ConfigError, match=rf"job.yaml: strategy.{key} is .*; it must be "):
        experiment_from({"strategy": {"name": name, key: beyond}}, "job.yaml")


@pytest.mark.parametrize(("values", "reason"), REFUSED, ids=lambda value: str(value)[:60])
def test_an_impossible_setting_is_refused_in_one_sentence(
    values: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason) as refused:
        experiment_from({"strategy": values}, "job.yaml")
    assert str(refused.value).startswith("job.yaml")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("model", "sharing", "reason"),
    [
        ("pix2pix", "generator_ab", "model 'pix2pix' has no 'generator_ab'"),
        ("pix2pix", "generator+critic", "model 'pix2pix' has no 'critic'"),
        ("pix2pix", "discriminator", "leaves out 'generator'"),
        ("cyclegan", "generator_ba+discriminator", "leaves out 'generator_ab'"),
    ],
)
def test_a_scope_that_the_model_lacks_is_refused(model: str, sharing: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        experiment_from({"model": {"name": model}, "sharing": sharing}, "job.yaml")


def test_unset_settings_are_not_listed_and_coefficients_go_by_role() -> None:
    experiment = experiment_from({"strategy": {"name": "feddyn", "alpha_generator": 0.5}}, "job")
    values = experiment_values(experiment)["strategy"]
    assert values == {
        "name": "feddyn",
        "initialisation": "shared",
        "alpha_generator": 0.5,
        "alpha_discriminator": 0.0033,
    }
    by_roles = by_role(experiment.strategy.settings, "alpha")
    assert by_roles == {"generator": 0.5, "discriminator": 0.0033}
