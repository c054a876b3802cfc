from __future__ import annotations

from pathlib import Path

import pytest
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.job_def import JobMetaKey
from nvflare_fakes import JOB, Engine, answering, train_answer, with_peer

from app_custom.nvflare_context import (
    app_folder,
    contradicted_name,
    job_sites,
    job_submitter,
    local_folder,
    peer_name,
    run_folder,
    site_name,
    workspace_folder,
)


def test_names_are_those_of_this_participant_and_of_the_one_that_sent() -> None:
    ctx = with_peer(Engine(name="server").new_context(), "east")
    assert (site_name(ctx), peer_name(ctx)) == ("server", "east")


def test_without_a_sender_the_peer_is_a_question_mark() -> None:
    assert peer_name(Engine().new_context()) == "?"


@pytest.mark.parametrize(("calls_itself", "contradicted"), [("east", ""), ("south", "south")])
def test_the_sender_of_an_answer_is_whom_the_server_authenticated_whatever_it_says(
    calls_itself: str, contradicted: str
) -> None:
    ctx = answering(Engine().new_context(), train_answer({}), "east", calls_itself)
    assert (peer_name(ctx), contradicted_name(ctx)) == ("east", contradicted)


def test_without_an_answer_nothing_contradicts_the_sender() -> None:
    assert contradicted_name(with_peer(Engine().new_context(), "east")) == ""


def test_folders_are_absolute_also_when_nvflare_was_given_a_relative_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ctx = Engine(Path("here")).new_context()
    ctx.set_prop(FLContextKey.APP_ROOT, "here/app", private=True, sticky=True)
    root = tmp_path / "here"
    assert local_folder(ctx) == root / "local"
    assert workspace_folder(ctx) == root
    assert run_folder(ctx) == root / JOB
    assert app_folder(ctx) == root / "app"


@pytest.mark.parametrize(
    ("meta", "sites"),
    [
        (None, 1),
        ({}, 1),
        ({JobMetaKey.JOB_CLIENTS.value: []}, 1),
        ({JobMetaKey.JOB_CLIENTS.value: ["a", "b", "c"]}, 3),
    ],
)
def test_the_number_of_sites_is_that_of_the_job_and_one_when_it_does_not_say(
    meta: dict[str, list[str]] | None, sites: int
) -> None:
    ctx = Engine().new_context()
    if meta is not None:
        ctx.set_prop(FLContextKey.JOB_META, meta, private=True, sticky=False)
    assert job_sites(ctx) == sites


def test_a_job_s_submitter_is_known_by_name_and_organisation_and_the_simulator_has_none() -> None:
    ctx = Engine().new_context()
    assert job_submitter(ctx) == ""
    meta = {"submitter_name": "lead@north.example.org", "submitter_org": "north"}
    ctx.set_prop(FLContextKey.JOB_META, meta, private=True, sticky=False)
    assert job_submitter(ctx) == "lead@north.example.org/north"
