"""The gates let the numbers of federated statistics pass, and nothing else in their place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from nvflare.apis.dxo import DXO, DataKind
from nvflare.app_common.abstract.statistics_spec import (
    Bin,
    Histogram,
    HistogramType,
)
from nvflare.app_common.app_constant import StatisticsConstants as Names
from nvflare.app_common.workflows.statistics_controller import StatisticsController
from nvflare.fuel.utils import fobs
from nvflare_fakes import Engine
from site_of_numbers import POLICY, SERVER, Site, computed

from app_custom.gates.allowed_update import AllowedUpdate, UpdateNotAllowedError
from partitions.heterogeneity.federated import GROUP


@pytest.fixture
def allowed(site: Callable[..., Site]) -> dict[str, Any]:
    """An answer that may leave."""
    (workflow,) = SERVER["workflows"]
    controller = StatisticsController(**workflow["args"])
    inputs = controller._prepare_inputs(Names.STATS_1st_STATISTICS)
    return computed(site("north", 40), inputs)


def passes(gate: AllowedUpdate, data: dict[str, Any], **meta: Any) -> None:
    message = DXO(DataKind.STATISTICS, data=data, meta=meta).to_shareable()
    assert gate.process(message, Engine().new_context()) is message


def test_the_site_s_policy_lets_statistics_pass_and_a_training_job_s_gate_does_not(
    allowed: dict[str, Any],
) -> None:
    passes(POLICY, allowed)
    with pytest.raises(UpdateNotAllowedError, match="kind of data"):
        passes(AllowedUpdate(["generator"]), allowed)


_NAN = float("nan")
_FINE = Histogram(HistogramType.STANDARD, [Bin(n / 64, (n + 1) / 64, 1.0) for n in range(64)])
_OF_PATIENTS = Histogram(HistogramType.STANDARD, [Bin(34.0, 34.0, 1.0), Bin(71.0, 71.0, 1.0)])
_COARSE = Histogram(HistogramType.STANDARD, [Bin(0.0, 0.5, 1.0), Bin(0.5, 1.0, 0.0)])
_NAMED = Histogram(HistogramType.STANDARD, [Bin(0.0, 1.0, 1.0)], "patient 7")


@pytest.mark.parametrize(
    "secret",
    [
        {"mean": {GROUP: {"weight": 81.0}}},
        {"mean": {"patient-7": {"age": 81.0}}},
        {"quantile": {GROUP: {"age": 81.0}}},
        {"max": {GROUP: {"age": 81.0}}},
        {"mean": {GROUP: {"age": "patient 7"}}},
        {"histogram": {GROUP: {"source": _FINE}}},
        {"histogram": {GROUP: {"source": _NAMED}}},
        {"histogram": {GROUP: {"source": [1.0, 2.0]}}},
        {"histogram": {GROUP: {"age": _OF_PATIENTS}}},
        {"histogram": {GROUP: {"source": Histogram("patient 7", [])}}},
        {"histogram": {GROUP: {"source": Histogram(HistogramType.STANDARD, [(34.0,) * 9])}}},
        {"histogram": {GROUP: {"source": Histogram(HistogramType.STANDARD, [Bin(0, 1, _NAN)])}}},
        {"count": {GROUP: {"age": 1}}, "sum": {GROUP: {"age": 71.0}}},
        {"count": {GROUP: {"age": 0}}, "sum": {GROUP: {"age": 71.0}}},
        {"count": {GROUP: {"age": 0}}, "mean": {GROUP: {"age": 71.0}}},
        {"count": {GROUP: {"source": 0}}, "histogram": {GROUP: {"source": _COARSE}}},
        {"count": {GROUP: {"age": 1.5}}},
        {"count": {GROUP: {"age": -1}}},
        {"sum": {GROUP: {"age": _NAN}}},
        {"mean": {GROUP: {"age": float("inf")}}},
        {"count": {GROUP: {"age": 12.5}}},
        ["patient 7"],
    ],
)
def test_anything_else_in_place_of_the_numbers_is_stopped(
    secret: Any, allowed: dict[str, Any]
) -> None:
    with pytest.raises(UpdateNotAllowedError, match="statistics are refused"):
        passes(POLICY, {**allowed, Names.STATS_1st_STATISTICS: fobs.dumps(secret)})


def test_anything_beside_the_numbers_is_stopped(allowed: dict[str, Any]) -> None:
    features = fobs.dumps({"patients": ["patient 7"]})
    for data, meta in (
        ({**allowed, "note": "patient 7"}, {}),
        ({**allowed, Names.STATS_FEATURES: features}, {}),
        ({**allowed, Names.STATISTICS_TASK_KEY: "patient 7"}, {}),
        ({**allowed, Names.STATS_1st_STATISTICS: b"patient 7"}, {}),
        ({**allowed, "__headers__": {"note": "patient 7"}}, {}),
        (allowed, {"note": "patient 7"}),
    ):
        with pytest.raises(UpdateNotAllowedError):
            passes(POLICY, data, **meta)
