"""What a site received is remembered until its answer leaves, so that the update can be measured.

A filter that changes updates, and not models, needs two places: one in the way of the model that
arrives and one in the way of the answer. NVFlare builds the two apart from each other, so they meet
here, by site, job and task.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable

from app_custom.aggregation.compression import CompressionError, restore
from app_custom.aggregation.compression_filters import MARK
from app_custom.aggregation.model_message import unpack
from app_custom.nvflare_context import site_name

Arrays = Mapping[str, np.ndarray]
Content = TypeVar("Content")


class PrivacyRefusalError(RuntimeError):
    """A round that must not be trained, or an answer that must not leave."""


@dataclass
class TaskMemory(Generic[Content]):
    """What the filters of one task share; it holds one task of each site and job.

    Attributes:
        begun: (site, job) to the task that is under way and what it began with.
        done: (site, job) to the digest of the weights that have been filtered.
    """

    begun: dict[tuple[str, str], tuple[str, Content]] = field(default_factory=dict)
    done: dict[tuple[str, str], str] = field(default_factory=dict)

    def begin(self, fl_ctx: FLContext, content: Content) -> None:
        """Remember what the running task began with, in place of any earlier task's."""
        owner = owner_of(fl_ctx)
        self.done.pop(owner, None)
        self.begun[owner] = (task_of(fl_ctx), content)

    def of_task(self, fl_ctx: FLContext) -> Content | None:
        """What the running task began with; None if it is not remembered."""
        task, content = self.begun.get(owner_of(fl_ctx), ("", None))
        return content if task == task_of(fl_ctx) else None

    def forget(self, fl_ctx: FLContext) -> None:
        """Drop what was remembered of this site and job."""
        self.begun.pop(owner_of(fl_ctx), None)

    def note_done(self, fl_ctx: FLContext, answer: DXO) -> None:
        """Remember that these very weights have been filtered."""
        self.done[owner_of(fl_ctx)] = _digest_of(answer)

    def is_done(self, fl_ctx: FLContext, answer: DXO) -> bool:
        """Whether these very weights have been filtered, whatever their task is called."""
        owner = owner_of(fl_ctx)
        return owner in self.done and self.done[owner] == _digest_of(answer)


def owner_of(fl_ctx: FLContext) -> tuple[str, str]:
    """The site and the job of a context."""
    return site_name(fl_ctx), str(fl_ctx.get_job_id())


def task_of(fl_ctx: FLContext) -> str:
    """The id of the running task."""
    return str(fl_ctx.get_prop(FLContextKey.TASK_ID))


def received_model(shareable: Shareable) -> dict[str, np.ndarray]:
    """Copies of the received weights, decompressed: later parts may change arrays in place.

    Raises:
        PrivacyRefusalError: the message holds no model that an update could be measured from.
    """
    dxo = from_shareable(shareable)
    said: Any = dxo.meta.get(MetaKey.PROCESSED_ALGORITHM) or ""
    data = dxo.data
    if said:
        if not str(said).startswith(MARK):
            raise PrivacyRefusalError(f"the model arrived as '{said}', which cannot be measured")
        try:
            data = restore(data, str(said)[len(MARK) :])
        except CompressionError as error:
            raise PrivacyRefusalError(f"the model that arrived cannot be read: {error}") from error
    if dxo.data_kind != DataKind.WEIGHTS:
        raise PrivacyRefusalError("what arrived holds no model's weights to measure an update from")
    state, _ = unpack(data)
    return {key: np.array(value) for key, value in state.items()}


def trained_alone(
    answer: DXO, received: Arrays, covers: str
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The weights of an answer that holds a model and nothing else, and what they started from.

    Args:
        answer: the answer of a site.
        received: the model that it was trained from.
        covers: what does not cover a strategy's extras, such as ``noise``.

    Raises:
        PrivacyRefusalError: it holds a strategy's extras, or weights that were not received.
    """
    trained, extras = unpack(answer.data)
    if extras:
        kinds = ", ".join(sorted({name.partition("/")[0] for name in extras}))
        raise PrivacyRefusalError(
            f"the strategy also sends {kinds}, which no {covers} covers; take a strategy that "
            "sends its model alone"
        )
    missing = [key for key in trained if key not in received]
    if missing:
        raise PrivacyRefusalError(f"'{missing[0]}' was trained but not received")
    return trained, {key: received[key] for key in trained}


def _digest_of(dxo: DXO) -> str:
    content = hashlib.sha256()
    for key, value in sorted(dxo.data.items()):
        content.update(f"{key}\0{value.dtype}{value.shape}\0".encode())
        content.update(np.ascontiguousarray(value).tobytes())
    return content.hexdigest()
