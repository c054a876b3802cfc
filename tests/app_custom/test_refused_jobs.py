"""What a site answers to a job that its own file does not allow, and what the server learns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from nvflare.apis.dxo import DXO, DataKind
from nvflare.apis.event_type import EventType
from nvflare.apis.filter import Filter
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare.app_common.app_constant import AppConstants
from nvflare.fuel.sec.audit import AuditService
from nvflare_fakes import Engine, task_router, with_peer
from omegaconf import OmegaConf
from tiny_cohort import write_tiny_cohort

from app_custom.executor.translation_executor import TranslationExecutor
from app_custom.gates.allowed_update import AllowedUpdate
from app_custom.gates.job_limits import REFUSED, REFUSED_BY
from app_custom.gates.site_policy import SitePolicy
from app_custom.privacy.secure_sum.filters import MaskUpdate
from app_custom.privacy.secure_sum.mask_keys import MaskKeys
from app_custom.privacy.update_filters import AddNoise, SpendBudget
from app_custom.server.site_watch import SiteWatch
from fedi2i import __version__
from provision.kit_texts import site_config_template

SITES = ("north", "east", "south")
LEAD = "lead@south.example.org"
SETTINGS: dict[str, Any] = {
    "data": {"dataset": "tiny", "preparation": {"size": [32, 32], "spacing": None}},
    "model": {"generator": {"channels": [4, 8]}, "discriminator": {"channels": 4, "layers": 1}},
    "training": {"steps": 50, "batch_size": 1},
}
MASKED = (MaskUpdate("run", 32, 20, 1.0, 1), AllowedUpdate(["generator"]))


class Site:
    """North, with its own file and its own audit trail."""

    def __init__(self, root: Path, **limits: Any) -> None:
        self.root = root
        self.data = write_tiny_cohort(root / "data", ("north",)) / "north"
        config = OmegaConf.create(site_config_template(["tiny"]))
        merged = {"datasets": {"tiny": str(self.data)}, "limits": limits}
        (root / "local").mkdir()
        (root / "local" / "fedi2i.yaml").write_text(
            OmegaConf.to_yaml(OmegaConf.merge(config, merged))
        )

    @property
    def trail(self) -> str:
        return (self.root / "audit.log").read_text()

    def answer(
        self,
        settings: dict[str, Any] | None = None,
        sites: tuple[str, ...] = SITES,
        needed: int = 3,
        server: str | None = None,
        filters: Sequence[Filter] = (),
    ) -> Shareable:
        """What the site answers to the first task of a job, past its own gate."""
        weights = {"generator.w": np.zeros(3, dtype=np.float32)}
        task = DXO(DataKind.WEIGHTS, data=weights).to_shareable()
        task.set_header(AppConstants.CURRENT_ROUND, 0)
        executor = TranslationExecutor(
            {**SETTINGS, **(settings or {})}, "fedavg-0123456789ab", __version__
        )
        ctx = Engine(self.root, name="north").new_context()
        meta = {
            "job_clients": [{"name": site} for site in sites],
            "min_clients": needed,
            "submitter_name": LEAD,
        }
        ctx.set_prop(FLContextKey.JOB_META, meta, private=True, sticky=True)
        masking = [MaskKeys("run")] if any(isinstance(f, MaskUpdate) for f in filters) else []
        runner = SimpleNamespace(
            task_result_filters={"train/out": list(filters)},
            task_router=task_router(executor, *masking),
        )
        ctx.set_prop(FLContextKey.RUNNER, runner, private=True, sticky=False)
        if server is not None:
            peer = FLContext()
            peer.set_prop("fedi2i.release", server, private=False)
            ctx.set_peer_context(peer)
            executor.handle_event(EventType.BEFORE_TASK_EXECUTION, ctx)
        answer = executor.execute("train", task, ctx, Signal())
        return SitePolicy(["generator", "discriminator"]).process(answer, ctx)


PATCHES: dict[str, Any] = {"patch": [8, 16, 16], "discriminator": {"layers": 1}}


@pytest.fixture(autouse=True)
def trail(tmp_path: Path) -> Iterator[None]:
    AuditService.initialize(str(tmp_path / "audit.log"))
    yield
    AuditService.close()
    AuditService.the_auditor = None


@pytest.mark.parametrize(
    ("limits", "job", "rule"),
    [
        ({}, {"sites": ("north",), "needed": 1}, "least_sites"),
        ({}, {"needed": 1}, "least_sites"),
        ({}, {"settings": {"training": {"steps": 1, "batch_size": 1}}}, "least_samples_per_round"),
        ({}, {}, "least_training_patients"),
        ({"least_training_patients": 2}, {}, "least_training_slices"),
        (
            {"least_training_patients": 2, "least_training_slices": 2},
            {},
            "least_validation_patients",
        ),
        ({"most_parameters": 100}, {}, "most_parameters"),
        ({"most_pixels": 1000}, {}, "most_pixels"),
        # A slice has 32 x 32 pixels, the patch 2,048 voxels.
        ({"most_pixels": 1100}, {"settings": {"model": PATCHES}}, "most_pixels"),
        ({}, {"server": "0.1.0 (code 000000000000)"}, "other_release"),
        ({"single_updates": False}, {}, "single_updates"),
        # With masks the next limit refuses, and so does the number of sites before the masks.
        ({"single_updates": False}, {"filters": MASKED}, "least_training_patients"),
        (
            {"single_updates": False, "least_sites": 4},
            {"filters": MASKED},
            "least_sites",
        ),
        ({"plain_updates": False}, {"filters": MASKED}, "plain_updates"),
    ],
)
def test_the_answer_names_the_rule_alone_and_the_site_s_audit_trail_who_asked_for_what(
    tmp_path: Path, limits: dict[str, Any], job: dict[str, Any], rule: str
) -> None:
    site = Site(tmp_path, **limits)
    answer = site.answer(**job)
    assert answer.get_return_code() == ReturnCode.EXECUTION_EXCEPTION
    assert answer.get_header(REFUSED_BY) == rule
    assert str(site.data) not in str(answer)
    assert f"[U:{LEAD}][A:{REFUSED}]refused by '{rule}' in this participant's own" in site.trail


def test_nothing_is_prepared_for_a_job_that_is_refused_for_its_settings(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.answer(sites=("north", "east"), needed=2)
    assert not (site.data / "prepared").exists()


def test_the_server_s_log_says_which_site_refuses_and_by_which_rule(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answer = Site(tmp_path).answer()
    ctx = with_peer(Engine(sites=SITES).new_context(), "north")
    ctx.set_prop(FLContextKey.TASK_RESULT, answer, private=True, sticky=False)
    ctx.set_prop(FLContextKey.TASK_NAME, "train", private=True, sticky=False)
    SiteWatch().handle_event(EventType.BEFORE_PROCESS_SUBMISSION, ctx)
    assert "site 'north' could not do its task 'train'" in caplog.text
    assert "its own limits refuse the job: 'least_training_patients'" in caplog.text


def test_a_spent_privacy_budget_is_told_to_the_submitter_without_a_number(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """From the site's filter over its executor and its gates to the server's log."""
    site = Site(tmp_path)
    ctx = Engine(site.root, name="north").new_context()
    for name, value in ((FLContextKey.TASK_ID, "t"), (FLContextKey.TASK_NAME, "train")):
        ctx.set_prop(name, value, private=True, sticky=False)
    model = {"generator.w": np.zeros(3, dtype=np.float32)}
    task = DXO(DataKind.WEIGHTS, data=model).to_shareable()
    task.set_header(AppConstants.CURRENT_ROUND, 0)
    arriving = SpendBudget({"generator": 1.0}, noise_multiplier=1.0, epsilon=0.125, delta=1e-5)
    executor = TranslationExecutor(SETTINGS, "fedavg-0123456789ab", __version__)
    answer = executor.execute("train", arriving.process(task, ctx), ctx, Signal())
    answer = SitePolicy(["generator"]).process(AddNoise().process(answer, ctx), ctx)
    assert "the budget is epsilon 0.125" in caplog.text
    assert f"[A:{REFUSED}]refused by 'privacy_budget'" in site.trail
    assert "0.125" not in str(answer) and str(site.root) not in str(answer)
    caplog.clear()
    server = with_peer(Engine(sites=SITES).new_context(), "north")
    server.set_prop(FLContextKey.TASK_RESULT, answer, private=True, sticky=False)
    SiteWatch().handle_event(EventType.BEFORE_PROCESS_SUBMISSION, server)
    assert "its privacy budget is spent, so it takes no further part" in caplog.text


def test_a_word_that_is_no_rule_is_not_repeated_by_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = Shareable()
    answer.set_return_code(ReturnCode.EXECUTION_EXCEPTION)
    answer.set_header(REFUSED_BY, "patient Doe_Jane")
    ctx = with_peer(Engine(sites=SITES).new_context(), "north")
    ctx.set_prop(FLContextKey.TASK_RESULT, answer, private=True, sticky=False)
    SiteWatch().handle_event(EventType.BEFORE_PROCESS_SUBMISSION, ctx)
    assert "Doe" not in caplog.text and "the reason is in that site's log" in caplog.text
