"""A network of a lab's own: by its path alone, if this machine allows it, and held to a check."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks.nets import AttentionUnet

from fedi2i.errors import ConfigError
from lightning_modules.configuration import ExperimentConfig, experiment_from, experiment_values
from lightning_modules.networks.building import build_networks, parameter_count
from lightning_modules.networks.generators.catalogue import build_generator
from lightning_modules.networks.own_check import check_own_networks, offers
from lightning_modules.privacy.patient_settings import check_experiment
from lightning_modules.seeding import derive_seed
from lightning_modules.sharing.local_parts import sharing_scope

Allow = Callable[[str], None]

MINE = "my_lab.nets.MyGenerator"
ATTENTION = "monai.networks.nets.AttentionUnet"
SWIN = "monai.networks.nets.SwinUNETR"
IN_AND_OUT = {"spatial_dims": 2, "in_channels": 1, "out_channels": 1}
ATTENTION_ARGS = {**IN_AND_OUT, "channels": [4, 8], "strides": [2]}
SWIN_ARGS = {
    **{"in_channels": 1, "out_channels": 1, "spatial_dims": 2, "feature_size": 12},
    **{"depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1], "window_size": 4},
}


def experiment(path: str, size: tuple[int, int] = (32, 32), **changes: Any) -> ExperimentConfig:
    """An experiment whose generator is of a lab's own; ``args`` are its arguments."""
    generator = {"path": path, "args": changes.pop("args", {}), **changes.pop("generator", {})}
    model = {
        "generator": generator,
        "discriminator": {"channels": 2, "layers": 1},
        **changes.pop("model", {}),
    }
    return experiment_from(
        {"data": {"preparation": {"size": list(size)}}, "model": model, **changes}, "x"
    )


def initial(chosen: ExperimentConfig, seed: int = 3) -> Mapping[str, torch.Tensor]:
    """State_dict of the seeded generator."""
    return build_networks(chosen.model, seed)["generator"].state_dict()


@pytest.mark.parametrize(
    ("path", "args", "size"),
    [(MINE, {"channels": 4}, (32, 32)), (ATTENTION, ATTENTION_ARGS, (32, 40))],
)
def test_its_first_weights_hang_on_the_seed_alone(
    allow_own: Allow, path: str, args: dict[str, Any], size: tuple[int, int]
) -> None:
    allow_own(path)
    chosen = experiment(path, size, args=args)
    one = initial(chosen)
    torch.manual_seed(11)
    np.random.seed(12)
    before = torch.random.get_rng_state()
    same, other = initial(chosen), initial(chosen, 4)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)
    check_own_networks(chosen)


def test_it_keeps_the_weights_that_its_constructor_draws(allow_own: Allow) -> None:
    allow_own(ATTENTION)
    torch.manual_seed(derive_seed(3, "initial weights", "generator"))
    expected = AttentionUnet(**ATTENTION_ARGS).state_dict()
    found = initial(experiment(ATTENTION, args=ATTENTION_ARGS))
    assert found.keys() == {f"network.{key}" for key in expected}
    assert all(torch.equal(found[f"network.{key}"], value) for key, value in expected.items())


def test_another_generator_leaves_the_discriminator_s_weights_alone(allow_own: Allow) -> None:
    allow_own(MINE)
    model = {"discriminator": {"channels": 2, "layers": 1}}
    plain = experiment_from({"model": model, "data": {"preparation": {"size": [32, 32]}}}, "x")
    states = [
        build_networks(one.model, 3)["discriminator"].state_dict()
        for one in (plain, experiment(MINE))
    ]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_tanh_follows_it_unless_its_output_is_taken_as_it_is(allow_own: Allow) -> None:
    allow_own(MINE)
    source = torch.randn(2, 1, 32, 32)
    bounded = build_generator(experiment(MINE).model.generator)
    as_is = build_generator(experiment(MINE, generator={"output": "as_is"}).model.generator)
    as_is.load_state_dict(bounded.state_dict())
    assert torch.equal(bounded(source), torch.tanh(as_is(source)))


def test_settings_name_it_by_kind_or_path_and_say_nothing_of_ours() -> None:
    by_path = experiment(MINE, args={"channels": 4})
    values = experiment_values(by_path)
    assert values["model"]["generator"] == {"kind": MINE, "args": {"channels": 4}}
    assert experiment_from(values, "x") == by_path
    assert by_path.model.generator.path == MINE


@pytest.mark.parametrize(
    ("generator", "sentence"),
    [
        ({"path": "MyGenerator"}, "unknown value 'MyGenerator'"),
        ({"path": "my lab.nets"}, "which is no dotted path; write it like my_lab.nets.MyGen"),
        ({"path": MINE, "norm": "batch"}, "model.generator.norm says nothing of a network of"),
        ({"path": MINE, "kind": "resnet"}, "a network is one of both; leave one out"),
        ({"args": {"channels": 4}}, "model.generator.args belongs to a network of your own"),
        ({"output": "as_is"}, "model.generator.output belongs to a network of your own"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    generator: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        experiment_from({"model": {"generator": generator}}, "x")


def test_what_the_list_does_not_name_is_never_imported(allow_own: Allow) -> None:
    allow_own("my_lab.nets.MyDiscriminator")
    for path in (MINE, "my_lab.wrong_nets.Plain", "os.system", "subprocess.run"):
        with pytest.raises(ConfigError, match=r"is not on this machine's list|has no files"):
            build_networks(experiment(path).model, 1)
    assert not [name for name in sys.modules if name.partition(".")[0] == "my_lab"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("NO_CLASS", "is a builtin_function_or_method and no class of torch.nn.Module"),
        ("NoNetwork", "is a type and no class of torch.nn.Module"),
        ("Nothing", "cannot be imported"),
    ],
)
def test_what_is_no_network_is_never_called(allow_own: Allow, name: str, sentence: str) -> None:
    allow_own(f"my_lab.wrong_nets.{name}")
    args = {"command": "exit 1"}
    with pytest.raises(ConfigError, match=sentence):
        build_networks(experiment(f"my_lab.wrong_nets.{name}", args=args).model, 1)


REFUSED = [
    ("DrawsFromNumpy", "other first weights whenever it is built with the same seed"),
    ("Crops", "makes 2 x 1 x 32 x 31 of slices of shape 2 x 1 x 32 x 32"),
    ("GivesTwo", "gives a list in place of one tensor"),
    ("EndsWithReLU", "let its last layer have no ReLU"),
    ("Lazy", "has lazy layers, whose weights have no size before the first slice"),
    ("OneUnderTwoNames", "has one tensor under two names, 'network.layer.weight' and 'network.ag"),
    ("GrowsLater", "makes parameters in its forward method"),
    ("Fragile", r"in evaluation mode \(ValueError: seven columns, please\)"),
]


@pytest.mark.parametrize(("name", "sentence"), REFUSED)
def test_a_network_that_offers_less_is_refused_before_the_first_round(
    allow_own: Allow, name: str, sentence: str
) -> None:
    path = f"my_lab.wrong_nets.{name}"
    allow_own(path)
    with pytest.raises(ConfigError, match=f"'{path}' .*{sentence}"):
        check_own_networks(experiment(path))


def test_arguments_that_its_constructor_refuses_are_named(allow_own: Allow) -> None:
    allow_own(MINE)
    with pytest.raises(ConfigError, match=r"from its 'args' .*unexpected keyword argument 'width'"):
        build_networks(experiment(MINE, args={"width": 4}).model, 1)


def test_output_that_is_taken_as_it_is_must_stay_in_the_range(allow_own: Allow) -> None:
    path = "my_lab.wrong_nets.TooLoud"
    allow_own(path)
    with pytest.raises(ConfigError, match=r"leave out model.generator.output, so that tanh"):
        check_own_networks(experiment(path, generator={"output": "as_is"}))
    check_own_networks(experiment(path))


def test_a_discriminator_of_one_s_own_judges_every_slice(allow_own: Allow) -> None:
    good, bad = "my_lab.nets.MyDiscriminator", "my_lab.wrong_nets.BadLogits"
    for path in (good, bad):
        allow_own(path)
    own = {"discriminator": {"path": good, "args": {"channels": 4}}}
    chosen = experiment_from({"model": own, "data": {"preparation": {"size": [32, 32]}}}, "x")
    check_own_networks(chosen)
    (judge,) = offers(chosen, ["discriminator"])
    assert judge.output == (2, 1, 8, 8)
    own = {"discriminator": {"path": bad}}
    chosen = experiment_from({"model": own, "data": {"preparation": {"size": [32, 32]}}}, "x")
    with pytest.raises(ConfigError, match="makes 1 x 1 of 2 slices"):
        check_own_networks(chosen)


def test_batch_normalisation_is_refused_where_noise_is_to_bound_what_leaves(
    allow_own: Allow,
) -> None:
    path = "my_lab.wrong_nets.WithBatchNorm"
    allow_own(path)
    check_own_networks(experiment(path))
    with pytest.raises(ConfigError, match=r"has 1 layers such as 'layer.1', whose running stat"):
        check_experiment(experiment(path), "x")
    allow_own(ATTENTION)
    with pytest.raises(ConfigError, match="whose running statistics"):
        check_experiment(experiment(ATTENTION, args=ATTENTION_ARGS), "x")
    allow_own(MINE)
    check_experiment(experiment(MINE), "x")


def test_strategies_that_share_one_part_ask_which_it_is(allow_own: Allow) -> None:
    for name in ("nets.MyGenerator", "wrong_nets.Plain", "wrong_nets.NamesNoModule"):
        allow_own(f"my_lab.{name}")
    kept = {
        name: sharing_scope(experiment(MINE, strategy={"name": name})).local
        for name in ("fedper", "lg_fedavg")
    }
    assert kept["lg_fedavg"] == ("generator.network.encoder",)
    assert all(key.startswith("generator.network.decoder.") for key in kept["fedper"])
    lacking = experiment("my_lab.wrong_nets.Plain", strategy={"name": "fedper"})
    with pytest.raises(ConfigError, match=r"give it a method encoder_modules\(\), or take another"):
        sharing_scope(lacking)
    wrong = experiment("my_lab.wrong_nets.NamesNoModule", strategy={"name": "lg_fedavg"})
    with pytest.raises(ConfigError, match="names 'encoder', and it has no such module"):
        sharing_scope(wrong)


def test_fedma_refuses_what_no_graph_can_say(allow_own: Allow) -> None:
    path = "my_lab.wrong_nets.LooksAtValues"
    allow_own(path)
    check_own_networks(experiment(path))
    with pytest.raises(
        ConfigError, match=r"'my_lab.wrong_nets.LooksAtValues' does not.*; use FedAvg"
    ):
        check_own_networks(experiment(path, strategy={"name": "fedma"}))


def test_what_it_offers_is_what_torch_says_of_it(allow_own: Allow) -> None:
    allow_own(MINE)
    chosen = experiment(MINE, (32, 48), args={"channels": 4})
    (found,) = offers(chosen, ["generator"])
    network = build_networks(chosen.model, 1)["generator"]
    assert found.parameters == sum(p.numel() for p in network.parameters())
    assert found.megabytes == pytest.approx(found.parameters * 4 / 1e6)  # it has no buffers
    assert (found.inputs, found.output) == (((2, 1, 32, 48),), (2, 1, 32, 48))
    assert (found.unused, found.statistics) == ((), ())


def test_a_swin_transformer_is_counted_without_memory_and_takes_its_own_sizes_alone(
    allow_own: Allow,
) -> None:
    pytest.importorskip("einops", reason="SwinUNETR needs einops; pip install einops")
    allow_own(SWIN)
    chosen = experiment(SWIN, (64, 64), args=SWIN_ARGS)
    built = build_networks(chosen.model, 1)
    # Its constructor reads values of tensors that it makes, which the meta device does not have.
    assert parameter_count(chosen.model) == sum(p.numel() for p in built.parameters())
    with pytest.raises(ConfigError, match="cannot take slices of shape 2 x 1 x 48 x 64"):
        check_own_networks(experiment(SWIN, (48, 64), args=SWIN_ARGS))
