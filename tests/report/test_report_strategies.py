"""Did the strategies act? What run.json says of them, verdicts, numbers and drawn channels."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from eighteen_strategies import GROUPS

from fedi2i.errors import DataError
from report.__main__ import main
from report.figures.channels import (
    group_labels,
    group_moves,
    moved_curves,
    natural_order,
    short_names,
)
from report.number_format import listed, percent, ratio
from report.numbers.analysis import analyse
from report.numbers.strategy_effects import Verdict
from report.page.render import render_page
from report.page.strategies import verdict_sentences
from report.page.summary import summary
from report.run.folder import read_run

COLUMNS = ["arm", "site", "round", "metric", "value"]
SITE, SERVER = "strategy/ratio_generator", "strategy/server_ratio_generator"
SENT, RECEIVED = "traffic/bytes_sent", "traffic/bytes_received"
GROUP = "fedma/moved/generator/unet.model.0.conv"


def rows(*given: tuple[str, str, int, str, float]) -> pd.DataFrame:
    return pd.DataFrame(given, columns=COLUMNS)


def renamed(about, results, **names: str):
    """The run with its two federated arms under other names."""
    for arm in about["arms"]:
        arm["name"] = names.get(arm["name"], arm["name"])
    return about, results.replace({"arm": names})


def jobs_of(folder):
    return {job.job: job for job in analyse(read_run(folder)).effects.jobs}


def section_of(folder) -> str:
    text = render_page(analyse(read_run(folder)))
    return text[text.index('id="action"') : text.index('id="pictures"')]


def test_a_term_at_the_sites_is_the_mean_over_sites_then_over_rounds(write_run):
    curves = rows(
        ("fedprox", "a", 0, SITE, 0.1),
        ("fedprox", "b", 0, SITE, 0.3),
        ("fedprox", "a", 1, SITE, 0.5),
        ("fedprox", "b", 1, SITE, 0.7),
        # the mean over sites as the server wrote it, and a row that must not count as a site's
        ("fedprox", "all", 1, SITE, 9.0),
        ("fedprox", "server", 0, SERVER, 0.0),
    )
    job = jobs_of(write_run(curves=curves))["fedprox"]
    assert job.site_ratio["generator"].mean == pytest.approx((0.2 + 0.6) / 2)
    assert job.site_ratio["generator"].last == pytest.approx(0.6)
    assert job.server_ratio["generator"].mean == 0.0 and "discriminator" not in job.server_ratio
    assert job.verdict == Verdict.ACTED


def test_the_departure_at_the_server_may_be_infinite(write_run):
    curves = rows(
        ("fedprox", "server", 0, SERVER, 0.5),
        ("fedprox", "server", 1, SERVER, np.inf),
        ("fedprox", "server", 2, SERVER, 1.5),
    )
    folder = write_run(curves=curves)
    job = jobs_of(folder)["fedprox"]
    assert job.server_ratio["generator"].mean == np.inf
    assert job.server_ratio["generator"].last == 1.5
    assert '<td class="divided">∞<br><small>last 1.5</small></td>' in section_of(folder)


def test_rows_of_all_are_taken_where_nothing_else_was_recorded(write_run):
    job = jobs_of(write_run(curves=rows(("fedprox", "all", 0, SERVER, 0.25))))["fedprox"]
    assert job.server_ratio["generator"].mean == 0.25


def test_traffic_counts_both_ways_over_all_sites_and_the_final_check_in_the_total_only(write_run):
    curves = rows(
        *(("fedavg", site, number, SENT, 100.0) for site in "ab" for number in range(3)),
        *(("fedavg", site, number, RECEIVED, 60.0) for site in "ab" for number in range(2)),
        *(("fedavg", "all", number, SENT, 100.0) for number in range(3)),
    )
    job = jobs_of(write_run(curves=curves))["fedavg"]
    assert job.bytes_per_round == 320  # 2 sites x (100 + 60)
    assert job.bytes_total == 840  # 2 x 320, and 2 x 100 for the final check
    assert job.verdict == Verdict.NO_TERM  # traffic is no action


@pytest.mark.parametrize(
    ("largest", "verdict"),
    [(0.0, Verdict.NOTHING), (0.00099, Verdict.NOTHING), (0.001, Verdict.ACTED)],
)
def test_a_strategy_acts_from_one_thousandth_on(write_run, largest, verdict):
    curves = rows(
        ("fedprox", "a", 0, SITE, 0.0),
        ("fedprox", "b", 1, SITE, largest),
        ("fedprox", "server", 0, SERVER, 0.0),
    )
    assert jobs_of(write_run(curves=curves))["fedprox"].verdict == verdict


def test_one_moved_group_at_one_site_is_an_action(write_run, about, results):
    about, results = renamed(about, results, fedprox="fedma")
    curves = rows(
        ("fedma", "server", 0, "fedma/moved_generator", 0.0002),
        ("fedma", "a", 0, GROUP, 0.0),
        ("fedma", "b", 0, GROUP, 0.03),
    )
    assert jobs_of(write_run(about, results, curves))["fedma"].verdict == Verdict.ACTED


def test_nothing_moved_because_everything_is_pinned_is_another_verdict(write_run, about, results):
    about, results = renamed(about, results, fedprox="fedma")
    still = ("fedma", "server", 0, "fedma/moved_generator", 0.0)
    for share, verdict in ((0.0, Verdict.UNMATCHABLE), (0.25, Verdict.NOTHING)):
        curves = rows(still, ("fedma", "server", 0, "fedma/matchable_generator", share))
        folder = write_run(about, results, curves)
        assert jobs_of(folder)["fedma"].verdict == verdict
        text = section_of(folder)
        assert f"of {percent(share)} matchable" in text
        assert ("no hidden channel of these networks can be matched" in text) == (share == 0.0)


def test_a_strategy_that_changed_nothing_is_named_on_the_page_in_the_summary_and_the_console(
    write_run, capsys
):
    curves = rows(("fedprox", "a", 0, SITE, 0.0), ("fedavg", "server", 0, SERVER, 0.0))
    folder = write_run(curves=curves)
    sentence = "FEDPROX changed nothing in this run"
    assert sentence in " ".join(summary(analyse(read_run(folder))))
    assert f'<p class="remark">{sentence}' in section_of(folder)
    assert '<td class="text strong">changed nothing</td>' in section_of(folder)
    assert main([str(folder)]) == 0
    assert f"! {sentence}" in capsys.readouterr().out


def test_a_strategy_that_acted_is_not_accused(write_run):
    curves = rows(("fedprox", "a", 0, SITE, 0.2), ("fedavg", "server", 0, SERVER, 0.0))
    folder = write_run(curves=curves)
    assert "changed nothing in this run" not in render_page(analyse(read_run(folder)))
    assert "0.001 or more: FEDPROX." in section_of(folder)
    assert "nothing is expected of them here: FEDAVG." in section_of(folder)


def test_a_strategy_without_a_term_is_described_and_not_accused(write_run, about):
    about["arms"][-1] |= {"does": "goes from site to site", "acts": False}
    curves = rows(("fedprox", "server", 0, SERVER, 0.0), ("fedprox", "a", 0, SENT, 5.0))
    folder = write_run(about, curves=curves)
    assert "<small>goes from site to site</small>" in section_of(folder)
    assert jobs_of(folder)["fedprox"].verdict == Verdict.NO_TERM
    assert "changed nothing in this run" not in render_page(analyse(read_run(folder)))


@pytest.mark.parametrize("job", ["fedbn", "ditto"])
def test_a_job_with_personal_models_has_one_row(
    write_run, personal_about, personal_results, personal_curves, job
):
    curves = pd.concat([personal_curves, rows((job, "a", 0, SITE, 0.0))], ignore_index=True)
    found = analyse(read_run(write_run(personal_about, personal_results, curves))).effects.jobs
    assert [item.label for item in found] == ["FEDAVG", "FEDPROX", "Ditto", "FedBN (personal)"]
    expected = {"fedbn": Verdict.NO_TERM, "ditto": Verdict.NOTHING}
    assert {item.job: item.verdict for item in found}[job] == expected[job]


def test_fedavg_that_departs_from_the_mean_is_an_alarm(write_run):
    folder = write_run(curves=rows(("fedavg", "server", 0, SERVER, 0.3)))
    assert jobs_of(folder)["fedavg"].verdict == Verdict.UNEXPECTED
    assert '<p class="remark">FEDAVG: expected to add nothing' in section_of(folder)


def test_a_strategy_that_recorded_nothing_is_not_called_idle(write_run):
    folder = write_run(curves=rows(("fedavg", "server", 0, SERVER, 0.0)))
    assert jobs_of(folder)["fedprox"].verdict == Verdict.NOT_RECORDED
    assert "cannot say whether they acted: FEDPROX." in section_of(folder)


def test_a_strategy_of_which_nothing_is_said_is_not_judged(write_run, about):
    del about["arms"][-1]["does"], about["arms"][-1]["acts"]
    folder = write_run(about, curves=rows(("fedprox", "server", 0, SERVER, 0.0)))
    assert jobs_of(folder)["fedprox"].verdict == Verdict.NOT_SAID
    section = section_of(folder)
    assert "not described in run.json" in section
    assert "the run does not say whether one is expected: FEDPROX." in section
    assert "does not say what its strategies do" not in section  # it does of the other one


def test_a_run_that_says_nothing_of_its_strategies_is_reported_and_says_so_once(write_run, about):
    for arm in about["arms"]:
        arm.pop("does", None)
        arm.pop("acts", None)
    curves = rows(("fedprox", "a", 0, SITE, 0.2), ("fedavg", "server", 0, SERVER, 0.0))
    folder = write_run(about, curves=curves)
    page = render_page(analyse(read_run(folder)))
    assert page.count("This run does not say what its strategies do.") == 1
    assert "not described in run.json" not in page
    assert jobs_of(folder)["fedprox"].verdict == Verdict.ACTED
    assert analyse(read_run(folder)).featured.reference.name == "fedavg"  # the first one listed


def test_a_strategy_may_move_channels_under_a_name_of_its_own(write_run):
    curves = rows(("fedprox", "server", 0, "newmatch/moved_generator", 0.5))
    folder = write_run(curves=curves)
    assert jobs_of(folder)["fedprox"].moved["generator"].first == 0.5
    assert 'alt="Channels moved: FEDPROX"' in section_of(folder)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"acts": "yes"}, r"arms\[5\]: key 'acts' is 'yes', expected a value of type bool"),
        ({"does": 3}, r"arms\[5\]: key 'does' is 3, expected a value of type str"),
        ({"reference": 1}, r"arms\[5\]: key 'reference' is 1, expected a value of type bool"),
    ],
)
def test_what_a_run_says_of_a_strategy_has_a_type(write_run, about, change, complaint):
    about["arms"][5] |= change
    with pytest.raises(DataError, match=complaint):
        read_run(write_run(about))


def test_the_marked_arm_is_the_reference_wherever_it_is_listed(write_run, about):
    about["arms"][-1]["reference"] = True  # fedprox, listed after fedavg
    analysis = analyse(read_run(write_run(about)))
    assert analysis.featured.reference.name == "fedprox"
    assert {tests.reference.name for tests in analysis.tests} == {"fedprox"}
    assert "FEDPROX minus the other" in render_page(analysis)


def test_a_personal_strategy_may_be_the_reference(write_run, personal_about, personal_results):
    for arm in personal_about["arms"]:
        arm["reference"] = arm["name"].startswith("fedbn")
    analysis = analyse(read_run(write_run(personal_about, personal_results)))
    assert analysis.featured.reference.name == "fedbn"


def test_of_a_marked_job_with_global_and_personal_models_the_global_one_is_the_reference(
    write_run, personal_about, personal_results
):
    for arm in personal_about["arms"]:
        arm["reference"] = arm["name"].startswith("ditto")
    analysis = analyse(read_run(write_run(personal_about, personal_results)))
    assert analysis.featured.reference.name == "ditto"


def test_two_references_are_refused(write_run, about):
    about["arms"][-1]["reference"] = about["arms"][-2]["reference"] = True
    with pytest.raises(DataError, match="'fedavg' and 'fedprox' are both the reference"):
        read_run(write_run(about))


def test_an_arm_without_federation_is_no_reference(write_run, about):
    about["arms"][3]["reference"] = True
    with pytest.raises(DataError, match="'centralised' is the reference but is not federated"):
        read_run(write_run(about))


def test_a_run_without_diagnostics_says_so(write_run, curves):
    for given in (None, curves):
        folder = write_run(curves=given)
        assert "cannot say whether its federated strategies acted" in section_of(folder)
        assert "Table 4." not in section_of(folder)


def test_an_arm_with_the_results_of_fedavg_is_named(write_run, about, results):
    fedavg = results[results["arm"] == "fedavg"]
    same = pd.concat([results[results["arm"] != "fedprox"], fedavg.assign(arm="fedprox")])
    assert "every patient and metric: FEDPROX." in section_of(write_run(about, same))
    same.iloc[-3, same.columns.get_loc("value")] += 0.01  # the mae of one patient
    assert "every patient and metric: FEDPROX." not in section_of(write_run(about, same))


def test_personal_models_that_are_all_the_same_are_named(
    write_run, personal_about, personal_results
):
    one = personal_results[personal_results["arm"] == "fedbn@a"]
    same = pd.concat(
        [personal_results[personal_results["arm"] != "fedbn@b"], one.assign(arm="fedbn@b")]
    )
    text = "nothing of the model stayed at the sites"
    sentences = verdict_sentences(analyse(read_run(write_run(personal_about, same))).effects)
    assert [s for s, alarming in sentences if alarming] == [
        f"FedBN (personal): the models of all sites give equal values for every patient, so "
        f"{text} in this run."
    ]
    assert text not in section_of(write_run(personal_about, personal_results))


def test_diagnostics_stay_out_of_the_curves_and_the_server_is_not_a_site(write_run, curves):
    more = rows(
        ("fedprox", "a", 0, SITE, 0.2),
        ("fedprox", "server", 0, SERVER, 0.0),
        ("fedprox", "server", 0, "fedma/moved_generator", 0.1),
        ("fedprox", "a", 0, GROUP, 0.1),
        ("fedprox", "a", 0, SENT, 5.0),
    )
    folder = write_run(curves=pd.concat([curves, more], ignore_index=True))
    text = render_page(analyse(read_run(folder)))
    titles = re.findall(r'alt="Curves over rounds: (.*?)"', text)
    assert titles == [
        "a, b, mean over federated sites",
        "train/l1",
        "fedprox/ratio_generator",  # not one of the recorded diagnostics: an old name
    ]
    assert "server" not in re.sub(r"<style>.*?</style>", "", " ".join(titles))


def test_a_site_of_curves_that_the_run_does_not_list_is_refused(write_run):
    with pytest.raises(DataError, match="site 'moon' is not listed"):
        read_run(write_run(curves=rows(("fedprox", "moon", 0, SITE, 0.2))))


def fedma_run(write_run, about, results):
    about, results = renamed(about, results, fedprox="fedma")
    second = "fedma/moved/generator/unet.model.1.conv"
    curves = rows(
        ("fedma", "server", 0, "fedma/moved_generator", 0.96),
        ("fedma", "server", 1, "fedma/moved_generator", 0.02),
        ("fedma", "all", 0, "fedma/moved_generator", 0.5),
        ("fedma", "a", 0, GROUP, 0.9),
        ("fedma", "b", 0, GROUP, 0.7),
        ("fedma", "a", 1, GROUP, 0.0),
        ("fedma", "a", 1, second, 0.25),
    )
    return analyse(read_run(write_run(about, results, curves)))


def test_moved_channels_are_those_the_server_counted(write_run, about, results):
    analysis = fedma_run(write_run, about, results)
    (arm,) = moved_curves(analysis.run, analysis.effects.jobs)
    assert arm.roles["generator"].to_dict() == {0: 0.96, 1: 0.02}
    text = render_page(analysis)
    assert "96 %<br><small>last 2.0 %</small>" in text
    assert 'alt="Channels moved: FEDPROX"' in text
    assert 'alt="Channel groups moved: FEDPROX"' in text


def test_the_heat_map_is_the_mean_over_sites_and_empty_where_nothing_was_matched(
    write_run, about, results
):
    analysis = fedma_run(write_run, about, results)
    (arm,) = group_moves(analysis.run, analysis.effects.jobs)
    assert arm.groups == ("generator/unet.model.0.conv", "generator/unet.model.1.conv")
    assert arm.rounds == (0, 1)
    np.testing.assert_allclose(arm.fractions, [[0.8, 0.0], [np.nan, 0.25]])


def test_long_names_are_shortened_as_far_as_they_stay_different():
    unet = GROUPS["generator"]
    assert list(short_names(unet).values()) == ["0", "1.0", "1.1.0", "1.1.1", "1.1.2", "1.2"]
    assert list(short_names(["patches.initial.conv", "patches.0.conv"]).values()) == [
        "initial",
        "0",
    ]
    # neither side of a pair of words is left out: "0" beside "down.0" would puzzle
    pairs = ["net.up.0", "net.up.1", "net.down.0"]
    assert list(short_names(pairs).values()) == ["up.0", "up.1", "down.0"]
    # nor is what two names need to differ
    assert list(short_names(["net", "net.net"]).values()) == ["net", "net.net"]
    assert short_names(["conv"]) == {"conv": "conv"}
    assert group_labels(["generator/a.0.conv", "discriminator/a.0.conv"]) == {
        "generator/a.0.conv": "generator 0",
        "discriminator/a.0.conv": "discriminator 0",
    }


def test_groups_are_ordered_as_people_count():
    names = ["m.10.conv", "m.2.conv", "m.first.conv"]
    assert sorted(names, key=natural_order) == ["m.first.conv", "m.2.conv", "m.10.conv"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (5e-5, "< 0.0001"),
        (0.00273, "0.0027"),
        (0.27, "0.27"),
        (1.44, "1.4"),
        (23.4, "23"),
        (np.inf, "∞"),
        (None, "\N{EN DASH}"),
    ],
)
def test_ratios_have_two_digits_that_count(value, text):
    assert ratio(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0 %"), (0.0004, "< 0.1 %"), (0.031, "3.1 %"), (0.968, "97 %")]
)
def test_fractions_are_shown_in_percent(value, text):
    assert percent(value) == text


def test_labels_with_commas_are_listed_with_semicolons():
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(["a, own start", "b"]) == "a, own start; and b"
