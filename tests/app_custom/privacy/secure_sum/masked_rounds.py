"""Four sites' models, what they train, and what a test does to their messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from masked_federation import CODE, MaskedFederation, Weights
from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.shareable import Shareable
from nvflare.app_common.app_constant import AppConstants

from app_custom.privacy.secure_sum.key_exchange import ATTEMPT, SUM_SITES
from lightning_modules.combining.updates import SiteUpdate
from lightning_modules.combining.weighted_mean import weighted_mean
from lightning_modules.privacy.integer_code import IntegerCode

SAMPLES = {"east": 73, "north": 141, "south": 48, "west": 20}
MakeFederation = Callable[..., MaskedFederation]


def first_model() -> Weights:
    rng = np.random.default_rng(1)
    return {
        "generator.w": rng.normal(size=(20, 30)).astype(np.float32),
        "generator.b": rng.normal(size=5).astype(np.float32),
        "discriminator.w": rng.normal(size=(7, 9)).astype(np.float32),
    }


def train(site: str, number: int, received: Weights) -> Weights:
    rng = np.random.default_rng([sorted(SAMPLES).index(site), number])
    return {
        key: (value + rng.normal(scale=0.1, size=value.shape)).astype(value.dtype)
        for key, value in received.items()
    }


def plain_mean(federation: MaskedFederation, names: list[str], before: Weights) -> Weights:
    """FedAvg of the same answers with the same declared weights, by the plain rule."""
    code = IntegerCode(*(CODE[key] for key in CODE))
    return weighted_mean(
        [
            SiteUpdate(name, federation.sites[name].last, code.weight_of(SAMPLES[name]))
            for name in sorted(names)
        ]
    )


def assert_equal(found: Weights, expected: Weights, fraction: int = 20) -> None:
    """To half of the last binary digit, and the last bit of the weights' own type."""
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].dtype == value.dtype
        most = 2.0 ** -(fraction + 1) + np.spacing(np.abs(value))
        assert (np.abs(found[key].astype(float) - value) <= most).all()


def losing(lost: str, rounds: tuple[int, ...] = (0,)) -> Callable[..., Shareable | None]:
    """Loses a site's answers to some rounds' tasks, and keeps those that it would send late."""

    def meddle(task: str, site: str, answer: Shareable) -> Shareable | None:
        cookie = answer.get_cookie(ATTEMPT)
        drop = task == "train" and site == lost and cookie is not None and cookie[0] in rounds
        if drop:
            meddle.late.append(answer)  # type: ignore[attr-defined]
        return None if drop else answer

    meddle.late = []  # type: ignore[attr-defined]
    return meddle


def changing(task: str, site: str, change: Callable[[dict[str, Any]], None]) -> Any:
    """Changes the data of one site's answer to a task."""

    def meddle(name: str, who: str, answer: Shareable) -> Shareable:
        if (name, who) == (task, site):
            dxo = from_shareable(answer)
            change(dxo.data)
            dxo.update_shareable(answer)
        return answer

    return meddle


def asked(federation: MaskedFederation, site: str, name: str, **headers: Any) -> Shareable:
    """A task made by hand for one site."""
    data = headers.pop("data", None)
    task = Shareable() if data is None else DXO(DataKind.APP_DEFINED, data=data).to_shareable()
    task.set_header(SUM_SITES, headers.get("sites", sorted(SAMPLES)))
    task.set_header(AppConstants.CURRENT_ROUND, headers.get("number", 0))
    answer = federation.deliver(name, "by-hand", site, task)
    assert answer is not None
    return answer


def train_task(number: int, sites: list[str], model: Weights | None = None) -> Shareable:
    message = DXO(DataKind.WEIGHTS, data=model or first_model()).to_shareable()
    message.set_header(SUM_SITES, sites)
    message.set_header(AppConstants.CURRENT_ROUND, number)
    return message
