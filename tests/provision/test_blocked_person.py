from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from nvflare.fuel.sec.authz import AuthzContext, Person
from nvflare.security.security import FLAuthorizer
from provisioned_project import Provisioned

from provision.__main__ import main
from provision.permissions import PERMISSIONS, without_person

BLOCKED = "lead@north.example.org"


@pytest.fixture
def kit(provisioned: Provisioned, tmp_path: Path) -> Path:
    """An installed kit that a test may change."""
    return Path(shutil.copytree(provisioned.kits / "north", tmp_path / "north"))


def policy(kit: Path) -> dict[str, Any]:
    text = (kit / "local" / "authorization.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def granted(policy: dict[str, Any], name: str, role: str, submitter: str) -> set[str]:
    """The rights that NVFlare grants somebody of the same organisation."""
    authorizer = FLAuthorizer("north", policy)
    rights = PERMISSIONS["permissions"]["project_admin"]
    commands = {"submit_job", "abort_job", "download_job", "list_jobs", "shutdown", *rights}
    person, owner = Person(name, "north", role), Person(submitter, "north", "lead")
    return {c for c in commands if authorizer.authorize(AuthzContext(c, person, owner))[0]}


@pytest.mark.parametrize("role", PERMISSIONS["permissions"])
def test_a_blocked_person_has_no_right_in_any_role_and_the_others_keep_theirs(
    kit: Path, role: str
) -> None:
    before = policy(kit)
    assert main(["block-person", BLOCKED, str(kit)]) == 0
    after = policy(kit)
    assert granted(before, BLOCKED, role, BLOCKED)
    assert granted(after, BLOCKED, role, BLOCKED) == set()
    for other in ("lead@east.example.org", "blocked.lead@north.example.org"):
        for submitter in (other, BLOCKED):
            rights = granted(before, other, role, submitter)
            assert granted(after, other, role, submitter) == rights


def test_a_name_in_capitals_is_the_same_person(kit: Path) -> None:
    assert main(["block-person", BLOCKED.upper(), str(kit)]) == 0
    assert granted(policy(kit), BLOCKED, "lead", BLOCKED) == set()


def test_people_are_blocked_one_after_the_other_and_twice_is_once() -> None:
    once = without_person(PERMISSIONS, "a@b.org")
    assert without_person(once, "a@b.org") == once
    both = without_person(once, "c@d.org")
    for name in ("a@b.org", "c@d.org"):
        assert granted(both, name, "lead", name) == set()


def test_nvflare_s_short_form_for_all_rights_is_understood() -> None:
    short = {**PERMISSIONS, "permissions": {"lead": "any"}}
    assert granted(short, BLOCKED, "lead", BLOCKED)
    assert granted(without_person(short, BLOCKED), BLOCKED, "lead", BLOCKED) == set()
    assert granted(without_person(short, BLOCKED), "a@b.org", "lead", BLOCKED)


@pytest.mark.parametrize(
    ("name", "damage", "sentence"),
    [
        ("two words", None, "as in the project file"),
        ("n:somebody", None, "as in the project file"),
        (BLOCKED, "", "damaged"),
        (BLOCKED, "[]", "damaged"),
        (BLOCKED, '{"permissions": []}', "damaged"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_changes_nothing(
    kit: Path, capsys: pytest.CaptureFixture[str], name: str, damage: str | None, sentence: str
) -> None:
    file = kit / "local" / "authorization.json"
    if damage is not None:
        file.write_text(damage, encoding="utf-8")
    before = file.read_bytes()
    assert main(["block-person", name, str(kit)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line
    assert file.read_bytes() == before


def test_a_folder_that_is_no_kit_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["block-person", BLOCKED, str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err
