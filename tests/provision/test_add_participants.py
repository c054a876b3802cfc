from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from certificates import check_startup_signature, key_fits, own_certificate, root
from provisioned_project import Provisioned

from provision.__main__ import main


@pytest.fixture
def project(provisioned: Provisioned, tmp_path: Path) -> Provisioned:
    """A copy of the provisioned project that a test may add to."""
    workspace = Path(shutil.copytree(provisioned.workspace, tmp_path / "kits"))
    project_file = Path(shutil.copy(provisioned.project_file, tmp_path))
    return Provisioned(project_file, workspace, workspace / "fedi2i" / "prod_00")


def command(project: Provisioned, *arguments: str) -> int:
    return main(
        [*arguments, "--project", str(project.project_file), "--workspace", str(project.workspace)]
    )


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_fifth_hospital_gets_a_kit_of_the_same_authority_and_nobody_else_s_changes(
    project: Provisioned,
) -> None:
    before = content(project.kits)
    options = ("--org", "island", "--gpus", "1", "--gpu-memory", "16")
    assert command(project, "add-site", "island", *options) == 0
    assert content(project.kits) == before
    made = project.workspace / "fedi2i" / "prod_01"
    assert [kit.name for kit in made.iterdir()] == ["island"]
    authority = root(project.kits / "server")
    assert root(made / "island") == authority
    own_certificate(made / "island").verify_directly_issued_by(authority)
    assert key_fits(made / "island")
    assert "fed_client.json" in check_startup_signature(made / "island")
    for name in ("authorization.json", "privacy.json"):
        path = Path("local") / name
        assert (made / "island" / path).read_bytes() == (project.kits / "north" / path).read_bytes()
    assert "ExclusiveGPUs" in (made / "island" / "local" / "resources.json").read_text()


def test_one_more_person_gets_a_console_kit_with_their_role_and_nobody_else_s_changes(
    project: Provisioned,
) -> None:
    before = content(project.kits)
    name = "new.lead@west.example.org"
    assert command(project, "add-person", name, "--org", "west", "--role", "lead") == 0
    assert content(project.kits) == before
    made = project.workspace / "fedi2i" / "prod_01"
    assert [kit.name for kit in made.iterdir()] == [name]
    certificate = own_certificate(made / name)
    certificate.verify_directly_issued_by(root(project.kits / "server"))
    named = {str(part.value) for part in certificate.subject}
    assert {name, "west", "lead"} <= named


def test_a_renewed_certificate_has_a_new_key_and_the_same_authority(project: Provisioned) -> None:
    before = content(project.kits)
    assert command(project, "renew", "west") == 0
    assert content(project.kits) == before
    made = project.workspace / "fedi2i" / "prod_01"
    assert [kit.name for kit in made.iterdir()] == ["west"]
    old, new = (own_certificate(kits / "west") for kits in (project.kits, made))
    assert new.public_key() != old.public_key()
    assert new.subject == old.subject
    new.verify_directly_issued_by(root(project.kits / "server"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("add-site", "north"), "'north' has a kit already"),
        (("add-site", "is land"), "use letters, digits"),
        (("renew", "wset"), "did you mean 'west'?"),
        (("kits",), "kits were made before"),
        (("add-person", "lead@north.example.org", "--org", "north", "--role", "lead"), "already"),
        (("add-person", "someone", "--org", "north", "--role", "lead"), "an e-mail address"),
        (("add-person", "a@b.org", "--org", "north", "--role", "led"), "did you mean 'lead'"),
    ],
)
def test_a_name_that_cannot_be_is_one_sentence_and_makes_nothing(
    project: Provisioned,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    sentence: str,
) -> None:
    assert command(project, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line
    assert [path.name for path in (project.workspace / "fedi2i").glob("prod_*")] == ["prod_00"]


@pytest.mark.parametrize("options", [("--gpus", "1"), ("--gpu-memory", "16")])
def test_gpus_without_their_memory_are_one_sentence(
    project: Provisioned, capsys: pytest.CaptureFixture[str], options: tuple[str, str]
) -> None:
    assert command(project, "add-site", "island", *options) == 2
    assert "give the number of its GPUs and the memory of each" in capsys.readouterr().err
    assert [path.name for path in (project.workspace / "fedi2i").glob("prod_*")] == ["prod_00"]


def test_without_first_kits_there_is_no_further_one(
    project: Provisioned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = Provisioned(project.project_file, tmp_path / "empty", tmp_path)
    assert command(empty, "add-site", "island") == 2
    assert "nvflare provision -p" in capsys.readouterr().err


def test_a_project_that_nvflare_cannot_read_leaves_no_kits_and_one_sentence(
    project: Provisioned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = project.project_file.read_text()
    project.project_file.write_text(text.replace("storage: ", "storage: not/absolute/"))
    empty = Provisioned(project.project_file, tmp_path / "empty", tmp_path)
    assert command(empty, "kits") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "write an absolute folder" in line
    assert not list((tmp_path / "empty").rglob("prod_*"))
