"""Eighteen strategies on one page: what is singled out, by which rule, and what is still said."""

from __future__ import annotations

import re

import eighteen_strategies as synthetic
import numpy as np
import pandas as pd
import pytest
from test_report_page import Addresses

from report.console import console_tables
from report.figures.pictures import panel_columns
from report.figures.style import line_styles
from report.numbers.analysis import analyse
from report.numbers.cross_site import cross_site_matrix
from report.numbers.curves import late_range
from report.numbers.featured import LINES, PICTURES
from report.numbers.strategy_effects import Verdict
from report.page.summary import summary
from report.run.folder import read_run


@pytest.fixture
def analysis(strategies_analysis):
    return strategies_analysis


@pytest.fixture
def page(strategies_page):
    return strategies_page


def test_the_page_is_well_formed_and_names_every_arm_in_table_1(page):
    parser = Addresses()
    parser.feed(page)
    assert parser.open == []
    first = page[page.index("Table 1a.") : page.index("Table 1b.")]
    labels = re.findall(r'<th scope="row">(.*?)</th>', first)
    expected = [label for label, *_ in synthetic.GLOBAL.values()]
    expected += [label for _, label, *_ in synthetic.PERSONAL.values()]
    assert labels == ["Source as prediction", "Local only", "Centralised", *expected]
    groups = re.findall(r'<tr class="group"><th scope="colgroup" colspan="7">(.*?)</th>', first)
    assert groups == [
        "Baselines",
        "Federated, one global model",
        "Federated, a personal model per site",
    ]


def test_the_reference_the_best_of_each_group_and_the_baselines_are_singled_out(analysis):
    names = [row.name for row in analysis.featured.shown_in_figures(LINES)]
    trained = ["local-only", "centralised", "fedavg", "fedavgm", "scaffold", "ditto_personal"]
    assert names == ["source", *trained]
    means = analysis.tables[0].cells
    rest = [name for name in synthetic.GLOBAL if name not in ("fedavg", "fedavgm", "scaffold")]
    assert all(means[name, 4].mean < means["scaffold", 4].mean for name in rest)
    assert means["scaffold", 4].mean < means["fedavgm", 4].mean


def test_pictures_have_a_column_for_each_of_them_and_the_rule_is_on_the_page(analysis, page):
    site = analysis.run.about.sites[0]
    columns = panel_columns(analysis.run, analysis.featured.shown_in_figures(PICTURES), site)
    arms = [column.arm.name for column in columns]
    assert arms == ["local-north", "centralised", "fedavg", "fedavgm", "ditto@north"]
    assert "the best of the other global strategies, FedAvgM" in page
    assert "highest mean PSNR over all federated patients (Table 1a)" in page


def test_a_few_federated_arms_are_all_shown(write_run, personal_about, personal_results):
    kept = [a for a in personal_about["arms"] if not a["name"].startswith("fedbn")]
    rows = personal_results[~personal_results["arm"].str.startswith("fedbn")]
    analysis = analyse(read_run(write_run(personal_about | {"arms": kept}, rows)))
    assert [m.name for m in analysis.rows if m.is_federated] == [
        "fedavg",
        "fedprox",
        "ditto",
        "ditto_personal",
    ]
    assert analysis.featured.shown_in_figures(PICTURES) == analysis.rows


def test_lines_with_a_name_differ_in_colour_and_marker_and_all_others_are_quiet(analysis):
    chosen = [row for row in analysis.featured.shown_in_figures(LINES) if row.is_trained]
    trained = [row for row in analysis.rows if row.is_trained]
    styles = line_styles(trained, chosen)
    named = [styles[row.name] for row in chosen]
    assert len({style.colour for style in named}) == len({s.marker for s in named}) == len(named)
    quiet = [name for name, style in styles.items() if style.quiet]
    assert len(quiet) == len(trained) - len(chosen) == 15


def test_every_strategy_has_a_panel_of_its_own_or_is_said_to_have_no_curve(page):
    strategies = [*synthetic.GLOBAL.values(), *(row[1:] for row in synthetic.PERSONAL.values())]
    titles = re.findall(r'alt="Curves over rounds: (.*?)"', page)
    assert ", ".join(label for label, *_ in strategies) in titles
    # the relay measured no SSIM of a global model
    assert "Recorded nothing: Cyclic." in page
    assert "Colours are those of Figure 1a." in page and "All other federated arms are grey" in page


def test_too_few_patients_for_so_many_comparisons_are_said(page):
    # 20 comparisons, 8 patients: 20 x 2 / 2^8
    assert page.count("the smallest corrected p-value this test can give is 0.156") == 4
    assert "20 comparisons" in page


def test_the_summary_does_not_list_every_arm(analysis):
    text = " ".join(summary(analysis))
    assert "of 16 global strategies the highest is FedAvgM 21.51, the lowest FedYogi 12.81" in text
    assert "no corrected p-value of these 20 comparisons can fall below 0.156" in text
    assert "FedMA and Trimmed mean changed nothing in this run" in text
    assert len(text) < 2300


def test_strategies_that_did_not_act_are_the_two_that_were_made_so(analysis):
    idle = [job.job for job in analysis.effects.jobs if job.verdict == Verdict.NOTHING]
    assert idle == ["fedma", "trimmed_mean"]
    assert [row.name for row in analysis.effects.equal] == ["fedma", "ditto", "swarm"]
    assert len(analysis.effects.jobs) == 18


def test_the_console_prints_the_two_leading_metrics_of_many_arms(analysis):
    text = console_tables(analysis.tables)
    assert text.count("mean ± std over patients") == 2


def test_a_failed_arm_does_not_take_the_scale_of_the_matrix(analysis):
    matrix = cross_site_matrix(analysis.run, analysis.rows)
    rows = {arm.name: index for index, arm in enumerate(matrix.arms)}
    assert matrix.off_scale == 5  # FedYogi at five sites
    assert matrix.shade(rows["fedyogi"], 0) == 0.0
    assert matrix.scale[0] == matrix.values[rows["fedadam"]].min()


def test_the_late_range_leaves_out_early_rounds_and_failed_arms():
    good = [pd.Series([7.0, 20.0, 21.0 + i / 10, 21.5 + i / 10]) for i in range(5)]
    low, high = late_range([*good, pd.Series([7.0, 8.0, 9.0, 9.5])])
    # rounds 2 and 3 of 0 to 3: 21.0 to 21.9, and 5 % of that on both sides
    assert (low, high) == pytest.approx((21.0 - 0.045, 21.9 + 0.045))
    assert late_range([pd.Series([np.inf])]) == (0.0, 1.0)
    assert late_range([pd.Series([3.0])]) == pytest.approx((2.95, 3.05))


def test_the_page_ranks_the_global_strategies_and_no_others(page):
    part = page[page.index("Mean ranks") :]
    part = part[: part.index("</table>")]
    names = re.findall(r'<th scope="row">(.*?)</th>', part)
    assert "Local only" not in part and "personal" not in part
    assert names[-2:] == ["critical difference", "Friedman p"]
    labels = [label for label, *_ in synthetic.GLOBAL.values()]
    shown = [label for name in names[:-2] for label in re.split(r", (?=[A-Z])", name)]
    assert sorted(shown) == sorted(labels)
