"""What readers get gives nothing away, and the key stays behind."""

from __future__ import annotations

import base64
import csv
import json
import re
import shutil
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from readable_run import ARMS, PATIENTS, SEED, arrays, prepare

from fedi2i.cli.program import main
from report.readers.design import TARGET, Patient
from report.readers.folders import FORM_FILE, INSTRUCTIONS_FILE, PICTURES, SHEET_FILE
from report.readers.key import KEY_FILE, read_key
from report.readers.pictures import chosen_rows, gather, png, spread
from report.run.folder import read_run

READERS = ("reader-1", "reader-2", "reader-3")
SECRETS = (
    *ARMS,
    "local-only",
    "local only",
    "label",
    *(site for site, _ in PATIENTS),
    *(subject for _, subject in PATIENTS),
    "A run to be read",
    f"{SEED}",
)


def chunks(content: bytes) -> list[bytes]:
    """The names of a PNG file's chunks."""
    names, place = [], 8
    while place < len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        names.append(content[place + 4 : place + 8])
        place += length + 12
    return names


def asked_items(page: str) -> list[dict[str, Any]]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    content = json.loads(found[1])
    assert set(content) == {"study", "reader", "items", "questions", "captions"}
    return list(content["items"])


@pytest.mark.parametrize("reader", READERS)
def test_names_and_texts_of_a_reader_s_folder_say_nothing_of_arms_or_patients(
    drawn: Path, reader: str
) -> None:
    paths = sorted((drawn / reader).rglob("*"))
    assert {path.name for path in paths} > {FORM_FILE, INSTRUCTIONS_FILE, SHEET_FILE, PICTURES}
    texts = [str(path.relative_to(drawn)) for path in paths]
    for name in (FORM_FILE, INSTRUCTIONS_FILE, SHEET_FILE):
        text = (drawn / reader / name).read_text(encoding="utf-8")
        texts.append(re.sub(r"base64,[A-Za-z0-9+/=]+", "", text))
    for secret in SECRETS:
        assert not any(secret.lower() in text.lower() for text in texts), secret


@pytest.mark.parametrize("reader", READERS)
def test_files_of_pictures_are_alike_in_all_but_their_pixels(drawn: Path, reader: str) -> None:
    paths = sorted((drawn / reader / PICTURES).iterdir())
    assert len(paths) > 40
    assert len({path.stat().st_size for path in paths}) == 1
    for path in paths:
        assert chunks(path.read_bytes()) == [b"IHDR", b"IDAT", b"IEND"]
        with Image.open(path) as picture:
            assert (picture.mode, picture.size) == ("L", (28, 35))
            assert picture.info == {}
    times = {path.stat().st_mtime_ns for path in (drawn / reader).rglob("*")}
    assert len(times) == 1


def test_smooth_and_noisy_pictures_have_files_of_one_size() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 70), dtype=np.uint8)
    assert len(png(noise)) == len(png(np.full_like(noise, 100)))


def test_the_page_shows_the_pictures_of_the_folder_in_the_order_of_the_sheet(drawn: Path) -> None:
    key = read_key(drawn)
    for reader in READERS:
        folder = drawn / reader
        asked = asked_items((folder / FORM_FILE).read_text(encoding="utf-8"))
        with (folder / SHEET_FILE).open(encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        numbers = [item.number for item in key.sheets[reader]]
        assert [row["item"] for row in rows] == [one["item"] for one in asked] == numbers
        for one in asked:
            number = one["item"]
            names = [f"{number}.png"]
            if one["task"] == "preference":
                names = [f"{number}-{side}.png" for side in ("left", "target", "right")]
            files = [(folder / PICTURES / name).read_bytes() for name in names]
            addresses = [
                "data:image/png;base64," + base64.b64encode(content).decode() for content in files
            ]
            assert one["pictures"] == addresses


def test_the_page_may_not_reach_any_network(drawn: Path) -> None:
    page = (drawn / "reader-1" / FORM_FILE).read_text(encoding="utf-8")
    assert "default-src 'none'" in page
    assert not re.findall(r"https?://|(?:src|href)=\"|@import|url\(|fetch\(|XMLHttp", page)


def test_the_key_knows_what_every_picture_shows(drawn: Path, read_run_folder: Path) -> None:
    """The pixels of the files, cut out anew from the run's slices."""
    key, slices = read_key(drawn), np.load(read_run_folder / "slices.npz")
    for reader, items in key.sheets.items():
        for item in items:
            sides = ("",) if item.case.task == "turing" else ("-left", "-right")
            for side, shown in zip(sides, item.shown, strict=True):
                model = "local-northern" if shown == "local-only" else shown
                patient = item.case.patient
                picture = slices[f"{patient.site}/{patient.subject}/{model}"]
                mask = slices[f"{patient.site}/{patient.subject}/mask"] > 0.5
                inside = picture.astype(np.float32)[mask]
                path = drawn / reader / PICTURES / f"{item.number}{side}.png"
                found = np.asarray(Image.open(path))
                expected = np.sort(np.round(255 * inside))
                assert (np.sort(found.ravel())[-len(expected) :] == expected).all()
                assert found.astype(int).sum() == int(expected.sum())  # all else is black


def test_the_key_is_private_and_outside_of_what_is_handed_over(drawn: Path) -> None:
    assert stat.S_IMODE((drawn / KEY_FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE(drawn.stat().st_mode) == 0o700
    assert [path for path in drawn.rglob("*.json")] == [drawn / KEY_FILE]


def test_the_same_seed_draws_the_same_study_and_a_folder_is_never_written_over(
    drawn: Path, read_run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(read_run_folder, tmp_path / "again", "--repeated", "0.25") == 0
    assert read_key(tmp_path / "again").sheets == read_key(drawn).sheets
    before = (drawn / KEY_FILE).read_bytes()
    capsys.readouterr()
    assert prepare(read_run_folder, drawn) == 2
    assert "is there already and not empty" in capsys.readouterr().err
    assert (drawn / KEY_FILE).read_bytes() == before


def test_a_study_that_cannot_be_written_whole_is_not_there(
    read_run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr("report.readers.folders.write_key", broken)
    assert prepare(read_run_folder, tmp_path / "study") == 2
    assert list(tmp_path.iterdir()) == []


def test_without_a_target_between_them_two_pictures_are_shown(
    read_run_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    assert prepare(read_run_folder, out, "--question", "better", "--task", "preference") == 0
    names = {path.name for path in (out / "reader-1" / PICTURES).iterdir()}
    assert {name[4:] for name in names} == {"-left.png", "-right.png"}
    page = (out / "reader-1" / FORM_FILE).read_text(encoding="utf-8")
    assert {len(one["pictures"]) for one in asked_items(page)} == {2}
    assert "would you rather work with" in page


# --- which patients ---


def change(source: Path, target: Path, alter: Callable[[pd.DataFrame], pd.DataFrame]) -> Path:
    """A copy of the run with other results."""
    shutil.copytree(source, target)
    alter(pd.read_csv(target / "results.csv")).to_csv(target / "results.csv", index=False)
    return target


@pytest.mark.parametrize("split", ["train", "val"])
def test_pictures_of_a_patient_whom_models_have_seen_are_refused(
    split: str, read_run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def moved(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(split=rows["split"].where(rows["subject"] != "northern-no3", split))

    run = change(read_run_folder, tmp_path / "run", moved)
    assert prepare(run, tmp_path / "study") == 2
    error = capsys.readouterr().err
    assert f"'northern-no3' of site 'northern', who is of the split {split}" in error
    assert "test patients only" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "study").exists()


def test_patients_are_spread_over_the_order_of_the_first_arm_s_psnr() -> None:
    patients = [Patient("a", f"{n}") for n in range(7)]
    assert [patient.subject for patient in spread(patients, 3)] == ["0", "3", "6"]
    assert [patient.subject for patient in spread(patients, 1)] == ["3"]
    assert spread(patients, None) == spread(patients, 9) == patients


def test_a_family_is_shown_by_the_site_s_own_model_or_that_of_the_largest_site(
    read_run_folder: Path,
) -> None:
    run = read_run(read_run_folder)
    gallery = gather(run, chosen_rows(run, ["fedavg", "local-only"]), ["islandic"], None)
    assert gallery.models["local-only", "islandic"] == "local-northern"
    assert {patient.site for patient in gallery.patients} == {"islandic"}
    assert {what for _, what in gallery.pictures} == {"fedavg", "local-only", TARGET}


def test_a_patient_without_a_picture_of_every_arm_is_left_out_and_said(
    read_run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(read_run_folder, tmp_path / "run")
    kept = {key: one for key, one in arrays().items() if key != "northern/northern-no1/fedavg"}
    np.savez_compressed(run / "slices.npz", **kept)
    assert prepare(run, tmp_path / "study") == 0
    assert "left out: 1 test patient(s)" in capsys.readouterr().out
    key = read_key(tmp_path / "study")
    assert key.patients == len(PATIENTS) - 1


MISTAKES = {
    "an arm that is not there": (("--arm", "fedprox"), "has no pictures of an arm 'fedprox'"),
    "an arm without pictures": (("--arm", "constant"), "has no pictures of an arm 'constant'"),
    "an arm named twice": (("--arm", "fedavg"), "an arm is named twice"),
    "a site that is not there": (("--site", "south"), "--site south: no such site"),
    "too few patients": (("--patients", "1", "--site", "northern"), "of 1 test patient(s)"),
    "no reader": (("--readers", "0"), "--readers 0: give a number from 1"),
    "no patient": (("--patients", "0"), "--patients 0: give 1 or more"),
    "a seed below nought": (("--seed", "-1"), "--seed -1: give 0 or more"),
    "too many repetitions": (("--repeated", "0.7"), "--repeated 0.7: give a share"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_one_sentence_and_nothing_is_written(
    what: str, read_run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more, sentence = MISTAKES[what]
    assert prepare(read_run_folder, tmp_path / "study", *more) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_arm_that_diverged_is_refused(
    read_run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def diverged(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(value=rows["value"].where(rows["arm"] != "centralised"))

    run = change(read_run_folder, tmp_path / "run", diverged)
    assert prepare(run, tmp_path / "study") == 2
    assert "arm 'centralised' has diverged; leave it out" in capsys.readouterr().err


def test_a_study_of_seeds_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "study.json").write_text("{}")
    assert prepare(tmp_path, tmp_path / "out") == 2
    assert "give the folder of one of them" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda text: text.replace('"local-only"', '"fedavg"', 1), "was changed after"),
        (lambda text: text[:200], "damaged"),
        (lambda text: "[]", "damaged"),
        (lambda text: text.replace('"layout": 1', '"layout": 9'), "layout 9"),
    ],
)
def test_a_changed_or_damaged_key_is_refused(
    study: Path, damage: Callable[[str], str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study / KEY_FILE
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    assert main(["readers", "score", str(study)]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
