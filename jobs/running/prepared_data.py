"""The sites' data of a run: found, checked against each other, prepared."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from jobs.writing.federation import FederatedExperiment
from partitions.check.manifests import check_partition
from partitions.manifest import SiteManifest, read_manifest
from partitions.preparation import prepare_site


def prepared_manifests(job: FederatedExperiment, data: Path) -> list[SiteManifest]:
    """The manifests of all sites, trained on or not, once their data is prepared.

    Raises:
        UserError: a site's data is missing or cannot be used.
    """
    federation = job.federation
    manifests = [
        read_manifest(data / site, expected_site=site)
        for site in (*federation.sites, *federation.unseen)
    ]
    for finding in check_partition(manifests):
        if finding.rule != "nobody-to-test" or finding.site not in federation.unseen:
            print(f"warning: {finding.text()}", file=sys.stderr)
    for manifest in manifests:
        prepare_site(manifest, job.experiment.data.preparation, manifest.root / "prepared")
    return manifests


def key_of(manifests: Sequence[SiteManifest]) -> str:
    """Changes with the data of any site."""
    return "".join(manifest.content_hash() for manifest in manifests)
