"""The two figures that a run gives as files of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from fedi2i.errors import DataError
from report.__main__ import main
from report.figure_files import figure_files
from report.numbers.analysis import Analysis, analyse
from report.run.folder import read_run

LARGEST_BYTES = 300_000


def pictures_of(run: Path, to: Path) -> list[np.ndarray]:
    """Both figures as they look."""
    assert main([str(run), "--figures", str(to)]) == 0
    return [imread(path) for path in sorted(to.iterdir())]


def test_the_command_writes_two_small_pictures_named_after_the_run(
    write_run, curves, slices, tmp_path, capsys
):
    folder = write_run(curves=curves, slices=slices)
    shapes = [picture.shape[:2] for picture in pictures_of(folder, tmp_path / "figures")]
    names = {"run-convergence.png", "run-strip.png"}
    assert {path.name for path in (tmp_path / "figures").iterdir()} == names
    assert all(width == 1248 for _, width in shapes)  # 7.8 inches at 160 dots
    printed = capsys.readouterr().out
    assert all(name in printed for name in names) and (folder / "report.html").exists()


def test_with_many_strategies_the_files_stay_small(strategies_analysis: Analysis, tmp_path):
    files = figure_files(strategies_analysis, tmp_path)
    assert len(files) == 2 and not any(tmp_path.iterdir())
    assert all(len(content) < LARGEST_BYTES for content in files.values())


def test_the_same_run_gives_the_same_files(write_run, curves, slices, tmp_path):
    analysis = analyse(read_run(write_run(curves=curves, slices=slices)))
    assert figure_files(analysis, tmp_path) == figure_files(analysis, tmp_path)


@pytest.mark.parametrize("changed", ["u/u1/source", "u/u1/target", "u/u1/fedavg"])
def test_the_strip_shows_the_patient_chosen_among_those_of_the_unseen_site(
    write_run, curves, slices, tmp_path, changed
):
    before, after = tmp_path / "before", tmp_path / "after"
    first = pictures_of(write_run(curves=curves, slices=slices), before)
    # u1 has the lower PSNR of FedAvg: of two patients the median is the lower one
    told = slices | {changed: np.clip(slices[changed] * 0.5, 0, 1)}
    second = pictures_of(write_run(curves=curves, slices=told), after)
    assert np.array_equal(first[0], second[0]) and not np.array_equal(first[1], second[1])


@pytest.mark.parametrize("unused", ["a/a1/source", "u/u2/source", "u/u2/mask"])
def test_the_strip_shows_nobody_else(write_run, curves, slices, tmp_path, unused):
    first = pictures_of(write_run(curves=curves, slices=slices), tmp_path / "before")
    # darker, so that the errors' common window does not grow with it
    told = slices | {unused: slices[unused] * np.float16(0.9)}
    second = pictures_of(write_run(curves=curves, slices=told), tmp_path / "after")
    assert np.array_equal(first[1], second[1])


def test_both_pictures_say_that_data_are_computed(write_run, about, curves, slices, tmp_path):
    computed = pictures_of(write_run(about, curves=curves, slices=slices), tmp_path / "computed")
    about["computed"] = False
    acquired = pictures_of(write_run(about, curves=curves, slices=slices), tmp_path / "acquired")
    for said, unsaid in zip(computed, acquired, strict=True):
        top = 60  # dots: the line above the panels
        assert not np.array_equal(said[:top], unsaid[:top])
        assert np.array_equal(said[top:], unsaid[top:])


def test_a_run_without_pictures_of_an_unseen_site_is_refused_and_nothing_is_written(
    write_run, curves, slices, tmp_path, capsys
):
    seen = {key: array for key, array in slices.items() if not key.startswith("u/")}
    folder = write_run(curves=curves, slices=seen)
    assert main([str(folder), "--figures", str(tmp_path / "figures")]) == 2
    assert "holds no target slice of a test patient of an unseen site" in capsys.readouterr().err
    assert not (folder / "report.html").exists() and not (tmp_path / "figures").exists()


@pytest.mark.parametrize("missing", ["source", "fedavg"])
def test_a_missing_slice_of_the_strip_is_named(write_run, curves, slices, tmp_path, missing):
    del slices[f"u/u1/{missing}"]
    analysis = analyse(read_run(write_run(curves=curves, slices=slices)))
    with pytest.raises(DataError, match=f"no slice '{missing}' of patient u1"):
        figure_files(analysis, tmp_path)


def test_a_run_without_validation_curves_is_refused(write_run, slices, tmp_path):
    analysis = analyse(read_run(write_run(slices=slices)))
    with pytest.raises(DataError, match=r"curves\.csv: holds no val/psnr"):
        figure_files(analysis, tmp_path)
