"""What the packages need: ranges for users of the library, exact versions for sites."""

from __future__ import annotations

import ast
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

REPOSITORY = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = [one for extra in PROJECT["project"]["optional-dependencies"].values() for one in extra]
RANGES = {
    canonicalize_name(one.name): one
    for one in map(Requirement, [*PROJECT["project"]["dependencies"], *EXTRAS])
}
OURS = PROJECT["tool"]["mypy"]["packages"]


def pins(name: str) -> dict[str, str]:
    """Package and version of every line of a requirements file."""
    lines = (REPOSITORY / name).read_text(encoding="utf-8").splitlines()
    parts = [line.split("==") for line in lines if line and line[0] not in "#-"]
    return {canonicalize_name(package): version for package, version in parts}


PINS = pins("requirements.txt") | pins("requirements-extras.txt")


def third_party_imports() -> dict[str, Path]:
    """Top-level names that our packages import from elsewhere, with a file that does."""
    found: dict[str, Path] = {}
    for path in (path for package in OURS for path in (REPOSITORY / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            found |= {name.split(".")[0]: path for name in names}
    return {
        name: path
        for name, path in found.items()
        if name not in OURS and name not in sys.stdlib_module_names
    }


def test_every_package_has_a_range_for_users_and_a_version_for_sites() -> None:
    assert set(PINS) == set(RANGES)
    assert set(pins("requirements-extras.txt")) == {
        canonicalize_name(Requirement(one).name) for one in EXTRAS
    }


@pytest.mark.parametrize("package", sorted(RANGES))
def test_the_version_that_sites_install_is_within_the_range(package: str) -> None:
    limits = RANGES[package].specifier
    assert limits.contains(PINS[package])
    # A range is closed above: what comes later has not been tried.
    assert not limits.contains(Version("999"))


def test_everything_that_the_packages_import_is_named() -> None:
    distributions = packages_distributions()
    imports = third_party_imports()
    assert len(imports) > 10
    for name, path in imports.items():
        named = {canonicalize_name(one) for one in distributions.get(name, [name])}
        assert named & set(RANGES), f"{path.relative_to(REPOSITORY)} imports {name}"
