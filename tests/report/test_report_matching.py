"""The page of a matching study: differences by hand, what may be claimed, figures, refusals."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from fedi2i.cli.program import main
from fedi2i.errors import DataError
from report.figures.matching import draw_barriers, draw_paths, draw_rounds
from report.figures.style import as_png
from report.numbers.over_seeds.matching import (
    PairedDifference,
    control_values,
    differences,
    last_round,
    merge_tables,
)
from report.page.studies.matching import matching_summary, render_matching, sign_text
from report.run.matching import COLUMNS, MatchingStudy, read_matching, start_label

SEEDS = (1, 2, 3)
L1 = {
    "plain": (0.20, 0.22, 0.21),
    "converged": (0.15, 0.16, 0.155),
    "chosen": (0.15, 0.15, 0.15),
    "ensemble": (0.09, 0.16, 0.08),
    "best-single": (0.10, 0.10, 0.10),
    "mean-single": (0.11, 0.12, 0.13),
}
COMMON = {"plain": (0.09, 0.08, 0.085), "converged": (0.09, 0.08, 0.085)}
Line = tuple[int, str, float, int, str, str, float, str]


def _lines(seeds: tuple[int, ...]) -> Iterator[Line]:
    for place, seed in enumerate(seeds):
        for start, errors in (("independent", L1), ("common-5", COMMON)):
            for merge, values in errors.items():
                yield seed, start, 1.0, 2, merge, "l1", values[place], "test"
                yield seed, start, 1.0, 2, merge, "l1", 9.0, "val"
                if merge in ("plain", "converged", "chosen"):
                    yield seed, start, 1.0, 2, merge, "excess", values[place] - 0.1, "test"
                if merge in ("plain", "converged"):
                    yield seed, start, 1.0, 2, merge, "barrier", values[place] - 0.08, "test"
                    yield seed, start, 1.0, 2, merge, "moved", 0.5, ""
                    for part, loss in ((0, 0.1), (0.5, values[place]), (1, 0.12)):
                        yield seed, start, 1.0, 2, merge, f"path_l1@{part}", loss, "test"
        for number in range(3):
            for merge, end in (("plain", 0.10), ("best-single", 0.08)):
                value = end + 0.01 * (2 - number) + 0.001 * place
                yield seed, "independent", 1.0, 2, merge, f"round_l1@{number}", value, "test"
        yield seed, "independent", 1.0, 2, "converged", "planted_recovered", 1.0, ""
        yield seed, "independent", 1.0, 2, "converged", "noise_3_recovered", 0.9 + 0.01 * place, ""


def _write(folder: Path, seeds: tuple[int, ...] = SEEDS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    design = {"title": "Merging <b>", "width": 1.0, "release": "0", "steps": 8}
    record = {"created": "2030-01-01", "computed": True, "design": design, "seeds": list(seeds)}
    (folder / "matching.json").write_text(json.dumps(record), encoding="utf-8")
    with (folder / "matching.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows(_lines(seeds))
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> MatchingStudy:
    return read_matching(_write(tmp_path_factory.mktemp("matching") / "run"))


def _of(study: MatchingStudy, question: str, one: str, other: str) -> PairedDifference:
    found = [
        d
        for d in differences(study)
        if d.question.startswith(question) and (d.one, d.other) == (one, other)
    ]
    assert len(found) == 1
    return found[0]


def test_differences_are_paired_by_seed_and_their_intervals_are_student_s(
    study: MatchingStudy,
) -> None:
    question = "Does matching help? independent"
    found = _of(study, question, "to convergence", "plain mean")
    expected = np.asarray([-0.05, -0.06, -0.055])
    assert list(found.per_seed.values()) == pytest.approx(expected)
    assert list(found.per_seed) == list(SEEDS)
    interval = stats.ttest_1samp(expected, 0.0).confidence_interval(0.95)
    assert found.interval == pytest.approx((interval.low, interval.high))
    assert (found.lower, found.higher, found.held) == (3, 0, True)
    assert sign_text(found) == "lower in 3 of 3"


def test_a_sign_that_changes_between_seeds_is_not_claimed(study: MatchingStudy) -> None:
    found = _of(study, "Is a rival", "ensemble of outputs", "chosen on validation")
    assert (found.lower, found.higher, found.held) == (2, 1, False)
    assert sign_text(found) == "lower in 2 of 3"
    assert not any("ensemble" in sentence for sentence in matching_summary(study))


def test_equal_ways_are_called_equal_and_claimed_by_nobody(study: MatchingStudy) -> None:
    found = _of(study, "Does matching help? 5 %", "to convergence", "plain mean")
    assert (found.mean, found.held, sign_text(found)) == (0.0, False, "equal in 3 of 3")


def test_common_steps_are_held_against_the_chosen_merge_of_independent_starts(
    study: MatchingStudy,
) -> None:
    found = _of(
        study,
        "Do common",
        "5 % common steps, plain mean",
        "independent first weights, chosen on validation",
    )
    assert list(found.per_seed.values()) == pytest.approx([-0.06, -0.07, -0.065])
    assert any("5 % common steps, plain mean had a smaller" in s for s in matching_summary(study))


def test_every_start_of_the_rounds_is_held_against_the_best_single_model(
    study: MatchingStudy,
) -> None:
    assert last_round(study) == 2
    found = [d for d in differences(study) if d.question.endswith("after round 2")]
    assert [(d.one, d.other) for d in found] == [("best single model", "plain mean")]
    assert list(found[0].per_seed.values()) == pytest.approx([-0.02] * 3)


def test_tables_hold_means_of_test_patients_alone(study: MatchingStudy) -> None:
    first = merge_tables(study)[0]
    assert (first.start, first.width, first.models) == ("independent", 1.0, 2)
    assert first.lines["plain"]["l1"] == pytest.approx(0.21)
    assert first.lines["plain"]["barrier"] == pytest.approx(0.13)
    assert first.lines["plain"]["moved"] == 0.5
    assert list(first.lines)[:3] == ["mean-single", "best-single", "ensemble"]
    controls = {row.quantity: (row.min, row.max) for row in control_values(study).itertuples()}
    assert controls["noise_3_recovered"] == pytest.approx((0.9, 0.92))


def test_one_seed_is_described_and_nothing_is_claimed(tmp_path: Path) -> None:
    one = read_matching(_write(tmp_path / "one", (1,)))
    assert not any(d.held for d in differences(one))
    assert all(d.interval is None for d in differences(one))
    (sentence,) = matching_summary(one)
    assert "1 seed" in sentence and "description" in sentence
    assert "Too few seeds" in render_matching(one)


def test_the_page_has_its_tables_and_figures_and_refers_to_nothing_else(
    study: MatchingStudy,
) -> None:
    page = render_matching(study)
    assert page.count("data:image/svg+xml") == 3
    assert "Merging &lt;b&gt;" in page and "Merging <b>" not in page
    assert "Computed data" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert page == render_matching(study)


def test_figures_draw_every_seed_merge_and_start(study: MatchingStudy) -> None:
    (axis,) = draw_barriers(study).axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["independent", "5 %"]
    points = [line for line in axis.get_lines() if line.get_linestyle() == "None"]
    assert sorted(len(line.get_xdata()) for line in points) == [3, 3, 3, 3]
    rounds = draw_rounds(study)
    assert rounds is not None
    best = max(rounds.axes[0].get_lines(), key=lambda line: line.get_linewidth())
    assert best.get_ydata() == pytest.approx([0.101, 0.091, 0.081])
    assert len(draw_paths(study).axes) == 2
    assert as_png(draw_paths(study), 40).startswith(b"\x89PNG")


def test_starts_have_names_for_readers() -> None:
    assert start_label("one-site-30") == "30 % common steps at one site"
    assert start_label("shared") == "shared first weights"


def test_the_command_writes_the_page_and_refuses_what_it_cannot_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _write(tmp_path / "run")
    assert main(["report", str(folder)]) == 0
    assert "lower in 3 of 3" in capsys.readouterr().out
    assert (folder / "report.html").is_file()
    assert main(["report", str(folder), "--figures", str(tmp_path)]) == 2
    (folder / "matching.csv").write_text("seed,start\n1,a\n")
    with pytest.raises(DataError, match="run the same study again"):
        read_matching(folder)
    (folder / "matching.csv").unlink()
    with pytest.raises(DataError, match="finishes the study"):
        read_matching(folder)
    (folder / "matching.json").write_text("{}")
    assert main(["report", str(folder)]) == 2
    assert "damaged" in capsys.readouterr().err
