"""A Lightning module of a lab's own: its settings, what it must offer, and its training steps."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from fedi2i.errors import ConfigError
from lightning_modules.configuration import ExperimentConfig, experiment_from, experiment_values
from lightning_modules.modules import build_module
from lightning_modules.networks.building import build_networks, build_translator, parameter_count
from lightning_modules.networks.configuration import GeneratorConfig
from lightning_modules.networks.generators.catalogue import build_generator
from lightning_modules.networks.own_check import check_own_networks, offers
from lightning_modules.privacy.patient_settings import check_experiment
from lightning_modules.sharing.shared_networks import SharedNetworks
from lightning_modules.training.learner import Learner
from lightning_modules.training.schedule import ScheduledRates
from lightning_modules.training.step_memory import step_memory

Allow = Callable[[str], None]

MINE = "my_lab.modules.MyTranslation"
BOTH = ["generator", "discriminator"]
UNSET: dict[str, Any] = {
    "generator": {"channels": [16, 32, 64, 128]},
    "discriminator": {"channels": 16, "layers": 3},
}
"""The tiny experiment's settings of our networks give way to the defaults, which say nothing."""


def own(path: str = MINE, **changes: Any) -> dict[str, Any]:
    """Values of an experiment with a module of a lab's own on slices of 32 x 32."""
    module = {"path": path, "networks": BOTH, **changes.pop("module", {})}
    model = {"name": "own", "module": module, **changes.pop("model", {})}
    return {"data": {"preparation": {"size": [32, 32]}}, "model": model, **changes}


def experiment(path: str = MINE, **changes: Any) -> ExperimentConfig:
    """The experiment of these values."""
    return experiment_from(own(path, **changes), "x")


def test_settings_name_it_by_kind_and_say_nothing_of_our_networks_and_optimizers() -> None:
    chosen = experiment(module={"args": {"channels": 4}}, training={"steps": 3})
    values = experiment_values(chosen)
    module = {"kind": MINE, "args": {"channels": 4}, "networks": BOTH}
    assert values["model"] == {"name": "own", "module": module}
    assert not [
        key
        for key in values["training"]
        if key.startswith(("learning", "beta", "optimizer")) and key != "optimizer_state"
    ]
    assert experiment_from(values, "x") == chosen


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (own(""), "model.module.path is '', which is no dotted path of a class; write it like"),
        (own("MyTranslation"), "is 'MyTranslation', which is no dotted path"),
        (own(model={"name": "pix2pix"}), "model.module belongs to model 'own', and the model is"),
        (own(model={"lambda_l1": 10.0}), "model.lambda_l1 says nothing of a module of your own"),
        (own(model={"generator": {"norm": "batch"}}), "model.generator says nothing of a module"),
        (own(model={"contrasts": ["t1", "t2"]}), "model.contrasts says nothing of a module"),
        (
            own(training={"learning_rate_generator": 1e-3}),
            "training.learning_rate_generator says nothing of a module of your own, whose conf",
        ),
        (own(training={"optimizer": "sgd"}), "training.optimizer says nothing of a module"),
        (own(module={"networks": ["critic"]}), "names 'critic'; a name begins with the network's"),
        (own(module={"networks": ["generator2"]}), "names 'generator2'; a name begins with"),
        (own(module={"networks": ["generator", "generator"]}), "names one twice"),
        (own(module={"networks": BOTH[::-1]}), "the first one is the generator that translates"),
        (own(module={"networks": []}), "the first one is the generator that translates"),
        (own(module={"networks": ["generator"]}), "model 'own' has no 'discriminator'"),
        (own(sharing="discriminator"), "leaves out 'generator', which translates"),
        (
            own(data={"preparation": {"size": [32, 32], "pairing": "unpaired"}}),
            "model 'own' trains on pairs of slices, but",
        ),
    ],
)
def test_settings_that_do_not_fit_it_are_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        experiment_from(values, "x")


def test_nothing_of_it_is_imported_where_it_is_not_allowed(allow_own: Allow) -> None:
    allow_own("my_lab.nets.MyGenerator")  # another class of the same package
    for act in (
        lambda: build_networks(experiment().model, 1),
        lambda: parameter_count(experiment().model),
        lambda: build_translator(experiment().model),
        lambda: check_own_networks(experiment()),
        lambda: SharedNetworks(experiment_values(experiment())["model"], "generator", 1),
    ):
        with pytest.raises(ConfigError, match=f"'{MINE}' is not on this machine's list"):
            act()
    assert not [name for name in sys.modules if name.partition(".")[0] == "my_lab"]


def test_its_first_weights_hang_on_the_seed_and_its_state_holds_its_networks(
    allow_own: Allow,
) -> None:
    allow_own(MINE)
    chosen = experiment()
    one = build_networks(chosen.model, 3).state_dict()
    before = torch.random.get_rng_state()
    torch.manual_seed(11)
    again, other = (build_networks(chosen.model, seed).state_dict() for seed in (3, 4))
    torch.random.set_rng_state(before)
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)
    module = build_module(chosen.model, chosen.training, 3)
    assert all(torch.equal(one[key], value) for key, value in module.state_dict().items())
    assert {key.partition(".")[0] for key in one} == set(BOTH)
    assert parameter_count(chosen.model) == sum(one[key].numel() for key in one)
    translator = build_translator(chosen.model).state_dict()
    assert {f"generator.{key}" for key in translator} == {k for k in one if k.startswith("gen")}


def test_a_network_of_it_can_be_the_generator_of_our_models(allow_own: Allow) -> None:
    allow_own(MINE)
    config = GeneratorConfig(MINE, part="generator")
    bounded = build_generator(config)
    bare = build_generator(replace(config, output="as_is"))
    bare.load_state_dict({k.removeprefix("network."): v for k, v in bounded.state_dict().items()})
    source = torch.rand(1, 1, 32, 32)
    assert torch.equal(bounded(source), torch.tanh(bare(source)))
    assert type(bare).__name__ == "Bounded"
    with pytest.raises(ConfigError, match="no network with parameters as its attribute 'judge'"):
        build_generator(replace(config, part="judge"))


def test_it_says_what_each_of_its_networks_offers(allow_own: Allow) -> None:
    allow_own(MINE)
    generator, discriminator = offers(experiment())
    assert generator.text.startswith("2 x 1 x 32 x 32 becomes 2 x 1 x 32 x 32; ")
    assert discriminator.text.startswith(
        "2 x 1 x 32 x 32 and 2 x 1 x 32 x 32 becomes 2 x 1 x 8 x 8"
    )
    assert not generator.unused
    memory = step_memory(experiment())
    assert memory is not None
    assert memory.moments == 2 * 4 * parameter_count(experiment().model)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("NoJudge", "has no network with parameters as its attribute 'discriminator'"),
        ("HoldsMore", "has 'perceptual.weight' in its state_dict, and model.module.networks is"),
        ("DrawsFromNumpy", "has other first weights whenever it is built with the same seed"),
        ("OneUnderTwoNames", "has one tensor under two names"),
        ("Unbounded", "slices lie in .* let the network that translates end with tanh"),
        ("Automatic", "leaves its steps to Lightning.* set self.automatic_optimization = False"),
        ("ListOfOptimizers", r"configure_optimizers\(\) gives a list; give a dict of one"),
        ("NoOptimizerOfJudge", "gives a mapping of generator; give a dict of one optimizer for"),
        ("WithScheduler", "for 'generator' a ConstantLR; .* rate is training.schedule"),
        ("OneOptimizerForBoth", "give it self.generator.parameters"),
        ("Fails", r"cannot take a training step on sources of shape 2 x 1 x 32 x 32 \(KeyError"),
        ("ReturnsNothing", "its training_step returns no 'train/loss_generator'"),
        ("TellsMore", "returns 'train/brightest', and a site sends numbers of known names alone"),
        ("NotFinite", "returns for 'train/l1' no tensor of one finite number"),
        ("StepsAside", r"takes no step of 'generator' through self.optimizers\(\)"),
        ("StepsTwice", "takes 2 steps of 'discriminator' in one training step"),
        ("GrowsLater", "makes parameters in its training step"),
    ],
)
def test_a_module_that_offers_less_is_refused_before_the_first_round(
    allow_own: Allow, wrong: str, sentence: str
) -> None:
    path = f"my_lab.wrong_modules.{wrong}"
    allow_own(path)
    with pytest.raises(ConfigError, match=sentence) as refused:
        check_own_networks(experiment(path))
    assert path in str(refused.value)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("my_lab.nets.MyGenerator", "is no class of pytorch_lightning.LightningModule"),
        ("my_lab.wrong_nets.NO_CLASS", "and no class of torch.nn.Module"),
    ],
)
def test_what_is_no_lightning_module_is_refused(allow_own: Allow, path: str, sentence: str) -> None:
    allow_own(path)
    with pytest.raises(ConfigError, match=sentence):
        build_networks(experiment(path).model, 1)


def test_noise_for_patients_and_running_statistics_under_noise_are_refused(
    allow_own: Allow,
) -> None:
    path = "my_lab.wrong_modules.WithBatchNorm"
    allow_own(path)
    with pytest.raises(ConfigError, match=r"does not admit patient-level .* clip one patient's"):
        check_experiment(experiment(path), "x")
    with pytest.raises(ConfigError, match=f"'{path}' has 1 layers such as 'generator.network.dec"):
        experiment(path).model.refuse_batch_norm("statistics leave", "x")
    check_own_networks(experiment(path))


def test_its_optimizers_keep_their_own_rates_under_the_experiment_s_schedule(
    allow_own: Allow,
) -> None:
    path = "my_lab.wrong_modules.PlainSteps"
    allow_own(path)
    chosen = experiment(path, training={"schedule": "linear", "rounds": 1, "steps": 4})
    module: Any = build_module(chosen.model, chosen.training, 1)
    optimizers = module.configure_optimizers()
    assert [one.param_groups[0]["name"] for one in optimizers] == BOTH
    rates = ScheduledRates(chosen.training, chosen.model.described.roles, 0, 4)
    trainer: Any = type("Trainer", (), {"optimizers": optimizers})
    for step, factor in enumerate((1.0, 1.0, 1.0, 0.5)):
        rates.on_train_batch_start(trainer, module, None, step)
        found = [one.param_groups[0]["lr"] for one in optimizers]
        assert found == [0.5 * factor, 0.25 * factor]
    memory = step_memory(chosen)
    assert memory is not None
    assert memory.moments == 0


def test_a_round_depends_on_what_was_received_and_not_on_earlier_rounds_of_the_process(
    allow_own: Allow,
    make_experiment: Callable[..., ExperimentConfig],
    make_learner: Callable[..., Learner],
) -> None:
    """The module counts its steps and refuses to take the first one twice."""
    path = "my_lab.twins.MyRegression"
    allow_own(path)
    module = {"path": path, "args": {"channels": 2}}
    chosen = make_experiment(model={"name": "own", "module": module, **UNSET}, sharing="generator")
    one, other = make_learner(chosen, store="one"), make_learner(chosen, store="other")
    state = one.initial_state()
    one.train(state, 0)
    expected = other.train(state, 1).state
    found = one.train(state, 1).state
    assert all(torch.equal(found[key], expected[key]) for key in expected)
