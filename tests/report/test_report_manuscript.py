"""Methods, limitations, checklist and references of a study, made from its files."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import test_report_study

from report.manuscript.checklist import AUTHOR, SUBJECTS, checklist
from report.manuscript.limitations import limitations
from report.manuscript.references import Numbering, Reference, Sentence
from report.numbers.over_seeds.study import StudyAnalysis, analyse_study
from report.page.manuscript import manuscript_section
from report.page.studies.study import render_study
from report.run.folder import read_run
from report.run.study import read_study

write_study = test_report_study.write_study
SEEDS = test_report_study.SEEDS
WriteStudy = Callable[..., Path]
EXPERIMENT: dict[str, Any] = {
    "data": {
        "dataset": "demo",
        "preparation": {
            "source": "t1",
            "target": "t2",
            "pairing": "paired",
            "size": [96, 80],
            "spacing": 2.0,
            "percentiles": [0.5, 99.5],
            "min_mask_fraction": 0.02,
        },
    },
    "model": {"name": "pix2pix", "generator": {"kind": "unet", "channels": [16, 32]}},
    "training": {"rounds": 6, "steps": 112, "batch_size": 2, "optimizer": "adam"},
}


def _analysis(folder: Path) -> StudyAnalysis:
    return analyse_study(read_study(folder))


def _methods(folder: Path) -> str:
    return " ".join(manuscript_section(_analysis(folder)).paragraphs)


def _answers(folder: Path) -> dict[int, tuple[str, str]]:
    items = [item for section in checklist(_analysis(folder)).values() for item in section]
    return {item.number: (item.state, item.answer) for item in items}


def test_the_methods_say_what_the_settings_say(
    write_study: WriteStudy, about: dict[str, Any]
) -> None:
    about["experiment"] = EXPERIMENT
    said = _methods(write_study())
    # 3 + 9 training, 1 + 1 validation and 3 + 2 + 2 test patients, and one for validation unseen
    assert said.startswith("The images are those of 22 patients. Training took place at 2 sites: ")
    for words in (
        "a (3 training, 1 validation, 3 test patients)",
        "For external testing only there was u (2 patients).",
        "All images are computed, not acquired.",
        "Images were translated from t1 to t2, by pairs of one patient.",
        "Slices have 96 \N{MULTIPLICATION SIGN} 80 pixels of 2 mm.",
        "the 0.5 and 99.5 percentiles inside the mask became 0 and 1",
        "The model was pix2pix (generator unet with 16, 32 channels) [1].",
        "trained for 6 rounds of 112 steps per site with batches of 2.",
        "Every arm was trained 4 times with different seeds",
        "The federated strategies were FEDAVG and FEDPROX.",
        "No privacy mechanism was used.",
        "was PSNR over the test patients of a and b, FEDAVG against every other trained arm.",
        "The 3 comparisons of the primary outcome were corrected by Holm's method",
        "within a margin of 0.3 dB",
    ):
        assert words in said, words


def test_the_methods_say_who_was_absent_slow_or_hostile_by_plan(
    write_study: WriteStudy, about: dict[str, Any]
) -> None:
    training = {**EXPERIMENT["training"], "schedule": "cosine", "warm_up": 0.05}
    about["experiment"] = {**EXPERIMENT, "training": training}
    about["participation"] = {"missing": 0.25, "stragglers": {"a": 0.5}, "min_sites": 1, "seed": 7}
    about["hostile"] = {"b": {"does": "flip", "factor": 3.0}}
    said = _methods(write_study())
    for words in (
        "By plan a site missed a round with a probability of 0.25.",
        "By plan these sites did a part of every round's steps: a 50%.",
        "The site b was hostile by plan: in place of the model it had trained it sent the received "
        "model with its update reversed, times 3.",
        "Learning rates followed a cosine schedule over the whole run.",
        "They rose over the first 5% of every round's steps.",
    ):
        assert words in said, words


def test_the_methods_name_whatever_changes_the_training(
    write_study: WriteStudy, about: dict[str, Any]
) -> None:
    model = {**EXPERIMENT["model"], "neighbours": 1, "lambda_features": 10.0}
    changes = {"flip": 0.5, "rotation": 10.0, "noise": 0.0}
    training = {**EXPERIMENT["training"], "augmentation": changes}
    preparation = {**EXPERIMENT["data"]["preparation"], "registration": "headers"}
    data = {**EXPERIMENT["data"], "preparation": preparation}
    about["experiment"] = {"data": data, "model": model, "training": training}
    said = _methods(write_study())
    for words in (
        "Targets were resampled to the grids of their sources by the positions in their headers.",
        "weight of the feature matching 10)",
        "Beside each slice the generator was shown the source's neighbouring slices, 1 on either "
        "side.",
        "Training slices were augmented anew in every step, at most by flip 0.5 and rotation 10.",
    ):
        assert words in unescape(said), words


def test_the_methods_name_all_contrasts_of_the_source_and_their_dropout(
    write_study: WriteStudy, about: dict[str, Any]
) -> None:
    preparation = {**EXPERIMENT["data"]["preparation"], "further_sources": ["flair"]}
    data = {**EXPERIMENT["data"], "preparation": preparation}
    model = {**EXPERIMENT["model"], "contrast_dropout": 0.3}
    about["experiment"] = {**EXPERIMENT, "data": data, "model": model}
    said = _methods(write_study())
    assert "from t1 and flair, as far as a patient has them, to t2, by pairs of one" in said
    assert "A training slice of several contrasts lost some of them with the prob" in said


def test_the_methods_of_an_honest_whole_study_speak_of_no_plan(
    write_study: WriteStudy, about: dict[str, Any]
) -> None:
    about["experiment"] = EXPERIMENT
    said = _methods(write_study())
    assert "by plan" not in said.lower()
    assert "schedule" not in said
    for word in ("augmented", "feature matching", "neighbouring slices", "headers"):
        assert word not in said


def test_what_the_run_does_not_record_is_not_said(write_study: WriteStudy) -> None:
    said = _methods(write_study())
    assert "translated from" not in said
    assert "percentiles" not in said
    assert "optimizer was" not in said
    assert "The model was" not in said


def test_of_two_seeds_the_methods_name_no_test(write_study: WriteStudy) -> None:
    said = _methods(write_study(seeds=SEEDS[:2]))
    assert "differences were described, not tested" in said
    assert "Holm" not in said


def test_a_mechanism_is_named_with_its_epsilon(
    write_study: WriteStudy, about: dict[str, Any]
) -> None:
    about["arms"][-1]["privacy"] = {
        "mechanism": "noise",
        "label": "patient-level noise",
        "promise": "p",
        "guarantees": True,
        "delta": 1e-5,
        "epsilon": 3.0,
    }
    folder = write_study()
    assert "FEDPROX was trained under patient-level noise, ε = 3 at δ = 1e-05." in _methods(folder)
    assert not any("promises privacy" in text for text in limitations(_analysis(folder)))


def test_the_paper_of_a_strategy_is_a_numbered_reference_beside_its_equation(
    write_study: WriteStudy, about: dict[str, Any]
) -> None:
    paper = {"text": "Somebody, 2020", "link": "arXiv:2000.00001", "equation": "w < sum_k w_k"}
    for arm in about["arms"]:
        if arm["name"] == "fedprox":
            arm["paper"] = paper
    folder = write_study()
    assert read_run(folder / "seed-11").about.arms[-1].paper is not None
    section = manuscript_section(_analysis(folder))
    assert section.references[0] == Reference("Somebody, 2020", "arXiv:2000.00001")
    page = render_study(_analysis(folder))
    assert "<code>w &lt; sum_k w_k</code>" in page
    assert "Somebody, 2020 [1]" in page
    assert "[1] Somebody, 2020. arXiv:2000.00001" in section.pasted


def test_works_are_numbered_as_they_are_first_cited() -> None:
    one, two = Reference("One", "doi:10.1/x"), Reference("Two", "")
    numbering = Numbering()
    text = numbering.written([Sentence("A", (two,)), Sentence("B"), Sentence("C", (one, two))])
    assert text == "A [1]. B. C [1, 2]."
    assert numbering.works == (two, one)


def test_every_number_cited_on_the_page_is_in_its_list_of_references(
    write_study: WriteStudy, about: dict[str, Any]
) -> None:
    about["experiment"] = EXPERIMENT
    page = render_study(_analysis(write_study()))
    listed = page.partition('id="references"')[2].partition("</ol>")[0].count("<li>")
    cited = {
        int(n) for group in re.findall(r" \[([\d, ]+)\][. ,<]", page) for n in group.split(",")
    }
    assert cited == set(range(1, listed + 1))


def test_limitations_name_what_was_not_told_apart_with_the_differences_that_remain(
    write_study: WriteStudy,
) -> None:
    analysis = _analysis(write_study(seeds=SEEDS[:3], noise=6.0))
    assert analysis.primary is not None
    found = {c.other.name: c for c in analysis.primary.comparisons}
    test = found["centralised"].test
    assert test is not None
    (said,) = [t for t in limitations(analysis) if t.startswith("CENTRALISED is not told apart")]
    low, high = (f"{end:+.2f}".replace("-", "\N{MINUS SIGN}") for end in test.interval)
    assert f"differences from {low} to {high} dB remain possible" in said


def test_limitations_name_gaps_few_seeds_and_few_patients(write_study: WriteStudy) -> None:
    said = limitations(_analysis(write_study(without=(12,))))
    assert any(text.startswith("Seed 12 is left out") for text in said)
    assert "With 3 training runs per arm the spread between runs is itself known roughly." in said
    assert "The primary outcome rests on 5 patients." in said


def test_the_checklist_has_all_44_items_once_and_leaves_to_the_author_what_no_file_holds(
    write_study: WriteStudy,
) -> None:
    assert [n for items in SUBJECTS.values() for n in items] == list(range(1, 45))
    answers = _answers(write_study())
    assert set(answers) == set(range(1, 45))
    for number in (1, 2, 3, 8, 15, 41, 44):
        assert answers[number][0] == AUTHOR
    assert "a 3 / 1 / 3; b 9 / 1 / 2; u 0 / 1 / 2" in answers[19][1]
    assert "u (2 patients), where nobody trained" in answers[33][1]


def test_of_acquired_images_the_checklist_asks_the_author_for_what_is_moot_of_computed_ones(
    write_study: WriteStudy, about: dict[str, Any]
) -> None:
    about["computed"] = False
    folder = write_study()
    answers = _answers(folder)
    for number in (5, 11, 34):
        assert answers[number][0] == AUTHOR
    assert not any("omputed" in text for _, text in answers.values())
    assert "omputed" not in _methods(folder)


def test_words_of_users_are_escaped_in_every_part_of_the_page(
    write_study: WriteStudy, about: dict[str, Any]
) -> None:
    for site in about["sites"]:
        site["description"] = "<script>1</script>"
    page = render_study(_analysis(write_study()))
    assert "<script" not in page
    assert "<script>1</script>" in unescape(page)
