"""Hold the manifests of a data set against the rules; no scan is opened."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fedi2i.digest import digest
from partitions.check.finding import Finding, Place, apply, refuse
from partitions.check.rules import data_sets
from partitions.check.rules.data_sets import HeldScan
from partitions.manifest import SiteManifest


def manifest_findings(manifests: Sequence[SiteManifest]) -> list[Finding]:
    """What is wrong with the manifests of a data set, taken together.

    A patient may have several scans (``patient_id`` in the metadata), and sites number theirs by
    themselves. What a model has trained on must not be what it is tested on.
    """
    return [*apply(data_sets.RULES, manifests, Place()), *copies(_files(manifests))]


def copies(scans: Iterable[HeldScan]) -> list[Finding]:
    """Images that stand for two persons."""
    return apply(data_sets.COPIES, list(scans), Place())


def check_partition(manifests: Iterable[SiteManifest]) -> list[Finding]:
    """Refuse manifests that contradict each other; return what else should be looked at.

    Raises:
        DataError: naming the subjects and both sites or splits.
    """
    found = manifest_findings(list(manifests))
    refuse(found)
    return found


def data_set_hash(manifests: Sequence[SiteManifest]) -> str:
    """SHA-256 over the sites' hashes, whatever their order."""
    hashes = sorted(manifest.content_hash() for manifest in manifests)
    return digest(hashes)


def _files(manifests: Sequence[SiteManifest]) -> Iterator[HeldScan]:
    for manifest in manifests:
        for record in manifest.subjects:
            for name, path in record.files.items():
                file = manifest.root / path
                # Links are not followed: a thousand subjects would wait for the disk.
                key = os.path.normpath(Path.cwd() / file)
                yield HeldScan(record, name, str(file), key, "file")
