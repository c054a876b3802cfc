"""Which package may import which, and what no file may hold."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf

REPOSITORY = Path(__file__).resolve().parents[1]

# What a package may import of ours, besides itself. ``report`` reads files only.
ALLOWED = {
    "fedi2i": set(),
    "partitions": {"fedi2i"},
    "lightning_modules": {"fedi2i", "partitions"},
    "app_custom": {"fedi2i", "lightning_modules", "partitions"},
    "jobs": {"fedi2i", "app_custom", "lightning_modules", "partitions"},
    "provision": {"fedi2i", "jobs", "app_custom", "lightning_modules", "partitions"},
    "report": {"fedi2i"},
}
OURS = {*ALLOWED, "benchmarks"}
# The command line may import everything, and nothing imports it.
COMMAND_LINE = ("fedi2i.cli", "fedi2i.__main__")
WITH_NVFLARE = {"app_custom", "jobs", "provision"}
# Not in partitions. Torch itself may appear there as the array type of MONAI's transforms.
TRAINING = {"torchmetrics", "pytorch_lightning", "nvflare"}
ABSOLUTE = re.compile(r"(?<![\w./~}-])/(?:work|tmp|home|root)\b")


def _folders(root: Path) -> Iterator[Path]:
    for folder in sorted(root.iterdir()):
        if folder.name in {*OURS, "tests"}:
            yield folder


def _sources(root: Path) -> list[Path]:
    return [path for folder in _folders(root) for path in sorted(folder.rglob("*.py"))]


def _package(path: Path, root: Path = REPOSITORY) -> str:
    return path.relative_to(root).parts[0]


def _imported(source: str) -> set[str]:
    """Top-level names of everything a source imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            ("import_module", "__import__")
        ):
            names |= {
                str(argument.value).split(".")[0]
                for argument in node.args
                if isinstance(argument, ast.Constant)
            }
    return names


def _modules(source: str) -> set[str]:
    """Dotted names of everything a source may import, ``from a import b`` as ``a.b``, too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _in_command_line(path: Path) -> bool:
    module = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
    return _below_command_line(module)


def _below_command_line(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in COMMAND_LINE)


def _touches_search_path(source: str) -> bool:
    tree = ast.parse(source)
    return any(
        (isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path")
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "sys"
            and any(alias.name == "path" for alias in node.names)
        )
        for node in ast.walk(tree)
    )


@pytest.mark.parametrize(
    "source",
    [
        "import nvflare.apis",
        "from nvflare.apis import x",
        "def f():\n    import nvflare",
        "importlib.import_module('nvflare.apis')",
    ],
)
def test_the_check_sees_imports_wherever_they_stand(source: str) -> None:
    assert "nvflare" in _imported(source)


def test_the_checks_see_search_path_edits_and_absolute_paths() -> None:
    assert _touches_search_path("import sys\nsys.path.insert(0, 'x')")
    assert _touches_search_path("from sys import path")
    assert not _touches_search_path("import os.path\nos.path.join('a')")
    found = ("open('/tmp/x')", '"/work"', "see /home/me", "`/root/.cache`", "=/tmp")
    assert all(ABSOLUTE.search(text) for text in found)
    fine = ("docs/work/x", "https://x.org/home/", "../tmp/x", "data/root", "/workspace/x")
    assert not any(ABSOLUTE.search(text) for text in fine)


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_go_one_way(package: str) -> None:
    sources = sorted((REPOSITORY / package).rglob("*.py"))
    sources = [path for path in sources if not _in_command_line(path)]
    assert sources
    forbidden = OURS - ALLOWED[package] - {package}
    for path in sources:
        found = _imported(path.read_text(encoding="utf-8")) & forbidden
        assert not found, f"{path.relative_to(REPOSITORY)} imports {sorted(found)}"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import fedi2i.cli.program", True),
        ("from fedi2i import cli", True),
        ("from fedi2i.cli import program", True),
        ("from fedi2i.__main__ import main", True),
        ("from fedi2i.client import x", False),
        ("from fedi2i import commands", False),
    ],
)
def test_the_check_sees_who_imports_the_command_line(source: str, found: bool) -> None:
    assert any(_below_command_line(module) for module in _modules(source)) == found


def test_nothing_imports_the_command_line() -> None:
    inside, outside = [], []
    for path in _sources(REPOSITORY):
        if _package(path) == "tests":
            continue
        (inside if _in_command_line(path) else outside).append(path)
    assert len(inside) > 2
    for path in outside:
        found = [name for name in _modules(path.read_text("utf-8")) if _below_command_line(name)]
        assert not found, f"{path.relative_to(REPOSITORY)} imports {found}"


def test_partitions_import_nothing_that_trains() -> None:
    for path in sorted((REPOSITORY / "partitions").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        found = _imported(source) & TRAINING
        assert not found, f"{path.relative_to(REPOSITORY)} imports {sorted(found)}"
        used = re.search(r"torch\.(nn|optim|autograd|utils)\b|\bbackward\(|import nn\b", source)
        assert not used, f"{path.relative_to(REPOSITORY)}: {used}"


def test_finding_a_prepared_site_imports_neither_torch_nor_monai() -> None:
    code = "import sys, partitions.__main__, partitions.preparation; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "partitions.preparation.prepared" in loaded
    assert not loaded & {"torch", "monai", "pytorch_lightning", "nvflare"}


def test_nvflare_is_imported_where_the_learner_is_connected_and_nowhere_else() -> None:
    users = {
        _package(path)
        for path in _sources(REPOSITORY)
        if "nvflare" in _imported(path.read_text(encoding="utf-8")) and _package(path) != "tests"
    }
    assert "app_custom" in users
    assert users <= WITH_NVFLARE


def test_lightning_is_imported_under_one_name() -> None:
    for path in _sources(REPOSITORY):
        found = _imported(path.read_text(encoding="utf-8"))
        assert "lightning" not in found, f"{path.relative_to(REPOSITORY)}: use pytorch_lightning"


def test_nobody_edits_the_search_path() -> None:
    for path in _sources(REPOSITORY):
        source = path.read_text(encoding="utf-8")
        assert not _touches_search_path(source), path.relative_to(REPOSITORY)


def test_no_job_and_no_page_holds_an_absolute_path_of_some_machine() -> None:
    folders = [REPOSITORY / name for name in ("jobs", "docs", "provision")]
    pages = [REPOSITORY / "README.md", REPOSITORY / "Makefile"]
    pages += [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    pages = [path for path in pages if path.suffix not in {".pyc", ".png", ".pdf"}]
    assert len(pages) > 10
    for path in pages:
        found = ABSOLUTE.search(path.read_text(encoding="utf-8"))
        assert not found, f"{path.relative_to(REPOSITORY)}: {found}"


@pytest.mark.slow
def test_a_site_trains_without_app_custom_and_without_nvflare(
    tiny_cohort: Path, tmp_path: Path
) -> None:
    for package in ("fedi2i", "partitions", "lightning_modules"):
        shutil.copytree(
            REPOSITORY / package,
            tmp_path / package,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    # The working folder comes first: whoever imports one of these meets the error.
    for name in ("nvflare", "app_custom", "jobs", "report"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('{name} was imported')\n")
    tiny = OmegaConf.load(REPOSITORY / "tests" / "experiments" / "tiny.yaml").experiment
    tiny.training.update(rounds=1, steps=2)
    OmegaConf.save(tiny, tmp_path / "experiment.yaml")
    arguments = ["--experiment", "experiment.yaml", "--data", str(tiny_cohort / "north")]
    arguments += ["--out", "out"]
    done = subprocess.run(
        [sys.executable, "-m", "lightning_modules", "train", *arguments],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "model.pt").is_file()
    assert (tmp_path / "out" / "metrics.csv").is_file()
    assert "wrote out/model.pt" in done.stdout.replace(os.sep, "/")
