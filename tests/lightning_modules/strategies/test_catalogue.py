"""Every strategy's record holds what the rest of the project takes from it."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path

import pytest

import lightning_modules.strategies as package
from fedi2i.catalogue import INFRASTRUCTURE
from fedi2i.errors import ConfigError
from fedi2i.typed_config import allowed_values, check_values
from lightning_modules.strategies.catalogue import (
    EXTRAS,
    STRATEGIES,
    STRATEGY_JOBS,
    grid_of,
    strategy_job,
    with_companions,
)
from lightning_modules.strategies.interface import RING, STAR, SWARM, NoSettings

FOLDER = Path(next(iter(package.__path__)))
REPOSITORY = FOLDER.parents[1]


def test_every_file_of_the_package_is_one_strategy_or_one_of_two_others() -> None:
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    assert files - INFRASTRUCTURE == set(STRATEGIES)
    assert files >= INFRASTRUCTURE


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_record_is_complete(name: str) -> None:
    strategy = STRATEGIES[name]
    assert strategy.name == name
    assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
    assert strategy.label and strategy.does
    assert re.match(r"(adds|takes|keeps|trains|corrects|matches|passes) ", strategy.does)
    assert re.match(r"(arXiv:\d{4}\.\d{4,5}|doi:10\.)", strategy.paper.link)
    assert re.fullmatch(r"[a-z]+\d{4}[a-z]+", strategy.paper.bibtex)
    assert strategy.paper.equation and re.search(r"\d{4}", strategy.paper.text)
    assert strategy.topology in (STAR, RING, SWARM)
    assert (strategy.server is None) == (strategy.topology == RING)


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_setting_says_what_it_is_and_its_default_is_allowed(name: str) -> None:
    record = STRATEGIES[name].settings
    told = {field.name: allowed for field, allowed in allowed_values(record)}
    assert set(told) == {field.name for field in dataclasses.fields(record)}
    assert all(allowed.meaning for allowed in told.values())
    check_values(record(), "default", "")
    with pytest.raises(dataclasses.FrozenInstanceError):
        record().anything = 1
    assert record is NoSettings or told


def test_job_names_and_labels_are_unique_and_one_strategy_is_the_reference() -> None:
    labels = [job.label for job in STRATEGY_JOBS.values()]
    assert len(set(labels)) == len(labels) == len(STRATEGY_JOBS)
    assert [name for name, s in STRATEGIES.items() if s.reference] == ["fedavg"]
    assert next(iter(STRATEGIES)) == "fedavg"
    assert EXTRAS == ("control",)


def test_companions_come_after_what_was_asked_for_and_once() -> None:
    assert with_companions(["fedprox", "fedavg"]) == ("fedprox", "fedavg")
    both = ("fedavg", "fedavg_independent", "fedma", "fedma_independent")
    assert with_companions(["fedma", "fedprox"]) == ("fedma", "fedprox", both[0], both[1], both[3])


def test_an_unknown_job_names_the_nearest_one() -> None:
    for ask in (strategy_job, grid_of):
        with pytest.raises(ConfigError, match="did you mean 'krum'"):
            ask("krumm")


def _names_in_code(path: Path) -> set[str]:
    """Texts of a source that are no docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    expressions = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
    documentation = {id(value) for value in expressions if isinstance(value, ast.Constant)}
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in documentation
    }


@pytest.mark.parametrize(
    "folder", ["fedi2i", "lightning_modules", "app_custom", "jobs", "report", "provision"]
)
def test_no_code_outside_a_strategy_s_file_knows_it_by_name(folder: str) -> None:
    known = set(STRATEGY_JOBS) - {"fedavg", "swarm", "cyclic"}
    for path in sorted((REPOSITORY / folder).rglob("*.py")):
        if path.parent == FOLDER:
            continue
        found = _names_in_code(path) & known
        assert not found, f"{path.relative_to(REPOSITORY)} knows {sorted(found)}"
