"""A damaged or contradictory run folder is refused in one sentence; nothing is written."""

from __future__ import annotations

import argparse
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from fedi2i.errors import DataError
from report.__main__ import main
from report.commands import add_commands
from report.run.folder import read_run


def test_a_missing_results_file_is_named_and_nothing_is_written(write_run, capsys):
    folder = write_run()
    (folder / "results.csv").unlink()
    assert main([str(folder)]) == 2
    message = capsys.readouterr().err
    assert "results.csv: missing" in message and message.count("\n") == 1
    assert [path.name for path in folder.iterdir()] == ["run.json"]


def test_the_command_exits_with_2_without_a_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "report", str(tmp_path / "none")], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr


def test_the_command_can_stand_among_others(write_run, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers(required=True))
    options = parser.parse_args(["report", str(write_run())])
    options.run(options)
    assert "written: " in capsys.readouterr().out
    with pytest.raises(DataError, match="no such run folder"):
        refused = parser.parse_args(["report", str(tmp_path / "none")])
        refused.run(refused)


def test_help_does_not_wait_for_the_libraries_that_draw():
    code = "import sys, report.__main__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pandas", "scipy", "matplotlib", "jinja2"} & set(done.stdout.split())


@pytest.mark.parametrize("name", ["run.json", "results.csv", "curves.csv"])
def test_an_empty_file_is_named(write_run, curves, name):
    folder = write_run(curves=curves)
    (folder / name).write_text("")
    with pytest.raises(DataError, match=f"{name}: empty"):
        read_run(folder)


def test_a_header_without_rows_is_refused(write_run, results):
    with pytest.raises(DataError, match="no rows"):
        read_run(write_run(results=results.iloc[:0]))


@pytest.mark.parametrize("column", ["arm", "site", "split", "subject", "metric", "value"])
def test_a_missing_column_is_named(write_run, results, column):
    with pytest.raises(DataError, match=f"column '{column}' is missing"):
        read_run(write_run(results=results.drop(columns=column)))


@pytest.mark.parametrize("key", ["title", "seed", "computed", "preset", "sites", "arms"])
def test_a_missing_key_of_run_json_is_named(write_run, about, key):
    del about[key]
    with pytest.raises(DataError, match=f"key '{key}' is missing"):
        read_run(write_run(about=about))


def test_a_key_of_the_wrong_type_is_named_with_its_place(write_run, about):
    about["sites"][1]["train"] = "nine"
    with pytest.raises(DataError, match=r"sites\[1\]: key 'train' is 'nine'"):
        read_run(write_run(about=about))


def test_duplicate_rows_are_refused_with_their_line(write_run, results):
    twice = pd.concat([results, results.iloc[[4]]], ignore_index=True)
    with pytest.raises(DataError, match=f"line {len(twice) + 1} .*appears twice"):
        read_run(write_run(results=twice))


def test_a_word_as_value_is_refused_with_its_line(write_run, results):
    results["value"] = results["value"].astype(object)
    results.loc[3, "value"] = "high"
    with pytest.raises(DataError, match=r"line 5 .*is not a number"):
        read_run(write_run(results=results))


def test_a_subject_called_na_keeps_its_name(write_run, results):
    run = read_run(write_run(results=results.replace({"subject": {"a1": "NA"}})))
    assert "NA" in set(run.results["subject"])


def test_an_arm_with_validation_rows_only_is_refused(write_run, results):
    only_val = results[(results["arm"] != "fedprox") | (results["split"] == "val")]
    with pytest.raises(DataError, match=r"arm 'fedprox' of run.json has no test rows"):
        read_run(write_run(results=only_val))


def test_rows_of_an_unlisted_arm_are_refused(write_run, about):
    about["arms"] = [arm for arm in about["arms"] if arm["name"] != "fedprox"]
    with pytest.raises(DataError, match="arm 'fedprox' is not listed"):
        read_run(write_run(about=about))


def test_arms_evaluated_on_different_patients_are_refused(write_run, results):
    lost = (results["arm"] == "fedavg") & (results["subject"] == "b2")
    with pytest.raises(DataError, match="arm 'fedavg' has no psnr for subject 'b2'"):
        read_run(write_run(results=results[~lost]))


def with_mse(results: pd.DataFrame, data_range: float) -> pd.DataFrame:
    psnr = results[results["metric"] == "psnr"]
    mse = psnr.assign(metric="mse", value=data_range**2 / 10 ** (psnr["value"] / 10))
    return pd.concat([results, mse], ignore_index=True)


@pytest.mark.parametrize("data_range", [1.0, 4024.0])
def test_psnr_that_follows_from_mse_and_range_is_accepted(write_run, about, results, data_range):
    about["preset"]["data_range"] = data_range
    assert len(read_run(write_run(about=about, results=with_mse(results, data_range))).results)


def test_a_psnr_two_thousandths_of_a_db_off_is_refused_and_half_of_one_is_not(write_run, results):
    rows = with_mse(results, 1.0)
    rows.loc[0, "value"] = 10.0005
    read_run(write_run(results=rows))
    rows.loc[0, "value"] = 10.002
    with pytest.raises(DataError, match=r"psnr 10.0020 dB.*mean 10.0000 dB"):
        read_run(write_run(results=rows))


def test_a_range_of_2_in_the_preset_exposes_a_psnr_computed_with_range_1(write_run, about, results):
    about["preset"]["data_range"] = 2.0  # images in [-1, 1]: 6.02 dB are missing
    with pytest.raises(DataError, match=r"mean 16\.0206 dB"):
        read_run(write_run(about=about, results=with_mse(results, 1.0)))


def test_an_infinite_psnr_agrees_with_an_error_of_zero(write_run, results):
    rows = with_mse(results, 1.0)
    key = (rows["arm"] == "fedavg") & (rows["subject"] == "a1")
    rows.loc[key & (rows["metric"] == "psnr"), "value"] = np.inf
    rows.loc[key & (rows["metric"] == "mse"), "value"] = 0.0
    assert np.isinf(read_run(write_run(results=rows)).results["value"]).sum() == 1


def test_an_infinite_mae_is_refused(write_run, results):
    results.loc[1, "value"] = np.inf
    with pytest.raises(DataError, match="mae of arm source, subject a1 is inf"):
        read_run(write_run(results=results))


def test_a_truncated_slices_file_is_named(write_run, slices):
    folder = write_run(slices=slices)
    data = (folder / "slices.npz").read_bytes()
    (folder / "slices.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"slices\.npz: cannot be read"):
        read_run(folder)


def test_slices_of_one_subject_on_two_grids_are_refused(write_run, slices):
    slices["a/a1/fedavg"] = np.zeros((8, 8), dtype=np.float16)
    with pytest.raises(DataError, match=r"a/a1.*shape"):
        read_run(write_run(slices=slices))
