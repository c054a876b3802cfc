from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from filelock import FileLock
from tiny_cohort import write_tiny_cohort

from jobs.writing.workspace import prepare_workspace
from partitions.manifest import read_manifest
from partitions.preparation import PreparationConfig, prepare_site
from provision.__main__ import main

SITES = ("north", "east")
RUN = "fedavg-0123456789ab"


class Workspace:
    """Two sites and a server that have run jobs a hundred days ago, and a few days ago."""

    def __init__(self, root: Path, cache: str | None = None) -> None:
        data = write_tiny_cohort(root / "data", SITES)
        self.folder = prepare_workspace(root / "ws", {"tiny": data})
        self.caches = []
        path = self.folder / "local" / "fedi2i.yaml"
        if cache is not None:
            path.write_text(path.read_text().replace("cache: null", f"cache: {cache}"))
        for site in SITES:
            where = Path(cache.replace("{site}", site)) if cache else data / site / "prepared"
            config = PreparationConfig(size=(32, 32), spacing=None)
            prepared = prepare_site(read_manifest(data / site), config, where, progress=False)
            self.caches.append(prepared.folder)
        state = root / "ws_state"
        self.states = [state / "north" / f"{RUN}-01234567", state / "server" / RUN]
        self.site_state = self.states[0] / "after-round-00003.pt"
        self.rounds = self.states[1] / "finished-rounds.pt"
        for file in (self.site_state, self.rounds):
            file.parent.mkdir(parents=True)
            file.write_bytes(bytes(1000))
        self.others = [state / "server" / "notes" / "mine.txt", data / "north" / "prepared.txt"]
        for file in self.others:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("mine")

    def age(self, days: float, *folders: Path) -> None:
        """Make folders, and the locks beside them, look unused for so many days."""
        then = time.time() - days * 86400
        for folder in folders:
            lock = folder.with_name(f"{folder.name}.lock")
            for path in (*folder.rglob("*"), folder, *([lock] if lock.exists() else [])):
                os.utime(path, (then, then))

    def run(self, *options: str) -> int:
        return main(["prune", str(self.folder), *options])


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def test_what_nothing_has_used_for_ninety_days_is_removed_and_all_else_stays(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.age(91, workspace.caches[0], workspace.states[0])
    workspace.age(89, workspace.caches[1], workspace.states[1])
    assert workspace.run() == 0
    shown = capsys.readouterr().out
    assert not workspace.caches[0].exists() and not workspace.states[0].exists()
    assert workspace.caches[1].is_dir() and workspace.rounds.is_file()
    assert all(path.is_file() for path in workspace.others)
    assert f"removed {workspace.states[0]}: state of a run, 0.0 MB, last used" in shown
    assert f"removed {workspace.caches[0]}: prepared slices" in shown
    assert shown.count("removed ") == 2 and shown.splitlines()[-1].startswith("freed ")


def test_a_dry_run_says_the_same_and_removes_nothing(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.age(8, *workspace.caches, *workspace.states)
    assert workspace.run("--dry-run", "--older-than", "7") == 0
    assert capsys.readouterr().out.count("would remove ") == 4
    assert all(folder.is_dir() for folder in (*workspace.caches, *workspace.states))
    workspace.run("--older-than", "9")
    assert capsys.readouterr().out == "freed 0.0 MB\n"


def test_a_cache_that_a_job_has_used_since_it_was_made_stays(workspace: Workspace) -> None:
    workspace.age(91, *workspace.caches)
    workspace.caches[0].with_name(f"{workspace.caches[0].name}.lock").touch()
    workspace.run()
    assert [folder.exists() for folder in workspace.caches] == [True, False]


def test_the_state_of_a_run_that_is_going_on_stays(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = workspace.states[1].with_name(f"{RUN}.lock")
    with FileLock(lock):
        workspace.age(91, workspace.states[1])
        workspace.run()
    assert workspace.rounds.is_file()
    assert "kept" in capsys.readouterr().out


def test_a_folder_that_holds_anything_else_is_no_state(workspace: Workspace) -> None:
    (workspace.states[0] / "thesis.odt").write_text("years of work")
    workspace.age(91, workspace.states[0])
    workspace.run()
    assert workspace.site_state.is_file()


def test_a_cache_folder_of_the_site_s_own_choice_is_looked_into(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, cache=f"{tmp_path}/caches/{{site}}")
    workspace.age(91, *workspace.caches)
    workspace.run()
    assert not any(folder.exists() for folder in workspace.caches)


@pytest.mark.parametrize("days", ["0", "-5", "nan"])
def test_less_than_a_day_is_refused_in_one_sentence(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], days: str
) -> None:
    workspace.age(91, *workspace.caches)
    assert workspace.run(f"--older-than={days}") == 2
    assert "write 1 day or more" in capsys.readouterr().err
    assert all(folder.is_dir() for folder in workspace.caches)


def test_a_folder_that_is_no_workspace_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prune", str(tmp_path)]) == 2
    assert "fedi2i.yaml: missing" in capsys.readouterr().err
