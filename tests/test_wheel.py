"""The wheel: complete, and works where the repository is not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import fedi2i

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = (
    "fedi2i",
    "partitions",
    "lightning_modules",
    "app_custom",
    "jobs",
    "report",
    "provision",
)
# What else the build reads.
FILES = ("pyproject.toml", "README.md", "LICENSE")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository; the build leaves files in it."""
    root = tmp_path_factory.mktemp("source")
    for package in PACKAGES:
        shutil.copytree(
            REPOSITORY / package, root / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in FILES:
        shutil.copy(REPOSITORY / name, root / name)
    return root


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source))
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds nothing but the installed wheel."""
    folder = tmp_path_factory.mktemp("installed")
    _pip("install", "--no-deps", "--no-index", "--target", str(folder), str(wheel))
    return folder


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _python(installed: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder outside the repository, with the installed wheel alone."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_wheel_holds_every_module_and_every_file_that_they_read(
    source: Path, wheel: Path
) -> None:
    expected = set()
    for path in source.rglob("*"):
        inside = path.relative_to(source)
        if path.is_file() and inside.parts[0] in PACKAGES:
            expected.add(inside.as_posix())
    # What belongs to the repository alone: its job folders, containers and pages.
    repository = {
        name
        for name in expected
        if name.startswith("provision/container/")
        or name.endswith(".md")
        or (name.startswith("jobs/") and name.endswith(".json"))
    }
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.split("/")[0] in PACKAGES}
    assert held == expected - repository
    assert {f"{package}/py.typed" for package in PACKAGES} <= held
    assert "jobs/experiments/demo.yaml" in held
    assert "provision/project.yml" in held


def test_every_package_comes_from_the_wheel_and_the_version_is_one(
    installed: Path, tmp_path: Path
) -> None:
    code = f"import {', '.join(PACKAGES)}; print(*(p.__file__ for p in ({', '.join(PACKAGES)})))"
    files = _python(installed, tmp_path, "-c", code).stdout.split()
    assert len(files) == len(PACKAGES)
    assert all(Path(file).is_relative_to(installed) for file in files)
    code = "from importlib.metadata import version; print(version('fedi2i'))"
    assert _python(installed, tmp_path, "-c", code).stdout.strip() == fedi2i.__version__
    said = f"fedi2i {fedi2i.__version__}\n"
    script = str(installed / "bin" / "fedi2i")
    assert _python(installed, tmp_path, "-m", "fedi2i", "--version").stdout == said
    assert _python(installed, tmp_path, script, "--version").stdout == said


@pytest.mark.parametrize(
    "group", ["data", "train", "jobs", "compare", "audit", "report", "provision"]
)
def test_every_group_has_help_outside_the_repository(
    group: str, installed: Path, tmp_path: Path
) -> None:
    done = _python(installed, tmp_path, "-m", "fedi2i", group, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: fedi2i {group} ")


def test_a_job_exported_outside_the_repository_is_the_committed_one(
    installed: Path, tmp_path: Path
) -> None:
    done = _python(
        installed, tmp_path, "-m", "fedi2i", "jobs", "export", "fedavg", "--out", "fedavg"
    )
    assert done.returncode == 0, done.stderr
    written = {
        path.relative_to(tmp_path): path.read_bytes()
        for path in (tmp_path / "fedavg").rglob("*.json")
    }
    assert len(written) == 3
    for name, content in written.items():
        assert content == (REPOSITORY / "jobs" / name).read_bytes()


def test_committed_jobs_are_not_written_into_an_installed_package(
    installed: Path, tmp_path: Path
) -> None:
    done = _python(installed, tmp_path, "-m", "fedi2i", "jobs", "committed")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "write one of your own with 'fedi2i jobs export'" in done.stderr
    assert not (installed / "jobs" / "fedavg").exists()
