from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fedi2i.errors import DataError
from jobs.privacy.catalogue import description, epsilon_of
from jobs.running.arm_outcome import ArmModel, ArmOutcome
from jobs.running.run_record import _description, write_curves, write_run_record
from jobs.running.spent_epsilon import read_trainings
from jobs.writing.federation import FederatedExperiment, FederationConfig, with_strategy
from lightning_modules.configuration import experiment_from
from lightning_modules.evaluation.baselines import UNTRAINED_ARMS
from lightning_modules.strategies.catalogue import STRATEGY_JOBS
from lightning_modules.training.participation import Participation
from partitions.manifest import SiteManifest, SubjectRecord
from report.run.folder import read_run
from report.run.records import Paper
from report.run.run_json import read_run_json

ROUNDS, STEPS = 3, 10
_FEDAVG = "w = sum_k (n_k / n) w_k"


def manifest(site: str, splits: str, computed: bool = True, **metadata: Any) -> SiteManifest:
    subjects = tuple(
        SubjectRecord(f"{site}-{n}", site, split, {"t1": "t1.nii.gz"}, metadata=metadata)
        for n, split in enumerate(splits.split())
    )
    return SiteManifest("tiny", site, subjects, Path(), computed=computed)


MANIFESTS = (
    manifest("north", "train train val test", age=40, field_strength=3),
    manifest("east", "train val test test", age=60, field_strength=1.5),
    manifest("island", "test test"),
)


def job(**experiment: Any) -> FederatedExperiment:
    settings = {"training": {"rounds": ROUNDS, "steps": STEPS}, "seed": 11, **experiment}
    federation = FederationConfig(sites=("north", "east"), unseen=("island",))
    return FederatedExperiment(federation, experiment_from(settings, "test"))


@pytest.fixture
def outcomes(tmp_path: Path) -> list[ArmOutcome]:
    found = []
    for name, label, sites, sent in (
        ("fedavg", "FedAvg", 2, 1234),
        ("fedbn", "FedBN", 2, 1000),
        ("centralised", "Centralised", 2, 0),
        ("local-north", "Local: north", 1, 0),
    ):
        metrics = tmp_path / name / "metrics.csv"
        metrics.parent.mkdir()
        metrics.write_text(f"site,round,metric,value\nall,0,val/psnr,{len(name)}\n")
        models: tuple[ArmModel, ...] = (ArmModel(name, label, tmp_path / name / "model.pt"),)
        if name == "fedbn":
            models = tuple(
                ArmModel(f"fedbn@{site}", "FedBN (personal)", tmp_path / site, "fedbn", site)
                for site in ("north", "east")
            )
        steps = sites * ROUNDS * STEPS
        found.append(ArmOutcome(name, models, metrics, 12.345, ROUNDS, steps, sent, "a note"))
    return found


@pytest.fixture
def record(tmp_path: Path, outcomes: list[ArmOutcome]) -> Any:
    write_run_record(tmp_path, "A title", job(), MANIFESTS, outcomes)
    return json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))


def arm(record: Any, name: str) -> Any:
    (found,) = [arm for arm in record["arms"] if arm["name"] == name]
    return found


def test_the_report_reads_what_a_run_writes(
    tmp_path: Path, outcomes: list[ArmOutcome], record: Any
) -> None:
    write_curves(tmp_path, outcomes)
    rows = [("arm", "site", "split", "subject", "metric", "value")]
    arms = (
        "source",
        "mapped-source",
        "constant",
        "mean-target",
        "fedavg",
        "fedbn@north",
        "fedbn@east",
        "centralised",
        "local-north",
    )
    for name in arms:
        rows += [
            (name, entry.site, "test", subject.subject, "psnr", "20.0")
            for entry in MANIFESTS
            for subject in entry.subjects
            if subject.split == "test"
        ]
    with (tmp_path / "results.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
    run = read_run(tmp_path)
    assert tuple(arm.name for arm in run.about.arms) == arms
    assert [site.name for site in run.about.sites if site.unseen] == ["island"]
    assert run.about.computed
    assert run.curves is not None and len(run.curves) == 4


def test_the_paper_of_a_strategy_and_what_of_it_is_built_stand_with_its_arm(
    tmp_path: Path, outcomes: list[ArmOutcome]
) -> None:
    trained = replace(outcomes[0], job=STRATEGY_JOBS["fedavg"])
    write_run_record(tmp_path, "A title", job(), MANIFESTS, [trained, *outcomes[1:]])
    (paper,) = (
        arm.paper for arm in read_run_json(tmp_path / "run.json").arms if arm.name == "fedavg"
    )
    assert paper == Paper("McMahan et al., AISTATS 2017", "arXiv:1602.05629", _FEDAVG)


def test_the_cost_of_an_arm_stands_with_its_model(record: Any) -> None:
    found = arm(record, "fedavg")
    assert (found["bytes_sent"], found["steps"], found["rounds"]) == (1234, 2 * ROUNDS * STEPS, 3)
    assert "family" not in found


def test_the_record_says_who_took_part_in_which_round_as_the_server_noted_it(
    tmp_path: Path, outcomes: list[ArmOutcome]
) -> None:
    lines = ("north,0,data/samples,4", "east,0,data/samples,4", "east,1,data/samples,4")
    means = ("all,0,data/samples,4", "all,1,data/samples,4", "north,2,val/psnr,20")
    outcomes[0].metrics.write_text("\n".join(("site,round,metric,value", *lines, *means)))
    federation = replace(job().federation, min_sites=1, participation=Participation(missing=0.5))
    planned = replace(job(), federation=federation)
    write_run_record(tmp_path, "A title", planned, MANIFESTS, outcomes)
    record = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    expected = {"missing": 0.5, "stragglers": {}, "min_sites": 1, "seed": 11}
    assert record["participation"] == expected
    assert arm(record, "fedavg")["took_part"] == [["east", "north"], ["east"]]
    assert "took_part" not in arm(record, "centralised")


def test_the_record_says_which_mechanism_a_job_had_and_with_which_settings(
    tmp_path: Path, outcomes: list[ArmOutcome]
) -> None:
    noised = with_strategy(job(), "fedavg_dp")
    private = replace(outcomes[0], job=STRATEGY_JOBS["fedavg"], privacy=description(noised))
    write_run_record(tmp_path, "A title", job(), MANIFESTS, [private, *outcomes[1:]])
    record = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    found = arm(record, "fedavg")
    said = found["privacy"]
    assert (said["mechanism"], said["guarantees"]) == ("update_noise", True)
    assert said["settings"]["noise_multiplier"] == 0.01
    assert said["epsilon"] == epsilon_of(noised, ROUNDS) > 40_000
    assert "reference" not in found  # the others are compared with it as it is
    assert "privacy" not in arm(record, "fedbn@north")


def test_trainings_under_one_mechanism_are_composed_in_the_record(
    tmp_path: Path, outcomes: list[ArmOutcome]
) -> None:
    private = description(with_strategy(job(), "fedavg_dp"))
    both = [replace(outcome, privacy=private) for outcome in outcomes[:2]]
    write_run_record(tmp_path, "A title", job(), MANIFESTS, [*both, *outcomes[2:]])
    record = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    (spent,) = record["spent_together"]
    assert (spent["sites"], spent["trainings"]) == (["east", "north"], 2)
    assert private["epsilon"] < spent["epsilon"] < spent["added_up"]


def write_private(out: Path, outcomes: list[ArmOutcome], name: str, **experiment: Any) -> Any:
    private = description(with_strategy(job(**experiment), name))
    arms = [replace(outcomes[0], name=name, models=(), privacy=private)]
    arms[0] = replace(arms[0], models=(ArmModel(name, name, out / "model.pt"),))
    write_run_record(out, "A title", job(**experiment), MANIFESTS, arms)
    return json.loads((out / "run.json").read_text(encoding="utf-8"))


def test_what_replaced_trainings_have_spent_stays_in_the_record(
    tmp_path: Path, outcomes: list[ArmOutcome]
) -> None:
    first = write_private(tmp_path, outcomes, "fedavg_dp")
    assert "earlier" not in first and first["spent_together"] == []
    assert "earlier" not in write_private(tmp_path, outcomes, "fedavg_dp")
    # Another arm in its place, and then the same one in another seed.
    second = write_private(tmp_path, outcomes, "fedprox_dp")
    assert [one["name"] for one in second["earlier"]] == ["fedavg_dp"]
    third = write_private(tmp_path, outcomes, "fedprox_dp", seed=12)
    assert [one["name"] for one in third["earlier"]] == ["fedavg_dp", "fedprox_dp"]
    for record, trainings in ((second, 2), (third, 3)):
        (spent,) = record["spent_together"]
        assert (spent["sites"], spent["trainings"]) == (["east", "north"], trainings)
    assert third["spent_together"][0]["epsilon"] > second["spent_together"][0]["epsilon"]
    # The first once more is no training besides.
    again = write_private(tmp_path, outcomes, "fedavg_dp")
    assert len(read_trainings(tmp_path)) == len(again["earlier"]) + 1 == 3


def test_a_damaged_record_is_not_replaced_as_if_nothing_had_been_spent(
    tmp_path: Path, outcomes: list[ArmOutcome]
) -> None:
    (tmp_path / "run.json").write_text('{"arms": [')
    with pytest.raises(DataError, match=r"run\.json: damaged"):
        write_private(tmp_path, outcomes, "fedavg_dp")


def test_a_personal_arm_has_an_entry_per_site_with_the_cost_of_the_whole(record: Any) -> None:
    for site in ("north", "east"):
        found = arm(record, f"fedbn@{site}")
        assert (found["family"], found["site"]) == ("fedbn", site)
        assert (found["label"], found["bytes_sent"]) == ("FedBN (personal)", 1000)


def test_arms_without_communication_send_nothing(record: Any) -> None:
    for name in (*UNTRAINED_ARMS, "centralised", "local-north"):
        assert arm(record, name)["bytes_sent"] == 0


def test_arms_have_names_that_people_read(record: Any) -> None:
    assert [arm["label"] for arm in record["arms"]] == [
        "Source as prediction",
        "Source mapped linearly",
        "Constant",
        "Mean target",
        "FedAvg",
        "FedBN (personal)",
        "FedBN (personal)",
        "Centralised",
        "Local: north",
    ]
    assert arm(record, "fedavg")["seconds"] == 12.3


def test_sites_are_counted_by_split_and_described_as_far_as_known(record: Any) -> None:
    assert record["sites"] == [
        {"name": "north", "unseen": False, "train": 2, "val": 1, "test": 1}
        | {"description": "3 T, mean age 40 years, computed"},
        {"name": "east", "unseen": False, "train": 1, "val": 1, "test": 2}
        | {"description": "1.5 T, mean age 60 years, computed"},
        {"name": "island", "unseen": True, "train": 0, "val": 0, "test": 2}
        | {"description": "computed"},
    ]


def test_a_run_on_computed_scans_says_so_and_one_on_acquired_scans_does_not(
    tmp_path: Path, outcomes: list[ArmOutcome], record: Any
) -> None:
    assert record["computed"] is True
    assert "computed, not acquired" in record["data_note"]
    acquired = [manifest("north", "train val test", computed=False)]
    write_run_record(tmp_path, "A title", job(), acquired, outcomes)
    again = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert (again["computed"], again["data_note"]) == (False, "")
    assert "computed" not in again["sites"][0]["description"]


def test_one_computed_site_makes_the_whole_run_computed(
    tmp_path: Path, outcomes: list[ArmOutcome]
) -> None:
    mixed = [manifest("north", "test", computed=False), manifest("east", "test")]
    write_run_record(tmp_path, "A title", job(), mixed, outcomes)
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["computed"] is True


def test_everything_needed_to_repeat_the_run_is_written(record: Any) -> None:
    assert record["title"] == "A title"
    assert record["seed"] == 11
    assert record["manifests"] == {entry.site: entry.content_hash() for entry in MANIFESTS}
    settings = {key: value for key, value in record["experiment"].items() if key != "strategies"}
    assert experiment_from(settings, "run") == job().experiment
    assert record["experiment"]["strategies"]["fedavg_independent"] == {
        "name": "fedavg",
        "initialisation": "independent",
    }
    assert record["preset"]["percentiles"] == [0.5, 99.5]
    assert record["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert record["machine"]["torch_threads"] >= 1


def test_no_path_of_this_machine_gets_into_the_record(tmp_path: Path, record: Any) -> None:
    assert str(tmp_path) not in json.dumps(record)
    assert str(Path.home()) not in json.dumps(record)


def test_curves_are_the_arms_metrics_with_their_names_in_front(
    tmp_path: Path, outcomes: list[ArmOutcome]
) -> None:
    write_curves(tmp_path, outcomes)
    assert (tmp_path / "curves.csv").read_text(encoding="utf-8").splitlines() == [
        "arm,site,round,metric,value",
        "fedavg,all,0,val/psnr,6.0",
        "fedbn,all,0,val/psnr,5.0",
        "centralised,all,0,val/psnr,11.0",
        "local-north,all,0,val/psnr,11.0",
    ]


def test_ages_and_fields_that_are_no_numbers_are_left_out_of_the_description() -> None:
    odd = manifest("north", "train", age="61Y", field_strength="high")
    assert _description(odd) == "computed"
    assert _description(manifest("north", "train", age="40", field_strength="nan")) == (
        "mean age 40 years, computed"
    )
