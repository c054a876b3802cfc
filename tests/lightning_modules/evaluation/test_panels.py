"""Picture panels."""

from __future__ import annotations

import numpy as np
import torch

from lightning_modules.evaluation.panels import middle_slice, panel
from lightning_modules.evaluation.validation import Patient

ROWS, COLUMNS = 6, 5


def _patient() -> Patient:
    mask = torch.zeros(3, ROWS, COLUMNS, dtype=torch.bool)
    mask[0, :2] = mask[1, 1:5] = mask[2, :1] = True
    source = torch.linspace(0, 1, 3 * ROWS * COLUMNS).reshape(3, ROWS, COLUMNS)
    return Patient("s", source, 1 - source, mask, None)


def _columns(picture: np.ndarray) -> list[np.ndarray]:
    return [picture[0, :, n * COLUMNS : (n + 1) * COLUMNS] for n in range(4)]


def test_the_slice_with_the_largest_mask_is_shown_and_the_first_of_equals() -> None:
    patient = _patient()
    assert middle_slice(patient.mask) == 1
    assert middle_slice(patient.mask[[2, 2, 0, 0]]) == 2


def test_a_panel_is_one_grey_byte_picture_of_four_columns() -> None:
    patient = _patient()
    picture = panel(patient, patient.target)
    assert picture.dtype == np.uint8
    assert picture.shape == (1, ROWS, 4 * COLUMNS)
    source, target, translated, _ = _columns(picture)
    np.testing.assert_array_equal(source, np.rint(patient.source[1].numpy() * 255))
    np.testing.assert_array_equal(target, np.rint(patient.target[1].numpy() * 255))
    np.testing.assert_array_equal(translated, target)


def test_the_error_of_a_perfect_prediction_is_black() -> None:
    patient = _patient()
    assert not _columns(panel(patient, patient.target))[3].any()


def test_the_error_is_white_from_a_quarter_on_and_black_outside_the_mask() -> None:
    patient = _patient()
    patient.target.fill_(0.5)
    prediction = torch.full_like(patient.target, 0.5 + 0.125)
    inside = patient.mask[1].numpy()
    error = _columns(panel(patient, prediction))[3]
    assert set(error[inside].tolist()) == {128}  # half of the window, 127.5 rounded to even
    assert not error[~inside].any()
    assert set(_columns(panel(patient, prediction + 0.25))[3][inside].tolist()) == {255}


def test_a_prediction_out_of_range_is_clipped_in_the_picture() -> None:
    patient = _patient()
    assert (_columns(panel(patient, patient.target + 9))[2] == 255).all()
    assert (_columns(panel(patient, patient.target - 9))[2] == 0).all()
