from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nvflare.apis.dxo import from_shareable
from nvflare.app_common.abstract.model import make_model_learnable
from nvflare.app_common.app_constant import AppConstants
from nvflare_fakes import Engine, weights_of

from app_custom.aggregation.aggregator import Aggregator
from app_custom.aggregation.model_message import last_accepted_round, note_accepted
from app_custom.server.outgoing_model import FinalModelLocator, StrategyModelGenerator


@pytest.mark.parametrize("meta", [None, {}, {"kept": 1}])
def test_the_model_goes_out_with_the_round_of_each_site_that_the_server_took_last(
    meta: dict[str, Any] | None,
) -> None:
    aggregator = Aggregator({"name": "fedavg"}, min_sites=1)
    note_accepted(aggregator.memory, ["east", "west"], 3)
    note_accepted(aggregator.memory, ["east"], 4)
    engine = Engine(sites=("east", "north", "west"), components={"aggregator": aggregator})
    model = make_model_learnable(weights_of(1), meta or {})
    model["meta"] = meta  # a persistor may give none
    generator = StrategyModelGenerator("aggregator")
    sent = from_shareable(generator.learnable_to_shareable(model, engine.new_context()))
    said = {site: last_accepted_round(site, sent.meta) for site in ("east", "north", "west", "new")}
    assert said == {"east": 4, "north": -1, "west": 3, "new": -1}
    assert all(sent.get_meta_prop(name) == value for name, value in (meta or {}).items())
    np.testing.assert_array_equal(sent.data["generator.w"], weights_of(1)["generator.w"])


def test_a_model_from_elsewhere_says_nothing_about_rounds() -> None:
    assert last_accepted_round("east", {"kept": 1}) is None


def test_the_final_evaluation_sends_the_model_after_the_last_round_and_no_other() -> None:
    ctx = Engine().new_context()
    weights = weights_of(7)
    model = make_model_learnable(weights, {})
    ctx.set_prop(AppConstants.GLOBAL_MODEL, model, private=True, sticky=True)
    locator = FinalModelLocator()
    (name,) = locator.get_model_names(ctx)
    assert locator.locate_model(name, ctx).data == weights


def test_with_the_final_model_goes_the_round_of_each_site_that_the_server_took_last() -> None:
    aggregator = Aggregator({"name": "fedavg"}, min_sites=1)
    note_accepted(aggregator.memory, ["east"], 2)
    engine = Engine(sites=("east", "west"), components={"aggregator": aggregator})
    ctx = engine.new_context()
    model = make_model_learnable(weights_of(7), {})
    ctx.set_prop(AppConstants.GLOBAL_MODEL, model, private=True, sticky=True)
    sent = FinalModelLocator().locate_model("final", ctx)
    assert [last_accepted_round(site, sent.meta) for site in ("east", "west")] == [2, -1]
