"""Strategies on networks of a lab's own: a ResNet that knows nothing of us, and two of MONAI's.

What is compared here bit for bit for our own networks elsewhere is compared for foreign ones.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from in_process_federation import InProcessFederation, same

from fedi2i.typed_config import merged, read_yaml
from lightning_modules.configuration import experiment_from
from lightning_modules.matching.network_groups import network_groups
from lightning_modules.matching.permutations import permute
from lightning_modules.networks.building import build_networks
from lightning_modules.strategies.catalogue import STRATEGIES, STRATEGY_JOBS
from lightning_modules.strategies.fedma import without_network
from lightning_modules.strategies.interface import STAR
from partitions.manifest import read_manifest
from partitions.preparation import prepare_site

TINY = Path(__file__).parents[1] / "experiments" / "tiny.yaml"
MakeFederation = Callable[..., InProcessFederation]
Allow = Callable[[str], None]

RESNET: dict[str, Any] = {"path": "my_lab.nets.MyGenerator", "args": {"channels": 4, "blocks": 1}}
ATTENTION: dict[str, Any] = {
    "path": "monai.networks.nets.AttentionUnet",
    "args": {
        **{"spatial_dims": 2, "in_channels": 1, "out_channels": 1},
        **{"channels": [4, 8], "strides": [2]},
    },
}
SWIN: dict[str, Any] = {
    "path": "monai.networks.nets.SwinUNETR",
    "args": {
        **{"spatial_dims": 2, "in_channels": 1, "out_channels": 1, "feature_size": 12},
        **{"depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1], "window_size": 4},
    },
}
JUDGE: dict[str, Any] = {"path": "my_lab.nets.MyDiscriminator", "args": {"channels": 4}}
NETWORKS = {"resnet": RESNET, "attention": ATTENTION}

STAR_JOBS = [name for name, job in STRATEGY_JOBS.items() if job.strategy.topology == STAR]
ASKS_FOR_AN_ENCODER = {"fedper", "lg_fedavg"}
EQUAL = [
    name
    for name, strategy in STRATEGIES.items()
    if strategy.fedavg_at and strategy.topology == STAR and not strategy.reference
]


DAILY = {("resnet", name) for name in ("fedavg", "fedma", "scaffold", "fedprox", "fedavgm")}
"""What ``make test`` tries; the others differ from them in the strategy's own arithmetic alone."""


def combined(names: list[str]) -> list[Any]:
    """Every network with every strategy; most of them nightly."""
    return [
        pytest.param(network, name, marks=() if (network, name) in DAILY else pytest.mark.nightly)
        for network in NETWORKS
        for name in names
    ]


def own(generator: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Changes that make a model of a foreign generator and a foreign discriminator."""
    model = {
        # The tiny experiment's settings of ours give way to the defaults, which say nothing.
        "generator": {**generator, "channels": [16, 32, 64, 128]},
        "discriminator": {**JUDGE, "channels": 16, "layers": 3},
    }
    return {"model": model, "training": {"steps": 1}, **changes}


@pytest.fixture(params=NETWORKS)
def generator(request: pytest.FixtureRequest, allow_own: Allow) -> dict[str, Any]:
    """A generator that this machine allows; the discriminator is allowed, too."""
    chosen: dict[str, Any] = NETWORKS[request.param]
    allow_own(chosen["path"])
    allow_own(JUDGE["path"])
    return chosen


@pytest.mark.parametrize(
    ("generator", "name"),
    combined([n for n in STAR_JOBS if n not in ASKS_FOR_AN_ENCODER]),
    indirect=["generator"],
)
def test_every_strategy_trains_it(
    make_federation: MakeFederation, generator: dict[str, Any], name: str
) -> None:
    """Nightly: all but ``DAILY``."""
    sites = ("east", "north", "south", "west") if name == "krum" else ("east", "north")
    federation = make_federation(sites, **own(generator, strategy=STRATEGY_JOBS[name].values))
    before = dict(federation.weights)
    after = federation.run(rounds=2)
    assert not federation.refused
    assert all(np.isfinite(value).all() for value in after.values())
    assert not same(before, after)


@pytest.mark.parametrize("name", sorted(ASKS_FOR_AN_ENCODER))
def test_a_strategy_that_shares_one_part_keeps_the_other_at_the_site(
    make_federation: MakeFederation, allow_own: Allow, name: str
) -> None:
    for path in (RESNET["path"], JUDGE["path"]):
        allow_own(path)
    federation = make_federation(**own(RESNET, strategy={"name": name}))
    sent = {key for key in federation.run() if key.startswith("generator.")}
    kept = "decoder" if name == "fedper" else "encoder"
    assert sent
    assert not any(key.startswith(f"generator.network.{kept}.") for key in sent)


@pytest.mark.parametrize(("generator", "name"), combined(EQUAL), indirect=["generator"])
def test_a_strategy_is_fedavg_bit_for_bit_where_its_record_says_so(
    make_federation: MakeFederation, generator: dict[str, Any], name: str
) -> None:
    """Nightly: all but ``DAILY``."""
    plain = make_federation(**own(generator)).run()
    strategy = {"name": name, **(STRATEGIES[name].fedavg_at or {})}
    other = make_federation(**own(generator, strategy=strategy)).run()
    assert same(plain, other)


def test_a_federation_of_one_site_is_that_site_s_own_training(
    make_federation: MakeFederation, generator: dict[str, Any]
) -> None:
    federation = make_federation(("north",), **own(generator))
    learner = make_federation(("north",), **own(generator)).learner("north")
    state = learner.initial_state()
    for number in range(2):
        state = learner.train(state, number).state
    assert same(federation.run(rounds=2), {key: value.numpy() for key, value in state.items()})


def test_fedma_undoes_what_a_site_has_permuted(
    make_federation: MakeFederation, generator: dict[str, Any]
) -> None:
    changes = own(generator, strategy={"name": "fedma"})
    plain = make_federation(**changes)
    shuffled = make_federation(**changes)
    groups = shuffled.aggregator.view.groups

    def tamper(_: Any, trained: dict[str, Any]) -> dict[str, Any]:
        sent: dict[str, Any] = {}
        for name, of_network in groups.items():
            rng = np.random.default_rng(len(name))
            moves = {group: rng.permutation(size) for group, size in of_network.sizes.items()}
            its = without_network({k: v for k, v in trained.items() if k.startswith(f"{name}.")})
            moved = permute(its, of_network, moves)
            sent |= {f"{name}.{key}": value for key, value in moved.items()}
        return sent

    expected = plain.run()
    found = shuffled.run(tamper={"north": tamper})
    assert groups["generator"].sizes
    assert all(np.allclose(found[key], expected[key], atol=1e-6) for key in expected)


def _keeps_its_function(federation: InProcessFederation, size: tuple[int, int]) -> int:
    """Permute every free group at random; returns how many there are."""
    experiment = federation.experiment
    one, other = (build_networks(experiment.model, 5)["generator"].double() for _ in range(2))
    built = build_networks(experiment.model, 5)
    groups = network_groups(built, experiment.model, ["generator"], size)["generator"]
    rng = np.random.default_rng(3)
    moves = {group: rng.permutation(count) for group, count in groups.sizes.items()}
    state = {key: value.numpy() for key, value in one.state_dict().items()}
    moved = permute(state, groups, moves)
    other.load_state_dict({key: torch.from_numpy(np.array(v)) for key, v in moved.items()})
    source = torch.rand(1, 1, *size, dtype=torch.float64) * 2 - 1
    with torch.no_grad():
        expected, found = one.eval()(source), other.eval()(source)
    assert any(not np.array_equal(moved[key], state[key]) for key in state)
    assert torch.allclose(found, expected, rtol=0, atol=1e-9)
    return len(groups.sizes)


def test_permuted_channels_of_it_are_the_same_function(
    make_federation: MakeFederation, generator: dict[str, Any]
) -> None:
    assert _keeps_its_function(make_federation(**own(generator)), (32, 32)) >= 3


@pytest.fixture
def make_swin_federation(
    allow_own: Allow, tiny_cohort: Path, tmp_path: Path
) -> Callable[..., InProcessFederation]:
    """Makes federations of a SwinUNETR, which takes sides that 32 divides, from 64 on."""
    pytest.importorskip("einops", reason="SwinUNETR needs einops; pip install einops")
    for path in (SWIN["path"], JUDGE["path"]):
        allow_own(path)

    def make(strategy: Any) -> InProcessFederation:
        size = {"data": {"preparation": {"size": [64, 64]}}}
        values = merged(read_yaml(TINY)["experiment"], own(SWIN, strategy=strategy), size)
        experiment = experiment_from(values, "test")
        sites = {
            name: prepare_site(
                read_manifest(tiny_cohort / name),
                experiment.data.preparation,
                tmp_path / name,
                progress=False,
            )
            for name in ("east", "north")
        }
        return InProcessFederation(experiment, sites, tmp_path / "federation")

    return make


@pytest.mark.nightly
@pytest.mark.parametrize("name", [n for n in STAR_JOBS if n not in ASKS_FOR_AN_ENCODER | {"krum"}])
def test_every_strategy_trains_a_swin_transformer(
    make_swin_federation: Callable[..., InProcessFederation], name: str
) -> None:
    """``test_every_strategy_trains_it`` says the same of a smaller network."""
    federation = make_swin_federation(STRATEGY_JOBS[name].values)
    before = dict(federation.weights)
    after = federation.run()
    assert not federation.refused
    assert not same(before, after)
    assert all(np.isfinite(value).all() for value in after.values())


@pytest.mark.nightly
def test_permuted_channels_of_a_swin_transformer_are_the_same_function(
    make_swin_federation: Callable[..., InProcessFederation],
) -> None:
    """``test_permuted_channels_of_it_are_the_same_function``, of a larger network."""
    assert _keeps_its_function(make_swin_federation({"name": "fedavg"}), (64, 64)) >= 3
