"""Strategies on a Lightning module of a lab's own: as on ours, to the last bit.

``my_lab.twins.MyRegression`` repeats our regression arm without any of our code. Of a generator of
the lab's own both arms have the same weights under the same names, so that whole federations can be
compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from in_process_federation import InProcessFederation, same

from fedi2i.errors import ConfigError
from lightning_modules.strategies.catalogue import STRATEGY_JOBS
from lightning_modules.strategies.interface import STAR

MakeFederation = Callable[..., InProcessFederation]
Allow = Callable[[str], None]

ARGS = {"channels": 4, "blocks": 1}
UNSET: dict[str, Any] = {
    "generator": {"channels": [16, 32, 64, 128]},
    "discriminator": {"channels": 16, "layers": 3},
}
"""The tiny experiment's settings of our networks give way to the defaults, which say nothing."""
OURS: dict[str, Any] = {
    "name": "regression",
    "generator": {
        "path": "my_lab.nets.MyGenerator",
        "args": ARGS,
        **UNSET["generator"],
    },
}
TWIN: dict[str, Any] = {
    "name": "own",
    "module": {"path": "my_lab.twins.MyRegression", "args": ARGS},
    **UNSET,
}
GAN: dict[str, Any] = {
    "name": "own",
    "module": {
        "path": "my_lab.modules.MyTranslation",
        "args": {"channels": 2},
        "networks": ["generator", "discriminator"],
    },
    **UNSET,
}
STAR_JOBS = [name for name, job in STRATEGY_JOBS.items() if job.strategy.topology == STAR]
DAILY = ("fedavg", "fedprox", "scaffold", "fedma")
"""What ``make test`` tries; the others differ from them in the strategy's own arithmetic alone."""


@pytest.fixture(autouse=True)
def _allowed(allow_own: Allow) -> None:
    for path in (OURS["generator"]["path"], TWIN["module"]["path"], GAN["module"]["path"]):
        allow_own(path)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in DAILY else pytest.mark.nightly) for name in STAR_JOBS],
)
def test_a_module_that_repeats_our_regression_trains_to_the_same_bits(
    make_federation: MakeFederation, name: str
) -> None:
    """Nightly: all but ``DAILY``. Steps keep moments, rise and fall in rate, and see noise."""
    changes: dict[str, Any] = {
        "sharing": "generator",
        "strategy": STRATEGY_JOBS[name].values,
        "training": {
            "steps": 3,
            "optimizer_state": "keep",
            "schedule": "cosine",
            "warm_up": 0.5,
            "augmentation": {"noise": 0.1},
        },
    }
    sites = ("east", "north", "south", "west") if name == "krum" else ("east", "north")
    ours = make_federation(sites, model=OURS, **changes)
    twin = make_federation(sites, model=TWIN, **changes)
    assert same(ours.weights, twin.weights)
    before = {key: value.copy() for key, value in ours.weights.items()}
    expected, found = ours.run(rounds=2), twin.run(rounds=2)
    assert not twin.refused
    assert same(expected, found)
    assert not same(before, found)
    metrics = {site: result.metrics for site, result in ours.results.items()}
    assert {site: result.metrics for site, result in twin.results.items()} == metrics


@pytest.mark.parametrize("name", ["fedprox", "scaffold"])
def test_a_term_of_a_strategy_acts_on_each_of_its_networks(
    make_federation: MakeFederation, name: str
) -> None:
    plain = make_federation(model=GAN).run(rounds=2)
    federation = make_federation(model=GAN, strategy=STRATEGY_JOBS[name].values)
    found = federation.run(rounds=2)
    assert found.keys() == plain.keys()
    for network in ("generator.", "discriminator."):
        keys = [key for key in found if key.startswith(network)]
        assert keys
        assert any(not np.array_equal(found[key], plain[key]) for key in keys)
    for result in federation.results.values():
        ratios = {key for key in result.metrics if key.startswith("strategy/")}
        assert ratios == {"strategy/ratio_generator", "strategy/ratio_discriminator"}


@pytest.mark.parametrize("sharing", ["generator", "generator+discriminator"])
def test_what_its_scope_leaves_out_stays_at_the_site(
    make_federation: MakeFederation, sharing: str
) -> None:
    federation = make_federation(model=GAN, sharing=sharing)
    federation.run(rounds=2)
    sent = {key.partition(".")[0] for result in federation.results.values() for key in result.state}
    assert sent == set(sharing.split("+"))


def test_fedper_shares_the_encoder_of_its_generator_alone(
    make_federation: MakeFederation,
) -> None:
    federation = make_federation(model=GAN, strategy={"name": "fedper"})
    sent = {key for key in federation.run() if key.startswith("generator.")}
    assert sent
    assert all(key.startswith("generator.network.encoder.") for key in sent)


@pytest.mark.parametrize(
    ("wrong", "strategy", "sentence"),
    [
        ("NamesNoEncoder", "fedper", "'generator', a Sequential, does not say which of its"),
        ("LooksAtValues", "fedma", "does not let 'fedma' see which .* in 'generator'"),
        ("Thaws", "fedma_layerwise", "trains frozen parameters of .* freezes finished layers"),
    ],
)
def test_a_strategy_refuses_a_module_that_lacks_what_it_needs(
    make_federation: MakeFederation,
    allow_own: Allow,
    wrong: str,
    strategy: str,
    sentence: str,
) -> None:
    path = f"my_lab.wrong_modules.{wrong}"
    allow_own(path)
    model = {**GAN, "module": {"path": path, "networks": ["generator", "discriminator"]}}
    with pytest.raises(ConfigError, match=sentence):
        make_federation(model=model, strategy={"name": strategy}).learner("north")
