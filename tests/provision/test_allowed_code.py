"""``fedi2i provision allow``: who answers for a machine lets one class of a package run on it."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from fedi2i.cli.program import main
from fedi2i.errors import ConfigError
from partitions.own_code import load_own

MINE = "my_lab.nets.MyGenerator"


def package(folder: Path, content: str) -> None:
    (folder / "my_lab").mkdir(parents=True, exist_ok=True)
    (folder / "my_lab" / "__init__.py").write_text("")
    (folder / "my_lab" / "nets.py").write_text(content)


@pytest.fixture
def own_list(
    allow_own: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The list, and a package of one class that leaves a mark when it is imported."""
    package(
        tmp_path / "installed", f"open({str(tmp_path / 'mark')!r}, 'w')\nclass MyGenerator: 1\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "installed"))
    return Path(os.environ["FEDI2I_OWN_CODE"])


def test_it_writes_one_line_for_this_account_alone_and_imports_nothing(
    own_list: Path, tmp_path: Path
) -> None:
    assert main(["provision", "allow", MINE]) == 0
    files = {"__init__.py": b"", "nets.py": (tmp_path / "installed/my_lab/nets.py").read_bytes()}
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name}\0".encode() + hashlib.sha256(content).digest())
    assert yaml.safe_load(own_list.read_text()) == {"my_lab.nets:MyGenerator": digest.hexdigest()}
    assert stat.S_IMODE(own_list.stat().st_mode) == 0o600
    assert stat.S_IMODE(own_list.parent.stat().st_mode) == 0o700
    assert "my_lab" not in sys.modules
    assert not (tmp_path / "mark").exists()
    assert load_own(MINE, in_children=False)[0].__name__ == "MyGenerator"


def test_other_lines_stay_and_a_changed_package_is_asked_for_anew(
    own_list: Path, tmp_path: Path
) -> None:
    assert main(["provision", "allow", "my_lab.nets:READER"]) == 0
    assert main(["provision", "allow", MINE]) == 0
    before = yaml.safe_load(own_list.read_text())
    assert list(before) == ["my_lab.nets:READER", "my_lab.nets:MyGenerator"]
    package(tmp_path / "installed", "class MyGenerator: 2\n")
    with pytest.raises(ConfigError, match=r"is not the one that .* allows"):
        load_own(MINE, in_children=False)
    assert "my_lab" not in sys.modules
    assert main(["provision", "allow", MINE]) == 0
    assert yaml.safe_load(own_list.read_text()).keys() == before.keys()
    assert yaml.safe_load(own_list.read_text()) != before


def test_what_is_not_installed_or_what_others_may_change_is_refused(
    own_list: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["provision", "allow", "nobody_s_lab.nets.MyGenerator"]) == 2
    assert "no package 'nobody_s_lab' is installed" in capsys.readouterr().err
    assert not own_list.exists()
    assert main(["provision", "allow", MINE]) == 0
    own_list.chmod(0o666)
    assert main(["provision", "allow", MINE]) == 2
    assert "others may change this list" in capsys.readouterr().err


def test_a_compiled_copy_beside_the_source_never_runs(own_list: Path, tmp_path: Path) -> None:
    """In this process, and without asking other packages for their sources."""
    folder = tmp_path / "installed"
    package(folder, "class MyGenerator: where = 'source'\n")
    source = folder / "my_lab" / "nets.py"
    code = compile("class MyGenerator: where = 'copy'\n", str(source), "exec")
    import importlib._bootstrap_external as external
    import importlib.util

    cached = Path(importlib.util.cache_from_source(str(source)))
    cached.parent.mkdir(exist_ok=True)
    # A copy that says of itself that its source need not be looked at.
    unchecked = external._code_to_hash_pyc(code, bytes(8), checked=False)  # type: ignore[attr-defined]
    cached.write_bytes(unchecked)
    assert main(["provision", "allow", MINE]) == 0
    found, _ = load_own(MINE, in_children=False)
    assert found.where == "source"
    assert sys.pycache_prefix is None or sys.pycache_prefix == os.environ.get("PYTHONPYCACHEPREFIX")
