from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nvflare.apis.signal import Signal

from app_custom.executor import site_session
from app_custom.executor.site_session import RunEndedError, SiteSession
from app_custom.gates.job_limits import JobLimits
from app_custom.gates.shared_metrics import shared_metrics
from app_custom.participant.site_configuration import SiteConfig
from fedi2i.errors import DataError
from lightning_modules.configuration import experiment_from
from lightning_modules.metrics.presets.interface import Preset
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.learner import RoundResult


class Curves:
    """Records what would leave the site as a curve."""

    def __init__(self) -> None:
        self.tags: list[str] = []

    def write(self, tag: str, *_: Any, **__: Any) -> None:
        self.tags.append(tag)


@pytest.mark.parametrize("share", [True, False])
def test_validation_leaves_as_a_curve_only_if_the_site_shares_curves(
    share: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(session: SiteSession, model: Any, prefix: str) -> dict[str, float]:
        return {f"{prefix}/psnr": 20.0}

    monkeypatch.setattr(SiteSession, "_measure", measure)
    learner: Any = SimpleNamespace(complete=lambda *_: {}, personal=lambda *_: {})
    curves, prepared = Curves(), SimpleNamespace()
    session = SiteSession(
        experiment_from({}, "test"),
        prepared,  # type: ignore[arg-type]
        learner,
        Hardware("cpu", "32-true", 1),
        SiteConfig(share_curves=share),
        curves,  # type: ignore[arg-type]
        tmp_path,
    )
    metrics = session.validate({}, 3)
    assert metrics["val/psnr"] == 20.0  # the numbers go with the answer, past the gates
    assert curves.tags == (["val/psnr", "personal/psnr"] if share else [])


@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("error", [DataError("no space left"), PermissionError(13, "denied")])
def test_a_model_that_cannot_be_kept_is_said_and_the_round_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception, final: bool
) -> None:
    def fails(*_: Any) -> None:
        raise error

    session = SiteSession(
        experiment_from({}, "test"),
        SimpleNamespace(),  # type: ignore[arg-type]
        SimpleNamespace(complete=lambda *_: {}, personal=lambda *_: None),  # type: ignore[arg-type]
        Hardware("cpu", "32-true", 1),
        SiteConfig(),
        None,
        tmp_path,
        kept=SimpleNamespace(keep_final=fails, keep_if_best=fails),  # type: ignore[arg-type]
    )
    session.keep_models({}, 3, {}, final=final)
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.getMessage() == f"the model of round 3 is not kept: {error}"


def test_training_stops_when_its_run_has_ended_whether_curves_are_shared_or_not(
    tmp_path: Path,
) -> None:
    ended, heard = Signal(), []

    def train(state: Any, number: int, report: Any, *_: Any) -> RoundResult:
        for step in (10, 20, 30):
            report("train/l1", 0.5, step)
            heard.append(step)
            ended.trigger(True)
        return RoundResult({}, samples=1, metrics={}, steps=30, seconds=1.0)

    session = SiteSession(
        experiment_from({}, "test"),
        SimpleNamespace(),  # type: ignore[arg-type]
        SimpleNamespace(train=train),  # type: ignore[arg-type]
        Hardware("cpu", "32-true", 1),
        SiteConfig(share_curves=False),
        None,
        tmp_path,
        ended,
    )
    with pytest.raises(RunEndedError):
        session.train({}, {}, 0)
    assert heard == [10]


@pytest.mark.parametrize(("digits", "sent"), [(3, 21.3), (17, 21.3456789)])
def test_what_leaves_is_rounded_as_the_site_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: int, sent: float
) -> None:
    values: list[float] = []
    curves = SimpleNamespace(write=lambda tag, value, *_, **__: values.append(value))
    monkeypatch.setattr(SiteSession, "_measure", lambda *_: {"val/psnr": 21.3456789})

    def train(state: Any, number: int, report: Any, *_: Any) -> RoundResult:
        report("train/l1", 21.3456789, 10)
        metrics = {"train/l1": 21.3456789}
        return RoundResult({}, samples=1, metrics=metrics, steps=30, seconds=1.0)

    learner = SimpleNamespace(train=train, complete=lambda *_: {}, personal=lambda *_: None)
    session = SiteSession(
        experiment_from({}, "test"),
        SimpleNamespace(),  # type: ignore[arg-type]
        learner,  # type: ignore[arg-type]
        Hardware("cpu", "32-true", 1),
        SiteConfig(limits=JobLimits(metric_digits=digits)),
        curves,  # type: ignore[arg-type]
        tmp_path,
    )
    assert session.validate({}, 0)["val/psnr"] == sent
    assert session.train({}, {}, 0).metrics == {"train/l1": sent}
    assert values == [sent, sent]


@pytest.mark.parametrize(("describes", "rounds"), [(True, 7), (True, 6), (False, 7)])
def test_the_source_is_described_with_the_final_model_and_only_where_the_site_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, describes: bool, rounds: int
) -> None:
    monkeypatch.setattr(SiteSession, "_measure", lambda *_: {})
    said = {"source/p05": 0.12345}
    monkeypatch.setattr(site_session, "source_percentiles", lambda *_: said)
    curves = Curves()
    session = SiteSession(
        experiment_from({"training": {"rounds": 7}}, "test"),
        SimpleNamespace(split=lambda _: None),  # type: ignore[arg-type]
        SimpleNamespace(complete=lambda *_: {}, personal=lambda *_: None),  # type: ignore[arg-type]
        Hardware("cpu", "32-true", 1),
        SiteConfig(limits=JobLimits(metric_digits=3)),
        curves,  # type: ignore[arg-type]
        tmp_path,
        describes_source=describes,
    )
    sent = shared_metrics(session.validate({}, rounds))
    sent.pop("time/validate_seconds")
    assert sent == ({"source/p05": 0.123} if describes and rounds == 7 else {})
    assert curves.tags == []


@pytest.mark.parametrize("once", [True, False])
def test_metrics_that_are_slow_are_measured_by_a_job_that_measures_once_and_not_in_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, once: bool
) -> None:
    def measured(prediction: Any, patient: Any, preset: Preset) -> dict[str, float]:
        return dict.fromkeys(preset.metrics, 0.5)

    fakes = {
        "load_translator": lambda *_: None,
        "patients": lambda _: [SimpleNamespace(source=None)],
        "translate_patient": lambda *_: None,
        "patient_metrics": measured,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(site_session, name, fake)
    session = SiteSession(
        experiment_from({}, "test"),
        SimpleNamespace(split=lambda _: None),  # type: ignore[arg-type]
        SimpleNamespace(complete=lambda *_: {}, personal=lambda *_: None),  # type: ignore[arg-type]
        Hardware("cpu", "32-true", 1),
        SiteConfig(share_curves=False, share_images=False),
        None,
        tmp_path,
        every_metric=once,
    )
    sent = shared_metrics(session.validate({}, 0)).keys() - {"time/validate_seconds"}
    quick = {"val/psnr", "val/ssim", "val/mae", "val/mse", "val/nrmse", "val/lesion_mae"}
    slow = {"val/ms_ssim_3_scales", "val/vif", "val/gmsd", "val/haarpsi", "val/ssim_inner"}
    assert sent == (quick | slow if once else quick)
