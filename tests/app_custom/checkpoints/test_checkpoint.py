from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nvflare_fakes import weights_of

from app_custom.checkpoints.checkpoint import FinishedRounds, RoundFiles
from fedi2i.errors import DataError

ROUNDS = FinishedRounds(
    rounds=2,
    weights=weights_of(1),
    best_weights=weights_of(2),
    best_round=2,
    rows=[("east", 0, "val/psnr", 20.125), ("all", 1, "val/psnr", 1 / 3)],
)


def assert_same(loaded: FinishedRounds | None, saved: FinishedRounds) -> None:
    assert loaded is not None
    assert (loaded.rounds, loaded.best_round) == (saved.rounds, saved.best_round)
    assert loaded.rows == saved.rows
    for one, other in ((loaded.weights, saved.weights), (loaded.best_weights, saved.best_weights)):
        assert one is not None and other is not None
        assert one.keys() == other.keys()
        for key, value in other.items():
            assert one[key].dtype == value.dtype
            assert one[key].shape == value.shape
            assert one[key].tobytes() == value.tobytes()


def test_what_is_saved_comes_back_bit_for_bit_counters_without_axes_included(
    tmp_path: Path,
) -> None:
    RoundFiles(tmp_path / "run").save(ROUNDS)
    assert_same(RoundFiles(tmp_path / "run").load(), ROUNDS)


def test_before_the_first_comparison_there_is_no_best_model(tmp_path: Path) -> None:
    files = RoundFiles(tmp_path)
    files.save(replace(ROUNDS, best_weights=None, best_round=0))
    loaded = files.load()
    assert loaded is not None
    assert loaded.best_weights is None
    assert loaded.best_round == 0


def test_arrays_with_any_memory_layout_can_be_saved(tmp_path: Path) -> None:
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T[::-1]
    turned.flags.writeable = False
    files = RoundFiles(tmp_path)
    files.save(replace(ROUNDS, weights={"w": turned}))
    loaded = files.load()
    assert loaded is not None
    np.testing.assert_array_equal(loaded.weights["w"], turned)


def test_a_run_that_has_saved_nothing_has_no_rounds(tmp_path: Path) -> None:
    assert RoundFiles(tmp_path / "never").load() is None


def test_the_newest_rounds_replace_the_ones_before(tmp_path: Path) -> None:
    files = RoundFiles(tmp_path / "run")
    files.save(ROUNDS)
    files.save(replace(ROUNDS, rounds=3))
    loaded = files.load()
    assert loaded is not None
    assert loaded.rounds == 3
    assert len(list((tmp_path / "run").iterdir())) == 1


def test_a_crash_while_saving_leaves_the_rounds_saved_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = RoundFiles(tmp_path / "run")
    files.save(ROUNDS)

    def half_written(path: Path, data: bytes) -> None:
        with path.open("wb") as stream:
            stream.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half_written)
    with pytest.raises(DataError, match="no space left"):
        files.save(replace(ROUNDS, rounds=3))
    assert_same(files.load(), ROUNDS)
    assert len(list((tmp_path / "run").iterdir())) == 1


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "other content"])
def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path, damage: str) -> None:
    files = RoundFiles(tmp_path / "run")
    files.save(ROUNDS)
    (path,) = (tmp_path / "run").iterdir()
    content = path.read_bytes()
    if damage == "other content":
        torch.save({"rounds": 2}, path)
    else:
        path.write_bytes(
            {"cut": content[: len(content) // 2], "empty": b"", "text": b"hello"}[damage]
        )
    with pytest.raises(DataError) as error:
        files.load()
    assert str(path) in str(error.value)
    assert "delete the folder" in str(error.value)


def test_a_file_with_code_in_it_is_refused_and_the_code_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (Path(tmp_path / "sprung"),)  # type: ignore[return-value]

    files = RoundFiles(tmp_path / "run")
    files.save(ROUNDS)
    (path,) = (tmp_path / "run").iterdir()
    torch.save({"rounds": Trap()}, path)
    with pytest.raises(DataError):
        files.load()
    assert not (tmp_path / "sprung").exists()


def test_a_cleared_run_starts_anew_and_other_runs_stay(tmp_path: Path) -> None:
    files, other = RoundFiles(tmp_path / "run"), RoundFiles(tmp_path / "other")
    files.save(ROUNDS)
    other.save(ROUNDS)
    files.clear()
    assert files.load() is None
    assert_same(other.load(), ROUNDS)


def test_clearing_leaves_what_is_not_the_run_s(tmp_path: Path) -> None:
    files = RoundFiles(tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("years of work")
    files.clear()
    assert (tmp_path / "run" / "thesis.txt").is_file()


def test_clearing_twice_is_no_error(tmp_path: Path) -> None:
    files = RoundFiles(tmp_path / "run")
    files.clear()
    files.clear()
    assert files.load() is None
