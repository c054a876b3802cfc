"""What each model is made of, and which Lightning module trains it; read without torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from fedi2i.errors import ConfigError
from fedi2i.typed_config import nearest
from partitions.preparation.configuration import DOMAINS

ROLES = ("generator", "discriminator")


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


def role_of(network: str) -> str:
    """The role of a network of any model; a name has one role in all models."""
    return next(model.roles[network] for model in MODELS.values() if network in model.roles)


def trained_networks(model: str, domains: Collection[str]) -> tuple[str, ...]:
    """The networks that a site can train with training slices of some domains.

    A discriminator learns from real slices of its own domain and from translations of real slices
    of the other one, so a site with one domain trains none: the received ones judge there. Both
    generators take part in the cycle that starts from the domain a site has.

    Args:
        model: name of the model.
        domains: ``source``, ``target`` or both; none trains nothing.
    """
    described = MODELS[model]
    if set(DOMAINS) <= set(domains):
        return described.names
    if described.paired or not domains:
        return ()
    return tuple(name for name, role in described.roles.items() if role == "generator")


def shared_networks(model: str, sharing: str) -> tuple[str, ...]:
    """The networks that a sharing scope names, in the model's order.

    Args:
        model: name of the model.
        sharing: roles or network names joined by ``+``, e.g. ``generator+discriminator``; a role
            stands for all networks of that role.

    Raises:
        ConfigError: the model has no such network or role, or its translator is not shared.
    """
    described = MODELS[model]
    words = sharing.split("+")
    known = {*described.roles, *described.roles.values()}
    for word in words:
        if word not in known:
            raise ConfigError(
                f"sharing '{sharing}': model '{model}' has no '{word}'; {nearest(word, known)}"
            )
    shared = tuple(name for name, role in described.roles.items() if name in words or role in words)
    if described.translator not in shared:
        raise ConfigError(
            f"sharing '{sharing}' leaves out '{described.translator}', which translates; "
            "without it there is no global model to speak of"
        )
    return shared
