"""What NVFlare gives our components at run time: its own contexts around a small engine."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from nvflare.apis.client import Client
from nvflare.apis.dxo import DXO, DataKind, MetaKey
from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import FLContextKey, ReservedKey, ServerCommandKey
from nvflare.apis.fl_context import FLContext, FLContextManager
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare.apis.workspace import Workspace
from nvflare.app_common.app_constant import AppConstants
from nvflare.private.fed.client.client_runner import TaskRouter

JOB = "job-1"


class Engine:
    """Real FLContexts; everything that would leave this process is recorded instead.

    Attributes:
        events: (event type, its data) in the order they were fired.
        connected: names of cells that answer.
    """

    def __init__(
        self,
        root: Path | None = None,
        name: str = "server",
        sites: tuple[str, ...] = (),
        components: dict[str, Any] | None = None,
    ) -> None:
        self.manager = FLContextManager(self, name, JOB)
        self.components = components or {}
        self.events: list[tuple[str, Any]] = []
        self.connected: set[str] = set()
        self._sites = sites
        self._folder = tempfile.TemporaryDirectory() if root is None else None
        self._workspace = workspace_at(root or Path(str(self._folder and self._folder.name)), name)
        Path(self._workspace.get_run_dir(JOB)).mkdir(parents=True, exist_ok=True)

    def new_context(self) -> FLContext:
        return self.manager.new_context()

    def get_clients(self) -> list[Client]:
        return [Client(site, f"token-{site}") for site in self._sites]

    def get_component(self, component_id: str) -> Any:
        return self.components.get(component_id)

    def get_workspace(self) -> Workspace:
        return self._workspace

    def get_cell(self) -> Any:
        return SimpleNamespace(is_cell_connected=lambda fqcn: fqcn in self.connected)

    def fire_event(self, event_type: str, fl_ctx: FLContext) -> None:
        self.events.append((event_type, fl_ctx.get_prop(FLContextKey.EVENT_DATA)))

    def fired(self, event_type: str) -> list[Any]:
        """Data of all events of one type."""
        return [data for kind, data in self.events if kind == event_type]

    def panics(self) -> list[str]:
        """Reasons of all system panics."""
        return self.fired(EventType.FATAL_SYSTEM_ERROR)


def workspace_at(root: Path, name: str) -> Workspace:
    """A participant's workspace with the folders that NVFlare demands."""
    for folder in ("startup", "local"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    return Workspace(str(root), name)


def with_peer(fl_ctx: FLContext, site: str) -> FLContext:
    """The context while a message of ``site`` is handled."""
    peer = FLContext()
    peer.put(ReservedKey.IDENTITY_NAME, site, private=False, sticky=False)
    fl_ctx.set_peer_context(peer)
    return fl_ctx


def answering(fl_ctx: FLContext, answer: Shareable, site: str, calls_itself: str) -> FLContext:
    """The context while an answer is handled: who sent it, by the server and in its own words."""
    answer.set_header(ServerCommandKey.FL_CLIENT, Client(site, f"token-{site}"))
    fl_ctx.set_prop(FLContextKey.TASK_RESULT, answer, private=True, sticky=False)
    return with_peer(fl_ctx, calls_itself)


def train_answer(
    weights: dict[str, Any],
    samples: Any = 4,
    round_number: Any = 0,
    metrics: dict[str, float] | None = None,
    train_metrics: dict[str, float] | None = None,
    kind: str = DataKind.WEIGHTS,
) -> Shareable:
    """A site's answer as it arrives at the server, the round's cookie echoed."""
    meta = {
        MetaKey.NUM_STEPS_CURRENT_ROUND: samples,
        MetaKey.INITIAL_METRICS: metrics or {},
        "train_metrics": train_metrics or {},
    }
    answer = DXO(kind, data=weights, meta=meta).to_shareable()
    answer.add_cookie(AppConstants.CONTRIBUTION_ROUND, round_number)
    return answer


def task_router(*executors: Executor) -> TaskRouter:
    """NVFlare's own router of tasks to a site's executors; the first of them trains."""
    router = TaskRouter()
    for number, executor in enumerate(executors):
        router.add_executor([f"other_{number}"] if number else [AppConstants.TASK_TRAIN], executor)
    return router


def server_runner(controller: Any = None, aborted: bool = False) -> SimpleNamespace:
    """The part of NVFlare's server runner that our widgets look at."""
    signal = Signal()
    if aborted:
        signal.trigger(True)
    workflow = SimpleNamespace(id="scatter_and_gather", controller=controller)
    return SimpleNamespace(
        abort_signal=signal,
        current_wf_index=0,
        config=SimpleNamespace(workflows=[workflow]),
    )


def weights_of(seed: int, scale: float = 1.0) -> dict[str, np.ndarray]:
    """A small model: a matrix, a vector and BatchNorm's step counter, an array without axes."""
    rng = np.random.default_rng(seed)
    return {
        "generator.w": (scale * rng.normal(size=(2, 3))).astype(np.float32),
        "generator.b": (scale * rng.normal(size=3)).astype(np.float32),
        "generator.n": np.array(rng.integers(1, 100), dtype=np.int64),
    }
