from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.federation import FederatedExperiment, FederationConfig
from jobs.run_record import ArmOutcome, write_curves, write_run_record
from lightning_modules.configuration import experiment_from
from partitions.manifest import SiteManifest, SubjectRecord
from report.run_folder import read_run

ROUNDS, STEPS = 3, 10
# 12 float32 + 5 float32 + 1 int64 = 12*4 + 5*4 + 8 bytes
STATE = {"w": torch.zeros(3, 4), "b": torch.zeros(5), "n": torch.tensor(7)}
STATE_BYTES = 76


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
    for name, sites, federated in (
        ("fedavg", 2, True),
        ("centralised", 2, False),
        ("local-north", 1, False),
    ):
        model, metrics = tmp_path / name / "model.pt", tmp_path / name / "metrics.csv"
        model.parent.mkdir()
        torch.save({"model": STATE}, model)
        metrics.write_text(f"site,round,metric,value\nall,0,val/psnr,{len(name)}\n")
        found.append(ArmOutcome(name, model, metrics, 12.345, sites, federated))
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
    for name in ("source", "fedavg", "centralised", "local-north"):
        rows += [
            (name, entry.site, "test", subject.subject, "psnr", "20.0")
            for entry in MANIFESTS
            for subject in entry.in_split("test")
        ]
    with (tmp_path / "results.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
    run = read_run(tmp_path)
    assert [arm.name for arm in run.about.arms] == [
        "source",
        "fedavg",
        "centralised",
        "local-north",
    ]
    assert [site.name for site in run.about.sites if site.unseen] == ["island"]
    assert run.about.computed
    assert run.curves is not None and len(run.curves) == 3


def test_bytes_sent_are_those_of_the_model_to_each_site_and_back_and_once_more_for_the_end(
    record: Any,
) -> None:
    messages = 2 * ROUNDS * 2 + 2  # rounds x (to and from) x sites, and the final evaluation
    assert arm(record, "fedavg")["bytes_sent"] == messages * STATE_BYTES


def test_arms_without_communication_send_nothing(record: Any) -> None:
    for name in ("source", "centralised", "local-north"):
        assert arm(record, name)["bytes_sent"] == 0


def test_all_arms_of_all_sites_take_the_same_number_of_optimizer_steps(record: Any) -> None:
    assert arm(record, "fedavg")["steps"] == 2 * ROUNDS * STEPS
    assert arm(record, "centralised")["steps"] == 2 * ROUNDS * STEPS
    assert arm(record, "local-north")["steps"] == ROUNDS * STEPS
    assert arm(record, "source")["steps"] == 0


def test_arms_have_names_that_people_read(record: Any) -> None:
    assert [arm["label"] for arm in record["arms"]] == [
        "Source as prediction",
        "FedAvg",
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
    assert experiment_from(
        {key: value for key, value in record["experiment"].items() if key != "strategies"}, "run"
    ) == job().experiment  # fmt: skip
    assert record["experiment"]["strategies"]["fedprox"]["mu_generator"] > 0
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
        "fedavg,all,0,val/psnr,6",
        "centralised,all,0,val/psnr,11",
        "local-north,all,0,val/psnr,11",
    ]
