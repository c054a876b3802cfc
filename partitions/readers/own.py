"""A reader of a lab's own, in an installed package, by its dotted path.

Only what this machine's list allows is imported, see ``partitions.own_code``; the manifests say
which code wrote them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fedi2i.commands import ArgumentParser
from fedi2i.errors import ConfigError, DataError
from partitions.manifest import SiteManifest
from partitions.own_code import load_own
from partitions.readers import Reader
from partitions.site_folders import written_by


def import_own(dotted: str, given: Sequence[str], out: Path, seed: int) -> tuple[SiteManifest, ...]:
    """Run a lab's reader as if it stood in this folder.

    Args:
        dotted: ``package.module:NAME`` of a ``partitions.readers.Reader``.
        given: the arguments of its own options.
        out: the site folders are made here.
        seed: of the split by patient.

    Raises:
        ConfigError: it is not allowed or is no reader.
        DataError: what the reader raises, or it did not end with ``write_site_folders``.
    """
    if ":" not in dotted:
        raise ConfigError(f"'{dotted}' is no dotted path; write it like my_lab.readers:READER")
    reader, origin = load_own(dotted)
    if not isinstance(reader, Reader):
        raise ConfigError(
            f"'{dotted}' is a {type(reader).__name__} and no partitions.readers.Reader; see "
            "docs/howto/add-a-data-reader.md"
        )
    parser = ArgumentParser(
        prog=f"fedi2i data own --reader {dotted} --", description=f"Bring in {reader.help}"
    )
    reader.add_options(parser)
    options = parser.parse_args(list(given), argparse.Namespace(out=out, seed=seed))
    with written_by(origin):
        manifests = reader.bring_in(options)
    if any(manifest.origin != origin for manifest in manifests):
        raise DataError(
            f"{out}: '{dotted}' wrote manifests by itself, which do not say who wrote them; let it "
            "end with partitions.site_folders.write_site_folders"
        )
    return manifests


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reader", required=True, metavar="PACKAGE.MODULE:NAME", help="the lab's own reader"
    )
    parser.add_argument(
        "given", nargs="*", metavar="-- OPTION", help="after '--': the options of that reader"
    )


READER = Reader(
    help="scans by a reader of your own, from an installed package",
    add_options=_add_options,
    bring_in=lambda options: import_own(options.reader, options.given, options.out, options.seed),
)
