"""Tables, matrix, tests and curves against numbers worked out by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from report.numbers.analysis import analyse
from report.numbers.cross_site import cross_site_matrix
from report.numbers.curves import curve_book, mean_curve, site_curve, sites_with
from report.numbers.results_table import MetricTable
from report.numbers.statistics import bootstrap_interval, holm, paired_differences, wilcoxon_p
from report.run.folder import read_run


def psnr_table(folder) -> MetricTable:
    return analyse(read_run(folder)).tables[0]


def column_of(table: MetricTable, label: str) -> int:
    return [column.label for column in table.columns].index(label)


def test_rows_and_columns_follow_run_json(write_run):
    table = psnr_table(write_run())
    rows = [row.name for row in table.rows]
    assert rows == ["source", "local-only", "centralised", "fedavg", "fedprox"]
    labels = [column.label for column in table.columns]
    assert labels == ["a", "b", "All federated patients", "Unseen: u"]
    assert table.counts == (3, 2, 5, 2)


def test_a_site_cell_is_mean_and_sample_standard_deviation_over_its_test_patients(write_run):
    cell = psnr_table(write_run()).cells["fedavg", 0]  # 23, 25, 27
    assert (cell.n, cell.mean, cell.std) == (3, 25.0, 2.0)
    assert (cell.lower_quartile, cell.median, cell.upper_quartile) == (24.0, 25.0, 26.0)


def test_the_federated_mean_weighs_patients_not_sites(write_run):
    table = psnr_table(write_run())
    # patients 23 25 27 26 28: mean 25.8; the mean of site means would be 26.0
    assert table.cells["fedavg", 2].mean == pytest.approx(25.8)


def test_local_only_is_the_own_model_at_home_and_the_mean_of_all_models_elsewhere(write_run):
    table = psnr_table(write_run())
    assert table.cells["local-only", 0].mean == pytest.approx(22.0)  # local-a on a: 20 22 24
    assert table.cells["local-only", 1].mean == pytest.approx(23.0)  # local-b on b: 21 25
    unseen = table.cells["local-only", 3]  # u1 (17 + 19) / 2 = 18, u2 (18 + 22) / 2 = 20
    assert (unseen.n, unseen.mean) == (2, 19.0)
    assert unseen.std == pytest.approx(np.sqrt(2))


def test_the_best_federated_arm_is_marked_per_column_and_ties_are_all_marked(write_run):
    analysis = analyse(read_run(write_run()))
    psnr, mae = analysis.tables
    # a: 25 and 25; b: 27 and 26.5; all: 25.8 and 25.6; u: 22.5 and 22.5
    both = {("fedavg", 0), ("fedprox", 0), ("fedavg", 3), ("fedprox", 3)}
    assert psnr.best == both | {("fedavg", 1), ("fedavg", 2)}
    # for MAE the smaller mean wins: b is 1/26 + 1/28 against 1/25 + 1/28
    assert ("fedavg", 1) in mae.best and ("fedprox", 1) not in mae.best


def test_a_single_federated_arm_is_not_called_best(write_run, about, results):
    about["arms"] = [arm for arm in about["arms"] if arm["name"] != "fedprox"]
    folder = write_run(about=about, results=results[results["arm"] != "fedprox"])
    assert psnr_table(folder).best == frozenset()


def test_a_site_without_a_local_model_has_an_empty_cell_and_the_pooled_cell_says_its_n(
    write_run, about, results
):
    about["arms"] = [arm for arm in about["arms"] if arm["name"] != "local-b"]
    table = psnr_table(write_run(about=about, results=results[results["arm"] != "local-b"]))
    local = table.rows[1]
    assert table.mean_and_std(local, 1) == "\N{EN DASH}"
    assert table.mean_and_std(local, 2) == "22.00 ± 2.00 (n = 3)"


def test_infinite_psnr_gives_an_infinite_mean_and_a_finite_median(write_run, results):
    chosen = (results["arm"] == "fedavg") & (results["subject"] == "a1")
    results.loc[chosen & (results["metric"] == "psnr"), "value"] = np.inf
    table = psnr_table(write_run(results=results))  # inf, 25, 27
    cell = table.cells["fedavg", 0]
    assert cell.mean == np.inf and np.isnan(cell.std) and cell.median == 27.0
    assert cell.infinite == 1
    assert table.mean_and_std(table.rows[3], 0) == "∞ ± \N{EN DASH}"


def test_the_cross_site_matrix_holds_mean_psnr_and_outlines_own_sites(write_run):
    analysis = analyse(read_run(write_run()))
    matrix = cross_site_matrix(analysis.run, analysis.rows)
    assert [arm.name for arm in matrix.arms][:2] == ["local-a", "local-b"]
    np.testing.assert_allclose(matrix.values[:2], [[22, 15.5, 17.5], [15, 23, 20.5]])
    own = [(r, c) for r in range(5) for c in range(3) if matrix.is_own(r, c)]
    assert own == [(0, 0), (1, 1)]
    assert matrix.shade(1, 0) == 0.0  # 15 dB is the smallest mean
    assert matrix.shade(2, 1) == 1.0  # centralised on b, 28.5 dB, is the largest


def enumerated_p(differences: list[float]) -> float:
    """Two-sided signed-rank p by trying every assignment of signs (no ties)."""
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1
    total = ranks.sum()
    observed = min(ranks[np.array(differences) > 0].sum(), ranks[np.array(differences) < 0].sum())
    signs = itertools.product([0, 1], repeat=len(ranks))
    sums = [int(np.dot(sign, ranks)) for sign in signs]
    return float(np.mean([min(s, total - s) <= observed for s in sums]))


@pytest.mark.parametrize("data", [[1.0, 2.0, 3.0, -0.5], [0.3, -1.1, 2.2, 1.7, 0.9, -0.2, 3.0]])
def test_the_wilcoxon_p_value_equals_full_enumeration_of_signs(data):
    assert wilcoxon_p(np.array(data)) == pytest.approx(enumerated_p(data))


def test_equal_arms_have_p_of_one_even_where_psnr_is_infinite():
    same = np.array([20.0, np.inf, 30.0])
    assert wilcoxon_p(paired_differences(same, same)) == 1.0


def test_an_infinite_difference_takes_the_largest_rank():
    # ranks 1..5 with any large number in place of infinity
    assert wilcoxon_p(np.array([1, 2, 3, -4, np.inf])) == enumerated_p([1, 2, 3, -4, 99])


def test_holm_multiplies_by_the_hypotheses_still_open_and_never_decreases():
    # sorted .01 .03 .04: 3 x .01 = .03, 2 x .03 = .06, max(.06, 1 x .04) = .06
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]


def test_the_bootstrap_interval_repeats_with_its_seed_and_lies_within_the_data():
    data = np.array([0.1, 0.4, 0.5, 0.9, 1.3, 2.0])
    low, high = bootstrap_interval(data, seed=5)
    assert (low, high) == bootstrap_interval(data, seed=5)
    assert data.min() <= low <= np.median(data) <= high <= data.max()


def test_the_bootstrap_interval_of_two_patients_is_their_range():
    # resampled medians are x, (x + y) / 2 and y with chances 1/4, 1/2, 1/4
    assert bootstrap_interval(np.array([1.0, 3.0]), seed=0) == (1.0, 3.0)
    assert bootstrap_interval(np.array([1.0]), seed=0) is None


def test_fedavg_is_compared_with_every_other_trained_row_on_the_same_patients(write_run):
    tests = analyse(read_run(write_run())).tests
    family = next(t for t in tests if t.metric.name == "psnr" and not t.population.unseen)
    found = {item.other.name: item for item in family.comparisons}
    assert list(found) == ["local-only", "centralised", "fedprox"]
    local = found["local-only"]  # 23-20, 25-22, 27-24, 26-21, 28-25
    assert (local.n, local.better, local.median_difference) == (5, 5, 3.0)
    central = found["centralised"]  # -2 -1 0 -2 -1
    assert (central.better, central.median_difference) == (0, -1.0)


def test_for_an_error_metric_a_lower_value_counts_as_better(write_run):
    tests = analyse(read_run(write_run())).tests
    family = next(t for t in tests if t.metric.name == "mae" and not t.population.unseen)
    assert {i.other.name: i.better for i in family.comparisons}["local-only"] == 5


def test_the_smallest_reachable_p_value_counts_patients_and_comparisons(write_run):
    tests = analyse(read_run(write_run())).tests
    unseen = next(t for t in tests if t.metric.name == "psnr" and t.population.unseen)
    pooled = next(t for t in tests if t.metric.name == "psnr" and not t.population.unseen)
    assert unseen.smallest_p_holm == 1.0  # n = 2: 3 x 2 / 2^2 = 1.5, at most 1
    assert pooled.smallest_p_holm == pytest.approx(0.1875)  # n = 5: 3 x 2 / 2^5


def test_curves_keep_own_models_at_home_and_average_only_shared_rounds(write_run, curves):
    run = read_run(write_run(curves=curves))
    book = curve_book(run)
    rows = {row.name: row for row in analyse(run).rows}
    mean = mean_curve(book, rows["fedavg"], "val/psnr")
    assert mean.to_dict() == {1: 15.0, 2: 18.0}  # round 3 was recorded at b only
    site_b = run.about.sites[1]
    assert site_curve(book, rows["local-only"], site_b, "val/psnr").empty
    shown = sites_with(book, tuple(rows.values()), "val/psnr")
    assert [site.name for site in shown] == ["a", "b"]


def test_an_arm_that_logs_no_sites_is_drawn_from_its_rows_of_all(write_run, curves):
    run = read_run(write_run(curves=curves))
    rows = {row.name: row for row in analyse(run).rows}
    mean = mean_curve(curve_book(run), rows["centralised"], "train/l1")
    assert mean.to_dict() == {1: 0.5}
