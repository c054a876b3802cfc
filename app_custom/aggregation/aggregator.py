"""The one aggregator: it checks, collects and orders the sites' updates; the strategy combines."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from nvflare.apis.event_type import EventType
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.aggregators.model_aggregator import ModelAggregator
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare.app_common.utils.fl_model_utils import FLModelUtils

from app_custom.aggregation.malloc import return_freed_memory
from app_custom.aggregation.model_message import accepted_rounds, note_accepted, refuse_encryption
from app_custom.aggregation.received_update import UPDATE_REFUSED, model_of, update_from
from app_custom.aggregation.spooled_update import spooled
from app_custom.audit_trail import audit, one_line
from app_custom.nvflare_context import contradicted_name, needed_sites, peer_name, run_folder
from fedi2i.errors import ConfigError, UserError
from lightning_modules.combining.diagnostics import Diagnostic, Diagnostics
from lightning_modules.combining.distances import squares_from_mean
from lightning_modules.combining.known_samples import (
    LARGE_SHARE,
    check_same_samples,
    largest_share,
)
from lightning_modules.combining.updates import (
    SiteUpdate,
    UpdateRefusedError,
    Weights,
    check_update,
    network_of,
    networks_of,
)
from lightning_modules.matching.network_groups import network_groups
from lightning_modules.model_networks import role_of
from lightning_modules.sharing.shared_networks import SharedNetworks
from lightning_modules.strategies.catalogue import strategy_from
from lightning_modules.strategies.interface import ServerView

_DISTANCE = "strategy/server_ratio_"


class Aggregator(ModelAggregator):
    """Collects one checked update per site, then has a strategy combine them network by network.

    Updates of other rounds, second updates of a site, updates with other keys or shapes than the
    global model and updates that hold NaN or infinity are refused and the site is named; so is a
    number of samples that cannot be, or that has changed within the job. The round goes on with the
    rest. Sums run in the order of names, not of arrival, so that results do not depend on timing.
    Until then updates wait in the run's folder, not in memory (``spooled_update``).
    Every network is combined for itself, from the sites that trained it.

    Args:
        strategy: the strategy's name, initialisation and settings, as experiments write them.
        min_sites: fewest updates that make a round; with fewer the job ends and names the sites
            that are missing.
        persistor_id: component that holds the global model's networks.
        partial_networks: whether a site may leave out whole networks that it could not train.
        sites_keep_optimizers: whether sites keep something by channel from round to round.

    Attributes:
        view: what the strategy's rule sees and keeps.
        diagnostics: what the last aggregation has to say, for the run's metrics.

    Raises:
        ConfigError: a strategy that does not exist or combines nothing at a server, or settings
            that it does not have.
    """

    def __init__(
        self,
        strategy: Mapping[str, Any],
        min_sites: int,
        persistor_id: str = "persistor",
        partial_networks: bool = False,
        sites_keep_optimizers: bool = False,
    ) -> None:
        super().__init__()
        config = strategy_from(strategy, "job argument 'strategy'")
        self._strategy = config.record
        if self._strategy.server is None:
            raise ConfigError(f"strategy '{config.name}' combines nothing at a server")
        self._rule = self._strategy.server(config.settings)
        self.view = ServerView(
            independent=config.initialisation == "independent",
            sites_keep_optimizers=sites_keep_optimizers,
            is_parameter=self.is_parameter,
        )
        self.diagnostics: list[Diagnostic] = []
        self._min_sites = min_sites
        self._persistor_id = persistor_id
        self._partial = partial_networks
        self._networks: SharedNetworks | None = None
        self._updates: dict[str, SiteUpdate] = {}
        self._claims: dict[str, int] = {}
        self._warned: set[str] = set()
        self._turn = threading.Lock()
        self._closed = False

    @property
    def memory(self) -> Weights:
        """What is kept at the server from round to round, as arrays by name.

        It is saved with every finished round.
        """
        return self.view.memory

    @memory.setter
    def memory(self, memory: Weights) -> None:
        self.view.memory = memory

    def extras_for_sites(self) -> Weights:
        """What goes out beside the global model, as ``kind/key``."""
        self.view.sites = tuple(self.invited())
        return self._rule.extras_for_sites(self.view)

    def accepted_rounds(self) -> dict[str, int]:
        """The last round of each site of the job that went into the global model, or -1."""
        return accepted_rounds(self.memory, self.invited())

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Prepare when the run starts, by when the persistor has its networks; begin each round.

        ScatterAndGather also resets its aggregator after each round. Swarm learning never does, and
        a site that aggregates twice would find the answers of last time.
        """
        if event_type == EventType.START_RUN:
            self._start(fl_ctx)
        elif event_type == AppEventType.ROUND_STARTED:
            with self._turn:
                self.reset_stats()
                self._closed = False

    def _start(self, fl_ctx: FLContext) -> None:
        self.fl_ctx = fl_ctx
        return_freed_memory()
        declared = needed_sites(fl_ctx)
        if self._min_sites < declared:
            self.system_panic(
                f"rounds of {self._min_sites} site(s) are not what the sites were told: the job's "
                f"meta.json says min_clients {declared}",
                fl_ctx,
            )
            return
        persistor = fl_ctx.get_engine().get_component(self._persistor_id)
        networks = getattr(persistor, "model", None)
        try:
            self.prepare(networks if isinstance(networks, SharedNetworks) else None, fl_ctx)
        except UserError as error:
            self.system_panic(f"server: {error}", fl_ctx)

    def prepare(self, networks: SharedNetworks | None, fl_ctx: FLContext) -> None:
        """Get ready for the first round.

        Args:
            networks: the global model's, if the persistor has them.
            fl_ctx: of the server's run.

        Raises:
            UserError: something that the job asks for cannot be done; the job ends.
        """
        refuse_encryption(fl_ctx, f"strategy '{self._strategy.label}'")
        if networks is None:
            return
        self._networks = networks
        if self._rule.matches_channels:
            names = networks.keys()
            self.view.groups = network_groups(networks, networks.config, names, networks.size)
            for name, groups in self.view.groups.items():
                self.log_info(fl_ctx, f"{name}: {groups.matchable_text}")

    def accept(self, shareable: Shareable, fl_ctx: FLContext) -> bool:
        """Check and keep one site's update; False if it was refused."""
        self.fl_ctx = fl_ctx
        site = peer_name(fl_ctx)
        try:
            with self._turn:
                self._check_turn(site, shareable, fl_ctx)
                self.accept_model(model_of(shareable, fl_ctx))
        except UpdateRefusedError as refused:
            self.log_warning(fl_ctx, f"update of site '{site}' refused: {one_line(refused)}")
            audit(site, UPDATE_REFUSED, refused)
            return False
        return True

    def accept_model(self, model: FLModel) -> None:
        """Check and keep one update.

        Raises:
            UpdateRefusedError: it does not fit the global model or is not finite.
        """
        update = update_from(model, peer_name(self.fl_ctx))
        check_update(update, self._anchor(), self._strategy.site.extras, self._partial)
        check_same_samples(self._claims, update.site, int(update.samples))
        self._claims[update.site] = int(update.samples)
        self._updates[update.site] = spooled(update, run_folder(self.fl_ctx))

    def aggregate(self, fl_ctx: FLContext) -> Shareable:
        """Combine what was collected, or end the job where too few sites answered.

        From now on until the next round NVFlare hands late answers on from another thread. They are
        refused: one network would be combined without them and the next one with them.
        """
        with self._turn:
            self._closed = True
        self.fl_ctx = fl_ctx
        missing = sorted(set(self.invited()) - set(self._updates))
        current_round = fl_ctx.get_prop(AppConstants.CURRENT_ROUND)
        if missing:
            self.log_warning(
                fl_ctx, f"round {current_round}: no usable update from {', '.join(missing)}"
            )
        if len(self._updates) < self._min_sites:
            self.system_panic(
                f"round {current_round}: {len(self._updates)} site(s) answered, at least "
                f"{self._min_sites} are needed; missing: {', '.join(missing)}",
                fl_ctx,
            )
            return Shareable()
        self._warn_of_large_share(fl_ctx)
        combined = self.aggregate_model()
        note_accepted(self.memory, self._updates, int(current_round))
        return FLModelUtils.to_shareable(combined)

    def _warn_of_large_share(self, fl_ctx: FLContext) -> None:
        """Warn once per job of a site that claims nearly all samples: it makes the mean alone."""
        samples = {site: update.samples for site, update in self._updates.items()}
        site, share = largest_share(samples)
        if len(samples) > 1 and share > LARGE_SHARE and site not in self._warned:
            self._warned.add(site)
            self.log_warning(
                fl_ctx,
                f"site '{site}' states {samples[site]:.0f} of {sum(samples.values()):.0f} training "
                f"samples: {share:.0%} of the weight in the mean. Ask the site whether it is so; "
                "a median, or a trimmed mean without sample weights, does not depend on it",
            )

    def aggregate_model(self) -> FLModel:
        """The combined model of the updates collected so far."""
        anchor, view = self._anchor(), self.view
        view.notes, view.sites = Diagnostics(), tuple(self.invited())
        view.round_number = int(self.fl_ctx.get_prop(AppConstants.CURRENT_ROUND))
        combined: Weights = {}
        for network in networks_of(anchor):
            before = {k: value for k, value in anchor.items() if network_of(k) == network}
            combined |= self._combined(network, before)
        weights = {key: combined[key] for key in anchor}
        # The networks' squares were added up; their ratio's root is the ratio of the lengths.
        self.diagnostics = [
            (site, name, math.sqrt(value) if name.startswith(_DISTANCE) else value)
            for site, name, value in view.notes.rows()
        ]
        return FLModel(params_type=ParamsType.FULL, params=weights)

    def reset_stats(self) -> None:
        """Forget the round's updates."""
        self._updates = {}

    def invited(self) -> list[str]:
        """Names of all sites of the job."""
        return sorted(client.name for client in self.fl_ctx.get_engine().get_clients())

    def is_parameter(self, key: str) -> bool:
        """Whether a key is a parameter; buffers are averaged, not optimised.

        Where no networks are at hand every key counts as one.
        """
        if self._networks is None:
            return True
        return key in dict(self._networks.named_parameters())

    def _combined(self, network: str, anchor: Weights) -> Weights:
        trained = [update for update in self._updates_of(network) if update.weights]
        if not trained:
            return anchor
        combined = self._rule.combine(network, trained, anchor, self.view)
        apart = (0.0, 1.0) if self._rule.is_mean else squares_from_mean(combined, trained, anchor)
        self.view.notes.add(f"{_DISTANCE}{role_of(network)}", *apart)
        return combined

    def _anchor(self) -> Weights:
        model = self.fl_ctx.get_prop(AppConstants.GLOBAL_MODEL)
        return dict(model["weights"])

    def _updates_of(self, network: str) -> Sequence[SiteUpdate]:
        """One network of the collected updates, in the order of site names."""
        return [self._updates[site].for_network(network) for site in sorted(self._updates)]

    def _check_turn(self, site: str, shareable: Shareable, fl_ctx: FLContext) -> None:
        contribution_round = shareable.get_cookie(AppConstants.CONTRIBUTION_ROUND)
        named = contradicted_name(fl_ctx)
        if named:
            raise UpdateRefusedError(f"the site calls itself '{named}'")
        if site not in self.invited():
            raise UpdateRefusedError("it is no site of this job")
        current = fl_ctx.get_prop(AppConstants.CURRENT_ROUND)
        if contribution_round != current:
            raise UpdateRefusedError(f"it belongs to round {contribution_round}, not {current}")
        if self._closed:
            raise UpdateRefusedError(f"it came when round {current} was over")
        if site in self._updates:
            raise UpdateRefusedError("the site has already answered in this round")
