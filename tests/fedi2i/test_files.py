from __future__ import annotations

import csv
import errno
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedi2i.digest import digest, file_digest
from fedi2i.errors import DataError
from fedi2i.files import lacks_room, write_csv, write_text
from fedi2i.metric_files import read_metrics, write_metrics


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    write_csv(path, ("a", "b"), [(1, "x")])

    def rows() -> Iterator[tuple[int, str]]:
        yield 2, "y"
        raise OSError(errno.ENOSPC, "no room")

    with pytest.raises(OSError, match="no room") as caught:
        write_csv(path, ("a", "b"), rows())
    assert lacks_room(caught.value)
    assert path.read_text(encoding="utf-8").splitlines() == ["a,b", "1,x"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_table_is_read_back_by_pythons_own_reader(tmp_path: Path) -> None:
    rows = [("a,b", 'say "no"'), ("line\nbreak", "ö")]
    write_csv(tmp_path / "t.csv", ("k", "v"), rows)
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as stream:
        assert [tuple(row) for row in csv.reader(stream)] == [("k", "v"), *rows]


def test_metrics_come_back_to_the_last_bit(tmp_path: Path) -> None:
    rows = [("north", 0, "val/psnr", 1 / 3), ("all", 1, "val/psnr", 1e-300)]
    write_metrics(tmp_path / "metrics.csv", rows)
    assert read_metrics(tmp_path / "metrics.csv") == rows


@pytest.mark.parametrize(
    "text", ["", "site,round\nnorth,0\n", "site,round,metric,value\nnorth,one,val/psnr,1\n"]
)
def test_what_is_no_metrics_table_is_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="no metrics of an arm"):
        read_metrics(path)
    with pytest.raises(DataError, match="run the arm again"):
        read_metrics(tmp_path / "missing.csv")


def test_a_digest_depends_on_content_and_not_on_the_order_of_keys(tmp_path: Path) -> None:
    assert digest({"b": (1, 2), "a": None}) == digest({"a": None, "b": [1, 2]})
    assert digest({"a": 1}) != digest({"a": 2})
    assert digest("x") == hashlib.sha256(b'"x"').hexdigest()
    write_text(tmp_path / "f", "content")
    assert file_digest(tmp_path / "f") == hashlib.sha256(b"content").hexdigest()
    with pytest.raises(DataError, match="cannot be read"):
        file_digest(tmp_path / "none")
