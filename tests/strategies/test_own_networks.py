"""Strategies on networks of a lab's own: a ResNet that knows nothing of us, and two of MONAI's.

What is compared here bit for bit for our own networks elsewhere is compared for foreign ones. Where
no server combines anything in one process (ring and swarm), ``tests/end_to_end/
test_own_networks_run.py`` runs the simulator.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from in_process_federation import InProcessFederation, same

from fedi2i.errors import ConfigError
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
NETWORKS = {"resnet": RESNET, "attention": ATTENTION, "swin": SWIN}
NORMALISATION = {"resnet": "InstanceNorm2d", "attention": "BatchNorm2d", "swin": "LayerNorm"}
"""The layers of each that hold parameters of a normalisation."""
SWIN_SIDE = 64
"""32 must divide the sides of a SwinUNETR's slices, and its lowest level needs two pixels."""

PAIR = ("east", "north")
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


SWIN_AT_NIGHT = [
    pytest.param(name, marks=pytest.mark.nightly if name == "swin" else ()) for name in NETWORKS
]


@pytest.fixture(params=SWIN_AT_NIGHT)
def network(request: pytest.FixtureRequest, allow_own: Allow) -> str:
    """A name in ``NETWORKS``; this machine allows the generator and the discriminator."""
    name: str = request.param
    if name == "swin":
        pytest.importorskip("einops", reason="SwinUNETR needs einops; pip install einops")
    for path in (NETWORKS[name]["path"], JUDGE["path"]):
        allow_own(path)
    return name


@pytest.fixture
def make_own(
    network: str, make_federation: MakeFederation, tiny_cohort: Path, tmp_path: Path
) -> MakeFederation:
    """Makes federations of the network, on slices of a size that it takes."""
    if network != "swin":
        return lambda sites=PAIR, **changes: make_federation(
            sites, **own(NETWORKS[network], **changes)
        )
    numbers = count()

    def make(sites: tuple[str, ...] = PAIR, **changes: Any) -> InProcessFederation:
        size = {"data": {"preparation": {"size": [SWIN_SIDE, SWIN_SIDE]}}}
        values = merged(read_yaml(TINY)["experiment"], own(SWIN, **changes), size)
        experiment = experiment_from(values, "test")
        preparation = experiment.data.preparation
        prepared = {
            name: prepare_site(
                read_manifest(tiny_cohort / name), preparation, tmp_path / name, progress=False
            )
            for name in sites
        }
        return InProcessFederation(experiment, prepared, tmp_path / f"swin-{next(numbers)}")

    return make


@pytest.mark.parametrize(
    ("network", "name"),
    combined([n for n in STAR_JOBS if n not in ASKS_FOR_AN_ENCODER]),
    indirect=["network"],
)
def test_every_strategy_trains_it(make_own: MakeFederation, name: str) -> None:
    """Nightly: all but ``DAILY``."""
    sites = (*PAIR, "south", "west") if name == "krum" else PAIR
    federation = make_own(sites, strategy=STRATEGY_JOBS[name].values)
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


@pytest.mark.parametrize("name", sorted(ASKS_FOR_AN_ENCODER))
@pytest.mark.parametrize(
    "network",
    ["attention", pytest.param("swin", marks=pytest.mark.nightly)],
    indirect=True,
)
def test_a_strategy_that_shares_one_part_refuses_a_network_that_names_none(
    make_own: MakeFederation, network: str, name: str
) -> None:
    """Of a Swin transformer nightly."""
    path = NETWORKS[network]["path"]
    with pytest.raises(ConfigError, match=rf"{path}.*give it a method encoder_modules\(\)"):
        make_own(strategy={"name": name})


@pytest.mark.parametrize(("network", "name"), combined(EQUAL), indirect=["network"])
def test_a_strategy_is_fedavg_bit_for_bit_where_its_record_says_so(
    make_own: MakeFederation, name: str
) -> None:
    """Nightly: all but ``DAILY``."""
    plain = make_own().run()
    strategy = {"name": name, **(STRATEGIES[name].fedavg_at or {})}
    other = make_own(strategy=strategy).run()
    assert same(plain, other)


def test_a_federation_of_one_site_is_that_site_s_own_training(make_own: MakeFederation) -> None:
    """Of a Swin transformer nightly, here as below."""
    federation = make_own(("north",))
    learner = make_own(("north",)).learner("north")
    state = learner.initial_state()
    for number in range(2):
        state = learner.train(state, number).state
    assert same(federation.run(rounds=2), {key: value.numpy() for key, value in state.items()})


def test_fedma_undoes_what_a_site_has_permuted(make_own: MakeFederation) -> None:
    plain = make_own(strategy={"name": "fedma"})
    shuffled = make_own(strategy={"name": "fedma"})
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


def test_permuted_channels_of_it_are_the_same_function(make_own: MakeFederation) -> None:
    experiment = make_own().experiment
    one, other = (build_networks(experiment.model, 5)["generator"].double() for _ in range(2))
    built = build_networks(experiment.model, 5)
    size = experiment.data.preparation.size
    groups = network_groups(built, experiment.model, ["generator"], size)["generator"]
    rng = np.random.default_rng(3)
    moves = {group: rng.permutation(number) for group, number in groups.sizes.items()}
    state = {key: value.numpy() for key, value in one.state_dict().items()}
    moved = permute(state, groups, moves)
    other.load_state_dict({key: torch.from_numpy(np.array(v)) for key, v in moved.items()})
    source = torch.rand(1, 1, *size, dtype=torch.float64) * 2 - 1
    with torch.no_grad():
        expected, found = one.eval()(source), other.eval()(source)
    assert any(not np.array_equal(moved[key], state[key]) for key in state)
    assert torch.allclose(found, expected, rtol=0, atol=1e-9)
    assert len(groups.sizes) >= 3


def test_fedbn_keeps_the_normalisation_of_it_at_the_site(
    make_own: MakeFederation, network: str
) -> None:
    federation = make_own(strategy={"name": "fedbn"})
    networks = build_networks(federation.experiment.model, 1)
    kept = {
        f"{path}.{key}"
        for path, module in networks.named_modules()
        if type(module).__name__ == NORMALISATION[network]
        for key in module.state_dict()
    }
    assert kept
    assert set(federation.weights) == set(networks.state_dict()) - kept
