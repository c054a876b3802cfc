from __future__ import annotations

import pytest
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare_fakes import Engine

from app_custom.server.best_model import BestModel
from app_custom.server.global_metrics import GlobalMetrics

FINAL = "final_evaluation"
METRIC = "val/psnr"


class Server:
    """A server whose sites' answers are given round by round."""

    def __init__(self) -> None:
        self.metrics = GlobalMetrics()
        self.engine = Engine(components={"metrics": self.metrics})
        self.widget = BestModel(METRIC, "metrics", FINAL)

    def compared(self, finished: int, values: dict[str, float]) -> bool:
        """Whether the model after so many rounds, with these values at sites, is the best."""
        before = len(self.engine.fired(AppEventType.GLOBAL_BEST_MODEL_AVAILABLE))
        self.metrics.add_rows((site, finished, METRIC, value) for site, value in values.items())
        self._hear(AppEventType.BEFORE_AGGREGATION, finished)
        return len(self.engine.fired(AppEventType.GLOBAL_BEST_MODEL_AVAILABLE)) > before

    def ended(self, finished: int, values: dict[str, float], workflow: str = FINAL) -> bool:
        """The same for the end of a workflow after the last round."""
        before = len(self.engine.fired(AppEventType.GLOBAL_BEST_MODEL_AVAILABLE))
        self.metrics.rows += [(site, finished, METRIC, value) for site, value in values.items()]
        self._hear(EventType.END_WORKFLOW, finished - 1, workflow)
        return len(self.engine.fired(AppEventType.GLOBAL_BEST_MODEL_AVAILABLE)) > before

    def _hear(self, event: str, round_number: int, workflow: str = "scatter_and_gather") -> None:
        ctx = self.engine.new_context()
        ctx.set_prop(AppConstants.CURRENT_ROUND, round_number, private=True, sticky=True)
        ctx.set_prop(FLContextKey.WORKFLOW, workflow, private=True, sticky=True)
        self.widget.handle_event(event, ctx)


def test_the_initial_model_does_not_compete_and_the_first_trained_one_is_the_best() -> None:
    server = Server()
    assert not server.compared(0, {"east": 30.0, "west": 30.0})
    assert server.compared(1, {"east": 20.0, "west": 22.0})


def test_a_model_is_the_best_where_its_mean_over_sites_is_higher() -> None:
    server = Server()
    server.compared(1, {"east": 20.0, "west": 22.0})
    assert not server.compared(2, {"east": 19.0, "west": 23.0})
    assert server.compared(3, {"east": 19.0, "west": 23.5})
    assert server.widget.best_round == 3


def test_a_round_without_the_weakest_site_wins_nothing_by_its_absence() -> None:
    server = Server()
    server.compared(1, {"east": 25.0, "west": 15.0})
    assert not server.compared(2, {"east": 24.0})
    assert server.compared(3, {"east": 26.0})
    assert server.compared(4, {"east": 26.5, "west": 10.0})


def test_models_that_no_site_measured_both_are_not_compared() -> None:
    server = Server()
    server.compared(1, {"east": 20.0})
    assert not server.compared(2, {"west": 30.0})
    assert not server.compared(3, {})
    assert server.widget.best_round == 1


@pytest.mark.parametrize(("final", "expected"), [(21.5, True), (21.0, False), (20.0, False)])
def test_the_final_model_competes_after_its_own_evaluation(final: float, expected: bool) -> None:
    server = Server()
    server.compared(2, {"east": 21.0})
    assert server.ended(3, {"east": final}) is expected


def test_the_end_of_another_workflow_decides_nothing() -> None:
    server = Server()
    assert not server.ended(3, {"east": 21.0}, workflow="scatter_and_gather")


def test_the_mean_over_all_sites_is_no_site() -> None:
    server = Server()
    server.metrics.rows = [("all", 1, METRIC, 99.0), ("east", 1, METRIC, 20.0)]
    assert server.metrics.by_site(METRIC, 1) == {"east": 20.0}
