from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_context import FLContext
from nvflare.fuel.sec.audit import AuditService
from nvflare.fuel.sec.authz import AuthorizationService, Authorizer, AuthzContext, Person

from app_custom.participant.refusal_audit import RefusalAudit
from provision.permissions import PERMISSIONS


@pytest.fixture
def trail(tmp_path: Path) -> Iterator[Path]:
    """The audit trail of a participant that has started with the permissions of our kits."""
    before = AuthorizationService.the_authorizer
    authorizer = Authorizer("north")
    assert authorizer.load_policy(PERMISSIONS) == ""
    AuthorizationService.the_authorizer = authorizer
    AuditService.initialize(str(tmp_path / "audit.log"))
    RefusalAudit().handle_event(EventType.SYSTEM_START, FLContext())
    yield tmp_path / "audit.log"
    AuditService.close()
    AuthorizationService.the_authorizer = before


def asks(role: str, right: str) -> AuthzContext:
    person = Person(f"{role}@north.example.org", "north", role)
    return AuthzContext(user=person, submitter=person, right=right)


@pytest.mark.parametrize(("role", "right"), [("member", "submit_job"), ("lead", "byoc")])
def test_what_is_refused_is_written_down_with_name_and_right(
    trail: Path, role: str, right: str
) -> None:
    authorized, reason = AuthorizationService.authorize(asks(role, right))
    assert not authorized
    (line,) = trail.read_text().splitlines()
    assert (
        f"[U:{role}@north.example.org][A:authorization.refused]{right}: " in line and reason in line
    )


def test_what_is_allowed_stays_so_and_leaves_no_line(trail: Path) -> None:
    assert AuthorizationService.authorize(asks("lead", "submit_job")) == (True, "")
    assert trail.read_text() == ""


def test_a_policy_that_is_loaded_later_decides(trail: Path) -> None:
    nobody = {"format_version": "1.0", "permissions": {"lead": {"submit_job": "none"}}}
    authorizer = AuthorizationService.get_authorizer()
    assert authorizer.load_policy(nobody) == ""
    assert authorizer.get_policy() is not None
    assert not AuthorizationService.authorize(asks("lead", "submit_job"))[0]
