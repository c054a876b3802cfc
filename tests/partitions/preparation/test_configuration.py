"""The preparation record, from YAML-like mappings."""

from __future__ import annotations

from typing import Any

import pytest

from fedi2i.errors import ConfigError
from fedi2i.typed_config import as_dict, record_from
from partitions.preparation import PreparationConfig


def test_lists_and_null_from_yaml_become_the_typed_record() -> None:
    values = {"size": [32, 24], "spacing": None, "percentiles": [1, 99]}
    config = record_from(PreparationConfig, values, "x.yaml")
    assert config == PreparationConfig(size=(32, 24), spacing=None, percentiles=(1.0, 99.0))
    assert record_from(PreparationConfig, as_dict(config), "again") == config


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"target": "t1"}, "both 't1'"),
        ({"size": [0, 5]}, "two integers from 1 to 4096"),
        ({"size": [65536, 65536]}, "two integers from 1 to 4096"),
        ({"spacing": -1.0}, "spacing -1.0 must be positive"),
        ({"spacing": float("nan")}, "spacing nan must be positive"),
        ({"percentiles": [99, 1]}, "must rise"),
        ({"min_mask_fraction": 1.0}, "min_mask_fraction"),
        ({"sise": [3, 4]}, "did you mean 'size'"),
        ({"size": [1, 2, 3]}, "x.yaml"),
    ],
)
def test_a_value_out_of_range_is_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        record_from(PreparationConfig, values, "x.yaml")
