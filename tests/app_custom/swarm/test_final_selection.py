from __future__ import annotations

import pytest
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare_fakes import Engine

from app_custom.server.best_model import SwarmBestModel
from app_custom.server.global_metrics import GlobalMetrics
from app_custom.swarm.final_model import FinalSelection

ROUNDS = 3


def server_with(best: float, final: float | None) -> tuple[Engine, FinalSelection]:
    metrics, selector = GlobalMetrics(), SwarmBestModel("val/psnr")
    selector.best_val_metric = best
    metrics.rows = [("east", ROUNDS - 1, "val/psnr", 99.0), ("east", ROUNDS, "val/ssim", 99.0)]
    if final is not None:  # the median; the mean is another
        sites = {"east": final, "north": 0.0, "west": final + 50.0}
        metrics.rows += [(site, ROUNDS, "val/psnr", value) for site, value in sites.items()]
    engine = Engine(components={"metrics": metrics, "selector": selector})
    ctx = engine.new_context()
    ctx.set_prop(AppConstants.CURRENT_ROUND, ROUNDS - 1, private=True, sticky=True)
    return engine, FinalSelection("val/psnr", "selector", "metrics", "final_evaluation")


def end(engine: Engine, widget: FinalSelection, workflow: str = "final_evaluation") -> int:
    """Events of a new best model after the end of a workflow."""
    ctx = engine.new_context()
    ctx.set_prop(FLContextKey.WORKFLOW, workflow, private=True, sticky=True)
    widget.handle_event(EventType.END_WORKFLOW, ctx)
    return len(engine.fired(AppEventType.GLOBAL_BEST_MODEL_AVAILABLE))


@pytest.mark.parametrize(("final", "events"), [(21.5, 1), (21.0, 0), (20.5, 0)])
def test_only_a_final_model_better_than_the_best_becomes_the_best(
    final: float, events: int
) -> None:
    engine, widget = server_with(best=21.0, final=final)
    assert end(engine, widget) == events
    assert engine.components["selector"].best_val_metric == max(21.0, final)


def test_where_no_round_was_compared_the_final_model_is_the_best() -> None:
    engine, widget = server_with(best=-float("inf"), final=3.0)
    assert end(engine, widget) == 1


def test_the_end_of_another_workflow_decides_nothing() -> None:
    engine, widget = server_with(best=21.0, final=22.0)
    assert end(engine, widget, "scatter_and_gather") == 0
    assert engine.components["selector"].best_val_metric == 21.0


def test_without_a_final_evaluation_the_best_of_earlier_rounds_stays() -> None:
    engine, widget = server_with(best=21.0, final=None)
    assert end(engine, widget) == 0
