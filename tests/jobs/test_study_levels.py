"""A study at several levels: what its file may say, and that each level is an ordinary study."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
from simulator_runs import SITES, TWO_SITES
from tiny_cohort import UNSEEN, write_tiny_cohort
from wrong_study import refusal

from fedi2i.cli.program import main
from fedi2i.errors import ConfigError, DataError
from jobs.running.comparison import Comparison
from jobs.running.spent_epsilon import LEVELS_FILE, STUDY_FILE, read_trainings
from jobs.running.studies import study as running
from jobs.running.studies.levels import has_levels, read_levels, run_levels
from jobs.running.studies.study import read_study, run_study

STUDY = """
title: Who is robust?
experiment: experiment.yaml
settings: {training: {rounds: 2}}
strategies: [fedavg, fedprox]
seeds: [5, 6]
axes:
  steps: {label: local steps per round, log: true}
  missing: {label: probability that a site misses a round}
levels:
  base: {at: {steps: 80, missing: 0}}
  few: {at: {steps: 20}, settings: {training: {steps: 20, rounds: 8}}}
  absent: {at: {missing: 0.5}, federation: {min_sites: 1, participation: {missing: 0.5}}}
  other: {at: {steps: .inf}, data: other}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A study's file, and the experiment beside it."""
    (tmp_path / "experiment.yaml").write_text(TWO_SITES.read_text(encoding="utf-8"))
    path = tmp_path / "study.yaml"
    path.write_text(STUDY, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny cohort, prepared by the first study, and another one beside it."""
    folder = tmp_path_factory.mktemp("data")
    cohort = write_tiny_cohort(folder / "cohort", (*SITES, UNSEEN))
    shutil.copytree(cohort, folder / "other")
    return cohort


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Comparison]:
    """The comparisons that were asked for; each leaves results as a real one does."""
    asked: list[Comparison] = []

    def run(comparison: Comparison) -> None:
        asked.append(comparison)
        comparison.out.mkdir(parents=True, exist_ok=True)
        steps = comparison.job.experiment.training.steps
        (comparison.out / "results.csv").write_text(
            f"arm,site,split,subject,metric,value\nfedavg,north,test,a,psnr,{steps}\n"
        )

    monkeypatch.setattr(running, "run_comparison", run)
    return asked


def test_every_level_is_a_study_of_its_own_that_differs_in_what_the_file_says(
    file: Path, data: Path, tmp_path: Path, ran: list[Comparison]
) -> None:
    out = tmp_path / "out"
    run_levels(read_levels(file), data, out)
    assert [one.out.relative_to(out) for one in ran] == [
        Path(f"level-{level}/seed-{seed}")
        for level in ("base", "few", "absent", "other")
        for seed in (5, 6)
    ]
    base, few, absent, other = ran[::2]
    assert [one.job.experiment.training.steps for one in (base, few, absent, other)] == [
        80,
        20,
        80,
        80,
    ]
    assert [one.job.experiment.training.rounds for one in (base, few)] == [2, 8]
    assert absent.job.federation.participation.missing == 0.5
    assert not base.job.federation.participation.acts
    assert [one.data.name for one in (base, few, absent, other)] == [*["cohort"] * 3, "other"]
    for level in ("base", "few", "absent", "other"):
        content = json.loads((out / f"level-{level}" / STUDY_FILE).read_text(encoding="utf-8"))
        assert content["design"]["title"] == f"Who is robust?: {level}"


def test_the_results_of_all_levels_stand_in_one_table(
    file: Path, data: Path, tmp_path: Path, ran: list[Comparison]
) -> None:
    run_levels(read_levels(file), data, tmp_path / "out")
    with (tmp_path / "out" / "results.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0])[:3] == ["level", "seed", "arm"]
    assert [(row["level"], row["seed"], row["value"]) for row in rows[:4]] == [
        ("base", "5", "80"),
        ("base", "6", "80"),
        ("few", "5", "20"),
        ("few", "6", "20"),
    ]


def test_levels_may_join_later_and_none_that_has_run_is_forgotten(
    file: Path, data: Path, tmp_path: Path, ran: list[Comparison]
) -> None:
    out = tmp_path / "out"
    run_levels(read_levels(file), data, out)
    lines = [line for line in STUDY.splitlines() if "other:" not in line]
    file.write_text("\n".join([*lines, "  more: {at: {missing: 0.9}, data: other}"]))
    run_levels(read_levels(file), data, out)
    content = json.loads((out / LEVELS_FILE).read_text(encoding="utf-8"))
    assert list(content["levels"]) == ["base", "few", "absent", "other", "more"]
    assert content["levels"]["other"]["at"] == {"steps": "inf"}
    file.write_text(STUDY.replace("steps: 20, rounds: 8", "steps: 20, rounds: 9"))
    before = (out / LEVELS_FILE).read_bytes()
    with (out / "results.csv").open(encoding="utf-8") as stream:
        assert {row["level"] for row in csv.DictReader(stream)} == set(content["levels"])
    with pytest.raises(ConfigError, match=r"level 'few' was begun with other settings"):
        run_levels(read_levels(file), data, out)
    file.write_text(STUDY.replace("Who is robust?", "Another question").replace("few:", "fewer:"))
    with pytest.raises(ConfigError, match=r"holds the study 'Who is robust\?'"):
        run_levels(read_levels(file), data, out)
    assert (out / LEVELS_FILE).read_bytes() == before


def test_a_level_without_its_data_is_named_before_the_first_run(
    file: Path, data: Path, tmp_path: Path, ran: list[Comparison]
) -> None:
    file.write_text(STUDY.replace("data: other", "data: nowhere"))
    with pytest.raises(DataError, match=r"level 'other': .*nowhere"):
        run_levels(read_levels(file), data, tmp_path / "out")
    assert not ran and not (tmp_path / "out").exists()


def test_a_folder_of_a_study_without_levels_is_refused(
    file: Path, data: Path, tmp_path: Path, ran: list[Comparison]
) -> None:
    plain = tmp_path / "plain.yaml"
    plain.write_text(STUDY.partition("axes:")[0])
    assert has_levels(file) and not has_levels(plain)
    run_study(read_study(plain), data, tmp_path / "out")
    with pytest.raises(ConfigError, match="holds a study without levels"):
        run_levels(read_levels(file), data, tmp_path / "out")


def test_the_command_runs_all_levels_and_the_epsilon_of_all_can_be_read(
    file: Path, data: Path, tmp_path: Path, ran: list[Comparison]
) -> None:
    out = tmp_path / "out"
    arguments = ["study", str(file), "--data", str(data), "--out", str(out), "--seeds", "7"]
    assert main(arguments) == 0
    assert [one.job.experiment.seed for one in ran] == [7] * 4
    for place in ran:
        record = {"sites": [], "arms": [{"name": "fedavg"}]}
        (place.out / "run.json").write_text(json.dumps(record), encoding="utf-8")
    assert len(read_trainings(out)) == 4


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("few: {at: {steps: 20}", "few: {at: {stepps: 20}", "did you mean 'steps'"),
        ("few: {at: {steps: 20}", "few: {at: {steps: 80}", "two levels stand at one place"),
        ("few: {at: {steps: 20}", "few: {at: {steps: 0}", "a level is at 0 on axis 'steps'"),
        ("few: {at: {steps: 20}", "few: {at: {}", "levels.few.at is empty"),
        ("  few:", "  a/b:", "levels.a/b becomes a folder's name"),
        ("  absent:", "  # absent:", r"1 level\(s\) on axis 'missing'"),
        ("data: other", "date: other", "did you mean 'data'"),
        ("log: true", "lag: true", "did you mean 'log'"),
        ("min_sites: 1, ", "", "level 'absent': .*all sites are needed in every round"),
        ("levels:", "unused:", "levels names nothing"),
        ("  base: {at: {steps: 80, missing: 0}}", "  base: 3", "levels.base is '3'"),
        ("[fedavg, fedprox]", "[fedavg, cyclic]", "level 'absent'.*needs each of them"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(
    file: Path, old: str, new: str, sentence: str
) -> None:
    assert re.search(sentence, refusal(read_levels, file, STUDY, old, new))
