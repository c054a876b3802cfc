"""The report of a study at several levels: a curve per strategy, and gaps that are named."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fedi2i.digest import digest
from fedi2i.errors import DataError
from report.__main__ import main
from report.figures.levels import draw_levels
from report.numbers.over_seeds.levels import analyse_levels
from report.page.studies.levels import render_levels
from report.run.levels import read_levels

SEEDS = (11, 12, 13)
PATIENTS = [("a", "a1"), ("a", "a2"), ("b", "b1"), ("u", "u1"), ("u", "u2")]
LOSS = {"fedavg": 4.0, "fedprox": 1.0, "centralised": 0.0}
"""What an arm's PSNR loses at place 1 of the axis."""
PLACES = {"none": 0.0, "half": 0.5, "whole": 1.0}

WriteLevels = Callable[..., Path]


def psnr(arm: str, place: float, seed: int, patient: int) -> float:
    """Made by hand: 20 dB, less along the axis, a step per seed and one per patient."""
    lost = LOSS[arm] * place if np.isfinite(place) else 0.0
    return 20.0 - lost + 0.5 * (seed - 12) + patient


@pytest.fixture
def write_levels(tmp_path: Path, about: dict[str, Any]) -> WriteLevels:
    """Write a study at levels; those in ``without`` have no folder, fedavg diverges ``at``."""

    def write(without: tuple[str, ...] = (), at: str = "", **axis: Any) -> Path:
        folder = tmp_path / "levels"
        about["arms"] = [arm for arm in about["arms"] if arm["name"] in LOSS]
        about["versions"] = {"fedi2i": "0.3.0"}
        for name in (name for name in PLACES if name not in without):
            _write_study(folder / f"level-{name}", dict(about), PLACES[name], diverges=name == at)
        levels: dict[str, dict[str, Any]] = {
            name: {"at": {"x": repr(p)}, "settings": {}} for name, p in PLACES.items()
        }
        levels["whole"]["settings"] = {"training": {"steps": 7}}
        x = {"label": "part of something", "log": False, **axis}
        content = {
            "title": "How robust <they> are",
            "created": "2025-01-02T03:04:05+00:00",
            "axes": {"x": x},
            "levels": levels,
            "folders": {name: f"level-{name}" for name in PLACES},
        }
        folder.mkdir(exist_ok=True)
        (folder / "levels.json").write_text(json.dumps(content), encoding="utf-8")
        return folder

    return write


def _write_study(folder: Path, about: dict[str, Any], place: float, diverges: bool) -> None:
    outcome = {"metric": "psnr", "patients": "unseen"}
    design = {
        "title": "One level",
        "release": "0.3.0",
        "reference": "fedavg",
        "primary_outcome": outcome,
        "margin": 0.3,
        "experiment": {**about["experiment"], "seed": None},
        "manifests": about["manifests"],
    }
    for seed in SEEDS:
        run = folder / f"seed-{seed}"
        run.mkdir(parents=True)
        record = about | {"seed": seed, "primary_outcome": outcome, "design": digest(design)}
        (run / "run.json").write_text(json.dumps(record), encoding="utf-8")
        rows = [
            (arm, site, "test", subject, "psnr", psnr(arm, place, seed, number))
            for arm in LOSS
            for number, (site, subject) in enumerate(PATIENTS)
        ]
        table = pd.DataFrame(rows, columns=["arm", "site", "split", "subject", "metric", "value"])
        if diverges:
            table.loc[table["arm"] == "fedavg", "value"] = np.inf
        table.to_csv(run / "results.csv", index=False)
    folders = {str(seed): f"seed-{seed}" for seed in SEEDS}
    study = {"created": "2025-01-02T03:04:05+00:00", "design": design, "folders": folders}
    (folder / "study.json").write_text(json.dumps(study), encoding="utf-8")


def _curves(panel: Any) -> list[Any]:
    """The lines through the points of every strategy, without their bars."""
    return [bars.lines[0] for bars in panel.containers]


def _text(page: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page)))


def test_a_point_is_the_mean_over_unseen_patients_and_its_bar_the_spread_over_seeds(
    write_levels: WriteLevels,
) -> None:
    analysis = analyse_levels(read_levels(write_levels()))
    for name, place in PLACES.items():
        for arm in LOSS:
            means = analysis.cells[name, arm]
            # Patients 3 and 4 are the unseen ones; seeds are half a decibel apart.
            assert means.mean == pytest.approx(20 - LOSS[arm] * place + 3.5)
            assert means.spread == pytest.approx(0.5)
    assert analysis.levels_on("x") == [(0.0, "none"), (0.5, "half"), (1.0, "whole")]


def test_the_figure_has_a_curve_for_every_strategy_at_the_places_of_the_levels(
    write_levels: WriteLevels,
) -> None:
    (panel,) = draw_levels(analyse_levels(read_levels(write_levels()))).axes
    curves = _curves(panel)
    assert all(list(line.get_xdata()) == [0.0, 0.5, 1.0] for line in curves)
    heights = sorted(list(map(float, line.get_ydata())) for line in curves)
    assert heights[0] == pytest.approx([23.5, 21.5, 19.5])
    assert heights[1] == pytest.approx([23.5, 23.0, 22.5])
    assert panel.get_xlabel() == "part of something"


def test_an_infinite_place_is_a_line_across(
    write_levels: WriteLevels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PLACES, "none", float("inf"))
    (panel,) = draw_levels(analyse_levels(read_levels(write_levels(log=True)))).axes
    assert panel.get_xscale() == "log"
    across = [line for line in panel.lines if np.array_equal(line.get_xdata(), [0, 1])]
    assert len(across) == 2
    assert all(len(line.get_xdata()) == 2 for line in _curves(panel))


def test_the_page_has_the_numbers_what_differs_and_each_level_s_own_verdicts(
    write_levels: WriteLevels,
) -> None:
    page = render_levels(analyse_levels(read_levels(write_levels())))
    text = _text(page)
    assert "How robust <they> are" in text and "<they>" not in page
    assert "19.50 ± 0.50" in text and "22.50 ± 0.50" in text
    assert "Levels are not tested against each other" in text
    assert '{"training": {"steps": 7}}' in text
    assert "whole: the reference is" in text
    assert "http" not in page


def test_what_diverged_is_said_and_not_drawn(write_levels: WriteLevels) -> None:
    analysis = analyse_levels(read_levels(write_levels(at="half")))
    assert "diverged" in _text(render_levels(analysis))
    (panel,) = draw_levels(analysis).axes
    assert sorted(len(line.get_xdata()) for line in _curves(panel)) == [2, 3]


def test_a_missing_level_is_a_gap_and_the_rest_is_written(
    write_levels: WriteLevels, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_levels(without=("half",))
    assert main([str(folder)]) == 0
    assert "! Level half is left out: " in capsys.readouterr().out
    assert "Level half is left out" in _text((folder / "report.html").read_text())


def test_no_level_and_a_damaged_file_are_one_sentence(write_levels: WriteLevels) -> None:
    folder = write_levels(without=tuple(PLACES))
    with pytest.raises(DataError, match="no level of this study can be used"):
        read_levels(folder)
    path = folder / "levels.json"
    path.write_text(path.read_text().replace('"at": {"x"', '"at": {"y"', 1))
    with pytest.raises(DataError, match="damaged"):
        read_levels(folder)
