"""The README's figures: they show the stored pictures and the recorded means of the run."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.image import imread

from benchmarks.demo_figures import convergence, strip, write_figures
from fedi2i.errors import DataError
from report.numbers.analysis import analyse
from report.run.folder import read_run


def test_the_strip_shows_source_translation_target_and_error_of_a_patient_of_the_unseen_site(
    write_run, slices
):
    for subject in ("u1", "u2"):
        slices[f"u/{subject}/fedavg"] = (slices[f"u/{subject}/mask"] * 0.25).astype(np.float16)
    figure = strip(analyse(read_run(write_run(slices=slices))))
    largest = [float(np.max(axis.images[0].get_array())) for axis in figure.axes]
    assert largest == pytest.approx([0.9, 0.25, 0.6, 0.35], abs=1e-3)
    assert [axis.get_title().split(",")[0] for axis in figure.axes] == [
        "source",
        "translation (FEDAVG)",
        "target",
        "absolute error",
    ]


def test_the_lines_are_means_over_the_federated_sites_in_the_rounds_that_all_recorded(
    write_run, curves
):
    figure = convergence(analyse(read_run(write_run(curves=curves))))
    drawn = {len(line.get_xdata()): list(line.get_ydata()) for line in figure.axes[0].lines}
    assert drawn[2] == [15.0, 18.0]


def test_both_figures_are_written_as_pictures_that_are_not_empty(
    write_run, slices, curves, tmp_path
):
    run = write_run(slices=slices, curves=curves)
    for path in write_figures(run, tmp_path / "figures"):
        assert imread(path).std() > 0.05


def test_without_pictures_of_an_unseen_site_nothing_is_written(write_run, slices, curves, tmp_path):
    of_sites = {name: array for name, array in slices.items() if not name.startswith("u/")}
    run = write_run(slices=of_sites, curves=curves)
    with pytest.raises(DataError, match="no pictures of an unseen site"):
        write_figures(run, tmp_path / "figures")
    assert not (tmp_path / "figures").exists()
