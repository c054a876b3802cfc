from __future__ import annotations

from pathlib import Path

import pytest
from job_building import policy_context
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_exception import UnsafeComponentError
from nvflare.app_common.widgets.component_path_authorizer import ComponentPathAuthorizer
from nvflare.fuel.utils.class_loader import load_class

from app_custom.participant.allowed_classes import ALLOWED_CLASSES
from jobs.writing.workspace import prepare_workspace


def authorize(path: str, workspace: Path) -> None:
    ComponentPathAuthorizer().authorize_component_config(
        {"path": path, "args": {}}, fl_ctx=policy_context(workspace)
    )


@pytest.mark.parametrize("path", ALLOWED_CLASSES)
def test_nvflare_accepts_a_class_of_our_jobs_in_a_prepared_workspace(
    path: str, workspace: Path
) -> None:
    authorize(path, workspace)


@pytest.mark.parametrize(
    "path",
    [
        "nvflare.app_common.filters.svt_privacy.SVTPrivacy",
        "nvflare.app_common.executors.client_api_executor.ClientAPIExecutor",
        "nvflare.app_common.logging.job_log_streamer.JobLogStreamer",
        "app_custom.aggregation.aggregator.AggregatorX",
        "app_custom.aggregation.aggregator",
        "lightning_modules.strategies.fedavg",
        "lightning_modules.training.learner.Learner",
        "fedi2i.files.replacing",
        "subprocess.Popen",
        "builtins.eval",
    ],
)
def test_nvflare_refuses_a_class_that_is_not_listed(path: str, workspace: Path) -> None:
    with pytest.raises(UnsafeComponentError, match="is not in allow_list"):
        authorize(path, workspace)


def test_without_our_list_nvflare_refuses_our_classes(tmp_path: Path) -> None:
    """Why a prepared workspace is needed at all."""
    refused = []
    for path in ALLOWED_CLASSES:
        try:
            authorize(path, tmp_path)
        except UnsafeComponentError:
            refused.append(path)
    ours = [path for path in ALLOWED_CLASSES if not path.startswith("nvflare.")]
    assert set(ours) <= set(refused)


def test_the_list_is_enforced_and_not_only_a_warning(tmp_path: Path) -> None:
    workspace = prepare_workspace(tmp_path / "workspace", {})
    ctx = policy_context(workspace)
    resources = ctx.get_prop(FLContextKey.WORKSPACE_OBJECT).get_resources_file_path()
    assert Path(resources).resolve() == (workspace / "local" / "resources.json").resolve()
    assert "enforcement" not in Path(resources).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", ALLOWED_CLASSES)
def test_every_listed_class_exists(path: str) -> None:
    assert isinstance(load_class(path), type)


def test_the_list_names_whole_classes_in_order_and_each_once() -> None:
    """An entry that ends with a dot, or a package, would let in whatever is added to it later."""
    assert list(ALLOWED_CLASSES) == sorted(set(ALLOWED_CLASSES))
    assert all(path.split(".")[-1][0].isupper() for path in ALLOWED_CLASSES)
