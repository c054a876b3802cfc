"""Who may take part in a sum is agreed on before the first round, by keys that kits sign."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from masked_federation import RUN, MaskedFederation, MaskedSite, forget_everything
from masked_rounds import (
    SAMPLES,
    MakeFederation,
    asked,
    assert_equal,
    changing,
    first_model,
    plain_mean,
    train,
)
from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.app_common.app_constant import AppConstants
from nvflare.private.fed.simulator.simulator_const import SimulatorConstants
from nvflare_fakes import Engine

from app_custom.privacy.secure_sum import mask_keys
from app_custom.privacy.secure_sum.key_exchange import (
    ANNOUNCEMENT,
    ANNOUNCEMENTS,
    KEYS,
    ROSTER,
    SUM_SITES,
    attempt,
)
from app_custom.privacy.secure_sum.mask_keys import MaskKeys
from lightning_modules.privacy.pairwise_masks import new_private_key, public_key


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
