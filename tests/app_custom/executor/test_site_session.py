from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nvflare.apis.fl_constant import FLContextKey
from nvflare_fakes import Engine

from app_custom.executor.site_session import SiteSession, kept_by, settings_digest
from app_custom.participant.site_configuration import SiteConfig
from lightning_modules.configuration import experiment_from
from lightning_modules.training.hardware import Hardware


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


def test_what_a_site_keeps_is_bound_to_every_setting() -> None:
    digests = {
        settings_digest(experiment_from(values, "test"))
        for values in (
            {},
            {"seed": 1},
            {"training": {"steps": 151}},
            {"data": {"preparation": {"target": "flair"}}},
            {"strategy": {"name": "fedprox", "mu_generator": 0.5}},
        )
    }
    assert len(digests) == 5


def test_what_a_site_keeps_is_bound_to_the_submitter_and_in_the_simulator_to_the_settings() -> None:
    experiment = experiment_from({}, "test")
    names = set()
    for submitter in (None, "lead@north.example.org", "lead@south.example.org"):
        ctx = Engine(name="north").new_context()
        meta = {"submitter_name": submitter} if submitter else {}
        ctx.set_prop(FLContextKey.JOB_META, meta, private=True, sticky=False)
        names.add(kept_by(experiment, ctx))
    assert len(names) == 3 and settings_digest(experiment) in names
