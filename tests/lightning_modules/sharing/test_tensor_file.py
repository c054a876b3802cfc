from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from full_disk import room_for

from fedi2i.errors import DataError
from lightning_modules.sharing.tensor_file import read_tensors, write_tensors


@pytest.fixture
def little_room() -> Iterator[None]:
    with room_for(10_000):
        yield


def test_what_is_written_is_read_without_pickle_and_by_the_account_s_group(tmp_path: Path) -> None:
    path = tmp_path / "new" / "model.pt"
    write_tensors(path, {"model": {"weight": torch.arange(5.0)}, "rounds": 3})
    content = torch.load(path, weights_only=True)
    assert content["rounds"] == 3
    assert content["model"]["weight"].equal(torch.arange(5.0))
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.usefixtures("little_room")
def test_without_room_one_sentence_names_the_folder_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    write_tensors(path, {"a": torch.zeros(10)})
    with pytest.raises(DataError) as error:
        write_tensors(path, {"a": torch.zeros(10_000)})
    (sentence,) = str(error.value).splitlines()
    assert sentence.startswith(f"{tmp_path}: no space left on device for 4")
    assert len(torch.load(path, weights_only=True)["a"]) == 10
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]


@pytest.mark.parametrize("content", ["cut", "empty", "text", "something else"])
def test_a_damaged_or_foreign_file_is_refused_in_the_caller_s_sentence(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / "state.pt"
    write_tensors(path, {"rounds": "many" if content == "something else" else 3})
    if content == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif content != "something else":
        path.write_text({"empty": "", "text": "weights"}[content], encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_tensors(path, "damaged; delete it", lambda found: int(found["rounds"]))
    assert str(error.value) == f"{path}: damaged; delete it"


def test_what_was_written_is_read_and_converted(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    write_tensors(path, {"rounds": 3})
    assert read_tensors(path, "damaged", lambda found: found["rounds"] + 1) == 4


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "sprung",)  # type: ignore[return-value]

    torch.save({"trap": Trap()}, tmp_path / "state.pt")
    with pytest.raises(DataError, match="damaged"):
        read_tensors(tmp_path / "state.pt", "damaged", dict)
    assert not (tmp_path / "sprung").exists()
