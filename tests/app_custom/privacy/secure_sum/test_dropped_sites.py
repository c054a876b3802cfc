"""Sites that do not answer: the round is repeated without them, and nothing of theirs is opened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from masked_federation import MaskedFederation
from masked_rounds import SAMPLES, MakeFederation, assert_equal, first_model, losing, plain_mean
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.shareable import Shareable
from nvflare.app_common.app_constant import AppConstants
from nvflare_fakes import with_peer

from app_custom.privacy.secure_sum import mask_keys
from app_custom.privacy.secure_sum.key_exchange import KEYS, OPEN, ROSTER, ROUND_REPEATED, SUM_SITES


def test_a_round_without_a_site_is_repeated_over_the_rest_and_goes_on_without_it(
    make: MakeFederation,
) -> None:
    federation = make(rounds=2, meddle=losing("west"))
    found = federation.run()
    three = ["east", "north", "south"]
    assert federation.sent[2:] == [
        ("train", sorted(SAMPLES)),
        ("train", three),
        (OPEN, three),
        ("train", three),
        (OPEN, three),
    ]
    assert len(federation.engine.fired(ROUND_REPEATED)) == 1
    assert_equal(found, plain_mean(federation, three, first_model()))


def test_a_late_answer_is_refused_and_cannot_be_opened_with_what_the_server_has(
    make: MakeFederation,
) -> None:
    """The sum over all four minus the sum over three would be the late site's update."""
    meddle = losing("west")
    federation = make(meddle=meddle)
    federation.run()
    (late,) = meddle.late  # type: ignore[attr-defined]
    with federation.engine.new_context() as ctx:
        ctx.set_prop(AppConstants.CURRENT_ROUND, 0, private=True, sticky=True)
        assert not federation.aggregator.accept(late, with_peer(ctx, "west"))
    # The server has all four answers to the first attempt. Who of the three still opens it?
    task = Shareable()
    task.set_header(SUM_SITES, sorted(SAMPLES))
    task.set_header(AppConstants.CURRENT_ROUND, 0)
    codes = {
        site: federation.deliver(OPEN, "again", site, task).get_return_code()  # type: ignore[union-attr]
        for site in SAMPLES
    }
    assert codes == {
        "east": ReturnCode.EXECUTION_EXCEPTION,
        "north": ReturnCode.EXECUTION_EXCEPTION,
        "south": ReturnCode.EXECUTION_EXCEPTION,
        "west": ReturnCode.OK,
    }


def test_with_too_few_sites_left_the_job_ends_and_names_who_is_missing(
    make: MakeFederation,
) -> None:
    federation = make(min_sites=4, meddle=losing("west"))
    assert federation.run().keys() == first_model().keys()
    assert federation.engine.panics() == [
        "round 0: 3 site(s) answered, at least 4 are needed; missing: west"
    ]


def test_sites_that_agreed_to_four_refuse_a_sum_over_three(make: MakeFederation) -> None:
    federation = make(least=4, meddle=losing("west"))
    federation.run()
    assert len(federation.sent) == 4
    assert "Cannot reach min_responses" in federation.engine.panics()[0]


def test_a_site_that_was_lost_after_its_answer_is_left_out_before_anything_is_opened(
    make: MakeFederation,
) -> None:
    federation = make()
    federation.lost = {"north"}
    federation.run()
    assert federation.sent[-1] == (OPEN, ["east", "south", "west"])


def test_a_site_that_does_not_open_ends_the_job_with_a_closed_sum(make: MakeFederation) -> None:
    def meddle(task: str, site: str, answer: Shareable) -> Shareable | None:
        return None if (task, site) == (OPEN, "south") else answer

    federation = make(meddle=meddle)
    found = federation.run()
    (panic,) = federation.engine.panics()
    assert panic == (
        "round 0: the sum stays closed: no opening from south; start the same job again to "
        "continue with this round"
    )
    for key, value in first_model().items():
        np.testing.assert_array_equal(found[key], value)


def test_a_server_that_is_started_again_agrees_on_new_keys(
    make: MakeFederation, tmp_path: Path
) -> None:
    """NVFlare gives the continued run another job id; the model goes on from what was saved."""
    federation = make()
    weights = federation.run()
    first = {name: kept.secrets.private for (name, _), kept in mask_keys._MEMORY.kept.items()}
    again = MaskedFederation(federation.sites, weights, rounds=2)
    for site in federation.sites.values():
        site.keys.handle_event(EventType.END_RUN, site.engine.new_context())
    assert mask_keys._MEMORY.kept == {}
    with again.engine.new_context() as ctx:
        again.rounds.restore(
            {
                "current_round": 1,
                "start_round": 0,
                "num_rounds": 2,
                "global_weights": again.rounds._global_weights,
            },
            ctx,
        )
    found = again.run()
    assert again.engine.panics() == []
    assert [name for name, _ in again.sent] == [KEYS, ROSTER, "train", OPEN]
    assert_equal(found, plain_mean(again, list(SAMPLES), weights))
    second = {name: kept.secrets.private for (name, _), kept in mask_keys._MEMORY.kept.items()}
    assert all(first[name] != second[name] for name in SAMPLES)
