"""The epsilon of a study: composed by the accountant over runs on the same patients."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from fedi2i.cli.program import main
from fedi2i.errors import DataError
from jobs.running.spent_epsilon import (
    EVERY_UNIT,
    OTHER_SITES,
    Training,
    read_trainings,
    spent_together,
    study_sentences,
)
from lightning_modules.privacy.accountant import Release, epsilon

SITE = {"unit": "everything that a site holds", "relation": "replaced by other data"}
PATIENT = {"unit": "one patient of a site", "relation": "added or removed"}
NOISED = Release(20.0, 2.0, count=6)
SAMPLED = Release(2.0, 1.0, 0.05, 40)


def training(
    name: str, release: Release = NOISED, sites: tuple[str, ...] = ("east", "north"), **changes: Any
) -> Training:
    said = SITE if release.sensitivity == 2 else PATIENT
    values: dict[str, Any] = {"delta": 1e-5, "releases": (release,), **said, **changes}
    return Training("runs/a", name, sites, **values)


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Balle and Wang's condition, solved here once more."""
    return float(
        brentq(
            lambda e: norm.cdf(mu / 2 - e / mu) - math.exp(e) * norm.cdf(-mu / 2 - e / mu) - delta,
            0.0,
            50.0,
        )
    )


def test_seeds_of_one_job_compose_as_one_gaussian_mechanism_and_not_as_a_sum() -> None:
    (spent,) = spent_together([training(f"seed{n}") for n in range(3)])
    # Three times six rounds, each of which moves the mean by 2 / 20 standard deviations.
    assert spent.epsilon == pytest.approx(gaussian_epsilon(math.sqrt(18) / 10, 1e-5), abs=1e-6)
    alone = gaussian_epsilon(math.sqrt(6) / 10, 1e-5)
    assert spent.added_up == pytest.approx(3 * alone, abs=1e-6)
    assert alone < spent.epsilon < spent.added_up
    assert (spent.trainings, spent.sites, spent.delta) == (3, ("east", "north"), 1e-5)


def test_sampled_releases_with_other_noise_compose_as_dp_accounting_composes_them() -> None:
    from dp_accounting import dp_event
    from dp_accounting.pld import PLDAccountant

    other = Release(4.0, 1.0, 0.1, 30)
    (spent,) = spent_together([training("a", SAMPLED), training("b", other)])
    accountant = PLDAccountant()
    for release in (SAMPLED, other):
        event = dp_event.GaussianDpEvent(release.noise_multiplier)
        sampled = dp_event.PoissonSampledDpEvent(release.sampling_rate, event)
        accountant.compose(sampled, release.count)
    assert spent.epsilon == pytest.approx(accountant.get_epsilon(1e-5), abs=1e-6)


def test_a_single_training_spends_what_it_spends_and_nothing_together() -> None:
    assert list(spent_together([training("a")])) == []
    assert training("a").epsilon == epsilon([NOISED], 1e-5)


def test_units_are_not_mixed_but_for_the_patient_who_is_in_all_of_them() -> None:
    trainings = [training("a"), training("b"), training("p", SAMPLED)]
    of_site, of_patient = spent_together(trainings)
    assert (of_site.unit, of_site.trainings) == (SITE["unit"], 2)
    assert (of_patient.unit, of_patient.trainings) == (EVERY_UNIT, 3)
    assert of_patient.epsilon > of_site.epsilon


def test_a_patient_under_noise_of_both_kinds_is_promised_what_both_are_accounted_for() -> None:
    """Replacing a patient moves a sum of patients twice as far; dp_accounting says by how much."""
    from dp_accounting import dp_event
    from dp_accounting.pld import PLDAccountant
    from dp_accounting.privacy_accountant import NeighboringRelation

    *_, of_patient = spent_together([training("a"), training("p", SAMPLED)])
    assert of_patient.relation == "added or removed"
    # A site that is replaced moves its sum by 2 C, which is half the noise at 1 C.
    found = {}
    for relation in (NeighboringRelation.ADD_OR_REMOVE_ONE, NeighboringRelation.REPLACE_ONE):
        accountant = PLDAccountant(relation)
        whole = dp_event.GaussianDpEvent(10.0)
        drawn = dp_event.GaussianDpEvent(SAMPLED.noise_multiplier)
        accountant.compose(whole, 6)
        accountant.compose(dp_event.PoissonSampledDpEvent(SAMPLED.sampling_rate, drawn), 40)
        found[relation] = accountant.get_epsilon(1e-5)
    assert of_patient.epsilon == pytest.approx(
        found[NeighboringRelation.ADD_OR_REMOVE_ONE], rel=1e-3
    )
    assert of_patient.epsilon < found[NeighboringRelation.REPLACE_ONE] - 0.1


def test_trainings_at_other_sites_come_with_the_warning_that_names_tell_sites_apart() -> None:
    first, second = training("a", sites=("north",)), training("b", sites=("site-1",))
    assert OTHER_SITES in study_sentences([first, second])
    assert OTHER_SITES not in study_sentences([first, training("b", sites=("north",))])


def test_a_site_counts_the_trainings_in_which_it_took_part() -> None:
    trainings = [training("a"), training("b"), training("c", sites=("east", "west"))]
    found = {spent.sites: spent.trainings for spent in spent_together(trainings)}
    assert found == {("east",): 3, ("north",): 2}


def test_all_is_stated_at_the_smallest_delta_or_the_one_asked_for() -> None:
    trainings = [training("a", delta=1e-3), training("b", delta=1e-6)]
    (smallest,) = spent_together(trainings)
    (asked,) = spent_together(trainings, delta=1e-2)
    assert (smallest.delta, asked.delta) == (1e-6, 1e-2)
    assert smallest.epsilon > asked.epsilon


def arm(name: str, release: Release | None = NOISED, **changes: Any) -> dict[str, Any]:
    if release is None:
        return {"name": name}
    said = {**SITE, "delta": 1e-5, "epsilon": 1.0, "simulated": True}
    return {"name": name, "privacy": {**said, "releases": [asdict(release)], **changes}}


def write_run(folder: Path, *arms: dict[str, Any], name: str = "run.json") -> Path:
    folder.mkdir()
    sites = [{"name": "north", "unseen": False}, {"name": "island", "unseen": True}]
    content = {"sites": sites, "arms": [{"name": "source"}, *arms]}
    (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_the_command_states_each_run_and_all_together_and_labels_what_is_simulated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write_run(tmp_path / "seed101", arm("fedavg_dp"), arm("fedavg", None))
    personal = arm("fedbn@north"), arm("fedbn@east")
    second = write_run(tmp_path / "tuning", *personal, name="tuning.json")
    assert main(["jobs", "epsilon", str(first), str(second), str(first)]) == 0
    said = capsys.readouterr().out.splitlines()
    alone = epsilon([NOISED], 1e-5)
    assert f"fedavg_dp: epsilon {alone:.3g} at delta 1e-05" in said[0]
    assert "seed101 fedavg_dp" in said[0] and said[0].endswith("its ledgers are simulated")
    assert "tuning fedbn: epsilon" in said[1]  # two models of one training
    together = epsilon([NOISED, NOISED], 1e-5)
    assert f"north: 2 trainings spend epsilon {together:.3g} together" in said[2]
    assert "without an epsilon: " in said[3] and "seed101 fedavg;" in said[3]
    assert "repeated after an interruption" in said[4]


def test_a_study_s_folder_stands_for_the_runs_of_all_its_seeds(tmp_path: Path) -> None:
    for seed in (101, 102):
        write_run(tmp_path / f"seed-{seed}", arm("fedavg_dp"))
    folders = {"101": "seed-101", "102": "seed-102"}
    (tmp_path / "study.json").write_text(json.dumps({"folders": folders}), encoding="utf-8")
    (spent,) = spent_together(read_trainings(tmp_path))
    assert (spent.trainings, spent.epsilon) == (2, epsilon([NOISED, NOISED], 1e-5))
    (tmp_path / "study.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match=r"study\.json: damaged"):
        read_trainings(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"releases": []}, "not what it was counted from"),
        ({"releases": [{**asdict(NOISED), "noise_multiplier": 0.0}]}, "noise_multiplier is 0.0"),
        ({"releases": [{"noise": 1.0}]}, "no record of a run"),
    ],
)
def test_an_epsilon_that_cannot_be_counted_again_is_refused(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        read_trainings(write_run(tmp_path / "run", arm("fedavg_dp", **changes)))


def test_trainings_of_one_name_are_one_only_where_noise_and_sites_are_the_same(
    tmp_path: Path,
) -> None:
    other = arm("g", SAMPLED)
    arms = (
        {**arm("g"), "sites": ["north"], "key": "1"},
        {**arm("g"), "sites": ["north"], "key": "2"},
        {**arm("g"), "sites": ["north", "east"], "key": "1"},
        {**other, "sites": ["north"], "key": "1"},
    )
    run = write_run(tmp_path / "tuning", *arms, arms[0], name="tuning.json")
    assert [one.sites for one in read_trainings(run)] == [
        ("north",),
        ("north",),
        ("north", "east"),
        ("north",),
    ]


def test_a_folder_without_a_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither run\.json nor tuning\.json"):
        read_trainings(tmp_path)
