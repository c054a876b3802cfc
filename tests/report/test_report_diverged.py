"""A diverged arm, whose values are no numbers, costs the page its row and nothing else."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from fedi2i.errors import DataError
from report.__main__ import main
from report.numbers.analysis import analyse
from report.numbers.cross_site import cross_site_matrix
from report.numbers.curves import curve_book, mean_curve
from report.numbers.strategy_effects import Verdict
from report.page.render import render_page
from report.page.summary import summary
from report.run.folder import read_run

SENTENCE = "FEDPROX diverged: at least one test value is not a number."


def diverge(results: pd.DataFrame, arm: str, subject: str, metric: str = "psnr") -> pd.DataFrame:
    chosen = (results["arm"] == arm) & (results["subject"] == subject)
    return results.assign(
        value=results["value"].where(~(chosen & (results["metric"] == metric)), np.nan)
    )


def row_of(page: str, label: str) -> str:
    """The first line of a table that bears a label, as its visible words."""
    line = re.search(rf'(?s)<th scope="row">{label}<.*?</tr>', page)
    assert line is not None
    return " ".join(re.sub(r"<[^>]*>", " ", line[0]).split())


@pytest.fixture
def diverged(write_run, results):
    """FedProx gave no number for one patient of site a."""
    return write_run(results=diverge(results, "fedprox", "a1"))


def test_one_nan_leaves_every_other_row_of_the_page_as_it_was(write_run, results):
    sound = render_page(analyse(read_run(write_run(results=results))))
    page = render_page(analyse(read_run(write_run(results=diverge(results, "fedprox", "a1")))))
    for label in ("SOURCE", "Local only", "CENTRALISED"):
        assert row_of(page, label) == row_of(sound, label)
    dash = "diverged 26.50 ± 2.12 diverged 22.50 ± 0.71"
    assert row_of(page, "FEDPROX") == f"FEDPROX diverged {dash}"


def test_a_nan_that_python_wrote_is_read_like_one_that_pandas_left_empty(diverged):
    empty = read_run(diverged)
    text = (diverged / "results.csv").read_text()
    assert "fedprox,a,test,a1,psnr,\n" in text
    written = text.replace("fedprox,a,test,a1,psnr,\n", "fedprox,a,test,a1,psnr,nan\n")
    (diverged / "results.csv").write_text(written)
    assert read_run(diverged).diverged == empty.diverged == {"fedprox"}


def test_a_diverged_arm_is_neither_best_nor_tested_nor_ranked_nor_featured(
    write_run, personal_about, personal_results
):
    folder = write_run(personal_about, diverge(personal_results, "ditto", "u1"))
    analysis = analyse(read_run(folder))
    assert not [key for table in analysis.tables for key in table.best if key[0] == "ditto"]
    assert all(item.other.name != "ditto" for t in analysis.tests for item in t.comparisons)
    assert all("ditto" not in {row.name for row in t.mean_ranks} for t in analysis.ranks)
    assert "ditto" not in {row.name for row in analysis.featured.best_global}
    assert "ditto" not in {row.name for row in analysis.effects.equal}  # as FedAvg, but for one NaN
    assert "ditto" in {row.name for row in analysis.rows}


def test_the_mean_over_all_models_of_a_family_is_not_taken_over_the_sound_ones_alone(
    write_run, personal_about, personal_results
):
    folder = write_run(personal_about, diverge(personal_results, "fedbn@b", "u1"))
    table = analyse(read_run(folder)).tables[0]
    row = next(row for row in table.rows if row.name == "fedbn")
    assert table.mean_and_std(row, 3) == "diverged"
    assert table.median_and_quartiles(row, 3) == "diverged"
    assert table.mean_and_std(row, 0) == "26.00 ± 2.00"  # fedbn@a on its own patients


def test_the_summary_and_the_console_name_a_diverged_arm(diverged, capsys):
    assert SENTENCE in " ".join(summary(analyse(read_run(diverged))))
    assert main([str(diverged)]) == 0
    printed = capsys.readouterr().out
    assert f"! {SENTENCE}" in printed
    assert re.search(r"FEDPROX +diverged +26.50 ± 2.12 ", printed)


def test_a_sound_run_says_nothing_of_divergence(write_run, results, curves, slices):
    page = render_page(analyse(read_run(write_run(results=results, curves=curves, slices=slices))))
    assert "diverged" not in page.lower()


def test_a_diverged_reference_is_replaced_by_the_next_federated_arm(write_run, about, results):
    about["arms"][-2]["reference"] = True
    analysis = analyse(read_run(write_run(about, diverge(results, "fedavg", "b1"))))
    assert {tests.reference.name for tests in analysis.tests} == {"fedprox"}
    assert "FEDPROX is the reference instead of FEDAVG." in " ".join(summary(analysis))


def test_a_run_of_which_everything_diverged_still_has_a_page(
    write_run, personal_about, personal_results, personal_curves, personal_slices
):
    everything = personal_results.assign(value=np.nan)
    folder = write_run(personal_about, everything, personal_curves, personal_slices)
    analysis = analyse(read_run(folder))
    text = render_page(analysis)
    assert "Arms in colour are those without federation. All other federated arms are grey." in text
    assert analysis.tests == () and analysis.featured.reference is None
    assert "no model gave numbers only" in text
    assert row_of(text, "FEDAVG") == "FEDAVG diverged " + " ".join(["diverged"] * 4)


def test_the_matrix_says_where_a_model_diverged_and_scales_the_others(diverged):
    analysis = analyse(read_run(diverged))
    matrix = cross_site_matrix(analysis.run, analysis.rows)
    line = [arm.name for arm in matrix.arms].index("fedprox")
    assert matrix.diverged[line].tolist() == [True, False, False]
    assert matrix.shade(line, 0) is None and matrix.scale == (15.0, 28.5)
    page = render_page(analysis)
    part = page[page.index("Table 2.") :]
    assert row_of(part, "FEDPROX") == "FEDPROX diverged 26.50 22.50"


def test_a_strategy_whose_model_or_diagnostics_are_no_numbers_is_not_judged(write_run, results):
    columns = ["arm", "site", "round", "metric", "value"]
    ratio = [("fedprox", "a", 0, "strategy/ratio_generator", 0.2)]
    broken = [("fedprox", "a", 0, "strategy/ratio_generator", np.nan)]
    for values, rows in ((diverge(results, "fedprox", "a1"), ratio), (results, broken)):
        folder = write_run(results=values, curves=pd.DataFrame(rows, columns=columns))
        job = analyse(read_run(folder)).effects.jobs[1]
        assert (job.job, job.verdict) == ("fedprox", Verdict.DIVERGED)


def test_a_curve_has_no_mean_in_a_round_in_which_a_site_diverged(write_run, curves):
    chosen = (curves["arm"] == "fedavg") & (curves["site"] == "b") & (curves["round"] == 2)
    run = read_run(write_run(curves=curves.assign(value=curves["value"].where(~chosen, np.nan))))
    fedavg = next(row for row in analyse(run).rows if row.name == "fedavg")
    assert mean_curve(curve_book(run), fedavg, "val/psnr").to_dict() == {1: 15.0}
    render_page(analyse(run))


def test_a_picture_of_a_diverged_arm_says_so_and_that_of_a_sound_arm_is_refused(
    write_run, results, slices
):
    slices["a/a1/fedprox"] = np.full((40, 32), np.nan, dtype=np.float16)
    folder = write_run(results=diverge(results, "fedprox", "a1"), slices=slices)
    text = render_page(analyse(read_run(folder)))
    assert text.count('<td class="none">diverged</td>') == 3  # picture, error, lesion
    with pytest.raises(DataError, match="'a/a1/fedprox' holds NaN"):
        read_run(write_run(results=results, slices=slices))


def test_a_squared_error_that_is_no_number_is_not_held_against_its_psnr(write_run, results):
    psnr = results[results["metric"] == "psnr"]
    mse = psnr.assign(metric="mse", value=1 / 10 ** (psnr["value"] / 10))
    rows = pd.concat([results, mse], ignore_index=True)
    for metric in ("psnr", "mse"):
        rows = diverge(rows, "fedprox", "a1", metric)
    assert read_run(write_run(results=rows)).diverged == {"fedprox"}
