"""The settings of a translation model: its networks, its losses, and what it is shown."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from fedi2i.errors import ConfigError
from fedi2i.typed_config import LEFT_OUT_WHILE_UNSET, number, word
from lightning_modules.data.source_view import MOST_NEIGHBOURS, SourceView
from lightning_modules.model_networks import MODELS, OWN, ModelNetworks, own_model
from lightning_modules.networks.configuration import (
    DiscriminatorConfig,
    GeneratorConfig,
    ModuleConfig,
    NetworkConfig,
)
from partitions.preparation.configuration import MOST_CONTRASTS

ADVERSARIAL_LOSSES = ("lsgan", "bce")
_OF_ANY_MODULE = (
    "name",
    "module",
    "neighbours",
    "patch",
    "source_contrasts",
    "contrast_dropout",
)
"""What a module of a lab's own is told, or what its batches are; all else is for ours."""


@dataclass(frozen=True)
class ModelConfig:
    """A translation model: its networks and its losses.

    Attributes:
        name: ``pix2pix`` (paired slices; Isola et al., CVPR 2017, doi:10.1109/CVPR.2017.632),
            ``regression`` (its generator with the L1 term alone), ``conditional`` (the same between
            several contrasts, of which sites hold different pairs) or ``cyclegan`` (unpaired
            slices; Zhu et al., ICCV 2017, doi:10.1109/ICCV.2017.244), or ``own`` (see ``module``).
        generator: the generator, or both generators of CycleGAN.
        discriminator: the discriminator, or both.
        adversarial_loss: ``lsgan`` or ``bce``.
        lambda_l1: pix2pix, regression and conditional: weight of the L1 term.
        lambda_features: pix2pix: weight of the feature matching (pix2pixHD takes 10); 0 leaves it
            out.
        lambda_cycle: CycleGAN: weight of the cycle term.
        lambda_identity: CycleGAN: weight of the identity term, relative to ``lambda_cycle``.
        image_buffer: CycleGAN: translated slices that the discriminators are shown again.
        neighbours: slices of the source beside the translated one, on either side, that the
            generator is shown and pix2pix's discriminator with it; not of CycleGAN.
        contrasts: conditional: the names of all sequences; the order is that of their codes.
        pseudo_source: conditional: weight of the pseudo-source term, relative to the L1 term; with
            0 no pair is learnt but those that sites hold.
        pseudo_source_from: conditional: part of the training that is over when that term begins.
        patch: slices, rows and columns of the blocks that networks of volumes are trained on; empty
            for networks of slices.
        source_contrasts: how many contrasts of a source the generator is shown. It follows from
            ``data.preparation`` and stands here for whoever is told of a model alone.
        contrast_dropout: how often a training slice loses contrasts of its source, see
            ``lightning_modules/data/contrast_dropout.py``.
        module: own: the Lightning module of an installed package, which has its own networks,
            losses and optimizers.
    """

    name: str = word("pix2pix", *MODELS, OWN)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    adversarial_loss: str = word("lsgan", *ADVERSARIAL_LOSSES)
    lambda_l1: float = number(100.0, most=1e5)
    lambda_features: float = number(0.0, most=1e5, left_out=True)
    lambda_cycle: float = number(10.0, most=1e5)
    lambda_identity: float = number(0.5, most=1e5)
    image_buffer: int = number(50, most=10_000)
    neighbours: int = number(0, most=MOST_NEIGHBOURS, left_out=True)
    contrasts: tuple[str, ...] = field(default=(), metadata=LEFT_OUT_WHILE_UNSET)
    pseudo_source: float = number(1.0, most=1e5, left_out=True)
    pseudo_source_from: float = number(0.2, most=1.0, left_out=True)
    patch: tuple[int, ...] = field(default=(), metadata=LEFT_OUT_WHILE_UNSET)
    source_contrasts: int = number(1, low=1, most=MOST_CONTRASTS, left_out=True)
    contrast_dropout: float = number(0.0, most=1.0, left_out=True)
    module: ModuleConfig = field(default_factory=ModuleConfig, metadata=LEFT_OUT_WHILE_UNSET)

    @property
    def described(self) -> ModelNetworks:
        """What it is made of."""
        return own_model(self.module.networks) if self.name == OWN else MODELS[self.name]

    @property
    def view(self) -> SourceView:
        """What the generator is shown of the source; says how many channels it takes."""
        return SourceView(self.neighbours, self.patch, self.source_contrasts)

    @property
    def of_pair(self) -> GeneratorConfig:
        """The generator that translates one pair.

        Of a conditional one, codes are fixed in it; of a module of a lab's own it is a part.
        """
        if self.module.is_own:
            module, part = self.module, self.described.translator
            return GeneratorConfig(module.kind, args=module.args, output="as_is", part=part)
        return self.generator.of_pair if self.contrasts else self.generator

    @property
    def networks(self) -> tuple[NetworkConfig, ...]:
        """The networks that the model is made of, one for each role; or what makes them all."""
        if self.module.is_own:
            return (self.module,)
        roles = dict.fromkeys(self.described.roles.values())
        return tuple(getattr(self, role) for role in roles)

    def meaningless(self) -> tuple[str, ...]:
        """Settings of this project's modules, beside one of a lab's own; see ``as_dict``."""
        if self.name != OWN:
            return ()
        return tuple(one.name for one in fields(self) if one.name not in _OF_ANY_MODULE)

    def check_module(self, where: str) -> None:
        """Refuse a module of a lab's own beside another model, and settings that it does not read.

        Raises:
            ConfigError: naming the key and what to do.
        """
        if self.name != OWN:
            if self.module != ModuleConfig():
                raise ConfigError(
                    f"{where}: model.module belongs to model '{OWN}', and the model is "
                    f"'{self.name}'; set model.name to '{OWN}', or leave model.module out"
                )
            return
        self.module.check_module(where)
        unset = ModelConfig()
        for key in self.meaningless():
            if getattr(self, key) != getattr(unset, key):
                raise ConfigError(
                    f"{where}: model.{key} says nothing of a module of your own; what "
                    f"'{self.module.kind}' is to be told stands under model.module.args"
                )

    def refuse_batch_norm(self, what: str, where: str) -> None:
        """Refuse networks that keep running statistics of the images they see.

        Args:
            what: what is wrong with batch normalisation here, as ``whose ...``.
            where: the words a message begins with.

        Raises:
            ConfigError: naming the network and the remedy.
        """
        for network in self.networks:
            if network.is_own:
                # Imported here, as only a network itself knows its layers.
                from lightning_modules.networks.own_network import refuse_statistics_of

                refuse_statistics_of(network, what, where)
        for name in ("generator", "discriminator"):
            network = getattr(self, name)
            if not network.is_own and network.norm == "batch":
                raise ConfigError(
                    f"{where}: model.{name}.norm is 'batch', whose {what}; take 'instance'"
                )
