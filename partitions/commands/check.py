"""``check``: read all manifests of a data set and refuse what contradicts itself."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fedi2i.digest import digest
from fedi2i.errors import DataError
from partitions.commands.table import site_table
from partitions.manifest import SiteManifest, check_partition, read_manifest
from partitions.site_folders import find_site_folders


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser("check", help="check all manifests of a data set")
    parser.add_argument(
        "folders", type=Path, nargs="+", metavar="DIR", help="site folders or above"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Print subjects per site and split, and the hash of the whole data set."""
    found = {path.resolve(): path for root in arguments.folders for path in find_site_folders(root)}
    manifests = [read_manifest(path) for path in found.values()]
    check_data_set(manifests)
    print(site_table(manifests))
    print(f"data set '{manifests[0].dataset}', hash {data_set_hash(manifests)}; no overlap")


def check_data_set(manifests: Sequence[SiteManifest]) -> None:
    """Refuse manifests that do not belong together, overlap, or name files that are not there.

    Raises:
        DataError: naming the manifests, subject or file.
    """
    first = manifests[0]
    sites: dict[str, SiteManifest] = {}
    for manifest in manifests:
        if manifest.dataset != first.dataset:
            raise DataError(
                f"{manifest.root}: belongs to data set '{manifest.dataset}', but {first.root} to "
                f"'{first.dataset}'; check one data set at a time"
            )
        other = sites.setdefault(manifest.site, manifest)
        if other is not manifest:
            raise DataError(
                f"{manifest.root}: site '{manifest.site}' is also in {other.root}; remove one"
            )
    check_partition(manifests)
    for manifest in manifests:
        _check_files(manifest)


def data_set_hash(manifests: Sequence[SiteManifest]) -> str:
    """SHA-256 over the sites' hashes, whatever their order."""
    hashes = sorted(manifest.content_hash() for manifest in manifests)
    return digest(hashes)


def _check_files(manifest: SiteManifest) -> None:
    for record in manifest.subjects:
        for path in (*record.files.values(), record.mask, record.lesion_mask):
            if path is not None and not (manifest.root / path).is_file():
                raise DataError(
                    f"{manifest.root / path}: no such file, but subject '{record.subject}' needs "
                    "it; copy it there or correct the manifest"
                )
