"""``data inspect``: folders in a known layout, unknown ones, and folders with traps in them."""

from __future__ import annotations

import io
import shlex
import stat
import tarfile
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest

from partitions.__main__ import main
from partitions.commands.layouts import known_layouts
from partitions.layouts.folder_walk import files_below, in_natural_order
from partitions.readers import load_reader, reader_names

BRATS = ("t1", "t1ce", "t2", "flair")


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(len(str(path))).integers(0, 99, (4, 4, 4), dtype=np.int16)
    nibabel.Nifti1Image(voxels, np.eye(4)).to_filename(path)
    return path


@pytest.fixture
def brats(tmp_path: Path) -> Path:
    """Three cases, one of them without FLAIR, in a folder with a blank and an umlaut."""
    root = tmp_path / "Übung 1"
    for number in range(3):
        name = f"FeTS2022_0000{number}"
        for sequence in BRATS[: 3 if number == 2 else 4]:
            write(root / name / f"{name}_{sequence}.nii.gz")
    rows = "".join(f"{1 + number % 2},FeTS2022_0000{number}\n" for number in range(3))
    (root / "partitioning_1.csv").write_text(f"Partition_ID,Subject_ID\n{rows}")
    return root


def inspected(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main(["inspect", str(folder)]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_known_layout_is_described_and_the_command_to_run_next_works(
    brats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = inspected(brats, capsys)
    text = "\n".join(said)
    assert f"{brats}: BraTS 2017 to 2024 and FeTS" in said[0] and "(reader 'brats')" in said[0]
    assert "patients   3, in 3 subjects" in text
    assert "sequences  t1 3, t1ce 3, t2 3, flair 2" in text
    assert "sites      2: site01 2, site02 1" in text
    assert "FeTS2022_00002: no flair" in text
    assert not (tmp_path / "data").exists()
    command = said[-1].removeprefix("next: fedi2i data ")
    assert main([*shlex.split(command), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out/site02/manifest.json").is_file()
    assert inspected(tmp_path / "out", capsys)[-1] == f"next: fedi2i data check {tmp_path / 'out'}"


def test_a_reader_of_the_very_data_set_goes_before_a_general_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for day in ("d0001", "d0002"):
        write(tmp_path / f"sub-OAS30001/ses-{day}/anat/sub-OAS30001_ses-{day}_T1w.nii.gz")
    said = inspected(tmp_path, capsys)
    assert "(reader 'oasis')" in said[0]
    assert any("(reader 'bids')" in line for line in said)
    assert said[-1] == f"next: fedi2i data oasis --source {tmp_path}"


def test_a_table_of_scans_is_a_layout_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}_t1.nii.gz")
        write(tmp_path / f"{name}_t2.nii.gz")
    rows = "".join(f"{n},north,{n}_t1.nii.gz,{n}_t2.nii.gz\n" for n in ("a", "b"))
    (tmp_path / "My Scans.csv").write_text(f"case_id,site,t1,t2\n{rows}")
    said = inspected(tmp_path, capsys)
    assert "pairs      2 subjects" in "\n".join(said)
    table = ["--table", str(tmp_path / "My Scans.csv"), "--dataset", "my-scans"]
    assert shlex.split(said[-1])[3:] == ["csv", *table, "--out", "data/my-scans"]


def test_an_unknown_folder_is_one_sentence_with_what_was_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "scan.nii.gz")
    assert main(["inspect", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "has no layout that is known here; write a table of the scans" in said
    assert all(layout in said for layout in known_layouts())
    assert main(["inspect", str(tmp_path / "gone")]) == 2
    assert "gone: no such data folder" in capsys.readouterr().err


def test_every_reader_that_recognises_says_what_it_looks_for() -> None:
    readers = {name: load_reader(name) for name in reader_names()}
    recognising = {name for name, reader in readers.items() if reader.recognise}
    assert recognising == {name for name, reader in readers.items() if reader.layout}
    assert {"brats", "ixi", "lgg", "synthrad", "csv"} <= recognising


def test_archives_are_to_be_unpacked_and_one_that_writes_outside_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = write(tmp_path / "x.nii.gz")
    with zipfile.ZipFile(tmp_path / "good.zip", "w") as archive:
        archive.write(scan, "./IXI002-Guys-0828-T1.nii.gz")
    with zipfile.ZipFile(tmp_path / "slip.zip", "w") as archive:
        archive.writestr("scans/../../outside.nii.gz", scan.read_bytes())
    with tarfile.open(tmp_path / "slip.tar", "w") as archive:
        link = tarfile.TarInfo("scans/link")
        link.type, link.linkname = tarfile.SYMTYPE, "../../../etc"
        archive.addfile(link)
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and no more")
    assert main(["inspect", str(tmp_path)]) == 2
    said = capsys.readouterr()
    lines = {line.split(" is ")[0].rsplit("/", 1)[1]: line for line in said.out.splitlines()}
    assert "is an archive: unpack it" in lines["good.zip"]
    assert "leads outside the folder, 'scans/../../outside.nii.gz'" in lines["slip.zip"]
    assert "leads outside the folder" in lines["slip.tar"]
    assert "is a damaged archive" in lines["broken.zip"]
    assert "unpack the archives first" in said.err
    assert not (tmp_path.parent / "outside.nii.gz").exists()


def archive_of(path: Path, kind: bytes, name: str, target: str = "", size: int = 0) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, target, size
    plain = path.suffix == ".tar"
    with tarfile.open(path, "w") if plain else tarfile.open(path, "w:gz") as archive:
        archive.addfile(member, io.BytesIO(bytes(size)))


def test_what_links_lead_to_is_looked_at_as_unpacking_would_take_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The target of a symbolic link begins at the link, that of a hard link at the top."""
    archive_of(tmp_path / "hard.tar", tarfile.LNKTYPE, "a/b/scan.nii", "../secret")
    archive_of(tmp_path / "absolute.tgz", tarfile.LNKTYPE, "a/b/scan.nii", "/etc/passwd")
    archive_of(tmp_path / "soft.tar.gz", tarfile.SYMTYPE, "a/b/scan.nii", "../../../secret")
    archive_of(tmp_path / "slip.TGZ", tarfile.REGTYPE, "../slip.nii", size=9)
    archive_of(tmp_path / "fine.tar", tarfile.SYMTYPE, "a/b/scan.nii", "../c/scan.nii")
    archive_of(tmp_path / "good.tar.gz", tarfile.LNKTYPE, "a/b/scan.nii", "a/c/scan.nii")
    link = zipfile.ZipInfo("a/scan.nii")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "soft.zip", "w") as archive:
        archive.writestr(link, "../../secret")
    (tmp_path / "broken.tgz").write_bytes((tmp_path / "slip.TGZ").read_bytes()[:30])
    assert main(["inspect", str(tmp_path)]) == 2
    said = capsys.readouterr().out.splitlines()
    lines = {line.split(" is ")[0].rsplit("/", 1)[1]: line for line in said}
    for name in ("hard.tar", "absolute.tgz", "soft.tar.gz", "slip.TGZ", "soft.zip"):
        assert "leads outside the folder" in lines[name], name
    for name in ("fine.tar", "good.tar.gz"):
        assert "is an archive: unpack it" in lines[name], name
    assert "is a damaged archive" in lines["broken.tgz"]


def test_a_large_compressed_archive_is_not_looked_into_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("partitions.commands.layouts._LARGE", 50)
    archive_of(tmp_path / "slip.tgz", tarfile.REGTYPE, "../slip.nii", size=9)
    assert main(["inspect", str(tmp_path)]) == 2
    assert "was not looked into: list it with 'tar -tvzf'" in capsys.readouterr().out


def test_links_in_circles_end_and_each_folder_is_entered_once(tmp_path: Path) -> None:
    scan = write(tmp_path / "a/b/x.nii.gz")
    write(tmp_path / "a/.hidden/y.nii.gz")
    write(tmp_path / "overview/z.nii.gz")
    (tmp_path / "a/b/up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a/b/self").symlink_to(tmp_path / "a/b/self")
    (tmp_path / "again").symlink_to(tmp_path / "a/b", target_is_directory=True)
    found = [path for path in files_below(tmp_path, {"overview"}) if path.is_file()]
    assert found == [scan]


def test_numbers_in_names_are_sorted_as_numbers() -> None:
    names = ["s10", "s2", "a", "s2b", "7", "s02"]
    assert sorted(names, key=in_natural_order) == ["7", "a", "s2", "s02", "s2b", "s10"]
