"""Rounds of secure aggregation: the plain mean, and what happens where somebody cheats or lacks."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from masked_federation import (
    CODE,
    RUN,
    Authority,
    MaskedFederation,
    MaskedSite,
    Weights,
    forget_everything,
)
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.app_common.app_constant import AppConstants
from nvflare.private.fed.simulator.simulator_const import SimulatorConstants
from nvflare_fakes import Engine, with_peer

from app_custom.gates.allowed_update import AllowedUpdate, UpdateNotAllowedError
from app_custom.gates.site_policy import SitePolicy
from app_custom.privacy import mask_keys
from app_custom.privacy.key_exchange import (
    ANNOUNCEMENT,
    ANNOUNCEMENTS,
    ATTEMPT,
    KEYS,
    MASKED,
    OPEN,
    OPENING,
    ROSTER,
    ROUND_REPEATED,
    SUM_SITES,
    attempt,
)
from app_custom.privacy.mask_keys import MaskKeys
from app_custom.privacy.secure_aggregator import SecureAggregator
from app_custom.privacy.secure_rounds import SecureRounds
from app_custom.privacy.update_filters import LEDGER, AddNoise, SpendBudget
from fedi2i.errors import ConfigError
from lightning_modules.combining.updates import SiteUpdate
from lightning_modules.combining.weighted_mean import weighted_mean
from lightning_modules.privacy.integer_code import IntegerCode
from lightning_modules.privacy.pairwise_masks import new_private_key, public_key
from lightning_modules.strategies.catalogue import STRATEGIES
from lightning_modules.strategies.interface import ServerView

SAMPLES = {"east": 73, "north": 141, "south": 48, "west": 20}
MakeFederation = Callable[..., MaskedFederation]


def first_model() -> Weights:
    rng = np.random.default_rng(1)
    return {
        "generator.w": rng.normal(size=(20, 30)).astype(np.float32),
        "generator.b": rng.normal(size=5).astype(np.float32),
        "discriminator.w": rng.normal(size=(7, 9)).astype(np.float32),
    }


def train(site: str, number: int, received: Weights) -> Weights:
    rng = np.random.default_rng([sorted(SAMPLES).index(site), number])
    return {
        key: (value + rng.normal(scale=0.1, size=value.shape)).astype(value.dtype)
        for key, value in received.items()
    }


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four sites' kits of one authority."""
    folder, authority = tmp_path_factory.mktemp("kits"), Authority()
    for site in SAMPLES:
        authority.kit(folder / site / "startup", site)
    return folder


@pytest.fixture
def make(kits: Path, tmp_path: Path) -> Iterator[MakeFederation]:
    """Makes federations of the four sites with their kits."""
    forget_everything()

    def made(least: int = 3, **arguments: Any) -> MaskedFederation:
        code = {key: arguments[key] for key in CODE if key in arguments}
        sites: dict[str, MaskedSite] = {}
        for name, samples in SAMPLES.items():
            root = tmp_path / name
            (root / "startup").mkdir(parents=True)
            for file in (kits / name / "startup").iterdir():
                (root / "startup" / file.name).write_bytes(file.read_bytes())
            sites[name] = MaskedSite(root, name, samples, train, least, **code)
        return MaskedFederation(sites, first_model(), **arguments)

    yield made
    forget_everything()


def plain_mean(federation: MaskedFederation, names: list[str], before: Weights) -> Weights:
    """FedAvg of the same answers with the same declared weights, by the plain rule."""
    code = IntegerCode(*(CODE[key] for key in CODE))
    return weighted_mean(
        [
            SiteUpdate(name, federation.sites[name].last, code.weight_of(SAMPLES[name]))
            for name in sorted(names)
        ]
    )


def assert_equal(found: Weights, expected: Weights, fraction: int = 20) -> None:
    """To half of the last binary digit, and the last bit of the weights' own type."""
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].dtype == value.dtype
        most = 2.0 ** -(fraction + 1) + np.spacing(np.abs(value))
        assert (np.abs(found[key].astype(float) - value) <= most).all()


# The rounds.


@pytest.mark.parametrize(("bits", "fraction"), [(32, 20), (64, 32)])
def test_the_model_equals_plain_averaging_to_the_stated_precision(
    make: MakeFederation, bits: int, fraction: int
) -> None:
    federation = make(rounds=2, bits=bits, fraction_bits=fraction)
    found = federation.run()
    assert federation.engine.panics() == []
    assert_equal(found, plain_mean(federation, list(SAMPLES), first_model()), fraction)
    names = [name for name, _ in federation.sent]
    assert names == [KEYS, ROSTER, "train", OPEN, "train", OPEN]


def test_no_message_holds_anything_but_words_and_the_numbers_that_always_leave(
    make: MakeFederation,
) -> None:
    federation = make()
    federation.run()
    message = from_shareable(federation.messages["train", "east"])
    assert set(message.data) == {f"{MASKED}generator", f"{MASKED}discriminator"}
    assert set(message.meta) == {MetaKey.NUM_STEPS_CURRENT_ROUND, MetaKey.INITIAL_METRICS}
    words = message.data[f"{MASKED}generator"][:-2].view(np.int32).astype(float)
    site, before = federation.sites["east"], first_model()
    update = np.concatenate(
        [(site.last[key] - before[key]).reshape(-1) for key in ("generator.b", "generator.w")]
    )
    assert abs(np.corrcoef(words, update)[0, 1]) < 0.2  # five standard deviations of 605 values


@pytest.mark.parametrize("strategy", ["fedprox", "fedavgm", "fedadam"])
def test_strategies_that_work_on_the_mean_get_it_as_if_one_site_had_sent_it(
    make: MakeFederation, strategy: str
) -> None:
    federation = make(strategy=strategy)
    found = federation.run()
    record = STRATEGIES[strategy]
    assert record.server is not None
    rule, view = record.server(record.settings()), ServerView(sites=tuple(SAMPLES))
    mean = SiteUpdate("mean", plain_mean(federation, list(SAMPLES), first_model()), 282)
    for network in ("generator", "discriminator"):
        before = {k: v for k, v in first_model().items() if k.startswith(network)}
        expected = rule.combine(network, [mean.for_network(network)], before, view)
        for key, value in expected.items():
            # FedAdam divides by the update's size, so that rounding weighs more.
            np.testing.assert_allclose(found[key], value, atol=2e-5)


def test_all_warnings_and_accepted_rounds_work_on_what_sites_state(make: MakeFederation) -> None:
    federation = make()
    federation.run()
    assert federation.aggregator.accepted_rounds() == dict.fromkeys(SAMPLES, 0)
    assert {u.site: u.samples for u in federation.aggregator._updates.values()} == {}
    assert federation.aggregator._claims == SAMPLES


# Drop-outs.


def losing(lost: str, rounds: tuple[int, ...] = (0,)) -> Callable[..., Shareable | None]:
    """Loses a site's answers to some rounds' tasks, and keeps those that it would send late."""

    def meddle(task: str, site: str, answer: Shareable) -> Shareable | None:
        cookie = answer.get_cookie(ATTEMPT)
        drop = task == "train" and site == lost and cookie is not None and cookie[0] in rounds
        if drop:
            meddle.late.append(answer)  # type: ignore[attr-defined]
        return None if drop else answer

    meddle.late = []  # type: ignore[attr-defined]
    return meddle


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


# Keys.


def changing(task: str, site: str, change: Callable[[dict[str, Any]], None]) -> Any:
    """Changes the data of one site's answer to a task."""

    def meddle(name: str, who: str, answer: Shareable) -> Shareable:
        if (name, who) == (task, site):
            dxo = from_shareable(answer)
            change(dxo.data)
            dxo.update_shareable(answer)
        return answer

    return meddle


def test_a_key_that_the_server_puts_in_a_sites_place_ends_the_job(make: MakeFederation) -> None:
    def replaced(data: dict[str, Any]) -> None:
        data[ANNOUNCEMENT]["public_key"] = public_key(new_private_key())

    federation = make(meddle=changing(KEYS, "east", replaced))
    federation.run()
    (panic,) = federation.engine.panics()
    assert panic.startswith("east, north, south, west did not take the keys")
    assert [name for name, _ in federation.sent] == [KEYS, ROSTER]


def test_a_site_without_a_key_ends_the_job_before_training(make: MakeFederation) -> None:
    federation = make(meddle=lambda task, site, answer: None if site == "west" else answer)
    federation.run()
    assert federation.engine.panics()[0].startswith("west announced no key")


def asked(federation: MaskedFederation, site: str, name: str, **headers: Any) -> Shareable:
    """A task made by hand for one site."""
    data = headers.pop("data", None)
    task = Shareable() if data is None else DXO(DataKind.APP_DEFINED, data=data).to_shareable()
    task.set_header(SUM_SITES, headers.get("sites", sorted(SAMPLES)))
    task.set_header(AppConstants.CURRENT_ROUND, headers.get("number", 0))
    answer = federation.deliver(name, "by-hand", site, task)
    assert answer is not None
    return answer


@pytest.mark.parametrize(
    "sites",
    [["east", "north"], ["east", "east", "north"], ["north", "east", "south"], ["north", "x", "y"]],
)
def test_an_invitation_that_hides_nobody_is_refused(make: MakeFederation, sites: list[str]) -> None:
    answer = asked(make(), "east", KEYS, sites=sites)
    assert answer.get_return_code() == ReturnCode.EXECUTION_EXCEPTION


def test_a_job_has_one_list_of_invited_sites_and_one_key_of_each(make: MakeFederation) -> None:
    federation = make()
    first = from_shareable(asked(federation, "east", KEYS)).data[ANNOUNCEMENT]
    again = from_shareable(asked(federation, "east", KEYS)).data[ANNOUNCEMENT]
    assert first["public_key"] == again["public_key"]
    fewer = asked(federation, "east", KEYS, sites=["east", "north", "south"])
    assert fewer.get_return_code() == ReturnCode.EXECUTION_EXCEPTION


def test_keys_of_another_job_or_other_keys_later_are_refused(make: MakeFederation) -> None:
    federation = make()
    federation.run()
    old = {
        site: from_shareable(federation.messages[KEYS, site]).data[ANNOUNCEMENT] for site in SAMPLES
    }
    taken = asked(federation, "east", ROSTER, data={ANNOUNCEMENTS: old})
    assert taken.get_return_code() == ReturnCode.OK  # the same keys once more
    # A process that is started anew has a new key; the others refuse to change theirs.
    mask_keys._MEMORY.kept.pop(("north", "job-1"))
    new = from_shareable(asked(federation, "north", KEYS)).data[ANNOUNCEMENT]
    changed = asked(federation, "east", ROSTER, data={ANNOUNCEMENTS: {**old, "north": new}})
    assert changed.get_return_code() == ReturnCode.EXECUTION_EXCEPTION
    # And it takes no old list in which it has another key.
    replayed = asked(federation, "north", ROSTER, data={ANNOUNCEMENTS: old})
    assert replayed.get_return_code() == ReturnCode.EXECUTION_EXCEPTION


def test_a_site_without_keys_trains_nothing(make: MakeFederation) -> None:
    federation = make()
    federation.run()
    mask_keys._MEMORY.kept.pop(("east", "job-1"))
    site = federation.sites["east"]
    site.last = {}
    message = DXO(DataKind.WEIGHTS, data=first_model()).to_shareable()
    message.set_header(SUM_SITES, sorted(SAMPLES))
    message.set_header(AppConstants.CURRENT_ROUND, 1)
    assert site.do("train", "t", message).get_return_code() != ReturnCode.OK
    assert site.last == {}


# One set of masks covers one answer.


def train_task(number: int, sites: list[str], model: Weights | None = None) -> Shareable:
    message = DXO(DataKind.WEIGHTS, data=model or first_model()).to_shareable()
    message.set_header(SUM_SITES, sites)
    message.set_header(AppConstants.CURRENT_ROUND, number)
    return message


def test_the_same_round_is_not_answered_with_other_values_and_the_same_ones_are_repeated(
    make: MakeFederation,
) -> None:
    federation = make()
    federation.run()
    site, everybody = federation.sites["east"], sorted(SAMPLES)
    first = site.do("train", "again", train_task(0, everybody))
    sent = from_shareable(federation.messages["train", "east"]).data
    for key, value in from_shareable(first).data.items():
        np.testing.assert_array_equal(value, sent[key])
    other = {key: value + np.float32(0.01) for key, value in first_model().items()}
    refused = site.do("train", "other", train_task(0, everybody, other))
    assert refused.get_return_code() == ReturnCode.TASK_RESULT_FILTER_ERROR


@pytest.mark.parametrize(
    ("number", "sites"),
    [
        (0, ["east", "north", "south"]),  # round 0 has been opened over four
        (1, ["east", "north"]),
        (1, ["north", "south", "west"]),
        (1, ["east", "north", "south", "zoo"]),
        (-1, sorted(SAMPLES)),
    ],
)
def test_no_other_sum_of_an_opened_round_or_of_too_few_sites_is_begun(
    make: MakeFederation, number: int, sites: list[str]
) -> None:
    federation = make()
    federation.run()
    site = federation.sites["east"]
    site.last = {}
    answer = site.do("train", "other", train_task(number, sites))
    assert answer.get_return_code() != ReturnCode.OK
    assert site.last == {}  # refused before anything was trained


def test_weights_that_no_sum_was_begun_for_do_not_leave(make: MakeFederation) -> None:
    federation = make()
    federation.run()
    site = federation.sites["east"]
    answer = DXO(DataKind.WEIGHTS, data=first_model(), meta={}).to_shareable()
    with site.engine.new_context() as ctx:
        ctx.set_prop(FLContextKey.TASK_ID, "unknown", private=True, sticky=False)
        with pytest.raises(RuntimeError, match="belongs to no sum"):
            site.mask.process(answer, ctx)


@pytest.mark.parametrize(
    "trained",
    [
        lambda w: {k: v for k, v in w.items() if k != "generator.b"},
        lambda w: {**w, "generator.b": w["generator.b"] * np.nan},
        lambda w: {**w, "generator.b": w["generator.b"][:2]},
        lambda w: {**w, "strategy/control/generator.b": w["generator.b"]},
    ],
)
def test_what_no_sum_can_hold_does_not_leave(
    make: MakeFederation, trained: Callable[[Weights], Weights]
) -> None:
    federation = make()
    site = federation.sites["south"]
    site.train = lambda name, number, received: trained(train(name, number, received))
    federation.run()
    assert federation.sent[-1] == (OPEN, ["east", "north", "west"])
    assert federation.engine.panics() == []


def test_values_beyond_the_bound_are_clipped_and_the_site_says_how_many(
    make: MakeFederation, caplog: pytest.LogCaptureFixture
) -> None:
    federation = make()
    federation.sites["south"].train = lambda name, number, received: {
        k: v + np.float32(3.0) for k, v in received.items()
    }
    found = federation.run()
    assert "63 of 65 values of discriminator changed by more than 1 and were clipped" in caplog.text
    assert np.abs(found["discriminator.w"] - first_model()["discriminator.w"]).max() < 1.0


# The server.


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop(f"{MASKED}generator"), "it does not hold all networks under masks"),
        (
            lambda d: d.update({f"{MASKED}generator": d[f"{MASKED}generator"][1:]}),
            "is not 607 words of 32 bits",
        ),
        (
            lambda d: d.update({f"{MASKED}generator": d[f"{MASKED}generator"].astype(np.uint64)}),
            "is not 607 words of 32 bits",
        ),
    ],
)
def test_words_that_do_not_fit_the_model_are_refused_and_the_round_is_repeated(
    make: MakeFederation,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[dict[str, Any]], Any],
    words: str,
) -> None:
    federation = make(meddle=changing("train", "west", change))
    federation.run()
    assert words in caplog.text
    assert federation.sent[-1] == (OPEN, ["east", "north", "south"])


def test_a_sum_with_a_mask_left_over_is_no_model(make: MakeFederation) -> None:
    def spoiled(data: dict[str, Any]) -> None:
        data[f"{MASKED}generator"] = data[f"{MASKED}generator"] + np.uint32(12345)

    federation = make(meddle=changing("train", "west", spoiled))
    federation.run()
    (panic,) = federation.engine.panics()
    assert panic.startswith("round 0: the sum counts 12349 sites where 4 answered")


def test_a_site_that_states_other_samples_than_it_weighs_with_is_noticed(
    make: MakeFederation,
) -> None:
    def meddle(task: str, site: str, answer: Shareable) -> Shareable:
        if (task, site) == ("train", "west"):
            dxo = from_shareable(answer)
            dxo.meta[MetaKey.NUM_STEPS_CURRENT_ROUND] = 21
            dxo.update_shareable(answer)
        return answer

    federation = make(meddle=meddle)
    federation.run()
    (panic,) = federation.engine.panics()
    assert panic.startswith("round 0: the weights in the sum are 282, and the sites stated 283")


@pytest.mark.parametrize("strategy", ["fedmedian", "krum", "trimmed_mean", "fedma", "scaffold"])
def test_a_strategy_that_must_see_single_updates_is_refused(strategy: str) -> None:
    with pytest.raises(ConfigError, match=f"'{strategy}' does not work on sums under masks"):
        SecureAggregator({"name": strategy}, 3, **CODE)


def test_rounds_of_two_sites_are_refused() -> None:
    with pytest.raises(ConfigError, match="a sum over fewer than 3 sites hides nobody"):
        SecureRounds(min_clients=2)


def test_an_aggregator_without_an_opened_sum_makes_no_model(make: MakeFederation) -> None:
    federation = make()
    with federation.engine.new_context() as ctx:
        assert federation.aggregator.aggregate(ctx) == Shareable()
    assert federation.engine.panics() == ["no sum of this round was opened"]


def test_noise_of_a_sites_own_policy_is_added_under_the_masks(make: MakeFederation) -> None:
    federation = make()
    east = federation.sites["east"]
    norms = {"generator": 5.0, "discriminator": 5.0}
    # Noise of 0.005 on values of about 0.1, whose norms are below the clipping.
    east.policy = (SpendBudget(norms, 1e-3, epsilon=1e9, delta=1e-5), AddNoise())
    found = federation.run()
    assert federation.engine.panics() == []
    weights = {**SAMPLES, "east": 1}  # the policy states one sample, whatever there are
    plain = weighted_mean(
        [SiteUpdate(n, site.last, weights[n]) for n, site in sorted(federation.sites.items())]
    )
    moved = np.concatenate([(found[key] - plain[key]).reshape(-1) for key in plain])
    assert np.std(moved) == pytest.approx(0.005 / sum(weights.values()), rel=0.25)
    ledger = Path(east.engine.get_workspace().get_root_dir()) / "state" / "east" / LEDGER
    assert len(ledger.read_text().splitlines()) == 2  # begun and released


# Gates.


def exchange(data: dict[str, Any], meta: dict[str, Any] | None = None) -> Shareable:
    return DXO(DataKind.APP_DEFINED, data=data, meta=meta or {}).to_shareable()


@pytest.mark.parametrize("gate", [AllowedUpdate, SitePolicy])
def test_the_exchange_and_masked_words_pass_the_gates_and_nothing_beside_them(
    make: MakeFederation, gate: type[AllowedUpdate]
) -> None:
    federation = make()
    federation.run()
    checked, ctx = gate(["generator"]), federation.engine.new_context()
    announced = from_shareable(federation.messages[KEYS, "east"]).data
    checked.process(exchange(announced), ctx)
    checked.process(exchange({OPENING: bytes(32)}), ctx)
    said = announced[ANNOUNCEMENT]
    key = (federation.sites["east"].engine.get_workspace().get_startup_kit_dir(), "client.key")
    secret = Path(*key).read_bytes()
    for data, meta in (
        ({OPENING: bytes(33)}, {}),
        ({OPENING: bytes(32), "kept": bytes(32)}, {}),
        ({"other": bytes(32)}, {}),
        ({OPENING: "x" * 32}, {}),
        ({OPENING: bytes(32)}, {"note": 1}),
        ({ANNOUNCEMENT: {**said, "note": b""}}, {}),
        ({ANNOUNCEMENT: {**said, "public_key": bytes(31)}}, {}),
        ({ANNOUNCEMENT: {**said, "certificate": secret}}, {}),
        ({ANNOUNCEMENT: {**said, "certificate": said["certificate"] + b"note"}}, {}),
        ({ANNOUNCEMENT: {**said, "signature": bytes(5000)}}, {}),
        ({ANNOUNCEMENT: {**said, "sites": ["a", 1]}}, {}),
    ):
        with pytest.raises(UpdateNotAllowedError):
            checked.process(exchange(data, meta), ctx)
    words = np.zeros(5, np.uint32)
    for key_, value in (
        (f"{MASKED}discriminator", words),
        (f"{MASKED}generator", words.astype(np.float32)),
        (f"{MASKED}generator", words.reshape(1, 5)),
        (f"{MASKED}generator", [1, 2]),
    ):
        with pytest.raises(UpdateNotAllowedError):
            checked.process(DXO(DataKind.WEIGHT_DIFF, data={key_: value}).to_shareable(), ctx)
    checked.process(
        DXO(DataKind.WEIGHT_DIFF, data={f"{MASKED}generator": words}).to_shareable(), ctx
    )


# The simulator, in which every task may have a process of its own.


@pytest.fixture
def simulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("nvflare_fakes.JOB", SimulatorConstants.JOB_NAME)
    return tmp_path


def simulated_sites(folder: Path) -> dict[str, MaskedSite]:
    sites = {}
    for name, samples in SAMPLES.items():
        sites[name] = MaskedSite(folder / name, name, samples, train)
        local = folder / name / "local" / "fedi2i.yaml"
        local.write_text("shared_machine: true\nlimits: {least_sites: 1}\n")
    return sites


def test_in_the_simulator_keys_are_unsigned_and_outlive_a_process(
    simulated: Path, caplog: pytest.LogCaptureFixture
) -> None:
    federation = MaskedFederation(simulated_sites(simulated), first_model(), rounds=2)
    deliver = federation.deliver

    def in_a_new_process(name: str, task: str, site: str, data: Shareable) -> Shareable | None:
        forget_everything()
        return deliver(name, task, site, data)

    federation.deliver = in_a_new_process  # type: ignore[method-assign]
    found = federation.run()
    assert federation.engine.panics() == []
    assert_equal(found, plain_mean(federation, list(SAMPLES), first_model()))
    assert "keys of masks are not signed" in caplog.text
    file = simulated / "east" / "state" / "east" / f"masks-{RUN}.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    east = federation.sites["east"]
    east.keys.handle_event(EventType.END_RUN, east.engine.new_context())
    assert not file.exists()


def test_a_run_that_is_begun_again_in_the_simulator_takes_new_keys(simulated: Path) -> None:
    """A killed run leaves its file; the next one under the same name would reuse its masks."""
    sites = simulated_sites(simulated)
    MaskedFederation(sites, first_model()).run()
    file = simulated / "east" / "state" / "east" / f"masks-{RUN}.json"
    before = file.read_text()
    again = MaskedFederation(sites, first_model())
    again.run()
    assert again.engine.panics() == []
    assert file.read_text() != before


def test_a_kit_without_its_key_is_refused_and_no_unsigned_key_leaves(make: MakeFederation) -> None:
    federation = make()
    startup = federation.sites["east"].engine.get_workspace().get_startup_kit_dir()
    (Path(startup) / "client.key").unlink()
    answer = asked(federation, "east", KEYS)
    assert answer.get_return_code() == ReturnCode.EXECUTION_EXCEPTION


def test_a_server_that_calls_its_job_a_simulation_gets_no_unsigned_key(
    make: MakeFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = make()
    monkeypatch.setattr(
        federation.sites["east"].engine.manager, "job_id", SimulatorConstants.JOB_NAME
    )
    said = from_shareable(asked(federation, "east", KEYS)).data[ANNOUNCEMENT]
    assert said["signature"]


def test_an_unknown_task_is_not_done() -> None:
    with Engine(name="east").new_context() as ctx:
        answer = MaskKeys(RUN).execute("other", Shareable(), ctx, Signal())
    assert answer == make_reply(ReturnCode.TASK_UNKNOWN)


def test_the_cookie_of_an_attempt_names_round_and_set() -> None:
    assert attempt(2, ["a", "b", "c"]) == [2, "a", "b", "c"]
