"""FedMA in a federation of real pix2pix networks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from in_process_federation import InProcessFederation, Tamper, same
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey
from nvflare_fakes import Engine
from torch import Tensor, nn

from app_custom.aggregation.aggregator import Aggregator
from lightning_modules.combining.updates import SiteUpdate, Weights
from lightning_modules.configuration import experiment_from
from lightning_modules.matching.layer_stages import (
    finished_before,
    finished_in,
    number_of_stages,
)
from lightning_modules.matching.network_groups import channel_groups, network_groups
from lightning_modules.matching.permutations import Permutations, permute
from lightning_modules.matching.realignment import (
    permutation_name,
    permutations_for,
    realigned_optimizers,
    realigned_state,
)
from lightning_modules.model_configuration import ModelConfig
from lightning_modules.networks.building import build_networks
from lightning_modules.sharing.shared_networks import SharedNetworks
from lightning_modules.strategies.fedma import MatchingSettings, without_network
from lightning_modules.strategies.fedma_layerwise import FrozenLayers, LayerwiseRule
from lightning_modules.strategies.interface import ServerView

MakeFederation = Callable[..., InProcessFederation]

REAL = {
    "generator": {"channels": [16, 32, 64, 128]},
    "discriminator": {"channels": 16, "layers": 3},
}
"""The demo's networks, not the tiny ones of the other tests."""
INDEPENDENT = {"initialisation": "independent"}


def moved(federation: InProcessFederation) -> dict[str, float]:
    """Fraction of channels that moved in the last round, by role."""
    return {
        metric.removeprefix("fedma/moved_"): value
        for _, metric, value in federation.aggregator.diagnostics
        if metric.startswith("fedma/moved_")
    }


def random_permutations(network: str, seed: int, **groups_of: Any) -> Permutations:
    rng = np.random.default_rng([seed, len(network)])
    sizes = groups_of[network].sizes
    return {group: rng.permutation(size) for group, size in sizes.items()}


def shuffled(federation: InProcessFederation, seed: int) -> Tamper:
    """Send the same function with its hidden channels in another order."""
    aggregator = federation.aggregator

    def tamper(received: Weights, trained: Weights) -> Weights:
        sent: Weights = {}
        for network, groups in aggregator.view.groups.items():
            own = without_network({k: v for k, v in trained.items() if k.startswith(f"{network}.")})
            moves = random_permutations(network, seed, **aggregator.view.groups)
            moved = permute(own, groups, moves)
            sent |= {f"{network}.{key}": value for key, value in moved.items()}
        return sent

    return tamper


def test_i5_from_a_common_model_fedma_is_fedavg_bit_for_bit_and_no_channel_moves(
    make_federation: MakeFederation,
) -> None:
    sites = ("east", "north", "south", "west")
    plain = make_federation(sites, model=REAL, training={"steps": 10})
    matched = make_federation(sites, model=REAL, training={"steps": 10}, strategy={"name": "fedma"})
    for _ in range(3):
        assert same(matched.run(), plain.run())
        assert moved(matched) == {"generator": 0.0, "discriminator": 0.0}


def test_after_independent_starts_channels_move_once_and_then_stay(
    make_federation: MakeFederation,
) -> None:
    matched = make_federation(model=REAL, strategy={"name": "fedma", **INDEPENDENT})
    averaged = make_federation(model=REAL, strategy={"name": "fedavg", **INDEPENDENT})
    assert not same(matched.run(), averaged.run())
    first = moved(matched)
    assert first["generator"] > 0.4, first  # the largest site keeps its order, the other does not
    matched.run()
    assert max(moved(matched).values()) < 0.05


def test_a_run_says_which_share_of_the_hidden_channels_could_be_matched(
    make_federation: MakeFederation,
) -> None:
    # the tiny generator has channels 8, 16 and on the way up 8; the discriminator 8, 16 and 32
    federation = make_federation(strategy={"name": "fedma"}, training={"steps": 1})
    federation.run()
    said = {metric: value for _, metric, value in federation.aggregator.diagnostics}
    assert said["fedma/matchable_generator"] == said["fedma/matchable_discriminator"] == 1.0
    groups = federation.aggregator.view.groups["generator"]
    assert groups.hidden_channels == (sum(groups.sizes.values()),) * 2
    assert groups.matchable_text.endswith("hidden channels can be matched (100%)")


def test_independent_starts_differ_from_site_to_site_and_are_repeatable(
    make_federation: MakeFederation,
) -> None:
    one = make_federation(strategy={"name": "fedavg", **INDEPENDENT}, training={"steps": 1})
    again = make_federation(strategy={"name": "fedavg", **INDEPENDENT}, training={"steps": 1})
    shared = make_federation(training={"steps": 1})
    assert same(one.run(), again.run())
    assert not same(one.weights, shared.run())
    key = "generator.unet.model.0.conv.weight"
    east, north = (one.results[site].state[key] for site in ("east", "north"))
    assert not torch.allclose(east, north, atol=1e-3)


def test_i1_a_site_that_reorders_its_channels_changes_nothing(
    make_federation: MakeFederation,
) -> None:
    federations = [make_federation(model=REAL, strategy={"name": "fedma"}) for _ in range(2)]
    clean, mixed = federations
    for number in range(2):
        clean.run()
        mixed.run(tamper={"north": shuffled(mixed, number)})
        assert same(clean.weights, mixed.weights)
        assert max(moved(mixed).values()) > 0.4


def test_i1_fedavg_is_ruined_by_the_same_site(make_federation: MakeFederation) -> None:
    matched = make_federation(model=REAL, strategy={"name": "fedma"})
    plain, mixed = make_federation(model=REAL), make_federation(model=REAL)
    plain.run()
    mixed.run(tamper={"north": shuffled(matched, 1)})
    apart = max(float(np.abs(plain.weights[k] - mixed.weights[k]).max()) for k in plain.weights)
    assert apart > 0.01


def test_every_site_and_group_reports_the_fraction_that_moved(
    make_federation: MakeFederation,
) -> None:
    federation = make_federation(strategy={"name": "fedma", **INDEPENDENT})
    federation.run()
    aggregator = federation.aggregator
    reported = {(site, metric) for site, metric, _ in aggregator.diagnostics}
    expected = {
        (site, f"fedma/moved/{network}/{group}")
        for site in ("east", "north")
        for network, groups in aggregator.view.groups.items()
        for group in groups.order
    }
    assert expected <= reported
    assert all(0.0 <= value <= 1.0 for s, m, value in aggregator.diagnostics if "moved" in m)


def test_permutations_travel_only_where_sites_keep_something_by_channel(
    make_federation: MakeFederation,
) -> None:
    strategy = {"name": "fedma", **INDEPENDENT}
    reset = make_federation(strategy=strategy)
    keep = make_federation(strategy=strategy, training={"optimizer_state": "keep"})
    reset.run()
    keep.run()
    assert reset.aggregator.extras_for_sites() == {}
    names = list(keep.aggregator.extras_for_sites())
    assert names
    assert all(name.startswith("permutation/0/") for name in names)


class TestRealignment:
    """What a site keeps by channel follows its channels."""

    model = ModelConfig()

    def networks(self) -> nn.ModuleDict:
        torch.manual_seed(1)
        networks = build_networks(self.model, 3)
        for parameter in networks.parameters():
            nn.init.normal_(parameter, std=0.1)
        return networks

    def optimizers(self, networks: nn.ModuleDict) -> list[Any]:
        return [
            torch.optim.Adam([{"params": list(network.parameters()), "name": name}], lr=0.01)
            for name, network in networks.items()
        ]

    def test_a_step_with_moved_moments_is_the_moved_step(self) -> None:
        plain, other = self.networks(), self.networks()
        groups = network_groups(plain, self.model, plain.keys())
        moves = {name: random_permutations(name, 5, **groups) for name in groups}
        optimizers = self.optimizers(plain)
        self.step(plain, optimizers, seed=1)
        kept = copy.deepcopy([optimizer.state_dict() for optimizer in optimizers])
        other.load_state_dict(realigned_state(plain.state_dict(), groups, moves))
        others = self.optimizers(other)
        realigned = realigned_optimizers(kept, dict(other.items()), groups, moves)
        for optimizer, values in zip(others, realigned, strict=True):
            optimizer.load_state_dict(values)
        for seed in (2, 3):
            self.step(plain, optimizers, seed)
            self.step(other, others, seed)
        expected = realigned_state(plain.state_dict(), groups, moves)
        # The gradient of a bias that a normalisation cancels is rounding noise, which Adam scales
        # up to whole steps: nothing to compare there.
        noise = {f"{name}.{key}" for name in groups for key in groups[name].dead_biases}
        compared = [key for key in expected if key not in noise]
        assert len(compared) > 10
        for key in compared:
            torch.testing.assert_close(
                other.state_dict()[key], expected[key], rtol=1e-3, atol=1e-4, msg=key
            )

    def test_moments_left_in_the_old_order_would_give_another_step(self) -> None:
        networks = self.networks()
        groups = network_groups(networks, self.model, networks.keys())
        optimizers = self.optimizers(networks)
        self.step(networks, optimizers, seed=1)
        kept = [optimizer.state_dict() for optimizer in optimizers]
        moves = {name: random_permutations(name, 5, **groups) for name in groups}
        realigned = realigned_optimizers(kept, dict(networks.items()), groups, moves)
        before, after = (states[0]["state"][0]["exp_avg"] for states in (kept, realigned))
        assert before.shape == after.shape
        assert not torch.equal(before, after)
        assert torch.equal(before.flatten().sort().values, after.flatten().sort().values)

    def step(self, networks: nn.ModuleDict, optimizers: list[Any], seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        source = torch.rand(2, 1, 64, 64, generator=generator)
        fake = networks["generator"](source)
        loss = networks["discriminator"](source, fake).square().mean() + fake.mean()
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()

    def test_a_site_finds_its_own_permutations_of_the_round_it_kept(self) -> None:
        order = torch.tensor([1, 0])
        server = {
            permutation_name(3, "north", "generator", "a/b"): order,
            permutation_name(3, "northern", "generator", "a"): order,
            permutation_name(2, "north", "generator", "c"): order,
            "control/north": order,
        }
        found = permutations_for(server, 3, "north")
        assert set(found) == {"generator"}
        assert set(found["generator"]) == {"a/b"}


class _Branching(nn.Module):
    """A network whose path depends on its input, which cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3)

    def forward(self, source: Tensor) -> Tensor:
        return self.conv(source) if source.sum() > 0 else source


def started(components: dict[str, Any], runner: Any = None) -> list[str]:
    """Panics of a FedMA server that starts a run."""
    aggregator = Aggregator({"name": "fedma"}, min_sites=1)
    engine = Engine(components=components)
    ctx = engine.new_context()
    ctx.set_prop(FLContextKey.RUNNER, runner, private=True, sticky=True)
    aggregator.handle_event(EventType.START_RUN, ctx)
    return engine.panics()


def test_a_network_that_cannot_be_traced_ends_the_job_before_the_first_round() -> None:
    networks = SharedNetworks({}, "generator", 1)
    assert started({"persistor": SimpleNamespace(model=networks)}) == []
    networks["generator"] = _Branching()
    (reason,) = started({"persistor": SimpleNamespace(model=networks)})
    assert "FedAvg" in reason
    assert "\n" not in reason


def test_a_server_that_expects_encrypted_updates_ends_the_job_before_the_first_round() -> None:
    encrypting = type("HEModelDecryptor", (), {"__module__": "nvflare.app_opt.he.model_decryptor"})
    config = SimpleNamespace(components={"decryptor": encrypting()})
    (reason,) = started({}, SimpleNamespace(config=config))
    assert "must see plain weights, but HEModelDecryptor encrypts them" in reason


class TestLayerwise:
    """The authors' protocol: one channel group per round, finished tensors frozen."""

    strategy: ClassVar[dict[str, str]] = {"name": "fedma_layerwise", **INDEPENDENT}

    def test_every_tensor_is_finished_once_and_the_last_stage_finishes_all(self) -> None:
        networks = build_networks(ModelConfig(), 1)
        groups = network_groups(networks, ModelConfig(), networks.keys())
        stages = number_of_stages(groups.values())
        # 7 layers of the generator, one after the other, with 6 groups of channels between them
        assert stages == 7 == 1 + max(len(network.order) for network in groups.values())
        sizes = [len(finished_before(stage, groups)) for stage in range(stages + 1)]
        assert sizes == sorted(sizes)
        assert (sizes[0], sizes[-1]) == (0, len(networks.state_dict()))
        first = groups["generator"].order[0]
        assert finished_in(groups["generator"], f"{first}.weight") == 0

    def test_the_last_round_of_a_pass_trains_and_averages_the_output_layers_alone(self) -> None:
        networks = build_networks(ModelConfig(), 1)
        groups = network_groups(networks, ModelConfig(), networks.keys())
        last = number_of_stages(groups.values()) - 1
        left = set(networks.state_dict()) - finished_before(last, groups)
        with_weights = {key for key in left if not key.endswith("adn.A.weight")}
        assert with_weights == {
            "generator.unet.model.2.conv.weight",
            "generator.unet.model.2.conv.bias",
            "discriminator.patches.final_conv.conv.weight",
            "discriminator.patches.final_conv.conv.bias",
        }

    def test_tensors_without_matched_channels_are_never_frozen_within_a_pass(self) -> None:
        network = nn.Sequential(
            nn.Conv2d(1, 8, 3),
            nn.GroupNorm(2, 8),
            nn.Conv2d(8, 6, 3),
            nn.ReLU(),
            nn.Conv2d(6, 1, 1),
        )
        groups = channel_groups(network, (torch.zeros(1, 1, 16, 16),))
        assert groups.order == ("2",)
        stages = {key: finished_in(groups, key) for key in network.state_dict()}
        # two groups of four channels are pinned, and so is the output
        pinned = {"0.weight", "0.bias", "1.weight", "1.bias", "4.weight", "4.bias"}
        assert {key for key, stage in stages.items() if stage == 1} == pinned
        assert {key for key, stage in stages.items() if stage == 0} == {"2.weight", "2.bias"}

    def test_a_pass_over_shuffled_copies_gives_the_network_back_and_the_mean_of_output_layers(
        self,
    ) -> None:
        """In closed form: sites that do not train, one of them with its channels shuffled."""
        torch.manual_seed(2)
        network = nn.Sequential(
            nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.ReLU(), nn.Conv2d(4, 1, 1)
        )
        groups = {"generator": channel_groups(network, (torch.zeros(1, 1, 16, 16),))}
        own = {f"generator.{key}": value for key, value in network.state_dict().items()}
        shuffled = realigned_state(
            own, groups, {"generator": random_permutations("generator", 3, **groups)}
        )
        other = {**shuffled, "generator.4.bias": own["generator.4.bias"] + 3.0}
        other["generator.4.weight"] = 2.0 * shuffled["generator.4.weight"]
        sites, samples = {"a": own, "b": other}, {"a": 3, "b": 1}
        rule, stages = LayerwiseRule(MatchingSettings()), FrozenLayers()
        view = ServerView(sites=("a", "b"), independent=True, groups=groups)
        received = {key: torch.zeros_like(value) for key, value in own.items()}
        for number in range(number_of_stages(groups.values())):
            view.round_number = number
            extras = {k: torch.as_tensor(v) for k, v in rule.extras_for_sites(view).items()}
            sites = {
                site: stages.start(received, state, number - 1, (number, site), extras, groups)
                if number
                else state
                for site, state in sites.items()
            }
            updates = [
                SiteUpdate(site, {k: v.numpy() for k, v in state.items()}, samples[site])
                for site, state in sorted(sites.items())
            ]
            anchor = {key: value.numpy() for key, value in received.items()}
            combined = rule.combine("generator", updates, anchor, view)
            received = {key: torch.as_tensor(np.asarray(value)) for key, value in combined.items()}
        assert view.round_number == 2
        for key, value in received.items():
            factor, shift = (1.25, 0.0) if key == "generator.4.weight" else (1.0, 0.0)
            shift = 0.75 if key == "generator.4.bias" else shift
            torch.testing.assert_close(value, factor * own[key] + shift, msg=key)

    def test_finished_tensors_stay_as_the_server_sent_them(
        self, make_federation: MakeFederation
    ) -> None:
        federation = make_federation(strategy=self.strategy)
        groups = federation.aggregator.view.groups
        stages = number_of_stages(groups.values())
        for number in range(stages):
            received = federation.weights
            federation.run()
            finished = finished_before(number, groups)
            for result in federation.results.values():
                for key, value in result.state.items():
                    if key in finished:
                        np.testing.assert_array_equal(value.numpy(), received[key], err_msg=key)
            trained = federation.results["east"].state
            free = [key for key in trained if key not in finished and key.endswith("weight")]
            assert any(not np.array_equal(trained[key].numpy(), received[key]) for key in free)
            for key in finished:
                np.testing.assert_array_equal(federation.weights[key], received[key], err_msg=key)

    def test_unfinished_layers_are_the_site_s_own_in_the_new_order(
        self, make_federation: MakeFederation
    ) -> None:
        federation = make_federation(strategy=self.strategy, training={"steps": 1})
        federation.run()
        own = federation.results["north"].state
        groups = federation.aggregator.view.groups
        server = {
            name: torch.as_tensor(value)
            for name, value in federation.aggregator.extras_for_sites().items()
        }
        learner = federation.learner("north")
        start = learner._starts.weights(federation.tensors(), learner._kept(1), 1, server)
        moves = permutations_for(server, 0, "north")
        expected = realigned_state(own, groups, moves)
        for key, value in start.items():
            if key in finished_before(1, groups):
                np.testing.assert_array_equal(value.numpy(), federation.weights[key])
            else:
                assert torch.equal(value, expected[key]), key

    def test_after_a_whole_pass_all_sites_start_from_one_model(
        self, make_federation: MakeFederation
    ) -> None:
        federation = make_federation(strategy=self.strategy, training={"steps": 1})
        groups = federation.aggregator.view.groups
        stages = number_of_stages(groups.values())
        federation.run(rounds=stages)
        for site in ("east", "north"):
            learner = federation.learner(site)
            start = learner._starts.weights(federation.tensors(), learner._kept(stages), stages, {})
            assert same(federation.weights, {key: value.numpy() for key, value in start.items()})

    def test_a_site_that_missed_a_stage_goes_on_from_the_global_model(
        self, make_federation: MakeFederation
    ) -> None:
        federation = make_federation(strategy=self.strategy, training={"steps": 1})
        federation.run()
        federation.run(participants=["east"])
        learner = federation.learner("north")
        start = learner._starts.weights(federation.tensors(), learner._kept(2), 2, {})
        assert same(federation.weights, {key: value.numpy() for key, value in start.items()})


def test_the_strategy_names_its_own_settings() -> None:
    strategy = experiment_from({"strategy": {"name": "fedma", "matching_sweeps": 0}}, "x").strategy
    settings = strategy.settings
    assert (settings.matching_sweeps, settings.stay_margin) == (0, 0.0)
