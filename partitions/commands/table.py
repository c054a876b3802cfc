"""The table of sites and splits that several commands print."""

from __future__ import annotations

from collections.abc import Sequence

from partitions.manifest import SPLITS, SiteManifest, split_counts


def site_table(manifests: Sequence[SiteManifest]) -> str:
    """One line per site: subjects per split and the manifest's hash; then the totals."""
    header: tuple[str, ...] = ("site", *SPLITS, "all", "scans", "hash")
    rows = [header]
    totals = [0, 0, 0]
    for manifest in manifests:
        counts = [split_counts(manifest)[split] for split in SPLITS]
        totals = [total + count for total, count in zip(totals, counts, strict=True)]
        kind = "computed" if manifest.computed else "acquired"
        rows.append((manifest.site, *_with_sum(counts), kind, manifest.content_hash()[:12]))
    rows.append(("all", *_with_sum(totals), "", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _with_sum(counts: Sequence[int]) -> tuple[str, ...]:
    return (*(str(count) for count in counts), str(sum(counts)))
