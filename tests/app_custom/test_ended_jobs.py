"""The reason of a job's end reaches its meta data, in NVFlare's own store of jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey
from nvflare.app_common.storages.filesystem_storage import FilesystemStorage
from nvflare_fakes import JOB, Engine

from app_custom.ended_jobs import REASON, JobsWithReasons, add_reason
from app_custom.server.site_watch import SiteWatch

FAULT = "round 1: 1 site(s) answered, at least 2 are needed; missing: west"


class Store:
    """The server's process after a job: its store, and what the job left behind."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engine = Engine(root / "workspace")
        self.jobs = JobsWithReasons(uri_root=str(root / "jobs"))
        storage = FilesystemStorage(str(root / "jobs"), "/")
        monkeypatch.setattr(self.jobs, "_get_job_store", lambda fl_ctx: storage)
        self.jobs.create({"job_id": JOB, "name": "fedavg"}, b"", self.engine.new_context())

    @property
    def run(self) -> Path:
        return Path(self.engine.get_workspace().get_run_dir(JOB))

    def archive(self) -> dict[str, Any]:
        """Store the run's folder as NVFlare's job runner does; the job's meta data after it."""
        ctx = self.engine.new_context()
        self.jobs.save_workspace(JOB, [str(self.run)], ctx)
        return dict(self.jobs.get_job(JOB, ctx).meta)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    return Store(tmp_path, monkeypatch)


def test_whoever_asks_for_a_job_s_meta_data_reads_why_it_ended(store: Store) -> None:
    ctx = store.engine.new_context()
    ctx.set_prop(FLContextKey.EVENT_DATA, FAULT)
    SiteWatch().handle_event(EventType.FATAL_SYSTEM_ERROR, ctx)
    add_reason("the run ended after 1 of 6 rounds", ctx)
    meta = store.archive()
    assert meta[REASON] == f"{FAULT}; the run ended after 1 of 6 rounds"
    assert meta["name"] == "fedavg"
    assert store.jobs.get_storage_component(JOB, "workspace", ctx)


def test_a_job_without_a_fault_has_no_reason_and_is_stored(store: Store) -> None:
    assert REASON not in store.archive()
    assert store.jobs.get_storage_component(JOB, "workspace", store.engine.new_context())


def test_a_sentence_that_is_said_again_stands_once_and_a_flood_is_cut(store: Store) -> None:
    ctx = store.engine.new_context()
    for sentence in (FAULT, FAULT, "x" * 10_000):
        add_reason(sentence, ctx)
    told = store.archive()[REASON]
    assert told.startswith(f"{FAULT}; x")
    assert len(told) == 4000


def test_a_reason_that_cannot_be_written_stops_nothing(store: Store) -> None:
    store.run.rmdir()
    add_reason(FAULT, store.engine.new_context())
    store.run.mkdir()
    assert REASON not in store.archive()
