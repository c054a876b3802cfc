"""Tables and figures of a page as files: CSV, LaTeX, PNG and SVG."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import finished_study
import pandas as pd
import pytest
from PIL import Image

from report.__main__ import main
from report.document.csv_table import as_csv
from report.document.elements import parse_page
from report.document.files import FIGURES, FINDINGS, TABLES, write_files
from report.document.latex_table import as_latex, escaped
from report.document.outputs import PAGE, run_outputs, study_outputs
from report.document.reading import read_document
from report.document.records import Table, plain
from report.numbers.analysis import analyse
from report.numbers.over_seeds.study import StudyAnalysis, analyse_study
from report.run.folder import read_run
from report.run.study import read_study

NASTY = r"50 % of a_b & c#d {e} \f~g^h $i$"
Outputs = Mapping[Path, bytes]


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> StudyAnalysis:
    return analyse_study(read_study(finished_study.write(tmp_path_factory.mktemp("study"))))


@pytest.fixture(scope="module")
def outputs(analysis: StudyAnalysis) -> Outputs:
    return study_outputs(analysis, None)


def _table(inside: str, caption: str = "<b>Table 1a. X</b> · y") -> Table:
    page = f"<main><h1>t</h1><table><caption>{caption}</caption>{inside}</table></main>"
    (table,) = read_document(page).tables.values()
    return table


def _read(table: Table) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(as_csv(table)))


def test_every_table_and_every_figure_of_a_study_s_page_has_its_files(outputs: Outputs) -> None:
    html = outputs[Path("report.html")].decode()
    kinds = {path.suffix: [p for p in outputs if p.suffix == path.suffix] for path in outputs}
    assert len(kinds[".csv"]) == len(kinds[".tex"]) == html.count("<table")
    assert len(kinds[".png"]) == len(kinds[".svg"]) == html.count('<img src="data:image/svg')
    assert {TABLES / "table-1a.csv", TABLES / "table-a3.tex", FIGURES / "figure-2.svg"} <= set(
        outputs
    )


@pytest.fixture
def comparison(write_run: Callable[..., Path], personal_about, personal_results, slices) -> Outputs:  # type: ignore[no-untyped-def]
    run = write_run(about=personal_about, results=personal_results, slices=slices)
    return run_outputs(analyse(read_run(run)))


def test_every_table_of_a_comparison_s_page_is_written_but_for_grids_of_pictures(
    comparison: Outputs,
) -> None:
    html = comparison[Path("report.html")].decode()
    assert 'class="pictures"' in html
    tables = [content for path, content in comparison.items() if path.suffix == ".csv"]
    assert len(tables) == html.count("<table") - html.count('<table class="pictures"')
    for content in tables:
        assert len(pd.read_csv(io.BytesIO(content))) > 0


def test_the_csv_of_means_holds_the_numbers_of_the_analysis(
    analysis: StudyAnalysis, outputs: Outputs
) -> None:
    found = pd.read_csv(io.BytesIO(outputs[TABLES / "table-1a.csv"]), index_col=0)
    (table,) = analysis.tables
    for (name, column), means in table.cells.items():
        label = next(row.label for row in table.rows if row.name == name)
        head = f"{table.columns[column].label} (n = {table.counts[column]}, dB)"
        assert found.loc[label, head] == pytest.approx(means.mean, abs=0.006)
        assert found.loc[label, f"{head} ±"] == pytest.approx(means.spread, abs=0.006)


def test_the_csv_of_differences_has_an_interval_in_two_columns_with_true_minus_signs(
    analysis: StudyAnalysis, outputs: Outputs
) -> None:
    found = pd.read_csv(io.BytesIO(outputs[TABLES / "table-2a.csv"]), index_col=0)
    assert analysis.primary is not None
    for item in analysis.primary.comparisons:
        assert item.test is not None
        low, high = item.test.interval
        line = found.loc[item.other.label]
        assert line["difference (dB)"] == pytest.approx(item.test.mean, abs=0.006)
        assert line["95 % CI (dB) low"] == pytest.approx(low, abs=0.006)
        assert line["95 % CI (dB) high"] == pytest.approx(high, abs=0.006)
    assert (found["95 % CI (dB) low"] < 0).any()


def test_groups_words_spans_and_missing_values_keep_their_places_in_csv() -> None:
    table = _table(
        '<thead><tr><th></th><th>a<small>n = 2</small></th><th class="text">note</th></tr></thead>'
        '<tr class="group"><th colspan="3">First</th></tr>'
        "<tr><th>x</th><td>1.5 ± 0.5</td><td>fine, so</td></tr>"
        '<tr><th>y</th><td colspan="2">not tested</td></tr>'
        '<tr class="group"><th colspan="3">Second</th></tr>'
        "<tr><th>z</th><td>\N{MINUS SIGN}2\N{THIN SPACE}000.0</td><td>\N{EN DASH}</td></tr>"
        "<tr><th>w</th><td>∞ ± 1.0</td><td></td></tr>"
    )
    found = _read(table)
    assert list(found["group"]) == ["First", "First", "Second", "Second"]
    assert list(found["a (n = 2)"]) == ["1.5", "not tested", "-2000.0", "inf"]
    assert list(found["a (n = 2) ±"].fillna(-1)) == [0.5, -1, -1, 1.0]
    assert list(found["note"].fillna("")) == ["fine, so", "", "", ""]


@pytest.mark.parametrize("name", ["=1+2", "@SUM(A1)", "+cmd", "-2+3+cmd|' /C calc'!A0", "+1*A2"])
def test_a_name_that_a_spreadsheet_would_compute_stays_a_text_in_csv(name: str) -> None:
    found = _read(_table(f"<tr><th>site</th><th>n</th></tr><tr><td>{name}</td><td>1</td></tr>"))
    assert found.to_numpy().tolist() == [[f"'{name}", 1]]


@pytest.mark.parametrize("value", ["+0.25", "-3", "+1.5e-07", "-inf", "+12 %", "-0.2 dB"])
def test_a_number_with_its_sign_stays_as_it_is_in_csv(value: str) -> None:
    table = _table(f"<tr><th>site</th><th>x</th></tr><tr><td>a</td><td>{value}</td></tr>")
    assert as_csv(table).splitlines()[1].split(",")[1].lstrip("+") == value.lstrip("+")


def test_a_cell_over_several_lines_stands_in_each_of_them() -> None:
    found = _read(
        _table(
            "<tr><th>job</th><th>site</th><th>n</th></tr>"
            '<tr><th rowspan="2">j</th><td>a</td><td>1</td></tr><tr><td>b</td><td>2</td></tr>'
        )
    )
    assert found.to_numpy().tolist() == [["j", "a", 1], ["j", "b", 2]]


def test_latex_escapes_ascii_as_pandas_does() -> None:
    frame = pd.DataFrame([[NASTY]])
    expected = frame.style.hide().hide(axis="columns").format(escape="latex").to_latex()
    assert escaped(NASTY) in expected


def test_a_latex_table_is_booktabs_with_units_in_its_heads_and_escaped_names() -> None:
    table = _table(
        '<thead><tr><th></th><th data-unit="dB">a</th></tr></thead>'
        '<tr class="group"><th colspan="2">G</th></tr>'
        "<tr><th>a_b &amp; c</th><td>\N{MINUS SIGN}1 ± 2</td></tr>"
        '<tr><th>[x]</th><td class="best">3</td></tr>'
    )
    lines = as_latex(table, computed=False).splitlines()
    assert lines[0].startswith("%") and "booktabs" in lines[0]
    assert r"\begin{tabular}{@{}lr@{}}" in lines
    assert r" & a (dB) \\" in lines
    assert r"a\_b \& c & $-$1 $\pm$ 2 \\" in lines
    assert r"\multicolumn{2}{@{}l@{}}{\emph{G}} \\" in lines
    # a line that begins with a bracket would be read as an option of the line before
    assert r"{}[x] & \textbf{3} \\" in lines
    assert [line for line in lines if line.endswith("rule")] == [
        r"\toprule",
        r"\midrule",
        r"\bottomrule",
    ]
    assert "siunitx" not in "".join(lines)


def test_a_head_that_is_wider_than_its_numbers_stands_in_several_lines() -> None:
    head = '<th>long words above numbers<small>n = 3</small></th><th class="text">note</th>'
    text = as_latex(
        _table(f"<thead><tr><th></th>{head}</tr></thead><tr><th>r</th><td>1</td><td>2</td></tr>"),
        computed=False,
    )
    assert r" & \shortstack[r]{long words \\ above \\ numbers \\ (n = 3)} & note \\" in text


def test_a_table_longer_than_a_page_breaks_and_repeats_its_heads() -> None:
    def lines(count: int) -> str:
        rows = "".join(f"<tr><th>r{n}</th><td>{n}</td></tr>" for n in range(count))
        return as_latex(_table(f"<thead><tr><th>a</th><th>b</th></tr></thead>{rows}"), False)

    assert "longtable" not in lines(40)
    long = lines(60)
    assert long.startswith("%") and "longtable" in long.partition("\n")[0]
    assert long.count(r"a & b \\") == 2 and long.count(r"r59 & 59 \\") == 1
    first, _, _ = long.partition(r"\endfirsthead")
    assert r"\caption" in first and r"\label{tab:1a}" in first


def test_every_latex_table_of_a_page_is_well_formed(outputs: Outputs) -> None:
    found = [content.decode() for path, content in outputs.items() if path.suffix == ".tex"]
    assert len(found) > 5
    for text in found:
        bare = re.sub(r"\\[{}]", "", text)
        assert bare.count("{") == bare.count("}")
        assert text.count(r"\begin{") == text.count(r"\end{") == (1 if "longtable" in text else 2)
        assert not re.search(r"(?<!\\)[%#]", text.partition("\n")[2])
        assert len(re.findall(r"(?<!\\)\$", text)) % 2 == 0
        assert text.isascii()


def test_what_is_computed_is_called_so_in_every_table_and_figure_and_what_is_not_is_not(
    outputs: Outputs, tmp_path: Path
) -> None:
    folder = finished_study.write(tmp_path / "study", computed=False)
    acquired = study_outputs(analyse_study(read_study(folder)), None)
    said = b"Computed data, not acquired"
    for path, content in outputs.items():
        if path.suffix == ".tex" or path.name in ("contents.txt", "findings.txt"):
            assert said in content
            assert b"omputed" not in acquired[path]
        if path.suffix == ".png":
            marked, plain_one = (Image.open(io.BytesIO(o[path])) for o in (outputs, acquired))
            assert marked.size[0] == plain_one.size[0]
            assert marked.size[1] > plain_one.size[1]


def test_the_findings_are_the_sentences_of_the_page_and_nothing_else(outputs: Outputs) -> None:
    title, computed, *found = outputs[FINDINGS].decode().splitlines()
    page = html.unescape(outputs[PAGE].decode())
    body = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page))
    assert title in body and computed.startswith("Computed data, not acquired")
    assert len(found) >= 5 and all(sentence in body for sentence in found)
    assert any("the 95 % intervals of the primary outcome reach" in line for line in found)
    assert not any("ready to paste" in line for line in found)


def test_files_are_the_same_each_time(outputs: Outputs, analysis: StudyAnalysis) -> None:
    assert study_outputs(analysis, None) == outputs


def test_files_of_an_earlier_page_go_and_others_stay(tmp_path: Path) -> None:
    old, own = tmp_path / TABLES / "table-9.csv", tmp_path / TABLES / "notes.md"
    old.parent.mkdir(parents=True)
    old.write_text("x")
    own.write_text("mine")
    write_files(tmp_path, {TABLES / "table-1.csv": b"a"})
    assert not old.exists()
    assert own.read_text() == "mine"
    assert (tmp_path / TABLES / "table-1.csv").read_bytes() == b"a"


def test_a_refused_folder_gets_no_files(tmp_path: Path) -> None:
    folder = finished_study.write(tmp_path / "study")
    for record in folder.glob("seed-*/run.json"):
        record.unlink()
    assert main([str(folder)]) == 2
    assert not (folder / "report").exists()


def test_tables_without_a_number_are_named_by_their_words_and_equal_names_get_numbers() -> None:
    caption = "<caption><b>Privacy, of each job</b></caption><tr><td>1</td></tr>"
    html = f"<main><h1>t</h1><table>{caption}</table><table>{caption}</table></main>"
    assert list(read_document(html).tables) == [
        "table-privacy-of-each-job",
        "table-privacy-of-each-job-2",
    ]


def test_a_page_keeps_its_words_spaces_and_order_as_blocks() -> None:
    html = (
        "<main><header><h1>T &amp; t</h1><nav><a href='#x'>no</a></nav>"
        "<p class='note'>a <b>b</b>\n c</p></header>"
        "<section class='methods'><h2>H</h2><unknown>loose <em>words</em></unknown>"
        "<ol><li>one<li-x></li-x></li></ol><dl><dt>k</dt><dd>v</dd></dl></section></main>"
    )
    document = read_document(html)
    assert document.title == "T & t"
    assert [part.kind for part in document.parts] == ["header", "methods"]
    (note,) = document.parts[0].blocks
    assert plain(note.text) == "a b c"
    assert note.kind == "note"
    kinds = [type(block).__name__ for block in document.parts[1].blocks]
    assert kinds == ["Heading", "Paragraph", "Items", "Facts"]


@pytest.mark.parametrize("html", ["<main><h1>t</main>", "<main><h1>t</h1>", "<p>t</p>"])
def test_a_page_that_is_not_well_formed_is_an_error(html: str) -> None:
    with pytest.raises(ValueError, match=r"left open|closes|has one"):
        read_document(html)
    assert parse_page("<p>a<br>b</p>").text == "ab"
