"""Values that become records: whatever is wrong is one sentence, and nothing else is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fedi2i.errors import ConfigError
from fedi2i.typed_config import merged, read_yaml, record_from


@dataclass(frozen=True)
class Settings:
    """What the tests fill."""

    title: str = ""
    seeds: tuple[int, ...] = (1,)
    inner: dict[str, Any] = field(default_factory=dict)
    places: dict[str, float] = field(default_factory=dict)


@pytest.mark.parametrize(
    "values",
    [
        {"title": "${oc.env:SECRET}"},
        {"inner": {"deep": [{"er": "a ${oc.env:SECRET} b"}]}},
        {"inner": {"${oc.env:SECRET}": 1}},
        {"title": "${oc.${inner.x}:SECRET}", "inner": {"x": "env"}},
    ],
)
def test_no_value_is_taken_from_the_environment(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job or a file of another institution must not read what this account holds."""
    monkeypatch.setenv("SECRET", "hunter2")
    for read in (_from_values, _from_file(tmp_path / "s.yaml")):
        with pytest.raises(ConfigError, match="holds a reference") as refused:
            read(values)
        assert "hunter2" not in str(refused.value)


def _from_values(values: dict[str, Any]) -> Settings:
    return record_from(Settings, values, "the job")


def _from_file(path: Path) -> Any:
    def read(values: dict[str, Any]) -> Settings:
        path.write_text(str(values), encoding="utf-8")  # of these values YAML, too
        return record_from(Settings, merged(read_yaml(path), {}), str(path))

    return read


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"seeds": [1, 1.5]}, "key 'seeds': a value in it is of another kind than it holds"),
        ({"seeds": 5}, "key 'seeds': write a list"),
        ({"title": "x", "inner": [1]}, "key 'inner': "),
        ({"title": "x", "places": [1]}, "key 'places': "),
        ({"places": {"a": "one"}}, "key 'places.a': "),
    ],
)
def test_a_value_of_another_kind_is_named_by_its_key(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        record_from(Settings, values, "file")
    assert str(refused.value).startswith(f"file: {sentence}")
    assert "$" not in str(refused.value) and "\n" not in str(refused.value)
