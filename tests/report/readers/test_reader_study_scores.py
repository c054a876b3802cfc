"""What is made of filled sheets: planted readers are found, and bad sheets are named."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from readable_run import PATIENTS, SEED

from fedi2i.cli.program import main
from fedi2i.errors import DataError
from report.readers.commands import SCORES
from report.readers.design import PREFERENCE, TARGET, TURING, Patient, Plan, draw_sheets
from report.readers.folders import FILLED, PICTURES, SHEET_FILE
from report.readers.key import Key, StudiedArm, read_key
from report.readers.page import render_scores
from report.readers.scores import Scores, score
from report.readers.sheets import Judgement, Sheets, read_sheets

Fill = Callable[..., Path]
ORDER = ("centralised", "fedavg", "local-only")


def scored(study: Path) -> Scores:
    key = read_key(study)
    return score(read_sheets(study, key), key)


def knows(one: Judgement) -> str:
    """Sees through every translation, and always prefers by ORDER."""
    shown = one.item.shown
    if one.item.case.task == TURING:
        return "real" if shown[0] == TARGET else "translated"
    return "left" if ORDER.index(shown[0]) < ORDER.index(shown[1]) else "right"


def believes(one: Judgement) -> str:
    """Takes everything for real, and always the left picture."""
    return "real" if one.item.case.task == TURING else "left"


# --- planted readers ---


def test_a_reader_who_sees_through_everything(study: Path, fill: Fill) -> None:
    fill("reader-1", knows)
    scores = scored(study)
    (reader,) = scores.readers
    turing = scores.turing
    assert turing is not None
    assert (turing.rate.count, turing.rate.of) == (0, 8)
    assert [share.share for share in (turing.sensitivity, turing.specificity, turing.correct)] == [
        *(1.0, 1.0, 1.0)
    ]
    assert sum(share.of for share in turing.arms.values()) == 8
    assert {task: one.share for task, one in reader.repeats.items()} == {TURING: 1, PREFERENCE: 1}
    assert (reader.repeats[TURING].cases, reader.repeats[PREFERENCE].cases) == (4, 6)
    assert scores.unanswered == 0
    preference = scores.preference
    assert preference is not None
    assert preference.strengths == ()
    assert "no finite strengths" in preference.no_strengths
    preferred = {(p.first, p.second): p.preferred.count for p in preference.pairs}
    assert preferred == {
        ("fedavg", "centralised"): 0,
        ("fedavg", "local-only"): 8,
        ("centralised", "local-only"): 8,
    }


def test_a_reader_who_believes_everything_and_never_looks(study: Path, fill: Fill) -> None:
    fill("reader-2", believes)
    scores = scored(study)
    (reader,) = scores.readers
    assert scores.turing is not None and scores.preference is not None
    assert (scores.turing.rate.share, scores.turing.specificity.share) == (1.0, 1.0)
    assert (scores.turing.sensitivity.share, scores.turing.correct.share) == (0.0, 0.5)
    assert scores.preference.left.share == 1.0
    assert reader.repeats[TURING].share == 1.0
    assert math.isnan(reader.repeats[TURING].kappa)
    # repetitions have their sides exchanged: who always takes the left contradicts himself
    assert reader.repeats[PREFERENCE].share == 0.0
    # balanced sides make equal arms of it
    for pair in scores.preference.pairs:
        assert pair.preferred.share == 0.5


def test_two_readers_are_compared_over_what_both_answered(study: Path, fill: Fill) -> None:
    fill("reader-1", knows)
    fill("reader-2", lambda one: knows(one) if one.item.case.task == TURING else "equal")
    scores = scored(study)
    assert scores.agreement[TURING].share == scores.agreement[TURING].kappa == 1.0
    assert (scores.agreement[TURING].cases, scores.agreement[PREFERENCE].cases) == (16, 24)
    assert scores.agreement[PREFERENCE].share == 0.0
    assert [pair.equal for pair in scores.preference.pairs] == [8, 8, 8]
    assert scores.gaps == ("reader-3 is missing: no sheet that can be used.",)


def test_what_is_not_answered_is_counted_and_left_out(study: Path, fill: Fill) -> None:
    fill("reader-1", lambda one: "" if one.item.case.task == PREFERENCE else knows(one))
    scores = scored(study)
    assert scores.unanswered == 30
    assert scores.readers[0].answered == {TURING: 20, PREFERENCE: 0}
    assert scores.preference.no_strengths == "no preference was given"
    assert "reader-1.csv: 30 of 50 items are not answered." in scores.gaps
    assert render_scores(scores)


def test_strengths_and_rates_that_made_the_answers_are_found_again() -> None:
    """Forty patients and six readers who answer by chance, with known chances."""
    patients = [Patient("a", f"{n}") for n in range(40)]
    arms, readers = ("one", "two", "three"), tuple(f"reader-{n}" for n in range(6))
    strength = {"one": 1.0, "two": 2.0, "three": 0.5}
    real = {"one": 0.3, "two": 0.6, "three": 0.1, TARGET: 0.9}
    random = np.random.default_rng(3)

    def answer(shown: tuple[str, ...]) -> str:
        if len(shown) == 1:
            return "real" if random.random() < real[shown[0]] else "translated"
        left, right = (strength[arm] for arm in shown)
        return "left" if random.random() < left / (left + right) else "right"

    plan = Plan(arms, readers, repeated=0.1, seed=9)
    sheets = draw_sheets(patients, plan)
    key = Key(
        *("s", "c", "r", "t", True, plan),
        tuple(StudiedArm(arm, arm, {}) for arm in arms),
        *({}, sheets, {}),
    )
    judgements = {
        reader: tuple(Judgement(reader, item, answer(item.shown), 1.0) for item in items)
        for reader, items in sheets.items()
    }
    scores = score(Sheets(judgements, ()), key)
    assert scores.preference is not None and scores.turing is not None
    for one in scores.preference.strengths[1:]:
        assert abs(one.log - math.log(strength[one.arm])) < 3 * one.error
        assert 0.05 < one.error < 0.25
    for arm, share in scores.turing.arms.items():
        error = math.sqrt(real[arm] * (1 - real[arm]) / share.of)
        assert abs(share.share - real[arm]) < 4 * error
        assert share.high - share.low == pytest.approx(2 * 1.96 * error, rel=0.5)
    assert abs(scores.turing.specificity.share - 0.9) < 0.06


# --- sheets that cannot be used ---


def rewrite(change: Callable[[str], str]) -> Callable[[Path], None]:
    return lambda path: path.write_text(change(path.read_text("utf-8")), "utf-8") and None


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "another study": (
        rewrite(lambda text: re.sub(r"(?m)^[0-9a-f]{12}", "0123456789ab", text)),
        "is of another reader study (0123456789ab)",
    ),
    "an unknown reader": (
        rewrite(lambda text: text.replace("reader-1", "reader-9")),
        "is of reader-9, and a sheet is of one of reader-1",
    ),
    "two readers": (
        rewrite(lambda text: text.replace("reader-1", "reader-2", 1)),
        "is of reader-1 and reader-2",
    ),
    "no column": (
        rewrite(lambda text: text.replace("answer", "reply", 1)),
        "has no column 'answer'",
    ),
    "no line": (rewrite(lambda text: text.splitlines()[0]), "has no lines below its header"),
    "nothing": (rewrite(lambda text: ""), "has no column 'study'"),
    "another answer": (
        rewrite(lambda text: text.replace("translated", "fake", 1)),
        "is answered 'fake'; allowed are real, translated, or nothing",
    ),
    "a line twice": (
        rewrite(lambda text: text + text.splitlines()[3] + "\n"),
        "item T003 stands twice; keep one line",
    ),
    "a line cut off": (
        rewrite(lambda text: text[: text.index("P010") + 2]),
        "there is no item 'P0' on the sheet of reader-1",
    ),
    "too many cells": (
        rewrite(lambda text: text.replace("real", "real,5,6", 1)),
        "has more cells than the header",
    ),
    "an open quote": (
        rewrite(lambda text: text.replace("real", '"real', 1)),
        "cannot be read as CSV",
    ),
    "another kind of file": (
        lambda path: path.write_bytes(b"\x89PNG\xff\xfe") and None,
        "cannot be read as CSV",
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_sheet_that_cannot_be_used_is_named_and_the_others_are_scored(
    what: str, study: Path, fill: Fill
) -> None:
    damage, sentence = DAMAGE[what]
    damage(fill("reader-1", knows))
    with pytest.raises(DataError, match="no sheet can be used: ") as refused:
        scored(study)
    assert sentence in str(refused.value)
    fill("reader-3", knows)
    scores = scored(study)
    assert [reader.reader for reader in scores.readers] == ["reader-3"]
    left_out = [gap for gap in scores.gaps if gap.startswith("Left out: ")]
    assert len(left_out) == 1
    assert sentence in left_out[0]
    assert str(study / FILLED / "reader-1.csv") in left_out[0]


def test_two_sheets_of_one_reader_are_both_left_out(study: Path, fill: Fill) -> None:
    fill("reader-1", knows)
    fill("reader-1", believes, "reader-1 (1).csv")
    fill("reader-2", knows)
    scores = scored(study)
    assert [reader.reader for reader in scores.readers] == ["reader-2"]
    (gap,) = [gap for gap in scores.gaps if "are both of reader-1; keep one." in gap]
    assert gap in render_scores(scores)


def test_lines_that_are_missing_are_items_without_an_answer(study: Path, fill: Fill) -> None:
    path = fill("reader-1", knows)
    path.write_text("".join(path.read_text("utf-8").splitlines(keepends=True)[:-7]), "utf-8")
    scores = scored(study)
    assert scores.unanswered == 7
    assert "reader-1.csv: 7 of 50 items are not answered." in scores.gaps


def test_a_sheet_that_went_through_a_spreadsheet_is_the_same_sheet(study: Path, fill: Fill) -> None:
    path = fill("reader-1", knows)
    plain = scored(study)
    text = path.read_text("utf-8").replace(",", ";").replace(";real", "; Real ")
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode() + b";;;;;\r\n")
    assert scored(study) == plain


def test_pictures_that_were_changed_are_named(
    study: Path, fill: Fill, capsys: pytest.CaptureFixture[str]
) -> None:
    fill("reader-1", knows)
    pictures = sorted((study / "reader-1" / PICTURES).iterdir())
    pictures[0].write_bytes(pictures[1].read_bytes())
    assert main(["readers", "score", str(study)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("other pictures than the study was drawn with") == 1
    assert f"! {study / 'reader-1' / PICTURES}" in printed


def test_a_study_without_filled_sheets_is_refused_and_nothing_is_written(
    study: Path, fill: Fill, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["readers", "score", str(study)]) == 2
    assert "holds no filled sheet" in capsys.readouterr().err
    (study / FILLED / SHEET_FILE).write_text("a,b\n1,2\n")
    assert main(["readers", "score", str(study)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (study / SCORES).exists()


# --- what is written ---


def test_text_table_json_and_page_say_the_same_and_name_no_patient(
    study: Path, fill: Fill, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(6)
    for reader in ("reader-1", "reader-2", "reader-3"):
        fill(reader, lambda one: knows(one) if random.random() < 0.7 else believes(one))
    assert main(["readers", "score", str(study)]) == 0
    printed, scores = capsys.readouterr().out, scored(study)
    files = {path.name: path.read_text("utf-8") for path in (study / SCORES).iterdir()}
    assert set(files) == {"scores.txt", "scores.csv", "scores.json", "scores.html"}
    rate = scores.turing.rate
    assert f"({rate.count} of {rate.of})" in printed
    assert f"({rate.count} of {rate.of})" in files["scores.html"]
    assert files["scores.txt"] in printed
    rows = list(csv.DictReader(files["scores.csv"].splitlines()))
    (row,) = [
        row
        for row in rows
        if (row["measure"], row["reader"], row["arm"]) == ("turing_rate", "all", "all")
    ]
    assert (int(row["count"]), int(row["of"])) == (rate.count, rate.of)
    assert float(row["low"]) == rate.low
    content = json.loads(files["scores.json"])
    assert content["turing"]["rate"]["count"] == rate.count
    logs = {one["arm"]: one["log"] for one in content["preference"]["strengths"]}
    assert logs == {one.arm: one.log for one in scores.preference.strengths}
    assert content["agreement"][TURING]["kappa"] == scores.agreement[TURING].kappa
    for name, text in files.items():
        assert not any(subject in text for _, subject in PATIENTS), name
        assert f"{SEED}" not in text, name
    assert not re.findall(r"https?://(?!www\.w3)|src=\"(?!data:)", files["scores.html"])


def test_a_study_of_one_task_is_scored_without_the_other(
    read_run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    words = ["--arm", "fedavg", "--seed", "4", "--readers", "1"]
    assert main(["readers", "prepare", str(read_run_folder), "--out", str(out), *words]) == 0
    sheet = (out / "reader-1" / SHEET_FILE).read_text("utf-8")
    (out / FILLED / "x.csv").write_text(sheet.replace("turing,", "turing,real"), "utf-8")
    assert main(["readers", "score", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "all arms: 100 % [68, 100] (8 of 8)" in printed
    assert "Preference" not in printed
    assert "Table 2" not in (out / SCORES / "scores.html").read_text("utf-8")
