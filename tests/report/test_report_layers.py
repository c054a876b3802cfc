"""Inside the report, data flows one way: read files, compute, draw, write the page."""

from __future__ import annotations

import re
from pathlib import Path

import report

LAYERS = ("run", "numbers", "figures", "page", "readers")
STRATEGIES = re.compile(
    r"fed(avg|prox|ma|bn|per|dyn|adam|yogi|median)|scaffold|ditto|trimmed.?mean|krum|cyclic|swarm",
    re.IGNORECASE,
)
PACKAGE = Path(report.__file__).parent


def test_no_layer_imports_one_that_comes_after_it():
    for place, layer in enumerate(LAYERS):
        sources = sorted((PACKAGE / layer).rglob("*.py"))
        assert len(sources) > 1
        for path in sources:
            found = set(re.findall(r"^from report\.(\w+)", path.read_text("utf-8"), re.MULTILINE))
            assert not found & {*LAYERS[place + 1 :], "commands", "console"}, path


def test_the_report_knows_no_strategy_by_name():
    sources = [p for p in PACKAGE.rglob("*") if p.suffix in (".py", ".html", ".css")]
    assert len(sources) > 30
    for path in sources:
        found = STRATEGIES.search(path.read_text("utf-8"))
        assert found is None, f"{path}: {found[0] if found else ''}"
