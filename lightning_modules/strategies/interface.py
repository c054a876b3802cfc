"""What a federated strategy is: one record per strategy, in one file beside its two rules.

The *server rule* says how the sites' models become the next global model. The *site rule* says what
a strategy changes at a site: gradients, what is kept from round to round, what is sent besides the
model, what stays local. Neither knows the framework that carries the messages.

Whoever reads an experiment reads the strategies' records, also a command that only writes a job.
Their files therefore import torch, and what needs it, only in the functions that touch tensors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from lightning_modules.combining.diagnostics import Diagnostics
from lightning_modules.combining.updates import SiteUpdate, Weights

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lightning_modules.matching.channel_groups import ChannelGroups

Groups = Mapping[str, "ChannelGroups"]
"""Channel groups by network."""

STAR, RING, SWARM = "star", "ring", "swarm"
"""Who sends models to whom: sites and server, site after site, or sites among themselves."""

NOT_YET, YES = "not yet", "yes"


class GradientTerm(Protocol):
    """What a strategy adds to the gradients of one round, and what it takes from that round."""

    def start(self, parameters: Mapping[str, Tensor]) -> None:
        """Take note of the parameters before the first step.

        Args:
            parameters: copies of the shared, trainable parameters by key.
        """

    def additions(
        self, role: str, keys: Sequence[str], parameters: Sequence[Tensor], gradients: Sequence[Any]
    ) -> Sequence[Tensor] | None:
        """What to add to the gradients of one network in this step, or None to leave them alone.

        Args:
            role: the network's role, ``generator`` or ``discriminator``.
            keys: the parameters' keys.
            parameters: their current values; not to be changed.
            gradients: the task's gradients, as many; not to be changed.
        """

    def kept(self, trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the site keeps for its next round, by key.

        Args:
            trained: the state_dict after the last step.
        """

    def extras(self) -> dict[str, Tensor]:
        """What the site sends besides its model, as ``kind/key``."""


@dataclass(frozen=True)
class TermInputs:
    """What a gradient term is made from.

    Attributes:
        settings: the strategy's settings.
        kept: what the site kept after the last round it took part in.
        extras: the server's arrays that came with the global model, as ``kind/key``.
        roles: network name to role.
    """

    settings: Any
    kept: Mapping[str, Tensor]
    extras: Mapping[str, Tensor]
    roles: Mapping[str, str]

    def extras_of(self, kind: str) -> dict[str, Tensor]:
        """The arrays of one kind by key: ``control/generator.w`` as ``generator.w``."""
        prefix = f"{kind}/"
        named = {k: value for k, value in self.extras.items() if k.startswith(prefix)}
        return {key[len(prefix) :]: value for key, value in named.items()}


@dataclass(frozen=True)
class LocalInputs:
    """What a strategy looks at to say which parts of shared networks stay at the site.

    Attributes:
        networks: all networks of the model, built.
        shared: names of the shared ones.
        roles: network name to role.
        settings: the strategy's settings.
    """

    networks: nn.ModuleDict
    shared: tuple[str, ...]
    roles: Mapping[str, str]
    settings: Any


class LayerStages(Protocol):
    """How a strategy that finishes networks layer by layer starts its rounds at a site."""

    def finished(self, round_number: int, groups: Groups) -> frozenset[str]:
        """Keys that are finished, and so frozen, in a round."""

    def start(
        self,
        received: Mapping[str, Tensor],
        own: Mapping[str, Tensor] | None,
        own_round: int,
        place: tuple[int, str],
        extras: Mapping[str, Tensor],
        groups: Groups,
    ) -> dict[str, Tensor]:
        """The shared weights that a site starts a round from.

        Args:
            received: the global model.
            own: the site's own model after the last round it took part in.
            own_round: that round.
            place: the round that starts, and the site.
            extras: the server's arrays that came with the global model.
            groups: channel groups per network.
        """


@dataclass(frozen=True)
class SiteRule:
    """What a strategy does at a site. The defaults are FedAvg's: nothing.

    Attributes:
        gradient_term: makes the term that is added to the gradients of a round.
        extras: kinds of arrays that sites send besides their models.
        mirrored: whether the server keeps sums of what the sites keep, so that a site which lost it
            must not go on.
        local_parts: dotted prefixes inside shared networks that stay at the site.
        local_text: what these parts are, in words.
        personal_term: makes the term under which a site trains a model of its own beside the
            global one; from the settings and the received model.
        layer_stages: how rounds start where layers are finished one after the other.
    """

    gradient_term: Callable[[TermInputs], GradientTerm] | None = None
    extras: tuple[str, ...] = ()
    mirrored: bool = False
    local_parts: Callable[[LocalInputs], tuple[str, ...]] | None = None
    local_text: str = ""
    personal_term: Callable[[Any, Mapping[str, Tensor]], GradientTerm] | None = None
    layer_stages: LayerStages | None = None

    @property
    def has_personal_models(self) -> bool:
        """Whether every site ends with a model of its own."""
        return self.local_parts is not None or self.personal_term is not None


@dataclass
class ServerView:
    """What a server rule sees and keeps besides the sites' updates.

    Attributes:
        memory: arrays by name that last from round to round; saved with every finished round.
        notes: what the aggregation has to say about itself, for the run's metrics.
        sites: names of all sites of the job, sorted.
        round_number: the running round, counted from 0.
        independent: whether every site drew its own first weights.
        sites_keep_optimizers: whether sites keep something by channel from round to round.
        is_parameter: whether a key is a parameter; buffers are averaged, not optimised.
        groups: channel groups per network, where the rule matches channels.
    """

    memory: Weights = field(default_factory=dict)
    notes: Diagnostics = field(default_factory=Diagnostics)
    sites: tuple[str, ...] = ()
    round_number: int = 0
    independent: bool = False
    sites_keep_optimizers: bool = False
    is_parameter: Callable[[str], bool] = lambda _: True
    groups: Groups = field(default_factory=dict)


class ServerRule(ABC):
    """How the sites' models of one round become the next global model, network by network.

    Args:
        settings: the strategy's settings.
    """

    is_mean: ClassVar[bool] = False
    """Whether the result is the plain weighted mean, so that its distance from it is 0."""
    matches_channels: ClassVar[bool] = False
    """Whether the rule needs the networks' channel groups."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @abstractmethod
    def combine(
        self, network: str, updates: Sequence[SiteUpdate], anchor: Weights, view: ServerView
    ) -> Weights:
        """Combine the updates of one network into its next global weights.

        Args:
            network: its name.
            updates: at least one, ordered by site name, with this network's weights alone.
            anchor: this network as it was sent out in this round.
            view: what lasts from round to round, and the facts of this one.
        """

    def extras_for_sites(self, view: ServerView) -> Weights:
        """What goes out beside the global model, as ``kind/key``."""
        return {}


@dataclass(frozen=True)
class Paper:
    """Where a strategy comes from.

    Attributes:
        text: authors, venue and year.
        link: ``arXiv:...`` or ``doi:...``.
        bibtex: key of its entry.
        equation: what of the paper is built, e.g. ``algorithm 1``.
    """

    text: str
    link: str
    bibtex: str
    equation: str


@dataclass(frozen=True)
class Mechanisms:
    """Which privacy mechanisms a strategy can be combined with: ``not yet``, ``yes`` or why not.

    Attributes:
        shown: names of the mechanisms (``jobs.privacy``) with which a job of it is committed.
    """

    update_level_dp: str = NOT_YET
    patient_level_dp: str = NOT_YET
    encryption: str = NOT_YET
    secure_aggregation: str = NOT_YET
    shown: tuple[str, ...] = ()


@dataclass(frozen=True)
class NoSettings:
    """A strategy without settings of its own."""


@dataclass(frozen=True)
class Variant:
    """A further committed job of a strategy, with other values than its first one.

    Attributes:
        name: the job's name.
        label: as reports show it.
        does: what it adds to FedAvg; with the label in front a sentence.
        values: ``initialisation`` or settings that differ from the strategy's defaults.
        acts: see ``Strategy``; None takes the strategy's.
        paper: None takes the strategy's.
    """

    name: str
    label: str
    does: str
    values: Mapping[str, Any]
    acts: bool | None = None
    paper: Paper | None = None


@dataclass(frozen=True)
class Strategy:
    """A federated strategy: everything that the rest of the project knows of it.

    Attributes:
        name: as experiments and jobs call it.
        label: as reports show it.
        does: what it adds to FedAvg; with the label in front a sentence.
        paper: where it comes from.
        settings: the record of its own settings, with defaults, ranges and meanings.
        server: its rule at the server; None where the server combines nothing.
        site: its rule at the sites.
        topology: ``star``, ``ring`` or ``swarm``.
        acts: whether a ratio or a moved fraction is expected to show its action. False where it
            only chooses what is shared, who combines or in which order.
        reference: whether the other strategies are compared with it.
        robust: whether it is meant to withstand a minority of hostile sites.
        values: what the job of its name sets, if not the defaults.
        variants: further committed jobs.
        compared_with: jobs that belong into every comparison with it.
        may_start_independently: whether sites may draw their own first weights.
        fedavg_at: settings with which it equals FedAvg bit for bit, or None.
        grid: settings to tune over, the same number of points for every strategy.
        published: the point of the grid that its authors use, or recommend first.
        published_in: where they say so.
        check_sites: refuses settings that do not fit the numbers of sites; gets the settings, the
            number of sites, the fewest that make a round, and the words a message begins with.
        rounds_per_pass: rounds that belong together, where it works in passes over the layers.
        mechanisms: the privacy mechanisms it admits.
    """

    name: str
    label: str
    does: str
    paper: Paper
    settings: type[Any] = NoSettings
    server: type[ServerRule] | None = None
    site: SiteRule = SiteRule()
    topology: str = STAR
    acts: bool = True
    reference: bool = False
    robust: bool = False
    values: Mapping[str, Any] = field(default_factory=dict)
    variants: tuple[Variant, ...] = ()
    compared_with: tuple[str, ...] = ()
    may_start_independently: bool = False
    fedavg_at: Mapping[str, Any] | None = None
    grid: tuple[Mapping[str, Any], ...] = ()
    published: Mapping[str, Any] = field(default_factory=dict)
    published_in: str = ""
    check_sites: Callable[[Any, int, int, str], None] | None = None
    rounds_per_pass: Callable[[Groups], int] | None = None
    mechanisms: Mechanisms = Mechanisms()


STRONGEST_PULL = 1e6
"""Largest coefficient of a pull towards other weights: under it nothing moves any more."""

FASTEST_SERVER = 100.0
"""Largest step of a server: a hundred times the mean update has never been of use."""


def pairs(name: str, values: Sequence[float], part: float = 1.0) -> tuple[dict[str, float], ...]:
    """A grid of one coefficient per role; the discriminator's is a part of the generator's."""
    return tuple({f"{name}_generator": v, f"{name}_discriminator": v * part} for v in values)


def by_role(settings: Any, name: str) -> dict[str, float]:
    """The values of ``<name>_generator`` and ``<name>_discriminator`` by role."""
    roles = ("generator", "discriminator")
    return {role: float(getattr(settings, f"{name}_{role}")) for role in roles}
