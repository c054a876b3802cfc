"""Build job folders with NVFlare's own parsers, under its own component policy."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.workspace import Workspace
from nvflare.private.fed.client.client_json_config import ClientJsonConfigurator
from nvflare.private.fed.server.server_json_config import ServerJsonConfigurator
from nvflare.private.fed.utils.fed_utils import authorize_build_component

JOB = "job-1"
SERVER_CONFIG = Path("app_server/config/config_fed_server.json")
SITE_CONFIG = Path("app_site/config/config_fed_client.json")


def build_server(job: Path, workspace: Path) -> ServerJsonConfigurator:
    """Parse the server's configuration and build what it names, as NVFlare's server does."""
    return _built(ServerJsonConfigurator, job / SERVER_CONFIG, workspace, "server")


def build_site(job: Path, workspace: Path) -> ClientJsonConfigurator:
    """Parse a site's configuration and build what it names, as NVFlare's client does."""
    return _built(ClientJsonConfigurator, job / SITE_CONFIG, workspace, "north")


def policy_context(workspace: Path, name: str = "server") -> FLContext:
    """The context NVFlare's policy looks at: a job without own code in a workspace."""
    (workspace / "startup").mkdir(parents=True, exist_ok=True)
    (workspace / "local").mkdir(parents=True, exist_ok=True)
    ctx = FLContext()
    nvflare_workspace = Workspace(str(workspace), name)
    ctx.set_prop(FLContextKey.WORKSPACE_OBJECT, nvflare_workspace, private=True)
    ctx.set_prop(FLContextKey.CURRENT_JOB_ID, JOB, private=False, sticky=False)
    ctx.set_prop(FLContextKey.JOB_META, {}, private=True, sticky=False)
    return ctx


def class_paths(value: Any) -> Iterator[str]:
    """Every class path in a configuration, at any depth."""
    if isinstance(value, Mapping):
        if "path" in value:
            yield value["path"]
        for child in value.values():
            yield from class_paths(child)
    elif isinstance(value, list):
        for child in value:
            yield from class_paths(child)


def _built(configurator: Any, config: Path, workspace: Path, name: str) -> Any:
    ctx = policy_context(workspace, name)
    args = Namespace(
        job_id=JOB,
        workspace=str(workspace),
        client_name=name,
        sp_scheme="grpc",
        sp_target="localhost:8002",
    )
    parser = configurator(
        workspace_obj=ctx.get_prop(FLContextKey.WORKSPACE_OBJECT),
        config_file_name=str(config),
        args=args,
        app_root=str(config.parent.parent),
    )
    parser.set_component_build_authorizer(authorize_build_component, fl_ctx=ctx, event_handlers=[])
    parser.configure()
    return parser
