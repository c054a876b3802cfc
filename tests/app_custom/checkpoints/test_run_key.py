from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey
from nvflare_fakes import JOB, Engine

from app_custom.checkpoints.run_key import (
    DIGEST_FILE,
    DeployedConfigurations,
    configurations_digest,
    run_key,
)

RUN = "fedavg-0123456789ab"
META = {
    "submitter_name": "lead@north.example.org",
    "submitter_org": "north",
    "deploy_map": {"app_server": ["server"], "app_site": ["north", "east"]},
}
SERVER: dict[str, Any] = {"components": [{"id": "continuation", "args": {"run_name": RUN}}]}
SITE: dict[str, Any] = {"executors": [{"tasks": ["train"], "settings": {"steps": 40}}]}


def archive(
    server: Any = SERVER, site: Any = SITE, folder: str = "fedavg", signature: str = ""
) -> bytes:
    """A submitted job, as the server keeps it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as job:
        job.writestr(f"{folder}/meta.json", "{}")
        job.writestr(f"{folder}/app_server/config/config_fed_server.json", json.dumps(server))
        job.writestr(f"{folder}/app_site/config/config_fed_client.json", json.dumps(site))
        job.writestr(f"{folder}/app_site/__nvfl_sig.json", signature)
    return buffer.getvalue()


def key(root: Path, job: bytes, **meta: Any) -> str:
    """The key of a job that the server has deployed in a folder."""
    root.mkdir()
    engine = Engine(root)
    manager = SimpleNamespace(
        get_job=lambda job_id, ctx: SimpleNamespace(meta={"job_id": job_id}),
        get_content=lambda found, ctx: job if found["job_id"] == JOB else None,
    )
    engine.components["job_manager"] = manager
    ctx = engine.new_context()
    ctx.set_prop(FLContextKey.JOB_RUN_NUMBER, JOB)
    DeployedConfigurations().handle_event(EventType.JOB_DEPLOYED, ctx)
    assert (root / JOB / DIGEST_FILE).is_file()
    ctx.set_prop(FLContextKey.JOB_META, {**META, **meta}, private=True, sticky=True)
    return run_key(RUN, ctx)


def test_the_same_job_sent_again_has_the_same_key(tmp_path: Path) -> None:
    first = key(tmp_path / "a", archive())
    again = archive(folder="renamed", signature="of another day")
    assert key(tmp_path / "b", again, job_id="another", min_clients=1) == first
    assert first.startswith(f"{RUN}-")


@pytest.mark.parametrize(
    "meta",
    [
        {"submitter_name": "lead@south.example.org"},
        {"submitter_org": "south"},
        {"deploy_map": {"app_server": ["server"], "app_site": ["north"]}},
    ],
)
def test_another_submitter_or_other_sites_make_another_key(
    tmp_path: Path, meta: dict[str, Any]
) -> None:
    assert key(tmp_path / "a", archive(), **meta) != key(tmp_path / "b", archive())


def test_another_configuration_of_server_or_sites_makes_another_key(tmp_path: Path) -> None:
    longer = {"executors": [{"tasks": ["train"], "settings": {"steps": 1}}]}
    keys = {
        key(tmp_path / "a", archive()),
        key(tmp_path / "b", archive(site=longer)),
        key(tmp_path / "c", archive(server={**SERVER, "workflows": []})),
    }
    assert len(keys) == 3


def test_the_digest_reads_every_app_of_a_job() -> None:
    assert configurations_digest(archive()) != configurations_digest(archive(site={}))


def test_in_the_simulator_the_server_s_own_configuration_counts(tmp_path: Path) -> None:
    """There is no job archive, and the whole federation is one person's."""
    keys = set()
    for number, server in enumerate((SERVER, SERVER, {})):
        root = tmp_path / str(number)
        config = root / "app" / "config"
        config.mkdir(parents=True)
        (config / "config_fed_server.json").write_text(json.dumps(server))
        ctx = Engine(root).new_context()
        ctx.set_prop(FLContextKey.APP_ROOT, str(root / "app"), private=True, sticky=True)
        keys.add(run_key(RUN, ctx))
    assert len(keys) == 2
