"""Presets of a run: no table mixes two, units are shown, what is undefined is counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from fedi2i.errors import DataError
from report.figures.strip import Strip, draw_strip
from report.numbers.analysis import analyse
from report.page.render import render_page
from report.run.folder import read_run
from report.run.records import ShownWindow

HU = {
    "name": "synthrad2025",
    "data_range": 4095.0,
    "shown": {"low": -1000.0, "high": 1000.0, "unit": "HU"},
}
WINDOW = ShownWindow(-1000.0, 1000.0, "HU")
METRICS = [
    {"name": "psnr", "label": "PSNR", "unit": "dB", "better": "higher", "decimals": 2},
    {"name": "mae_hu", "label": "MAE", "unit": "HU", "better": "lower", "decimals": 1},
    {"name": "ms_ssim", "label": "MS-SSIM", "unit": "", "better": "higher", "decimals": 3},
]


def _in_hu(results: pd.DataFrame) -> pd.DataFrame:
    """The same run with errors in HU, and MS-SSIM of all but one patient."""
    rows = results.replace({"metric": {"mae": "mae_hu"}})
    more = rows[rows["metric"] == "mae_hu"].assign(metric="ms_ssim", value=0.75)
    more.loc[more["subject"] == "a2", "value"] = np.nan
    return pd.concat([rows, more]).assign(preset="synthrad2025")


def test_a_strip_in_hu_names_its_window_and_the_largest_error() -> None:
    grey = np.full((40, 32), 0.5, dtype=np.float32)
    strip = Strip(grey, grey, grey, None, "FedAvg", "A title", "", "", 0.2, WINDOW)
    texts = {text.get_text() for text in draw_strip(strip, 6.0).findobj(Text)}
    assert {"black to white: -1000 to 1000 HU", "400 HU"} <= texts


def test_rows_without_a_preset_are_read_as_before(write_run: Any, results: pd.DataFrame) -> None:
    old = read_run(write_run(results=results))
    new = read_run(write_run(results=results.assign(preset="mr")))
    pd.testing.assert_frame_equal(old.results, new.results)


def test_a_table_of_two_presets_is_refused(write_run: Any, results: pd.DataFrame) -> None:
    mixed = results.assign(preset="mr")
    mixed.loc[3, "preset"] = "synthrad2025"
    with pytest.raises(DataError, match="mixes rows of the presets 'mr' and 'synthrad2025'"):
        read_run(write_run(results=mixed))


def test_a_preset_that_run_json_does_not_name_is_refused(
    write_run: Any, about: dict[str, Any], results: pd.DataFrame
) -> None:
    prepared = results.assign(preset="synthrad2025-prepared")
    about["preset"] = HU
    with pytest.raises(
        DataError, match=r"'synthrad2025-prepared', but run\.json names 'synthrad2025'"
    ):
        read_run(write_run(about, prepared))
    with pytest.raises(DataError, match="line 2 has no preset"):
        read_run(write_run(about, results.assign(preset="")))


def test_units_and_windows_are_shown_and_undefined_values_are_counted(
    write_run: Any, about: dict[str, Any], results: pd.DataFrame, slices: dict[str, Any]
) -> None:
    about["preset"], about["metrics"] = HU, METRICS
    run = read_run(write_run(about, _in_hu(results), slices=slices))
    assert run.undefined == {"ms_ssim": 1}
    assert not run.diverged
    analysis = analyse(run)
    table = next(table for table in analysis.tables if table.metric.name == "ms_ssim")
    assert not any(cell.diverged for cell in table.cells.values())
    page = render_page(analysis)
    assert "MAE (HU)" in page
    assert "MS-SSIM is not defined for 1 patient" in page
    assert "-1000 to 1000 HU" in page
    assert " HU</i>" in page  # the end of the errors' colour bar
