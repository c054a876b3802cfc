from __future__ import annotations

import json
from pathlib import Path

import pytest

from app_custom.participant.allowed_classes import ALLOWED_CLASSES
from app_custom.participant.site_configuration import data_folder, read_site_config
from fedi2i.errors import ConfigError, DataError
from jobs.writing.workspace import prepare_workspace


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data" / "demo").mkdir(parents=True)
    return tmp_path / "data" / "demo"


def test_a_workspace_holds_the_allow_list_and_the_mapping_of_data_to_sites(
    tmp_path: Path, data: Path
) -> None:
    local = prepare_workspace(tmp_path / "work", {"demo": data}) / "local"
    resources = json.loads((local / "resources.json").read_text(encoding="utf-8"))
    assert resources == {"format_version": 2, "class_allow_list": list(ALLOWED_CLASSES)}
    config = read_site_config(local)
    assert data_folder(config, "demo", "east") == data / "east"
    assert config.shared_machine


def test_paths_are_absolute_because_nvflare_changes_the_working_folder(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare_workspace(Path("work"), {"demo": Path("data/demo")})
    config = read_site_config(tmp_path / "work" / "local")
    assert data_folder(config, "demo", "east") == data / "east"
    assert config.state == str(tmp_path / "work_state")


def test_kept_state_lies_outside_the_folder_that_the_simulator_empties(
    tmp_path: Path, data: Path
) -> None:
    workspace = prepare_workspace(tmp_path / "work", {"demo": data})
    state = Path(read_site_config(workspace / "local").state or "")
    assert workspace.resolve() not in state.parents


def test_a_second_call_renews_the_two_files_and_keeps_all_others(
    tmp_path: Path, data: Path
) -> None:
    workspace = prepare_workspace(tmp_path / "work", {"demo": data})
    for other in (workspace / "local" / "privacy.json", workspace / "server" / "model.pt"):
        other.parent.mkdir(exist_ok=True)
        other.write_text("mine", encoding="utf-8")
    prepare_workspace(workspace, {"demo": data}, torch_threads=3, share_images=False)
    assert (workspace / "local" / "privacy.json").read_text(encoding="utf-8") == "mine"
    assert (workspace / "server" / "model.pt").read_text(encoding="utf-8") == "mine"
    config = read_site_config(workspace / "local")
    assert (config.torch_threads, config.share_images) == (3, False)


def test_a_missing_data_folder_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder for data set 'demo'; correct the path"):
        prepare_workspace(tmp_path / "work", {"demo": tmp_path / "nowhere"})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_files_is_not_given_to_the_simulator(
    data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "notes.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(DataError, match="holds other files, which the simulator would delete"):
        prepare_workspace(folder, {"demo": data})
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("threads", [0, -3])
def test_a_number_of_threads_that_cannot_be_is_refused(
    data: Path, tmp_path: Path, threads: int
) -> None:
    with pytest.raises(ConfigError, match=f"torch_threads is {threads}; write 1 or more"):
        prepare_workspace(tmp_path / "work", {"demo": data}, torch_threads=threads)


@pytest.mark.parametrize("name", ["W S", "one\ttab", "a b/ws"])
def test_a_path_with_blanks_is_refused_as_nvflare_would_wait_for_its_sites_for_ever(
    tmp_path: Path, data: Path, name: str
) -> None:
    with pytest.raises(DataError, match="whose path has blanks"):
        prepare_workspace(tmp_path / name, {"demo": data})
    assert not (tmp_path / name).exists()
