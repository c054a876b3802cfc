"""State kept between rounds."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from fedi2i.errors import DataError
from lightning_modules.training.local_state import LocalStateStore


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_round_that_left_nothing_gives_none(tmp_path: Path) -> None:
    store = LocalStateStore(tmp_path / "new")
    assert store.load(0) is None
    assert store.load(3) is None
    assert not (tmp_path / "new").exists()


def test_another_process_reads_back_what_an_earlier_round_left_and_which_it_was(
    tmp_path: Path,
) -> None:
    LocalStateStore(tmp_path).save(4, {"networks": {"discriminator.w": torch.arange(3.0)}}, 3)
    found = LocalStateStore(tmp_path).load(5)
    assert found is not None
    assert found[0] == 4
    assert found[1]["networks"]["discriminator.w"].tolist() == [0.0, 1.0, 2.0]
    assert LocalStateStore(tmp_path).load(4) is None


def test_a_site_that_missed_rounds_finds_the_last_one_it_took_part_in(tmp_path: Path) -> None:
    store = LocalStateStore(tmp_path)
    store.save(1, {"value": 1}, 0)
    store.save(2, {"value": 2}, 1)
    assert store.load(9) == (2, {"value": 2})
    assert store.load(2) == (1, {"value": 1})


def test_a_federation_that_goes_back_leaves_no_state_of_later_rounds(tmp_path: Path) -> None:
    store = LocalStateStore(tmp_path)
    for number in range(4):
        store.save(number, {"value": number}, number - 1)
    store.save(3, {"value": "again"}, 2)
    store.save(2, {"value": "once more"}, 1)
    assert store.load(9) == (2, {"value": "once more"})
    assert _names(tmp_path) == ["after-round-00002.pt"]


def test_a_round_and_the_one_it_started_from_are_kept_and_foreign_files_left_alone(
    tmp_path: Path,
) -> None:
    store = LocalStateStore(tmp_path)
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    for number in range(5):
        store.save(number, {"round": number}, number - 1)
    assert _names(tmp_path) == ["after-round-00003.pt", "after-round-00004.pt", "notes.txt"]
    assert store.load(4) == (3, {"round": 3})


def test_a_site_whose_rounds_are_not_taken_keeps_the_state_to_start_from(tmp_path: Path) -> None:
    store = LocalStateStore(tmp_path)
    for number in range(3):
        store.save(number, {"round": number}, number - 1)
    for number in (3, 4, 5):  # the server took none of them
        store.save(number, {"round": number}, 2)
    assert _names(tmp_path) == ["after-round-00002.pt", "after-round-00005.pt"]
    assert store.load(3) == (2, {"round": 2})


def test_a_failed_write_leaves_the_old_state_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStateStore(tmp_path)
    store.save(0, {"value": 1}, -1)

    def half_written(path: Path, data: bytes) -> None:
        with path.open("wb") as stream:
            stream.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half_written)
    with pytest.raises(DataError, match="no space left"):
        store.save(0, {"value": 2}, -1)
    assert _names(tmp_path) == ["after-round-00000.pt"]
    assert store.load(1) == (0, {"value": 1})


@pytest.mark.parametrize("keep", [0, 10, 200])
def test_a_damaged_file_is_named_in_one_sentence(tmp_path: Path, keep: int) -> None:
    store = LocalStateStore(tmp_path)
    store.save(2, {"value": torch.ones(50)}, 1)
    path = tmp_path / "after-round-00002.pt"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError) as caught:
        store.load(3)
    assert str(path) in str(caught.value)
    assert "delete it" in str(caught.value)
    assert "\n" not in str(caught.value)
