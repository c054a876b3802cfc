"""Strategies after which every site has a model of its own: one row, one curve, one cost."""

from __future__ import annotations

import re
from html import unescape

import numpy as np
import pytest

from fedi2i.errors import DataError
from report.console import console_tables
from report.figures.pictures import site_panels
from report.numbers.analysis import analyse
from report.numbers.cross_site import cross_site_matrix
from report.numbers.curves import curve_book, mean_curve, site_curve, sites_with
from report.page.render import render_page
from report.run.folder import read_run


@pytest.fixture
def analysis(write_run, personal_about, personal_results, personal_curves, personal_slices):
    folder = write_run(personal_about, personal_results, personal_curves, personal_slices)
    return analyse(read_run(folder))


def mean_of(analysis, row: str, column: int) -> float:
    return analysis.tables[0].cells[row, column].mean


def test_a_family_is_one_row_and_rows_stand_in_groups(analysis):
    names = [row.name for row in analysis.rows]
    before = ["source", "local-only", "centralised", "fedavg", "fedprox", "ditto"]
    assert names == [*before, "fedbn", "ditto_personal"]


def test_rows_stand_in_groups_whatever_the_order_of_run_json(
    write_run, personal_about, personal_results
):
    personal_about["arms"].reverse()
    rows = analyse(read_run(write_run(personal_about, personal_results))).rows
    kinds = [row.kind for row in rows]
    assert kinds == ["source", "local", "centralised", *["federated"] * 3, *["personal"] * 2]


def test_a_family_is_the_own_model_at_home_and_the_mean_over_all_its_models_elsewhere(analysis):
    # columns a, b, all federated patients, u
    assert mean_of(analysis, "fedbn", 0) == pytest.approx(26.0)  # fedbn@a on a: 24 26 28
    assert mean_of(analysis, "fedbn", 1) == pytest.approx(28.0)  # fedbn@b on b: 27 29
    assert mean_of(analysis, "fedbn", 2) == pytest.approx(26.8)
    # u1 (20 + 22) / 2 = 21, u2 (22 + 26) / 2 = 24
    assert mean_of(analysis, "fedbn", 3) == pytest.approx(22.5)
    assert mean_of(analysis, "ditto_personal", 3) == pytest.approx(21.75)


def test_global_and_personal_arms_are_ranked_apart(analysis):
    best = analysis.tables[0].best
    # fedbn and ditto_personal: a 26 and 26; b 28 and 26.5; all 26.8 and 26.2; u 22.5 and 21.75
    personal = {("fedbn", 0), ("ditto_personal", 0), ("fedbn", 1), ("fedbn", 2), ("fedbn", 3)}
    assert {key for key in best if key[0] in ("fedbn", "ditto_personal")} == personal
    # every personal mean at home is above FedAvg's, which is marked all the same
    assert {("fedavg", column) for column in range(4)} <= best


def test_a_family_that_lacks_a_site_is_not_ranked_where_patients_are_missing(
    write_run, personal_about, personal_results
):
    arms = [arm for arm in personal_about["arms"] if arm["name"] != "ditto@b"]
    rows = personal_results[personal_results["arm"] != "ditto@b"]
    table = analyse(read_run(write_run(personal_about | {"arms": arms}, rows))).tables[0]
    own = next(row for row in table.rows if row.name == "ditto_personal")
    assert table.mean_and_std(own, 2) == "26.00 ± 1.00 (n = 3)"
    assert not [key for key in table.best if key[0] == "fedbn" and key[1] == 2]


def test_the_matrix_shows_every_personal_model_and_outlines_its_own_site(analysis):
    matrix = cross_site_matrix(analysis.run, analysis.rows)
    labels = [arm.label for arm in matrix.arms]
    assert labels[-4:-2] == ["FedBN (personal): a", "FedBN (personal): b"]
    np.testing.assert_allclose(matrix.values[-4:-2], [[26, 18.5, 21], [18, 28, 24]])
    own = [(labels[r], c) for r in range(len(labels)) for c in range(3) if matrix.is_own(r, c)]
    assert own[2:4] == [("FedBN (personal): a", 0), ("FedBN (personal): b", 1)]


def test_a_family_takes_part_in_the_paired_tests_like_any_other_method(analysis):
    family = next(t for t in analysis.tests if t.metric.name == "psnr" and not t.population.unseen)
    found = {item.other.name: item for item in family.comparisons}
    assert len(found) == 6
    fedbn = found["fedbn"]  # 23-24, 25-26, 27-28, 26-27, 28-29
    assert (fedbn.n, fedbn.better, fedbn.median_difference) == (5, 0, -1.0)


def test_pictures_show_the_own_model_and_elsewhere_that_of_the_largest_site(analysis):
    panels = {panel.site.name: panel for panel in site_panels(analysis.run, analysis.featured)}
    at = {site: [column.arm.name for column in panel.columns] for site, panel in panels.items()}
    assert "fedbn@a" in at["a"] and "fedbn@b" not in at["a"] and "fedbn@b" in at["b"]
    assert "fedbn@b" in at["u"] and "fedbn@a" not in at["u"]  # 9 training patients against 3
    assert "FedBN (personal) · b" in [column.label for column in panels["u"].columns]


def lines(analysis):
    return curve_book(analysis.run), {row.name: row for row in analysis.rows}


def test_fedbn_is_drawn_from_the_rows_of_its_job(analysis):
    book, rows = lines(analysis)
    assert mean_curve(book, rows["fedbn"], "val/psnr").to_dict() == {1: 23.0}
    site_a = analysis.run.about.sites[0]
    assert site_curve(book, rows["fedbn"], site_a, "val/psnr").to_dict() == {1: 22.0}


def test_ditto_has_a_global_line_and_one_of_its_personal_models(analysis):
    book, rows = lines(analysis)
    assert mean_curve(book, rows["ditto"], "val/psnr").to_dict() == {1: 15.0}
    assert mean_curve(book, rows["ditto_personal"], "val/psnr").to_dict() == {1: 26.0}


def test_the_losses_of_a_job_are_drawn_once(analysis):
    book, rows = lines(analysis)
    assert mean_curve(book, rows["ditto"], "train/l1").to_dict() == {1: 0.4}
    assert mean_curve(book, rows["ditto_personal"], "train/l1").empty
    assert mean_curve(book, rows["fedbn"], "train/l1").to_dict() == {1: 0.3}


def test_panels_are_sites_that_a_shown_model_recorded(analysis):
    book, rows = lines(analysis)
    shown = sites_with(book, (rows["ditto_personal"],), "val/psnr")
    assert [site.name for site in shown] == ["a", "b"]


def test_the_cost_of_a_job_stands_once_however_many_models_it_left(analysis):
    text = render_page(analysis)
    costs = text[text.index("Table 6.") : text.index("Table 7.")]
    rows = re.findall(r'<th scope="row">(.*?)</th>', costs)
    assert rows[-2:] == ["FedBN (personal)", "Ditto"]
    assert rows.count("FedBN (personal)") == 1 and costs.count("5.0 kB") == 2
    assert "the final model; the site's model" in unescape(costs)


def test_the_page_says_what_personal_means(analysis):
    text = render_page(analysis)
    assert "Federated, a personal model per site" in text
    assert "At an unseen site there is no own model" in text
    assert "not ranked against global ones" in text


def test_the_console_groups_rows_and_has_a_mark_for_each_ranking(analysis):
    lines = console_tables(analysis.tables).split("\n")
    place = lines.index("-- Federated, a personal model per site")
    assert lines[place - 1].startswith("Ditto (global)")
    assert re.search(r"FedBN \(personal\) +26.00 ± 2.00\+ +28.00 ± 1.41\+", lines[place + 1])
    assert re.search(r"FEDAVG +25.00 ± 2.00\*", "\n".join(lines))
    assert any("an unseen site has none" in line for line in lines)


def test_a_run_without_personal_arms_has_no_group_headings(write_run):
    analysis = analyse(read_run(write_run()))
    assert "-- " not in console_tables(analysis.tables)
    assert "personal" not in render_page(analysis)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"site": "c", "name": "fedbn@c"}, "names no listed site"),
        ({"site": "u", "name": "fedbn@u"}, "that site is unseen"),
        ({"family": "fedavg"}, "family 'fedavg' has the name of an arm"),
        ({"family": "centralised"}, "family 'centralised' has the name of an arm"),
        ({"family": "local-only"}, "kept for arms called local-<site>"),
        ({"site": None}, "has no key 'site'"),
        ({"family": None}, "has no key 'family'"),
        ({"family": None, "site": None}, "no keys 'family' and 'site'"),
        ({"site": "b"}, "says site 'b'; name it <strategy>@b"),
        ({"label": "FedBN"}, "differ in 'label'"),
        ({"steps": 41}, "differ in 'steps'"),
        ({"seconds": 1.0}, "differ in 'seconds'"),
        ({"does": "something else"}, "differ in 'does'"),
        ({"acts": True}, "differ in 'acts'"),
        ({"reference": True}, "differ in 'reference'"),
    ],
)
def test_an_unsound_family_is_refused_in_one_sentence(
    write_run, personal_about, personal_results, change, complaint
):
    arm = next(arm for arm in personal_about["arms"] if arm["name"] == "fedbn@a")
    arm |= change
    with pytest.raises(DataError, match=complaint) as refused:
        read_run(write_run(personal_about, personal_results))
    assert "\n" not in str(refused.value)


def test_two_models_of_one_site_in_a_family_are_refused(
    write_run, personal_about, personal_results
):
    arm = next(arm for arm in personal_about["arms"] if arm["name"] == "ditto@a")
    arm |= {"family": "fedbn"}
    with pytest.raises(DataError, match="family 'fedbn' has two models of 'a'"):
        read_run(write_run(personal_about, personal_results))


def test_a_local_arm_that_contradicts_its_name_is_refused(write_run, about):
    about["arms"][1] |= {"family": "local-only", "site": "b"}
    with pytest.raises(DataError, match="'local-a' is the local model of 'a' by its name"):
        read_run(write_run(about))


@pytest.mark.parametrize("name", ["server", "all"])
def test_a_site_cannot_be_called_what_curves_call_something_else(write_run, about, name):
    about["sites"][0]["name"] = name
    with pytest.raises(DataError, match=f"a site is called '{name}'"):
        read_run(write_run(about))


def test_curves_name_the_job_and_not_the_model(
    write_run, personal_about, personal_results, personal_curves
):
    wrong = personal_curves.replace({"arm": {"fedbn": "fedbn@a"}})
    with pytest.raises(DataError, match="arm 'fedbn@a' is not listed"):
        read_run(write_run(personal_about, personal_results, wrong))


def test_results_name_the_model_and_not_the_job(write_run, personal_about, personal_results):
    wrong = personal_results.replace({"arm": {"fedbn@a": "fedbn"}})
    with pytest.raises(DataError, match="arm 'fedbn' is not listed"):
        read_run(write_run(personal_about, wrong))
