"""What each model is made of, and which Lightning module trains it; read without torch."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fedi2i.errors import ConfigError
from fedi2i.typed_config import nearest
from partitions.preparation.configuration import DOMAINS

ROLES = ("generator", "discriminator")
OWN = "own"
"""The model whose Lightning module is a class of a lab's own; see ``own_model``."""
_NAME = re.compile(rf"({'|'.join(ROLES)})(_[a-z0-9]+)*")


@dataclass(frozen=True)
class ModelNetworks:
    """What a model is made of.

    Attributes:
        roles: network name to role, in the order of their optimizers. Names are the first part of
            every key of the state_dict.
        translator: the network that turns the source into the target; it alone is evaluated.
        paired: whether it trains on pairs of source and target slices; else it takes the two
            domains independently of each other.
        losses: what a training step returns. Their means over a round may leave a site, as they
            are listed here.
        module: the Lightning module, as its own module and class.
        no_patient_noise: why one patient's part of a training step cannot be bounded; empty where
            it can, and the module says with ``network_losses`` what is bounded.
        conditional: whether its generator is told by codes between which contrasts it translates.
    """

    roles: Mapping[str, str]
    translator: str
    paired: bool
    losses: tuple[str, ...]
    module: str
    no_patient_noise: str = ""
    conditional: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The networks' names."""
        return tuple(self.roles)


MODELS: dict[str, ModelNetworks] = {
    "pix2pix": ModelNetworks(
        {"generator": "generator", "discriminator": "discriminator"},
        translator="generator",
        paired=True,
        losses=(
            "train/loss_generator",
            "train/loss_discriminator",
            "train/loss_adversarial",
            "train/l1",
            "train/feature_matching",
        ),
        module="lightning_modules.modules.pix2pix:Pix2PixModule",
    ),
    # pix2pix's generator and L1 term without the adversary: what the adversary is compared with.
    "regression": ModelNetworks(
        {"generator": "generator"},
        translator="generator",
        paired=True,
        losses=("train/loss_generator", "train/l1"),
        module="lightning_modules.modules.regression:RegressionModule",
    ),
    # The same between several contrasts: sites hold different pairs, and codes name them.
    "conditional": ModelNetworks(
        {"generator": "generator"},
        translator="generator",
        paired=True,
        losses=("train/loss_generator", "train/l1", "train/pseudo_source"),
        module="lightning_modules.modules.conditional:ConditionalModule",
        no_patient_noise="direction and third contrast of a slice are drawn for the batches of a "
        "site's slices, and the batches of drawn patients have no such draws",
        conditional=True,
    ),
    # A is the source domain, B the target domain: generator_ab makes a fake B from a real A.
    "cyclegan": ModelNetworks(
        {
            "generator_ab": "generator",
            "generator_ba": "generator",
            "discriminator_a": "discriminator",
            "discriminator_b": "discriminator",
        },
        translator="generator_ab",
        paired=False,
        losses=(
            "train/loss_generator",
            "train/loss_discriminator",
            "train/loss_adversarial",
            "train/cycle",
            "train/identity",
        ),
        module="lightning_modules.modules.cyclegan:CycleGANModule",
        no_patient_noise="its discriminators are shown translations of earlier steps' patients "
        "again, and every step joins a patient of either domain, so that no clipping bounds one "
        "patient's part",
    ),
}


def is_network_name(name: str) -> bool:
    """Whether a network of some model may be called so: its role, and words behind it."""
    return _NAME.fullmatch(name) is not None


def role_of(network: str) -> str:
    """The role of a network of any model: the first word of its name."""
    return network.partition("_")[0]


def own_model(networks: Sequence[str]) -> ModelNetworks:
    """What a model of a lab's own is made of.

    Args:
        networks: the names of its networks, see ``is_network_name``; the first one translates.
    """
    return ModelNetworks(
        {name: role_of(name) for name in networks},
        translator=networks[0],
        paired=True,
        losses=tuple(dict.fromkeys(loss for model in MODELS.values() for loss in model.losses)),
        module="",
        no_patient_noise="what a step of a module of your own makes of a patient is its own code, "
        "and nobody here can clip one patient's part of it",
    )


def described(model: ModelNetworks | str) -> ModelNetworks:
    """What a model is made of, given that or the name of one of ``MODELS``."""
    return MODELS[model] if isinstance(model, str) else model


def trained_networks(model: ModelNetworks | str, domains: Collection[str]) -> tuple[str, ...]:
    """The networks that a site can train with training slices of some domains.

    A discriminator learns from real slices of its own domain and from translations of real slices
    of the other one, so a site with one domain trains none: the received ones judge there. Both
    generators take part in the cycle that starts from the domain a site has.

    Args:
        model: the model, or its name.
        domains: ``source``, ``target`` or both; none trains nothing.
    """
    networks = described(model)
    if set(DOMAINS) <= set(domains):
        return networks.names
    if networks.paired or not domains:
        return ()
    return tuple(name for name, role in networks.roles.items() if role == "generator")


def shared_networks(model: ModelNetworks | str, sharing: str) -> tuple[str, ...]:
    """The networks that a sharing scope names, in the model's order.

    Args:
        model: the model, or its name.
        sharing: roles or network names joined by ``+``, e.g. ``generator+discriminator``; a role
            stands for all networks of that role.

    Raises:
        ConfigError: the model has no such network or role, or its translator is not shared.
    """
    networks = described(model)
    words = sharing.split("+")
    known = {*networks.roles, *networks.roles.values()}
    for word in words:
        if word not in known:
            name = next((name for name, one in MODELS.items() if one is networks), OWN)
            raise ConfigError(
                f"sharing '{sharing}': model '{name}' has no '{word}'; {nearest(word, known)}"
            )
    shared = tuple(name for name, role in networks.roles.items() if name in words or role in words)
    if networks.translator not in shared:
        raise ConfigError(
            f"sharing '{sharing}' leaves out '{networks.translator}', which translates; "
            "without it there is no global model to speak of"
        )
    return shared
