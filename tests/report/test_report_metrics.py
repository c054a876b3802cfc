"""The report knows of a metric what the run says of it."""

from __future__ import annotations

import math
import re
from typing import Any

import pandas as pd
import pytest

from fedi2i.errors import DataError
from lightning_modules.metrics.catalogue import METRICS
from report.console import console_text
from report.number_format import NONE
from report.numbers.analysis import analyse
from report.page.render import render_page
from report.run.folder import read_run

LARGEST = {"name": "max_error", "label": "Largest error", "unit": "%", "better": "lower"}


@pytest.fixture
def described(about: dict[str, Any]) -> dict[str, Any]:
    about["metrics"] = [METRICS[name].description() for name in ("mae", "psnr")]
    return about


def with_metric(results: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of MAE once more, under another name and a hundred times as large."""
    rows = results[results["metric"] == "mae"]
    return pd.concat([results, rows.assign(metric=name, value=100 * rows["value"])])


def test_a_metric_is_named_marked_and_written_as_the_run_says(write_run, described, results):
    described["metrics"].append(LARGEST | {"decimals": 2})
    analysis = analyse(read_run(write_run(described, with_metric(results, "max_error"))))
    mae, largest = (
        next(t for t in analysis.tables if t.metric.name == name) for name in ("mae", "max_error")
    )
    assert largest.best == mae.best != frozenset()  # the same order, so the same arms are best
    assert largest.decimals == 2
    text = render_page(analysis)
    assert "Largest error (%)" in text
    assert text.count("max_error") == 1  # in the table of metrics, which says their names in files


def test_page_and_console_say_direction_unit_and_range_of_further_metrics(
    write_run, described, results
):
    described["metrics"].append(LARGEST | {"range": [0.0, None]})
    analysis = analyse(read_run(write_run(described, with_metric(results, "max_error"))))
    text = render_page(analysis)
    table = text[text.index("Table 7. Metrics") :].partition("</table>")[0]
    lines = [" ".join(re.findall(r">([^<>]+)<", line)) for line in table.split("<tr>")[2:]]
    assert [" ".join(line.split()) for line in lines] == [
        "PSNR higher dB 0 or more psnr",
        f"MAE lower {NONE} 0 to 1 mae",
        "Largest error lower % 0 or more max_error",
    ]
    further = console_text(analysis).partition("Further metrics")[2].split("\n")
    assert further[1].split() == ["max_error", "(lower)"]
    means = {row.label: table for row, table in zip(analysis.rows, further[2:], strict=False)}
    assert all(line.startswith(label) for label, line in means.items())


def test_the_direction_that_the_run_says_decides_which_arm_is_marked(write_run, described, results):
    results = with_metric(results, "max_error")
    best = []
    for better in ("lower", "higher"):
        told = described | {"metrics": [*described["metrics"], LARGEST | {"better": better}]}
        table = analyse(read_run(write_run(told, results))).tables[-1]
        best.append({name for name, column in table.best if column == 1})
    # at site b, 100 / PSNR is smaller for FedAvg at one patient and equal at the other
    assert best == [{"fedavg"}, {"fedprox"}]


def test_a_metric_that_the_run_does_not_describe_is_shown_with_a_note(
    write_run, described, results
):
    analysis = analyse(read_run(write_run(described, with_metric(results, "max_error"))))
    table = analysis.tables[-1]
    assert (table.metric.name, table.best) == ("max_error", frozenset())
    text = render_page(analysis)
    assert "max_error" in text
    assert text.count("run.json does not describe this metric, so no arm is marked") == 1
    assert "max_error" not in console_text(analysis)


def test_the_tables_start_with_psnr_in_whatever_order_the_run_describes(write_run, described):
    tables = analyse(read_run(write_run(described))).tables
    assert [table.metric.name for table in tables] == ["psnr", "mae"]


def test_a_run_that_describes_no_metrics_is_read_as_one_of_0_1_0(write_run, about, described):
    old = {key: value for key, value in about.items() if key != "metrics"}
    new = analyse(read_run(write_run(described))).tables
    assert analyse(read_run(write_run(old))).tables == new


def test_what_a_run_writes_of_its_metrics_is_understood(write_run, about):
    about["metrics"] = [metric.description() for metric in METRICS.values()]
    read = {metric.name: metric for metric in read_run(write_run(about)).about.metrics}
    assert {n: (m.label, m.unit, m.decimals, m.higher_is_better) for n, m in read.items()} == {
        n: (m.label, m.unit, m.decimals, m.better == "higher") for n, m in METRICS.items()
    }
    for name, metric in METRICS.items():
        ends = [None if math.isinf(bound) else bound for bound in metric.range]
        assert list(read[name].range or ()) == ends


WRONG = {
    "a direction that is none": ([LARGEST | {"better": "left"}], "must be 'higher' or 'lower'"),
    "no name": ([{"better": "lower"}], "key 'name' is missing"),
    "digits that are none": ([LARGEST | {"decimals": -1}], "'decimals' is -1"),
    "a range that is none": ([LARGEST | {"range": [0, "x"]}], "must be two numbers"),
    "a metric twice": ([LARGEST, LARGEST], "metric 'max_error' is listed twice"),
    "an empty list": (None, "'metrics' is an empty list"),
}


@pytest.mark.parametrize(("entries", "complaint"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_description_is_refused(write_run, described, entries, complaint):
    described["metrics"] = [] if entries is None else described["metrics"] + entries
    with pytest.raises(DataError, match=complaint):
        read_run(write_run(described))


@pytest.mark.parametrize("kept", ["mae", "psnr"])
def test_the_report_needs_a_psnr_of_which_more_is_better(write_run, described, kept):
    entries = [entry for entry in described["metrics"] if entry["name"] == kept]
    described["metrics"] = [entry | {"better": "lower"} for entry in entries]
    with pytest.raises(DataError, match=r"run\.json: metric 'psnr' .* higher"):
        read_run(write_run(described))
