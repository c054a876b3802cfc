from __future__ import annotations

import numpy as np
import pytest
import torch
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import make_reply
from nvflare.app_common.app_constant import AppConstants

from app_custom.aggregation.compression import (
    CHUNK,
    KINDS,
    SCALES,
    CompressionError,
    compress,
    restore,
    travelling_bytes,
)
from app_custom.aggregation.compression_filters import Compress, Restore
from fedi2i.errors import ConfigError

SHAPES = [(), (1,), (256,), (257,), (3, 5, 7), (64, 32, 3, 3)]


def values(shape: tuple[int, ...], scale: float = 0.05) -> np.ndarray:
    rng = np.random.default_rng(7)
    return np.asarray(scale * rng.standard_normal(shape), dtype=np.float32)


def through(array: np.ndarray, kind: str) -> np.ndarray:
    return restore(compress({"generator.w": array}, kind), kind)["generator.w"]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("kind", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_half_precision_rounds_as_torch_does(
    shape: tuple[int, ...], kind: str, dtype: torch.dtype
) -> None:
    array = values(shape)
    expected = torch.from_numpy(array.copy()).to(dtype).float().numpy()
    np.testing.assert_array_equal(through(array, kind), expected)


def test_bf16_rounds_ties_to_even_and_keeps_what_is_not_a_number() -> None:
    special = np.array([0.0, -0.0, np.inf, -np.inf, 3.4e38, 1e-45, -1.5], np.float32)
    bits = np.arange(0x3F800000, 0x3F800000 + 3 * 2**15, 2**15, dtype=np.uint32)  # every tie
    array = np.concatenate([special, bits.view(np.float32)])
    expected = torch.from_numpy(array).bfloat16().float().numpy()
    np.testing.assert_array_equal(through(array, "bf16"), expected)
    with_payload = np.array([0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001], np.uint32).view(np.float32)
    assert np.isnan(through(with_payload, "bf16")).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_int8_is_within_half_a_step_of_its_block(shape: tuple[int, ...]) -> None:
    array = values(shape)
    result = through(array, "int8")
    assert result.shape == array.shape
    assert result.dtype == np.float32
    flat, back = array.reshape(-1), result.reshape(-1)
    for start in range(0, flat.size, CHUNK):
        block = flat[start : start + CHUNK]
        step = np.abs(block).max() / 127
        assert np.abs(back[start : start + CHUNK] - block).max() <= 0.5001 * step


@pytest.mark.parametrize("kind", ["fp16", "bf16", "int8"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_arrives_as_not_finite_so_that_it_is_refused(
    kind: str, bad: float
) -> None:
    array = values((300,))
    array[280] = bad
    assert not np.isfinite(through(array, kind)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_stay_zeros_and_other_types_are_left_alone(kind: str) -> None:
    arrays = {
        "zero": np.zeros((4, 4), np.float32),
        "count": np.array(3, np.int64),
        "order": np.arange(300, dtype=np.int32),
        "empty": np.zeros((0, 3), np.float32),
    }
    back = restore(compress(arrays, kind), kind)
    assert back.keys() == arrays.keys()
    for key, array in arrays.items():
        np.testing.assert_array_equal(back[key], array)
        assert back[key].dtype == array.dtype


@pytest.mark.parametrize("kind", KINDS)
def test_the_bytes_that_are_counted_are_the_bytes_that_travel(kind: str) -> None:
    arrays = {str(i): values(shape) for i, shape in enumerate(SHAPES)} | {"n": np.array(3)}
    sent = sum(array.nbytes for array in compress(arrays, kind).values())
    assert travelling_bytes(arrays, kind) == sent


@pytest.mark.parametrize(("kind", "most"), [("fp16", 0.5), ("bf16", 0.5), ("int8", 0.27)])
def test_large_arrays_shrink_to_what_the_kind_promises(kind: str, most: float) -> None:
    array = {"w": values((64, 64, 3, 3))}
    assert travelling_bytes(array, kind) <= most * array["w"].nbytes


@pytest.mark.parametrize(
    "arrays",
    [
        {"w": np.zeros(300, np.int8), f"{SCALES}w": np.zeros(1, np.float32)},
        {"w": np.zeros(300, np.float32), f"{SCALES}w": np.zeros(2, np.float32)},
        {"w": np.zeros(300, np.int8), f"{SCALES}w": np.zeros(2, np.float64)},
    ],
)
def test_scales_that_do_not_belong_to_their_array_are_refused(
    arrays: dict[str, np.ndarray],
) -> None:
    with pytest.raises(CompressionError, match="array 'w'"):
        restore(arrays, "int8")


def message(**meta: object) -> DXO:
    return DXO(DataKind.WEIGHTS, data={"generator.w": values((40,))}, meta=dict(meta))


@pytest.mark.parametrize("kind", ["fp16", "bf16", "int8"])
def test_a_message_comes_through_both_filters_with_its_numbers(kind: str) -> None:
    original = message(**{MetaKey.NUM_STEPS_CURRENT_ROUND: 12}).to_shareable()
    original.set_header(AppConstants.CURRENT_ROUND, 4)
    sent = Compress(kind).process(original, FLContext())
    received = Restore().process(sent, FLContext())
    assert received.get_header(AppConstants.CURRENT_ROUND) == 4
    arrived = from_shareable(received)
    assert arrived.meta == {MetaKey.NUM_STEPS_CURRENT_ROUND: 12}
    np.testing.assert_array_equal(arrived.data["generator.w"], through(values((40,)), kind))


def test_the_server_s_own_model_is_not_changed_by_sending_it() -> None:
    original = message().to_shareable()
    Compress("fp16").process(original, FLContext())
    kept = from_shareable(original)
    assert kept.data["generator.w"].dtype == np.float32
    assert MetaKey.PROCESSED_ALGORITHM not in kept.meta


def test_errors_and_metrics_pass_as_they_are() -> None:
    error = make_reply(ReturnCode.EXECUTION_EXCEPTION)
    assert Compress("fp16").process(error, FLContext()) is error
    assert Restore().process(error, FLContext()) is error
    metrics = DXO(DataKind.METRICS, data={"val/psnr": 20.0}).to_shareable()
    assert Compress("fp16").process(metrics, FLContext()) is metrics


@pytest.mark.parametrize("said", ["fedi2i/zip", "fedi2i/int8"])
def test_a_message_that_is_not_what_it_says_is_left_for_the_aggregator_to_refuse(
    said: str,
) -> None:
    arrays = {"generator.w": np.zeros(4, np.int8), "scales/generator.w": np.zeros(9, np.float32)}
    meta = {MetaKey.PROCESSED_ALGORITHM: said}
    sent = DXO(DataKind.WEIGHTS, data=arrays, meta=meta).to_shareable()
    assert from_shareable(Restore().process(sent, FLContext())).data.keys() == arrays.keys()


def test_an_unknown_kind_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'fp16'"):
        Compress("fp61")
