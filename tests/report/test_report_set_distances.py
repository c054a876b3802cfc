"""Distances of distributions in the report: the table, its words, and runs without them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import finished_study
import pandas as pd
import pytest

from fedi2i.errors import DataError
from report.document.outputs import run_outputs
from report.manuscript.checklist import checklist
from report.manuscript.methods import methods
from report.numbers.analysis import analyse
from report.numbers.over_seeds.study import analyse_study
from report.numbers.rows import table_rows
from report.numbers.set_distances import DistanceTable, distance_tables
from report.page.render import render_page
from report.page.studies.study import render_study
from report.run.folder import read_run
from report.run.study import read_study

FILE = "distributions.csv"
COLUMNS = ["arm", "site", "split", "measure", "value", "standard_error", "patients", "slices"]


def write(
    folder: Path, values: dict[tuple[str, str], float], extractor: str = "0123456789ab"
) -> Path:
    """Values by arm and group; those of texture are ten times as large."""
    rows = [
        (arm, group, "test", measure, times * value, 0.01, 3, 60, made_with)
        for (arm, group), value in values.items()
        for measure, times, made_with in (("kid", 1.0, extractor), ("texture", 10.0, ""))
    ]
    pd.DataFrame(rows, columns=[*COLUMNS, "extractor"]).to_csv(folder / FILE, index=False)
    return folder


@pytest.fixture
def run_folder(write_run: Callable[..., Path]) -> Path:
    """A finished run without distances."""
    return write_run()


VALUES = {
    ("source", "a"): 7.25,
    ("fedavg", "a"): 0.12,
    ("fedavg", "all"): 0.14,
    ("fedavg", "u"): 0.25,
    ("local-a", "a"): 0.31,
    ("local-b", "a"): 9.0,
    ("local-a", "all"): 9.0,
    ("local-a", "u"): 0.5,
    ("local-b", "u"): 0.7,
}


def _cells(table: DistanceTable) -> dict[tuple[str, str], str]:
    return {(name, table.columns[n].label): text for (name, n), text in table.cells.items()}


def test_rows_and_columns_are_those_of_table_1(run_folder: Path) -> None:
    run = read_run(write(run_folder, VALUES))
    kernel, texture = distance_tables([run], table_rows(run))
    assert [(c.label, c.patients, c.slices) for c in kernel.columns] == [
        ("a", 3, 60),
        ("All federated patients", 3, 60),
        ("Unseen: u", 3, 60),
    ]
    # Local models: the site's own at its site, the mean of all at the unseen one, none for all.
    assert _cells(kernel) == {
        ("source", "a"): "7.2500 ± 0.0100",
        ("fedavg", "a"): "0.1200 ± 0.0100",
        ("fedavg", "All federated patients"): "0.1400 ± 0.0100",
        ("fedavg", "Unseen: u"): "0.2500 ± 0.0100",
        ("local-only", "a"): "0.3100 ± 0.0100",
        ("local-only", "Unseen: u"): "0.6000",
    }
    assert _cells(texture)["fedavg", "a"].startswith("1.2")
    assert [row.name for row in kernel.rows] == ["source", "local-only", "fedavg"]


def test_the_page_says_what_the_numbers_are_and_shows_them(run_folder: Path) -> None:
    page = render_page(analyse(read_run(write(run_folder, VALUES))))
    assert "Distances of distributions" in page
    assert "can be compared within this data only" in page
    assert "Table D1. Kernel distance (KID by an extractor trained here)" in page
    assert "0.2500 ± 0.0100" in page


def test_both_tables_have_files_beside_the_page(run_folder: Path) -> None:
    files = run_outputs(analyse(read_run(write(run_folder, VALUES))))
    names = {
        path.name: content.decode() for path, content in files.items() if path.suffix != ".png"
    }
    assert {"table-d1.csv", "table-d1.tex", "table-d2.csv", "table-d2.tex"} <= set(names)
    assert "0.25" in names["table-d1.csv"]


def test_a_run_without_the_file_is_reported_without_the_section(run_folder: Path) -> None:
    run = read_run(run_folder)
    assert run.distributions is None
    assert "Distances of distributions" not in render_page(analyse(run))


def test_a_diverged_model_has_the_word_in_place_of_a_number(run_folder: Path) -> None:
    values = VALUES | {("fedavg", "a"): float("nan")}
    run = read_run(write(run_folder, values))
    kernel, _ = distance_tables([run], table_rows(run))
    assert _cells(kernel)["fedavg", "a"] == "diverged"


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda t: t.drop(columns="value"), "damaged"),
        (lambda t: t.assign(value="far"), "damaged"),
        (lambda t: t.assign(arm="fedfoo"), "arm 'fedfoo' is not listed in run.json"),
        (lambda t: t.assign(site="c"), "site 'c' is not listed in run.json"),
        (lambda t: pd.concat([t, t]), "holds a row twice"),
        (
            lambda t: t.assign(extractor=[f"weights {n}" for n in range(len(t))]),
            "extractors, which cannot be compared",
        ),
    ],
)
def test_a_file_that_cannot_be_trusted_is_refused(
    run_folder: Path, spoil: Callable[[pd.DataFrame], pd.DataFrame], sentence: str
) -> None:
    write(run_folder, VALUES)
    spoil(pd.read_csv(run_folder / FILE)).to_csv(run_folder / FILE, index=False)
    with pytest.raises(DataError, match=sentence):
        read_run(run_folder)


def _study(folder: Path, extractors: tuple[str, str, str] = ("e", "e", "e")) -> Path:
    finished_study.write(folder)
    for n, (seed, extractor) in enumerate(zip(finished_study.SEEDS, extractors, strict=True)):
        values = {("fedavg", "a"): 0.1 * (n + 1), ("fedprox", "a"): 0.5, ("source", "a"): 3.0}
        write(folder / f"seed-{seed}", values, extractor)
    return folder


def test_a_study_shows_means_over_runs_and_says_so_in_its_methods(tmp_path: Path) -> None:
    analysis = analyse_study(read_study(_study(tmp_path / "study")))
    page = render_study(analysis)
    # 0.1, 0.2 and 0.3: mean 0.2, standard deviation 0.1; what no seed changes has no spread.
    assert "0.2000 ± 0.1000" in page
    assert "mean over runs ± standard deviation between runs · lower is better" in page
    said = [sentence for paragraph in methods(analysis) for sentence in paragraph]
    (sentence,) = [one for one in said if "maximum mean discrepancy" in one.text]
    assert [work.text.partition(",")[0] for work in sentence.cited] == ["Binkowski", "Haralick"]
    items = {item.number: item for section in checklist(analysis).values() for item in section}
    assert "texture distance" in items[28].answer
    assert "texture distance" not in items[29].answer


def test_runs_of_two_extractors_are_not_averaged(tmp_path: Path) -> None:
    analysis = analyse_study(read_study(_study(tmp_path / "study", ("e", "e", "f"))))
    assert "Distances of distributions" not in render_study(analysis)


def test_a_study_without_distances_says_nothing_of_them(tmp_path: Path) -> None:
    analysis = analyse_study(read_study(finished_study.write(tmp_path / "study")))
    assert "Distances of distributions" not in render_study(analysis)
    said = [sentence.text for paragraph in methods(analysis) for sentence in paragraph]
    assert not any("maximum mean discrepancy" in text for text in said)
