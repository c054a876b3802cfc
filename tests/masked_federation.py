"""Secure aggregation in one process: the jobs' own parts around tasks that are handed over in turn.

The server's side is the real workflow, aggregator and model generator. Each site has its own
workspace, executor, filters and gate. What stands between them is a loop in place of messages, in
which a test can take away, change or repeat what it likes.
"""

from __future__ import annotations

import copy
import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from nvflare.apis.client import Client
from nvflare.apis.controller_spec import ClientTask, Task
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.event_type import EventType
from nvflare.apis.filter import Filter
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.model import make_model_learnable
from nvflare.app_common.app_constant import AppConstants
from nvflare_fakes import Engine, with_peer

from app_custom.aggregation.model_message import unpack
from app_custom.gates.allowed_update import AllowedUpdate
from app_custom.privacy.secure_sum import filters, mask_keys
from app_custom.privacy.secure_sum.aggregator import SecureAggregator
from app_custom.privacy.secure_sum.filters import BeginSum, MaskUpdate
from app_custom.privacy.secure_sum.key_exchange import EXCHANGE_TASKS
from app_custom.privacy.secure_sum.mask_keys import MaskKeys
from app_custom.privacy.secure_sum.rounds import SecureRounds
from app_custom.server.outgoing_model import StrategyModelGenerator

Weights = dict[str, np.ndarray]
Train = Callable[[str, int, Weights], Weights]
"""From a site, a round and the received weights to the trained ones."""
Meddle = Callable[[str, str, Shareable], Shareable | None]
"""Changes what a site answers to a task; None loses it."""

RUN = "masked-run"
CODE: dict[str, Any] = {
    "bits": 32,
    "fraction_bits": 20,
    "bound": 1.0,
    "slices_per_weight": 1,
}


class Authority:
    """A project's authority, which gives sites their certificates."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.certificate = self._issued("authority", self._key.public_key())

    def kit(self, startup: Path, name: str, days: int = 30) -> Path:
        """Write a site's key and certificate; returns the folder."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        startup.mkdir(parents=True, exist_ok=True)
        pem = Encoding.PEM
        text = key.private_bytes(pem, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        (startup / "client.key").write_bytes(text)
        made = self._issued(name, key.public_key(), days)
        (startup / "client.crt").write_bytes(made.public_bytes(pem))
        (startup / "rootCA.pem").write_bytes(self.certificate.public_bytes(pem))
        return startup

    def _issued(self, name: str, key: rsa.RSAPublicKey, days: int = 30) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")]))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=60))
            .not_valid_after(now + datetime.timedelta(days=days))
            .sign(self._key, SHA256())
        )


class MaskedSite:
    """One site: its workspace, and the parts that a job builds there.

    Args:
        root: its workspace; ``startup`` holds its kit.
        name: its name.
        samples: its training slices.
        train: what it computes.
        least: its own least number of sites.
        policy: filters of the site's own policy, for what arrives and what leaves.
    """

    def __init__(
        self,
        root: Path,
        name: str,
        samples: int,
        train: Train,
        least: int = 3,
        policy: tuple[Filter, Filter] | None = None,
        **code: Any,
    ) -> None:
        self.engine = Engine(root, name=name)
        self.name, self.samples, self.train = name, samples, train
        (root / "local" / "fedi2i.yaml").write_text(f"limits: {{least_sites: {least}}}\n")
        self.begin, self.mask = BeginSum(RUN), MaskUpdate(RUN, **{**CODE, **code})
        self.policy = policy or (_Unchanged(), _Unchanged())
        self.keys = MaskKeys(RUN)
        self.gate = AllowedUpdate(["generator", "discriminator"])
        self.last: Weights = {}

    def do(self, name: str, task: str, message: Shareable) -> Shareable:
        """A task from its arrival to the answer that leaves, as NVFlare's runner does it."""
        with self.engine.new_context() as ctx:
            ctx.set_prop(FLContextKey.TASK_NAME, name, private=True, sticky=False)
            ctx.set_prop(FLContextKey.TASK_ID, task, private=True, sticky=False)
            try:
                answer = self._answer(name, message, ctx)
                answer = self.gate.process(answer, ctx)
            except RuntimeError:
                answer = make_reply(ReturnCode.TASK_RESULT_FILTER_ERROR)
        answer.set_cookie_jar(message.get_cookie_jar())
        return answer

    def _answer(self, name: str, message: Shareable, ctx: FLContext) -> Shareable:
        arriving, leaving = self.policy
        message = arriving.process(message, ctx)
        if name in EXCHANGE_TASKS:
            return leaving.process(self.keys.execute(name, message, ctx, Signal()), ctx)
        received = self.begin.process(message, ctx)
        state, _ = unpack(from_shareable(received).data)
        number = int(received.get_header(AppConstants.CURRENT_ROUND))
        self.last = self.train(self.name, number, state)
        meta = {
            MetaKey.NUM_STEPS_CURRENT_ROUND: self.samples,
            MetaKey.INITIAL_METRICS: {"val/psnr": 20.0},
        }
        answer = DXO(DataKind.WEIGHTS, data=self.last, meta=meta).to_shareable()
        return self.mask.process(leaving.process(answer, ctx), ctx)


class _Unchanged(Filter):
    """A policy that changes nothing."""

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """Pass everything on."""
        return shareable


class MaskedFederation:
    """A server around masked sites.

    Args:
        sites: the sites by name.
        weights: the first model.
        strategy: the strategy, as experiments write it.
        rounds: how many.
        min_sites: fewest sites of a round.
        meddle: changes or loses answers.
        code: settings of the integers that differ.

    Attributes:
        sent: (task, its sites) in the order they were sent.
        messages: (task, site) to the last answer as it arrived.
        lost: sites that the server believes to be disconnected.
    """

    def __init__(
        self,
        sites: Mapping[str, MaskedSite],
        weights: Weights,
        strategy: str = "fedavg",
        rounds: int = 1,
        min_sites: int = 3,
        meddle: Meddle | None = None,
        **code: Any,
    ) -> None:
        self.sites = dict(sites)
        self._meddle = meddle or (lambda task, site, answer: answer)
        self.sent: list[tuple[str, list[str]]] = []
        self.messages: dict[tuple[str, str], Shareable] = {}
        self.lost: set[str] = set()
        self.abort = Signal()
        self.aggregator = SecureAggregator({"name": strategy}, min_sites, **{**CODE, **code})
        self.engine = _AbortingEngine(self.abort, tuple(sites))
        self.engine.components = {
            "aggregator": self.aggregator,
            "generator": StrategyModelGenerator("aggregator"),
        }
        self.rounds = SecureRounds(
            min_clients=min_sites,
            num_rounds=rounds,
            shareable_generator_id="generator",
            snapshot_every_n_rounds=0,
            memory_gc_rounds=0,
        )
        self.rounds._engine = self.engine
        self.rounds.communicator = self
        self.rounds._global_weights = make_model_learnable(weights, {})
        ctx = self.engine.new_context()
        self.aggregator.handle_event(EventType.START_RUN, ctx)

    @property
    def weights(self) -> Weights:
        """The global model."""
        return dict(self.rounds._global_weights["weights"])

    def run(self) -> Weights:
        """All rounds; returns the global model."""
        with self.engine.new_context() as ctx:
            weights = self.rounds._global_weights
            self.rounds.start_controller(ctx)
            self.rounds._global_weights = weights
            self.rounds.control_flow(self.abort, ctx)
        return self.weights

    def broadcast_and_wait(
        self,
        task: Task,
        fl_ctx: FLContext,
        targets: Sequence[str],
        min_responses: int,
        wait: int,
        abort_signal: Signal,
    ) -> None:
        """Hand a task to its sites one after the other, in place of NVFlare's communicator."""
        self.sent.append((task.name, list(targets)))
        for site in targets:
            answer = self.deliver(task.name, f"{site}-{len(self.sent)}", site, task.data)
            if answer is None:
                continue
            done = ClientTask(Client(site, "token"), task)
            done.result = answer
            with self.engine.new_context() as ctx:
                task.result_received_cb(done, with_peer(ctx, site))

    def deliver(self, name: str, task: str, site: str, data: Shareable) -> Shareable | None:
        """One task to one site; returns its answer, or None if a test loses it."""
        answer = self.sites[site].do(name, task, copy.deepcopy(data))
        changed = self._meddle(name, site, answer)
        if changed is not None:
            self.messages[name, site] = changed
        return changed

    def get_client_disconnect_time(self, site: str) -> float | None:
        """When the server lost a site."""
        return 1.0 if site in self.lost else None


class _AbortingEngine(Engine):
    """A panic ends the run, as with NVFlare's server runner."""

    def __init__(self, abort: Signal, sites: tuple[str, ...]) -> None:
        super().__init__(sites=sites)
        self._abort = abort

    def fire_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Record the event; end the run after a panic."""
        super().fire_event(event_type, fl_ctx)
        if event_type == EventType.FATAL_SYSTEM_ERROR:
            self._abort.trigger(True)


def forget_everything() -> None:
    """What the sites of earlier tests kept in this process."""
    mask_keys._MEMORY.kept.clear()
    filters._MEMORY.begun.clear()
