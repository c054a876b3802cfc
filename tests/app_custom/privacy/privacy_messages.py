"""What a site receives and answers, as filters see it: a model of two small networks."""

from __future__ import annotations

import numpy as np
from nvflare.apis.dxo import DXO, DataKind, MetaKey
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.app_constant import AppConstants

from app_custom.aggregation.model_message import pack
from app_custom.gates.shared_metrics import TRAIN_METRICS


def model(value: float) -> dict[str, np.ndarray]:
    """All weights of one value."""
    return {
        "generator.w": np.full((3, 4), value, np.float32),
        "discriminator.w": np.full(5, value, np.float32),
    }


def set_task(fl_ctx: FLContext, task: str, name: str = AppConstants.TASK_TRAIN) -> None:
    """The task that a site is at, by id and name."""
    fl_ctx.set_prop(FLContextKey.TASK_ID, task, private=True, sticky=False)
    fl_ctx.set_prop(FLContextKey.TASK_NAME, name, private=True, sticky=False)


def received(value: float = 1.0, round_number: int = 0) -> Shareable:
    """The global model of a round."""
    message = DXO(DataKind.WEIGHTS, data=model(value)).to_shareable()
    message.set_header(AppConstants.CURRENT_ROUND, round_number)
    return message


def answer(value: float = 2.0, extras: dict[str, np.ndarray] | None = None) -> Shareable:
    """A site's answer to it, with metrics."""
    meta = {
        MetaKey.NUM_STEPS_CURRENT_ROUND: 565,
        MetaKey.INITIAL_METRICS: {"val/psnr": 20.0},
        TRAIN_METRICS: {"train/l1": 0.1},
    }
    return DXO(DataKind.WEIGHTS, data=pack(model(value), extras or {}), meta=meta).to_shareable()
