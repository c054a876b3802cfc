from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_context import FLContext
from nvflare_fakes import Engine

from app_custom.executor.translation_executor import TranslationExecutor
from app_custom.gates.job_limits import JobLimits, JobRefusedError
from app_custom.participant import release
from app_custom.participant.release import Releases, announce, announced_by_peer, own_release
from app_custom.server.global_metrics import GlobalMetrics
from fedi2i import __version__


def refusal(releases: Releases) -> str:
    with pytest.raises(JobRefusedError) as refused:
        releases.check(JobLimits())
    assert refused.value.rule == "other_release"
    releases.check(replace(JobLimits(), other_release=True))  # the site's own key
    return str(refused.value)


def test_the_same_release_and_code_everywhere_is_accepted() -> None:
    Releases(__version__, own_release()).check(JobLimits())
    Releases(__version__).check(JobLimits())


def test_a_job_of_another_release_is_refused_in_one_sentence() -> None:
    assert f"FedI2I 0.1.9 wrote the job, and here runs {__version__}; export it again" in refusal(
        Releases("0.1.9")
    )
    assert "FedI2I of an unstated release wrote the job" in refusal(Releases(""))


def test_a_server_of_another_release_or_with_other_code_is_refused_in_one_sentence() -> None:
    other = f"{__version__} (code 000000000000)"
    assert f"the server runs FedI2I {other}, and here runs {own_release()}" in refusal(
        Releases(__version__, other)
    )
    assert "the server runs FedI2I of an unstated release" in refusal(Releases(__version__, ""))


def test_one_changed_line_of_code_changes_the_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "a_package"
    (root / "below").mkdir(parents=True)
    (root / "__init__.py").write_text("")
    (root / "below" / "part.py").write_text("RATE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(release, "PACKAGES", ("a_package",))
    found = own_release.__wrapped__()
    assert re.fullmatch(rf"{re.escape(__version__)} \(code [0-9a-f]{{12}}\)", found)
    (root / "below" / "part.py").write_bytes(b"RATE = 1\r\n")
    assert own_release.__wrapped__() == found  # a checkout's line ends
    (root / "below" / "part.py").write_text("RATE = 2\n")
    assert own_release.__wrapped__() != found


def test_server_and_site_announce_themselves_when_a_run_starts() -> None:
    server, site = Engine(), Engine(name="east")
    GlobalMetrics().handle_event(EventType.START_RUN, server.new_context())
    executor = TranslationExecutor({}, "run-1", __version__)
    executor.handle_event(EventType.START_RUN, site.new_context())
    for engine in (server, site):
        peer = FLContext()
        peer.set_public_props(engine.new_context().get_all_public_props())
        ctx = Engine().new_context()
        ctx.set_peer_context(peer)
        assert announced_by_peer(ctx) == own_release()


def test_a_peer_that_announces_nothing_has_no_release() -> None:
    assert announced_by_peer(Engine().new_context()) == ""
    ctx = Engine().new_context()
    ctx.set_peer_context(FLContext())
    assert announced_by_peer(ctx) == ""
    announce(ctx)
    assert announced_by_peer(ctx) == ""
