"""``inspect``: which layout a folder has, what is in it, and which command comes next."""

from __future__ import annotations

import argparse
import shlex
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from fedi2i.commands import Commands
from fedi2i.errors import DataError, UserError
from partitions.layouts.folder_walk import files_below, source_folder
from partitions.layouts.found_scans import Recognised
from partitions.manifest import FILE_NAME
from partitions.readers import Reader, load_reader, reader_names

SHOWN_PROBLEMS = 10
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
_COMPRESSED = (".tar.gz", ".tgz")
_DAMAGE = (OSError, EOFError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, zlib.error)
_LARGE = 1 << 30
"""Bytes of a compressed archive above which it is not looked into: all of it would be inflated."""


@dataclass(frozen=True)
class Layout:
    """A reader that knows a folder.

    Attributes:
        name: of the reader.
        reader: it.
        recognised: what it says.
    """

    name: str
    reader: Reader
    recognised: Recognised

    def command(self) -> str:
        """The command that brings the scans in."""
        return shlex.join(["fedi2i", "data", self.name, *self.recognised.arguments])


def add_inspect(commands: Commands) -> None:
    """Add ``inspect``: look at a folder of scans of which nothing is known."""
    parser = commands.add_parser(
        "inspect", help="say which layout a folder has, what is in it, and what to do next"
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="unpacked scans")
    parser.set_defaults(run=_inspect)


def layouts_of(folder: Path) -> tuple[list[Layout], list[str]]:
    """The readers that know a folder, the most particular one first.

    Returns:
        The layouts, and what is wrong where a reader knows the folder and cannot use it.

    Raises:
        DataError: there is no such folder.
    """
    source_folder(folder, "the folder of the unpacked scans")
    found, faults = [], []
    for name in reader_names():
        reader = load_reader(name)
        if reader.recognise is None:
            continue
        try:
            recognised = reader.recognise(folder)
        except UserError as error:
            faults.append(f"{name}: {error}")
            continue
        if recognised is not None:
            found.append(Layout(name, reader, recognised))
    return sorted(found, key=_particular), faults


def known_layouts() -> list[str]:
    """What is looked for, a line per reader."""
    readers = {name: load_reader(name) for name in reader_names()}
    return [f"{reader.layout}" for reader in readers.values() if reader.layout]


def archives_in(folder: Path) -> list[str]:
    """A sentence for each archive that still has to be unpacked."""
    return [
        _archive_sentence(path)
        for path in files_below(folder)
        if path.name.lower().endswith(_ARCHIVES)
    ]


def _particular(layout: Layout) -> tuple[bool, int, str]:
    return layout.reader.general, -len(layout.recognised.found.scans), layout.name


def _inspect(options: argparse.Namespace) -> None:
    folder: Path = options.folder
    layouts, faults = layouts_of(folder)
    packed = archives_in(folder)
    for sentence in packed:
        print(f"note: {sentence}")
    if any(folder.glob(FILE_NAME)) or any(folder.glob(f"*/{FILE_NAME}")):
        print(f"{folder}: holds site folders already")
        print("next:", shlex.join(["fedi2i", "data", "check", str(folder)]))
        return
    if not layouts:
        raise DataError(faults[0] if faults else _unknown(folder, bool(packed)))
    for line in (*faults, *(line for layout in layouts for line in _description(folder, layout))):
        print(line)
    print("next:", layouts[0].command())


def _description(folder: Path, layout: Layout) -> Iterator[str]:
    found = layout.recognised.found
    sites = found.patients_by_site()
    yield f"{folder}: {layout.reader.help} (reader '{layout.name}')"
    yield f"  patients   {sum(sites.values())}, in {len(found.scans)} subjects"
    yield f"  pairs      {found.pairs} subjects with two sequences or more"
    yield f"  sequences  {_counts(found.subjects_by_sequence())}"
    yield f"  sites      {len(sites)}: {_counts(sites)}"
    yield f"  problems   {len(found.problems)}"
    for problem in found.problems[:SHOWN_PROBLEMS]:
        yield f"  - {problem}"
    if len(found.problems) > SHOWN_PROBLEMS:
        yield f"  - and {len(found.problems) - SHOWN_PROBLEMS} more, which the import says"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _unknown(folder: Path, packed: bool) -> str:
    advice = "unpack the archives first" if packed else "write a table of the scans (docs/data.md)"
    return f"{folder}: has no layout that is known here; {advice}. Looked for: " + "; ".join(
        known_layouts()
    )


def _archive_sentence(path: Path) -> str:
    """What to do with an archive; one that would write outside its folder is named."""
    if path.name.lower().endswith(_COMPRESSED) and path.stat().st_size > _LARGE:
        return (
            f"{path} is a large archive, which was not looked into: list it with 'tar -tvzf', and "
            "unpack it if no member and no link leads outside the folder"
        )
    try:
        outside = next((name for name in _members(path) if _leads_outside(name)), None)
    except _DAMAGE as error:
        return f"{path} is a damaged archive ({error}); copy it again"
    if outside is None:
        return f"{path} is an archive: unpack it, as only unpacked scans are read"
    return (
        f"{path} is an archive with a member that leads outside the folder, '{outside}': do not "
        "unpack it, and ask where it comes from"
    )


def _members(path: Path) -> Iterator[str]:
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                yield info.filename
                if stat.S_ISLNK(info.external_attr >> 16):
                    target = archive.read(info).decode(errors="replace")
                    yield str(PurePosixPath(info.filename).parent / target)
        return
    mode: Literal["r:gz", "r:"] = "r:gz" if path.name.lower().endswith(_COMPRESSED) else "r:"
    with tarfile.open(path, mode) as archive:
        for member in archive:
            yield member.name
            if member.issym():
                yield str(PurePosixPath(member.name).parent / member.linkname)
            elif member.islnk():  # a hard link's target is named from the top, as members are
                yield member.linkname


def _leads_outside(name: str) -> bool:
    plain = name.replace("\\", "/")
    depth = 0
    for part in PurePosixPath(plain).parts:
        depth += -1 if part == ".." else 1
        if depth < 0 or part == "/":
            return True
    return plain[1:2] == ":"
