"""What is found in a folder of files, and what is left out of it for which reason."""

from __future__ import annotations

import logging
import os
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_series import random_hu, uid, write_series
from pydicom import dcmread
from pydicom.data import get_charset_files

from fedi2i.errors import DataError
from partitions.dicom.choice import choose_series, read_rule
from partitions.dicom.conversion import convert_subject
from partitions.dicom.folder import (
    ARCHIVE,
    CLOSED,
    DAMAGED,
    LINK,
    NOT_DICOM,
    UNREADABLE,
    read_folder,
    read_slices,
)
from partitions.dicom.groups import group
from partitions.dicom.series import read_series
from partitions.dicom.slices import (
    IN_COLOUR,
    LOCALIZER,
    NO_IMAGE,
    NO_PICTURE,
    NO_POSITION,
    LeftOutError,
)

HU = random_hu()
FILES = Path(pydicom.__file__).parent / "data" / "test_files"
"""Of pydicom's wheel: nothing is downloaded."""


def link(folder: Path, *names: str) -> Path:
    """A folder with some of pydicom's files."""
    folder.mkdir()
    for name in names:
        (folder / Path(name).name).write_bytes((FILES / name).read_bytes())
    return folder


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("SC_rgb_small_odd.dcm", IN_COLOUR),
        ("examples_palette.dcm", IN_COLOUR),
        ("dicomdirtests/77654033/CR1/6154", NO_POSITION),
        ("liver_1frame.dcm", NO_IMAGE),
        ("rtdose.dcm", NO_IMAGE),
        ("rtplan.dcm", NO_PICTURE),
        ("reportsi.dcm", NO_PICTURE),
        ("waveform_ecg.dcm", NO_PICTURE),
        ("dicomdirtests/DICOMDIR", NO_PICTURE),
        ("no_meta.dcm", NOT_DICOM),
    ],
)
def test_what_is_no_slice_is_left_out_and_counted(tmp_path: Path, name: str, reason: str) -> None:
    found = read_folder(link(tmp_path / "in", name))
    assert (found.slices, found.left_out) == ((), {reason: 1})


def test_localizers_synonyms_of_text_and_damaged_headers_are_counted(tmp_path: Path) -> None:
    write_series(tmp_path, HU[:, :, :2], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    (tmp_path / "read me.txt").write_text("no picture here" * 99)
    (tmp_path / "empty").touch()
    (bad,) = write_series(tmp_path, HU[:, :, :1], name="bad")
    bad.write_bytes(bad.read_bytes().replace(b"1.5\\1.25", b"1.5\\a.bc"))
    found = read_folder(tmp_path)
    assert found.slices == ()
    assert found.left_out == {LOCALIZER: 2, NOT_DICOM: 2, DAMAGED: 1}
    assert found.left_out_text().startswith("1 DICOM with a damaged header; 2 localizers")


def test_links_are_not_followed_out_of_the_folder_and_loops_end(tmp_path: Path) -> None:
    secret = write_series(tmp_path / "elsewhere", HU[:, :, :2])
    write_series(tmp_path / "in", HU[:, :, :2], name="mine")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in", target_is_directory=True)
    (tmp_path / "in/other").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "in/a.dcm").symlink_to(secret[0])
    (tmp_path / "in/self.dcm").symlink_to("self.dcm")
    found = read_folder(tmp_path / "in")
    assert len(found.slices) == 2
    assert found.left_out == {LINK: 2}


def test_archives_are_not_unpacked_whatever_they_are_called(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "IM0001", "w") as archive:
        archive.writestr("../../slip.dcm", b"x")
    assert read_folder(tmp_path).left_out == {ARCHIVE: 1}
    with pytest.raises(DataError, match="IM0001: is an archive; unpack it and give the folder"):
        read_folder(tmp_path / "IM0001")
    with pytest.raises(DataError, match="gone: no such folder"):
        read_folder(tmp_path / "gone")
    assert [path.name for path in tmp_path.iterdir()] == ["IM0001"]


def test_a_file_that_ends_anywhere_in_its_header_is_counted_and_ends_nothing(
    tmp_path: Path,
) -> None:
    """Every place up to the pixels, which are not read here."""
    (whole,) = write_series(tmp_path / "in", HU[:, :, :1])
    content = whole.read_bytes()
    cut = tmp_path / "cut"
    for size in range(len(content) - HU[:, :, 0].size * 2):
        cut.write_bytes(content[:size])
        try:
            slices = read_slices(cut, tmp_path)
        except LeftOutError:
            continue
        assert len(slices) == 1


def test_a_file_that_the_account_may_not_read_has_a_reason_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = write_series(tmp_path, HU[:, :, :1])

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(pydicom, "dcmread", refuse)
    assert read_folder(tmp_path).left_out == {UNREADABLE: 1}


def test_a_folder_that_the_account_may_not_read_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(tmp_path, HU[:, :, :2])
    (tmp_path / "closed").mkdir()
    look = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return look(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = read_folder(tmp_path)
    assert (len(found.slices), found.left_out) == (2, {CLOSED: 1})


def test_a_value_that_is_not_valid_is_not_repeated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    """Pydicom's warnings have the value in them."""
    folder = tmp_path / "in"
    for path in write_series(folder, HU[:, :, :2]):
        path.write_bytes(path.read_bytes().replace(b"061Y", b"Ann "))
    with caplog.at_level(logging.DEBUG):
        (only,) = group(read_folder(folder).slices)
        only.header()
        chosen = choose_series([read_rule("ct=Modality is ct")], [only])
        convert_subject(chosen, tmp_path / "out", "one", "one")
    assert "Ann" not in caplog.text + " ".join(str(one.message) for one in recwarn)


def test_every_character_set_is_read(tmp_path: Path) -> None:
    paths = [Path(name) for name in get_charset_files("*.dcm") or ()]
    assert len(paths) > 10
    for path in paths:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    left_out = read_folder(tmp_path).left_out
    assert sum(left_out.values()) == len(paths)
    assert NOT_DICOM not in left_out and DAMAGED not in left_out


def test_pydicoms_regular_series_is_a_volume_and_its_scouts_are_not(tmp_path: Path) -> None:
    found = read_folder(FILES / "dicomdirtests/98892001")
    groups = [one for one in group(found.slices) if one.is_volume]
    (series,) = [one for one in groups if one.header().SeriesNumber == 5]
    volume = read_series(series)
    assert volume.data.shape == (16, 16, 5)
    assert np.linalg.norm(volume.affine[:3, 2]) == pytest.approx(2.5)
    assert all(one.header().SeriesNumber != 4 for one in groups)


def test_pydicoms_series_with_a_gap_is_refused() -> None:
    found = read_folder(FILES / "dicomdirtests/77654033/CT2")
    (series,) = [one for one in group(found.slices) if one.is_volume]
    with pytest.raises(DataError, match="apart, but not at"):
        read_series(series)
    others = read_folder(FILES / "dicomdirtests/77654033")
    assert others.left_out[NO_POSITION] == 3


def test_a_rotating_projection_is_seven_groups_of_one() -> None:
    found = read_folder(FILES / "dicomdirtests/98892003/MR700")
    assert [len(one.slices) for one in group(found.slices)] == [1] * 7
    with pytest.raises(DataError, match="is a single slice"):
        read_series(group(found.slices)[0])


def test_patients_who_share_their_uids_after_a_bad_anonymisation_are_kept_apart(
    tmp_path: Path,
) -> None:
    write_series(tmp_path / "a", HU)
    write_series(
        tmp_path / "b", HU, patient="P2",
        edit=lambda ds, k: ds.update({"SeriesInstanceUID": uid("P1", "S1", "one"),
                                      "StudyInstanceUID": uid("P1", "S1")}),
    )  # fmt: skip
    assert [one.first.patient for one in group(read_folder(tmp_path).slices)] == ["P1", "P2"]


def test_reading_headers_keeps_no_name_no_date_and_no_text(tmp_path: Path) -> None:
    write_series(tmp_path, HU)
    found = repr(read_folder(tmp_path).slices)
    for secret in ("Secret", "1961", "2020"):
        assert secret not in found


def test_a_file_nested_too_deep_is_damaged_and_no_traceback(tmp_path: Path) -> None:
    meta = b"\x02\0\x10\0UI\x14\0" + b"1.2.840.10008.1.2.1\0"
    length = b"\x02\0\0\0UL\x04\0" + len(meta).to_bytes(4, "little")
    # Sequences of unknown length, each inside the one before.
    nested = (b"\0\x52\x29\x92SQ\0\0" + b"\xff" * 4 + b"\xfe\xff\0\xe0" + b"\xff" * 4) * 5000
    (tmp_path / "deep").write_bytes(bytes(128) + b"DICM" + length + meta + nested)
    assert read_folder(tmp_path).left_out == {DAMAGED: 1}


def test_the_order_does_not_depend_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(tmp_path / "b", HU)
    write_series(tmp_path / "a", HU, name="two")
    expected = read_folder(tmp_path).slices
    walk = os.walk

    def backwards(folder: Path, **given):  # type: ignore[no-untyped-def]
        for place, below, files in walk(folder, **given):
            below.reverse()
            yield place, below, files[::-1]

    monkeypatch.setattr(os, "walk", backwards)
    assert read_folder(tmp_path).slices == expected


def test_a_header_that_says_nothing_is_read_again_whole(tmp_path: Path) -> None:
    (path, *_) = write_series(tmp_path, HU[:, :, :2])
    (only,) = group(read_folder(tmp_path).slices)
    assert only.header() == dcmread(path, stop_before_pixels=True)
    assert only.text() == "series 3 'one of Secret': 2 slices of 20 x 24 pixels, 1.25 x 1.5 mm"
