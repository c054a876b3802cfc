from __future__ import annotations

import pytest
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare_fakes import Engine, train_answer, with_peer

from app_custom.server.best_model import BestModel, SwarmBestModel
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


def test_a_model_of_two_sites_is_the_best_where_its_mean_over_them_is_higher() -> None:
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


def test_one_site_does_not_choose_the_best_model_by_what_it_claims() -> None:
    server = Server()
    assert server.compared(1, {"east": 20.0, "north": 20.5, "west": 119.0})
    assert server.compared(2, {"east": 21.0, "north": 21.5, "west": 0.0})
    assert not server.compared(3, {"east": 20.0, "north": 20.5, "west": 119.0})
    assert server.widget.best_round == 2


class Swarm:
    """A site of a swarm that aggregates every round."""

    def __init__(self) -> None:
        self.engine = Engine(name="east")
        self.widget = SwarmBestModel(METRIC)

    def compared(self, round_number: int, values: dict[str, float]) -> bool:
        before = len(self.engine.fired(AppEventType.GLOBAL_BEST_MODEL_AVAILABLE))
        ctx = self.engine.new_context()
        ctx.set_prop(AppConstants.CURRENT_ROUND, round_number, private=True, sticky=True)
        self.widget.handle_event(AppEventType.ROUND_STARTED, ctx)
        for site, value in values.items():
            self.answers(site, value)
        ctx = self.engine.new_context()
        self.widget.handle_event(AppEventType.BEFORE_AGGREGATION, ctx)
        return len(self.engine.fired(AppEventType.GLOBAL_BEST_MODEL_AVAILABLE)) > before

    def answers(self, site: str, value: float, accepted: bool = True) -> None:
        ctx = with_peer(self.engine.new_context(), site)
        ctx.set_prop(AppConstants.AGGREGATION_ACCEPTED, accepted, private=True, sticky=False)
        answer = train_answer({}, metrics={METRIC: value})
        ctx.set_prop(AppConstants.TRAINING_RESULT, answer, private=True, sticky=False)
        self.widget.handle_event(AppEventType.AFTER_CONTRIBUTION_ACCEPT, ctx)


def test_a_swarm_chooses_by_the_median_and_its_initial_model_does_not_compete() -> None:
    swarm = Swarm()
    assert not swarm.compared(0, {"east": 30.0, "north": 30.0, "west": 30.0})
    assert swarm.compared(1, {"east": 20.0, "north": 20.5, "west": 119.0})
    assert swarm.widget.best_val_metric == 20.5
    assert swarm.compared(2, {"east": 21.0, "north": 21.5, "west": 0.0})
    assert not swarm.compared(3, {"east": 21.0, "north": 21.0, "west": 119.0})
    assert swarm.widget.best_val_metric == 21.0


def test_a_swarm_does_not_hear_a_refused_answer_or_a_value_that_cannot_be() -> None:
    swarm = Swarm()
    swarm.compared(1, {"east": 20.0})
    swarm.answers("north", 50.0, accepted=False)
    swarm.answers("west", 9999.0)
    swarm.widget.handle_event(AppEventType.BEFORE_AGGREGATION, swarm.engine.new_context())
    assert swarm.widget.best_val_metric == 20.0
