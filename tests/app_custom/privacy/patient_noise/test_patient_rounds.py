"""A site's rounds under patient-level differential privacy: the ledger, and what leaves."""

from __future__ import annotations

import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.fl_constant import FLContextKey, ReservedKey, ReturnCode
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare.app_common.app_constant import AppConstants
from nvflare.private.fed.simulator.simulator_const import SimulatorConstants
from nvflare_fakes import Engine
from omegaconf import OmegaConf
from tiny_cohort import write_tiny_cohort

from app_custom.executor.session_opening import WRITER_ID, kept_by
from app_custom.executor.site_session import SiteSession
from app_custom.executor.translation_executor import TranslationExecutor
from app_custom.gates.allowed_update import AllowedUpdate
from app_custom.gates.job_limits import REFUSED_BY
from app_custom.gates.shared_metrics import TRAIN_METRICS
from app_custom.participant.site_configuration import read_site_config
from app_custom.privacy.patient_noise import rounds as patient_rounds
from app_custom.privacy.update_filters import LEDGER, site_ledger
from fedi2i import __version__
from fedi2i.epsilon import EPSILON_ROUND, EPSILON_TOTAL
from fedi2i.errors import ConfigError
from jobs.writing.workspace import prepare_workspace
from lightning_modules.configuration import experiment_from
from lightning_modules.networks.building import build_networks
from lightning_modules.privacy.accountant import Release, epsilon
from lightning_modules.privacy.patient_settings import PatientNoise
from lightning_modules.training.learner import Learner

SETTINGS: dict[str, Any] = {
    "data": {"dataset": "tiny", "preparation": {"size": [32, 32], "spacing": None}},
    "model": {"generator": {"channels": [4, 8]}, "discriminator": {"channels": 4, "layers": 1}},
    "training": {"rounds": 2, "steps": 2},
}
RUN = "fedavg_patient_dp-0123456789ab"
# Everybody is drawn, so that the closed form counts and no test waits for the numerical one.
NOISE: dict[str, Any] = {
    "noise_multiplier": 5.0,
    "sampling_rate": 1.0,
    "patients": 2,
    "epsilon": 50.0,
    "delta": 1e-3,
}
ROUND = Release(5.0, count=4)
"""Two steps of two networks."""


class Site:
    """North, with two training patients, in a workspace of the simulator."""

    def __init__(self, root: Path) -> None:
        self.root = root
        data = write_tiny_cohort(root / "data", ("north",))
        self.workspace = prepare_workspace(root / "workspace", {"tiny": data})
        self.curves: list[str] = []

    def configure(self, **values: Any) -> None:
        path = self.workspace / "local" / "fedi2i.yaml"
        path.write_text(OmegaConf.to_yaml(OmegaConf.merge(OmegaConf.load(path), values)))

    def context(self, simulated: bool = False) -> Any:
        engine = Engine(self.workspace, name="north")
        engine.components[WRITER_ID] = self
        ctx = engine.new_context()
        if simulated:
            name = SimulatorConstants.JOB_NAME
            ctx.set_prop(ReservedKey.RUN_NUM, name, private=False, sticky=True)
        return ctx

    def write(self, tag: str, *_: Any, **__: Any) -> None:
        """A point of a curve or a picture on its way past the filters."""
        self.curves.append(tag)

    def answer(
        self,
        task: str = "train",
        number: int = 0,
        noise: dict[str, Any] | None = NOISE,
        simulated: bool = False,
        **settings: Any,
    ) -> Shareable:
        """A new process's answer to one task."""
        values = copy.deepcopy(SETTINGS) | settings
        networks = build_networks(experiment_from(SETTINGS, "test").model, 2026)
        weights = {key: value.numpy() for key, value in networks.state_dict().items()}
        sent = DXO(DataKind.WEIGHTS, data=weights).to_shareable()
        sent.set_header(AppConstants.CURRENT_ROUND, number)
        executor = TranslationExecutor(values, RUN, __version__, noise)
        return executor.execute(task, sent, self.context(simulated), Signal())

    @property
    def lines(self) -> list[dict[str, Any]]:
        return site_ledger(self.context(), RUN).events()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_beside_the_weights_leave_stated_numbers_validation_and_epsilon_alone(site: Site) -> None:
    answer = site.answer()
    dxo = from_shareable(answer)
    spent = epsilon([ROUND], 1e-3)
    assert dxo.meta[MetaKey.NUM_STEPS_CURRENT_ROUND] == 2  # of twelve slices
    assert dxo.meta[TRAIN_METRICS] == {}  # no loss, and not how long it took
    metrics = dxo.meta[MetaKey.INITIAL_METRICS]
    assert metrics[EPSILON_ROUND] == metrics[EPSILON_TOTAL] == pytest.approx(spent)
    assert metrics["privacy/least_patients"] == 2
    assert "val/psnr" in metrics
    AllowedUpdate(["generator", "discriminator"]).process(answer, site.context())


def test_all_steps_of_a_round_are_in_the_ledger_with_the_data_they_are_of(site: Site) -> None:
    site.answer()
    begun, released = site.lines
    assert begun["mechanism"] == "patient"
    assert begun["releases"] == [asdict(ROUND)]
    assert begun["clipping"] == {"generator": 20.0, "discriminator": 2.0}
    assert len(begun["data"]) == 64
    assert released == released | {"state": "released", "event": begun["sequence"]}


def test_a_budget_runs_out_over_two_jobs_and_a_crash(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    noise = NOISE | {"epsilon": epsilon([ROUND] * 3, 1e-3) + 1e-6}
    assert site.answer(noise=noise).get_return_code() == ReturnCode.OK

    def crash(*_: Any, **__: Any) -> None:
        # What stands in the ledger now stays there, whatever becomes of this process.
        assert len(site.lines) == 3
        raise KeyboardInterrupt

    with monkeypatch.context() as crashing:
        crashing.setattr(Learner, "train", crash)
        with pytest.raises(KeyboardInterrupt):
            site.answer(number=1, noise=noise)
    # The second job, with other settings, under the same or any larger name.
    last = site.answer(noise=noise, seed=5)
    total = from_shareable(last).meta[MetaKey.INITIAL_METRICS][EPSILON_TOTAL]
    assert total == pytest.approx(noise["epsilon"], abs=1e-4)

    trained: list[int] = []
    monkeypatch.setattr(Learner, "train", lambda *_, **__: trained.append(1))
    refused = site.answer(number=1, noise=noise, seed=5)
    assert refused.get_return_code() == ReturnCode.EXECUTION_EXCEPTION
    assert not trained
    assert "is spent and this round would make it" in caplog.text


def test_a_repeated_round_is_spent_again(site: Site) -> None:
    for _ in range(2):
        site.answer(number=0)
    assert [line["state"] for line in site.lines] == ["begun", "released"] * 2


def test_a_ledger_that_is_not_the_newest_trains_nothing(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.answer()
    (ledger,) = site.root.rglob(LEDGER)
    ledger.unlink()
    assert site.answer(number=1).get_return_code() == ReturnCode.EXECUTION_EXCEPTION
    assert "put the ledger back" in caplog.text


def test_metrics_that_are_not_shared_are_not_measured(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def validate(*_: Any) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr(SiteSession, "validate", validate)
    noise = NOISE | {"share_metrics": False}
    metrics = from_shareable(site.answer(noise=noise)).meta[MetaKey.INITIAL_METRICS]
    assert all(name.startswith("privacy/") for name in metrics)
    assert from_shareable(site.answer("validate", noise=noise)).data == {}


def test_no_curve_and_no_picture_leaves_past_the_filters(site: Site) -> None:
    site.configure(share_curves=True, share_images=True)
    site.answer(noise=None, training={"steps": 10})
    assert {"train/l1", "val/source_target_translated_error"} <= set(site.curves)
    site.curves.clear()
    site.answer(training={"steps": 10})
    assert site.curves == []


def test_what_plain_training_kept_is_not_gone_on_with(site: Site) -> None:
    """Its optimizers' moments are gradients without noise; the run's name is the job's to say."""
    experiment = experiment_from(SETTINGS, "test")
    ctx = site.context()
    names = {kept_by(experiment, ctx, noise) for noise in (None, PatientNoise())}
    assert len(names) == 2
    kept = {"rounds": 2, "steps": 2, "optimizer_state": "keep"}
    site.answer(noise=None, training=kept)
    site.answer(training=kept)
    folders = {path.parent.name for path in site.root.rglob("after-round-*.pt")}
    assert len(folders) == 2


@pytest.mark.parametrize(
    ("noise", "settings", "words"),
    [
        ({"patients": 3}, {}, "has 2 training patient"),
        ({"delta": 0.5}, {}, "given away whole"),
        ({}, {"strategy": {"name": "ditto"}}, "strategy 'ditto' does not admit"),
        ({}, {"model": {"name": "cyclegan"}}, "model 'cyclegan' does not admit"),
    ],
)
def test_what_cannot_be_promised_is_refused_before_anything_is_spent(
    site: Site,
    noise: dict[str, Any],
    settings: dict[str, Any],
    words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whoever wrote the job by hand passed by the checks of its writer."""
    answer = site.answer(noise=NOISE | noise, **settings)
    assert answer.get_return_code() == ReturnCode.EXECUTION_EXCEPTION
    assert words in caplog.text
    assert site.lines == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"noise_multiplier": 0.0}, "patient_noise.noise_multiplier is 0.0"),
        ({"clipping_generator": 0.0}, "patient_noise.clipping_generator is 0.0"),
        ({"epsilon": -1.0}, "patient_noise.epsilon is -1.0"),
        ({"delta": 0.0}, "patient_noise.delta is 0.0"),
        ({"sampling_rate": 1.5}, "patient_noise.sampling_rate is 1.5"),
        ({"noise": 1.0}, "unknown key 'patient_noise.noise'"),
    ],
)
def test_values_that_no_mechanism_can_have_are_refused_when_the_job_is_read(
    changed: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        TranslationExecutor(SETTINGS, RUN, __version__, NOISE | changed)


def test_a_site_s_demand_refuses_a_job_without_noise_and_names_itself(site: Site) -> None:
    site.configure(patient_privacy={"required": True})
    for task in ("train", "validate"):
        refused = site.answer(task, noise=None)
        assert refused.get_header(REFUSED_BY) == "patient_privacy"
        AllowedUpdate(["generator"]).process(refused, site.context())


def test_a_site_s_budget_and_silence_hold_in_place_of_the_job_s(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    most = epsilon([ROUND], 1e-4) + 1e-6
    site.configure(patient_privacy={"required": True, "epsilon": most, "delta": 1e-4})
    metrics = from_shareable(site.answer()).meta[MetaKey.INITIAL_METRICS]
    assert metrics[EPSILON_TOTAL] == pytest.approx(most, abs=1e-4)
    assert "val/psnr" not in metrics
    assert site.answer(number=1).get_return_code() == ReturnCode.EXECUTION_EXCEPTION
    assert "at delta 0.0001" in caplog.text


def test_a_demand_that_demands_nothing_is_refused(site: Site) -> None:
    site.configure(patient_privacy={"epsilon": 1.0})
    with pytest.raises(ConfigError, match="required: true"):
        read_site_config(site.workspace / "local")


def test_a_simulated_ledger_begins_with_its_run_and_keeps_the_line_of_noised_updates(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        site.answer(simulated=True)
        site.answer(number=1, simulated=True)
    ledger = site_ledger(site.context(simulated=True), RUN)
    assert len(ledger.events()) == 4
    assert all(line["simulated"] for line in ledger.events() if line["state"] == "begun")
    # The filters of noised updates begin the ledger anew, so this must not.
    monkeypatch.setattr(patient_rounds, "keeps_to_the_ledger", lambda _: True)
    ctx = site.context(simulated=True)
    learner_slices = _slices(site)
    rounds = patient_rounds.PatientRounds(
        PatientNoise(**NOISE),
        read_site_config(site.workspace / "local").patient_privacy,
        experiment_from(SETTINGS, "test"),
        learner_slices,
        RUN,
    )
    rounds.begin(0, ctx)
    assert len(ledger.events()) == 5


def _slices(site: Site) -> Any:
    executor = TranslationExecutor(SETTINGS, RUN, __version__)
    ctx = site.context()
    ctx.set_prop(FLContextKey.JOB_META, {}, private=True, sticky=True)
    return executor._opened(ctx)._learner._slices


def test_the_answer_s_weights_are_finite_and_not_those_that_were_received(site: Site) -> None:
    sent = from_shareable(site.answer()).data
    initial = build_networks(experiment_from(SETTINGS, "test").model, 2026).state_dict()
    assert sent.keys() == initial.keys()
    moved = [not np.array_equal(sent[key], value.numpy()) for key, value in initial.items()]
    assert all(moved)
    assert all(np.isfinite(value).all() for value in sent.values())
