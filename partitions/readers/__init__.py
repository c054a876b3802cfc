"""Readers of scans: one file per public layout or file format.

Each file holds one ``READER``. It becomes a command that is called like the file, so that a file in
this folder is all it takes to add one (docs/howto/add-a-data-reader.md).
"""

from __future__ import annotations

import argparse
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

# The names of the readers are part of the command line's help, which should not wait for more.
if TYPE_CHECKING:
    from partitions.layouts.found_scans import Recognised
    from partitions.manifest import SiteManifest


@dataclass(frozen=True)
class Reader:
    """What a file of this folder offers to the command line.

    Attributes:
        help: what it brings in, in some words.
        add_options: adds the options that say where the scans are. Every reader has ``--out``
            and ``--seed`` besides.
        bring_in: reads the options, finds the scans, and writes a manifest per site with
            ``partitions.site_folders.write_site_folders``; returns the manifests. Raises
            ``DataError`` or ``ConfigError`` before any manifest is written.
        out: where the site folders go by default; None if ``--out`` must be given.
        settings: what ``prepare --set`` has to be told about such scans, e.g. ``spacing=null``; a
            function of the manifests where that depends on what was found.
        layout: what ``recognise`` looks for, in some words.
        recognise: says what a folder holds if it has this layout, and None if it has not; writes
            nothing. Raises ``DataError`` where the layout is this one but cannot be used.
        general: whether many data sets have this layout, so that a reader of the very data set
            is the better choice where there is one.
    """

    help: str
    add_options: Callable[[argparse.ArgumentParser], None]
    bring_in: Callable[[argparse.Namespace], tuple[SiteManifest, ...]]
    out: Path | None = None
    settings: tuple[str, ...] | Callable[[Sequence[SiteManifest]], tuple[str, ...]] = ()
    layout: str = ""
    recognise: Callable[[Path], Recognised | None] | None = None
    general: bool = False


def reader_names() -> tuple[str, ...]:
    """The names of all readers, in order; none of them is imported."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def load_reader(name: str) -> Reader:
    """Import the reader of this name."""
    reader: Reader = import_module(f"{__name__}.{name}").READER
    return reader
