"""The end of a study's job at a site: rows and pictures stay in its folder, numbers leave."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare_fakes import Engine, server_runner
from omegaconf import OmegaConf
from tiny_cohort import write_tiny_cohort

from app_custom.executor.translation_executor import TranslationExecutor
from app_custom.gates.allowed_update import AllowedUpdate
from app_custom.gates.site_policy import SitePolicy
from app_custom.participant.site_configuration import FILE_NAME
from app_custom.server.global_metrics import GlobalMetrics
from app_custom.study.task import StudyTask, study_task
from fedi2i import __version__
from fedi2i.cli.program import main
from fedi2i.errors import ConfigError
from fedi2i.metric_files import FILE_NAME as METRICS_FILE
from fedi2i.metric_files import read_metrics
from fedi2i.typed_config import as_dict, merged, read_yaml
from jobs.writing.workspace import prepare_workspace
from lightning_modules.configuration import experiment_from
from lightning_modules.networks.building import build_networks
from partitions.manifest import read_manifest, write_manifest
from report.run.folder import read_run
from report.run.study import read_study

TINY = read_yaml(Path(__file__).parents[2] / "experiments" / "tiny.yaml")["experiment"]
SPLITS = ("train", "train", "val", "test", "test", "test", "test")
TESTED = 4
PLANTED = "Doe_Jane"
"""In the name of every patient of the site, and nowhere else."""
TASK = StudyTask(study="thesis", arm="fedavg", metric="psnr", margin=0.5, design="abc")
NAMES = ("patients", "mean", "sd")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site's data; its patients have names."""
    root = write_tiny_cohort(tmp_path_factory.mktemp("hospital"), ("north",), SPLITS)
    manifest = read_manifest(root / "north")
    subjects = [
        replace(one, subject=f"{PLANTED}_{n}", metadata={**one.metadata, "patient_id": f"P{n}"})
        for n, one in enumerate(manifest.subjects)
    ]
    write_manifest(replace(manifest, subjects=tuple(subjects)))
    return root


class Hospital:
    """A site's workspace with its own file, and the server that receives what leaves it."""

    def __init__(self, root: Path, data: Path, **own: Any) -> None:
        self.root, self.workspace = root, root / "site"
        self.studies = root / "site" / "studies"
        prepare_workspace(self.workspace, {"tiny": data}, torch_threads=1)
        path = self.workspace / "local" / FILE_NAME
        config = OmegaConf.load(path)
        config.state = str(self.workspace / "state")
        config.limits.metric_digits = 4
        said = {"folder": str(self.studies), "share": True, "least_patients": TESTED, **own}
        config.studies = {key: value for key, value in said.items() if value is not None}
        OmegaConf.save(config, path)
        self.server = Engine(root / "server")
        self.metrics = GlobalMetrics()

    def job(self, task: StudyTask, seed: int = 7, **values: Any) -> dict[str, float]:
        """The final evaluation of one job, through all gates; returns what the server recorded."""
        settings = merged(TINY, values, {"seed": seed, "training": {"rounds": 1, "steps": 2}})
        executor = TranslationExecutor(settings, "run-01", __version__, study=as_dict(task))
        engine = Engine(self.workspace, name="north")
        ctx = engine.new_context()
        meta = {"submitter_name": "lead", "submitter_org": "east", "min_clients": 1}
        ctx.set_prop(FLContextKey.JOB_META, meta, private=True, sticky=True)
        answer = executor.execute("validate", self._model(settings, seed), ctx, Signal())
        for gate in (AllowedUpdate(["generator"]), SitePolicy(["generator"])):
            answer = gate.process(answer, FLContext())
        self._receive(answer)
        return from_shareable(answer).data

    def _model(self, settings: dict[str, Any], seed: int) -> Shareable:
        experiment = experiment_from(settings, "test")
        state = build_networks(experiment.model, seed + len(experiment.strategy.name)).state_dict()
        return DXO(DataKind.WEIGHTS, {k: v.numpy() for k, v in state.items()}).to_shareable()

    def _receive(self, answer: Shareable) -> None:
        ctx = self.server.new_context()
        ctx.set_prop(FLContextKey.RUNNER, server_runner(), private=True, sticky=True)
        ctx.set_prop(AppConstants.VALIDATION_RESULT, answer, private=True, sticky=False)
        ctx.set_prop(AppConstants.DATA_CLIENT, "north", private=True, sticky=False)
        self.metrics.handle_event(EventType.START_RUN, self.server.new_context())
        self.metrics.handle_event(AppEventType.VALIDATION_RESULT_RECEIVED, ctx)
        self.metrics.handle_event(EventType.END_WORKFLOW, ctx)

    @property
    def study(self) -> Path:
        """The folder of the one study."""
        (found,) = self.studies.iterdir()
        return found


@pytest.fixture(scope="module")
def hospital(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    """Two jobs of one seed, the first with the site's own arm, and one of another seed."""
    made = Hospital(tmp_path_factory.mktemp("federation"), data)
    made.first = made.job(replace(TASK, local=True))  # type: ignore[attr-defined]
    prox = replace(TASK, arm="fedprox")
    made.job(prox, strategy={"name": "fedprox"})
    made.job(replace(TASK, local=True), seed=8)
    made.job(prox, seed=8, strategy={"name": "fedprox"})
    return made


def found_in(root: Path, secret: bytes) -> list[Path]:
    """The files below a folder that hold it; archives are looked into."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return [path for path in files if any(secret in content for content in _contents(path))]


def _contents(path: Path) -> Iterator[bytes]:
    yield path.read_bytes()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name) for name in archive.namelist())


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_the_server_gets_number_mean_and_spread_of_the_rows_that_stay_rounded(
    hospital: Hospital,
) -> None:
    rows = rows_of(hospital.study / "seed-7" / "results.csv")
    for arm, model in (("fedavg", "test"), ("local-north", "test_local")):
        for metric in ("psnr", "ssim", "mae", "mse"):
            values = [float(r["value"]) for r in rows if (r["arm"], r["metric"]) == (arm, metric)]
            assert len(values) == TESTED
            expected = (TESTED, np.mean(values), np.std(values, ddof=1))
            told = [hospital.first[f"{model}/{metric}/{name}"] for name in NAMES]  # type: ignore[attr-defined]
            assert told == [float(f"{value:.4g}") for value in expected]


def test_a_patient_s_row_and_picture_are_in_the_site_s_folder_and_nowhere_outside(
    hospital: Hospital,
) -> None:
    """What is searched for is found at the site, so that the search itself is proven."""
    seed = hospital.study / "seed-7"
    row = next(r for r in rows_of(seed / "results.csv") if r["arm"] == "fedavg")
    assert row["subject"].startswith(PLANTED)
    with np.load(seed / "slices.npz") as archive:
        name = next(name for name in archive.files if name.endswith("/target"))
        picture = archive[name]
    secrets = {
        "name": PLANTED.encode(),
        "row": row["value"].encode(),
        "picture": picture.tobytes(),
    }
    outside = hospital.root / "server"
    for what, secret in secrets.items():
        assert found_in(hospital.study, secret), what
        assert found_in(outside, secret) == [], what
    received = read_metrics(next(outside.rglob(METRICS_FILE)))
    allowed = {"val", "test", "test_local", "time", "source"}
    assert {metric.split("/")[0] for _, _, metric, _ in received} <= allowed


def test_the_folder_is_for_the_site_s_own_account(hospital: Hospital) -> None:
    assert hospital.study.stat().st_mode & 0o777 == 0o700


def test_the_site_s_files_are_a_study_that_the_report_reads_with_all_its_patients(
    hospital: Hospital,
) -> None:
    study = read_study(hospital.study)
    assert study.gaps == () and list(study.runs) == [7, 8]
    assert study.about.reference == "fedavg" and study.about.margin == 0.5
    run = read_run(hospital.study / "seed-7")
    trained = ["fedavg", "local-north", "fedprox"]
    untrained = ["source", "mapped-source", "constant", "mean-target"]
    assert [arm.name for arm in run.about.arms] == [*untrained, *trained]
    assert set(run.test_rows["subject"]) == {f"{PLANTED}_{n}" for n in range(3, 3 + TESTED)}
    assert {what for _, _, what in run.slices} >= {"source", "target", *trained}


def test_the_page_is_made_at_the_site_by_the_report(hospital: Hospital) -> None:
    assert main(["report", str(hospital.study)]) == 0
    page = (hospital.study / "report.html").read_text(encoding="utf-8")
    assert "thesis at north" in page and "FedProx" in page


def test_the_site_s_own_arm_is_the_local_only_arm_of_the_same_seed(
    hospital: Hospital, data: Path, tmp_path: Path
) -> None:
    values = merged(TINY, {"seed": 7, "training": {"rounds": 1, "steps": 2}})
    OmegaConf.save(OmegaConf.create(values), tmp_path / "experiment.yaml")
    experiment = ("--experiment", str(tmp_path / "experiment.yaml"))
    out, where = tmp_path / "north", str(data / "north")
    assert main(["train", *experiment, "--data", where, "--out", str(out)]) == 0
    alone = hospital.study / "seed-7" / "alone" / "metrics.csv"
    assert _without_time(alone) == _without_time(out / "metrics.csv")


def _without_time(path: Path) -> list[Any]:
    return [row for row in read_metrics(path) if not row[2].startswith("time/")]


@pytest.mark.parametrize(
    ("own", "kept"),
    [
        ({"share": False}, True),
        ({"least_patients": TESTED + 1}, True),
        ({"share": False, "folder": None}, False),
    ],
)
def test_no_number_leaves_where_the_site_s_own_file_does_not_allow_it(
    data: Path, tmp_path: Path, own: dict[str, Any], kept: bool
) -> None:
    hospital = Hospital(tmp_path, data, **own)
    found = hospital.job(TASK)
    assert "val/psnr" in found
    assert not [name for name in found if name.startswith("test")]
    assert hospital.studies.exists() == kept


def test_another_design_of_the_same_name_has_a_folder_of_its_own(
    data: Path, tmp_path: Path
) -> None:
    hospital = Hospital(tmp_path, data)
    hospital.job(TASK)
    hospital.job(replace(TASK, design="changed afterwards"))
    titles = [
        json.loads((found / "study.json").read_text())["design"]["title"]
        for found in hospital.studies.iterdir()
    ]
    assert titles == ["thesis at north"] * 2


def test_a_strategy_with_a_personal_model_tells_of_both(data: Path, tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, data)
    found = hospital.job(replace(TASK, arm="ditto"), strategy={"name": "ditto"})
    assert {"test/psnr/mean", "test_personal/psnr/mean"} <= found.keys()
    arms = [arm.name for arm in read_run(hospital.study / "seed-7").about.arms]
    assert arms[-2:] == ["ditto", "ditto@north"]


@pytest.mark.parametrize("study", ["../elsewhere", "a/b", ""])
def test_a_study_whose_name_is_a_path_is_refused(study: str) -> None:
    with pytest.raises(ConfigError, match=r"study\.study"):
        study_task({"study": study}, "job argument")
