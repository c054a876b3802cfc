"""The sites' data of a run: found, checked against each other, prepared."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from fedi2i.errors import DataError
from jobs.writing.federation import FederatedExperiment
from partitions.check.manifests import check_partition
from partitions.manifest import SiteManifest, read_manifest, split_counts
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
        config = job.experiment.data.preparation_at(manifest.site)
        prepare_site(manifest, config, manifest.root / "prepared")
    return manifests


def refuse_nobody_in(
    split: str, job: FederatedExperiment, manifests: Sequence[SiteManifest], purpose: str
) -> None:
    """Refuse sites that train and lack what a run does with the patients of a split.

    Args:
        split: ``train`` or ``val``.
        job: the sites that train.
        manifests: of all sites.
        purpose: what these patients are for, as ``on whom ...``.

    Raises:
        DataError: naming the first such site.
    """
    for manifest in manifests:
        if manifest.site in job.federation.sites and not split_counts(manifest)[split]:
            raise DataError(
                f"{manifest.root}: site '{manifest.site}' has no patient in split '{split}', "
                f"{purpose}; add one, or name the site under federation.unseen"
            )


def key_of(manifests: Sequence[SiteManifest]) -> str:
    """Changes with the data of any site."""
    return "".join(manifest.content_hash() for manifest in manifests)
