"""Whether the manifests of a data set belong together, and the files that they name are there."""

from __future__ import annotations

from collections.abc import Sequence

from fedi2i.digest import digest
from fedi2i.errors import DataError
from partitions.check.leaks import check_partition
from partitions.manifest import SiteManifest


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
