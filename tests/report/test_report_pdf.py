"""The PDF of a study: set offline, the same each time, and no word of it read as markup."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import finished_study
import pytest

from report.__main__ import main
from report.document.pdf import as_pdf, as_pictures, in_order
from report.document.reading import read_document
from report.document.records import Part
from report.numbers.over_seeds.study import analyse_study
from report.page.studies.study import render_study
from report.run.study import read_study

MARKUP = r'#panic("read") $x$ *b* @nowhere <label> \ `c` [d] //e "f" = g'


def _typst():
    return pytest.importorskip("typst", reason="pip install 'fedi2i[pdf]'")


def test_parts_stand_in_the_order_of_a_paper_and_unknown_ones_are_results() -> None:
    kinds = ["header", "", "new", "limitations", "methods", "references", "checklist", "appendix"]
    assert [part.kind for part in in_order([Part(kind, ()) for kind in kinds])] == [
        "methods",
        "",
        "new",
        "limitations",
        "references",
        "checklist",
        "appendix",
    ]


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = finished_study.write(tmp_path_factory.mktemp("study"))
    return render_study(analyse_study(read_study(folder)))


def test_the_pdf_of_a_page_is_the_same_each_time(html: str) -> None:
    typst = _typst()
    first, second = (as_pdf(read_document(html), True, typst) for _ in range(2))
    assert first.startswith(b"%PDF-")
    assert first == second


def test_words_of_users_are_set_as_they_are(html: str) -> None:
    typst = _typst()
    words = MARKUP.replace("<", "&lt;").replace(">", "&gt;")
    document = read_document(html.replace("A study of two strategies", words))
    assert document.title == MARKUP
    # the title is in the PDF's own record, letter by letter
    pdf = as_pdf(document, computed=True, typst=typst)
    assert _title(pdf) == MARKUP
    assert len(as_pictures(document, True, typst, ppi=20)) > 2


def _title(pdf: bytes) -> str:
    """The title in the XMP record, which is not compressed."""
    record = pdf[pdf.index(b"<dc:title>") :].partition(b"</dc:title>")[0].decode()
    found = re.search(r"<rdf:li[^>]*>(.*)</rdf:li>", record, re.DOTALL)
    assert found is not None
    letters = {"&lt;": "<", "&gt;": ">", "&quot;": '"', "&apos;": "'", "&amp;": "&"}
    return re.sub(r"&\w+;", lambda match: letters[match[0]], found[1])


def test_without_typst_the_rest_is_written_and_a_sentence_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "typst", None)
    folder = finished_study.write(tmp_path / "study")
    (folder / "report.pdf").write_bytes(b"an earlier one")
    assert main([str(folder)]) == 0
    said = capsys.readouterr().out
    assert "report.pdf is not written" in said
    assert "pip install 'fedi2i[pdf]'" in said
    assert not (folder / "report.pdf").exists()
    assert (folder / "report.html").is_file()
    assert (folder / "report" / "methods.txt").is_file()


def test_the_command_writes_page_pdf_and_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _typst()
    folder = finished_study.write(tmp_path / "study")
    assert main([str(folder)]) == 0
    written = capsys.readouterr().out.rpartition("written: ")[2].split()
    assert written == [
        f"{folder / 'report.html'},",
        f"{folder / 'report.pdf'},",
        str(folder / "report"),
    ]
    assert (folder / "report.pdf").stat().st_size > 10_000
    design = json.loads((folder / "study.json").read_text("utf-8"))["design"]
    assert design["title"] in (folder / "report" / "contents.txt").read_text("utf-8")
