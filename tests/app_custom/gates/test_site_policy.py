from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nvflare.apis.dxo import DXO, DataKind
from nvflare.apis.fl_constant import FilterKey, FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.utils.task_utils import apply_filters
from nvflare.private.privacy_manager import Scope

from app_custom.gates.allowed_update import UpdateNotAllowedError
from app_custom.gates.site_policy import NOISES, PAIRS, SPENDS, SitePolicy, missing_gates
from provision.local_policy import privacy_policy

REMEMBERS, PERCENTILE = PAIRS[1]


def update(*keys: str) -> Shareable:
    return DXO(DataKind.WEIGHTS, data={key: np.ones(2) for key in keys}).to_shareable()


def through_the_site(answer: Shareable) -> Shareable:
    """The answer as NVFlare sends it from a site with this policy, for a job without filters."""
    scope = Scope()
    scope.add_task_result_filter(SitePolicy(["generator"], arrays=["control"]), FilterKey.OUT)
    ctx = FLContext()
    ctx.set_prop(FLContextKey.SCOPE_OBJECT, scope, private=True, sticky=False)
    passed: Shareable = apply_filters(
        Scope.TASK_RESULT_FILTERS_NAME, answer, ctx, {}, "train", FilterKey.OUT
    )
    return passed


@pytest.mark.parametrize(
    "answer",
    [
        update("generator.weight"),
        update("generator.weight", "strategy/control/generator.weight"),
        make_reply(ReturnCode.OK),
        make_reply(ReturnCode.EXECUTION_EXCEPTION),
    ],
)
def test_what_the_site_allows_passes_as_do_answers_that_say_nothing(answer: Shareable) -> None:
    assert through_the_site(answer) is answer


def test_a_network_that_the_site_keeps_is_stopped_although_the_job_has_no_filter() -> None:
    with pytest.raises(UpdateNotAllowedError, match=r"'discriminator\.weight'"):
        through_the_site(update("generator.weight", "discriminator.weight"))


def test_an_empty_answer_with_anything_besides_its_return_code_is_stopped() -> None:
    answer = make_reply(ReturnCode.OK)
    answer.set_header("patient", "Jane Doe")
    with pytest.raises(UpdateNotAllowedError, match="header 'patient'"):
        through_the_site(answer)


def policy(*scopes: tuple[str, ...]) -> dict[str, Any]:
    """A site's policy with the usual gates, and in each scope these filters besides."""
    made = privacy_policy()
    (usual,) = made["scopes"]
    made["scopes"] = [
        {
            **usual,
            "name": usual["name"] if number == 0 else f"scope-{number}",
            "task_data_filters": [
                *({"path": path} for path in paths if path in (SPENDS, REMEMBERS)),
                *usual["task_data_filters"],
            ],
            "task_result_filters": [
                *({"path": path} for path in paths if path in (NOISES, PERCENTILE)),
                *usual["task_result_filters"],
            ],
        }
        for number, paths in enumerate(scopes)
    ]
    return made


@pytest.mark.parametrize(
    "scopes",
    [
        ((),),
        ((SPENDS, NOISES),),
        ((SPENDS, NOISES),) * 2,
        ((REMEMBERS, PERCENTILE),),
        ((REMEMBERS,),),
    ],
)
def test_differential_privacy_is_in_every_scope_or_in_none(scopes: tuple[Any, ...]) -> None:
    assert missing_gates(policy(*scopes)) == ""


@pytest.mark.parametrize(
    ("scopes", "lacking"),
    [
        (((SPENDS,),), NOISES),
        (((NOISES,),), SPENDS),
        (((SPENDS, NOISES), ()), SPENDS),  # a job would choose the second scope
        (((), (SPENDS, NOISES)), SPENDS),
        (((PERCENTILE,),), REMEMBERS),
        (((REMEMBERS, PERCENTILE), (REMEMBERS,)), PERCENTILE),
    ],
)
def test_half_of_differential_privacy_is_none(scopes: tuple[Any, ...], lacking: str) -> None:
    assert f"lacks {lacking}" in missing_gates(policy(*scopes))


def test_a_filter_that_looks_the_other_way_does_not_count() -> None:
    turned = policy((SPENDS, NOISES))
    turned["scopes"][0]["task_result_filters"][0]["direction"] = "in"
    assert f"lacks {NOISES}" in missing_gates(turned)
