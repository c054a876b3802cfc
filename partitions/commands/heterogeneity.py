"""``heterogeneity``: how unlike the sites of a data set are, before anything is trained."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedi2i.commands import Commands
from fedi2i.errors import ConfigError
from fedi2i.files import write_text
from fedi2i.typed_config import as_dict
from partitions.commands.manifests import SEED
from partitions.commands.prepare import DEFAULT_CACHE, add_preparation_options, read_config
from partitions.manifest import SiteManifest, read_manifest
from partitions.preparation import PreparationConfig
from partitions.preparation.configuration import DOMAINS
from partitions.preparation.intensities import Scale, fixed_scale
from partitions.site_folders import find_site_folders

if TYPE_CHECKING:
    from partitions.heterogeneity.comparison import Comparison


def add_heterogeneity(commands: Commands) -> None:
    """Add ``heterogeneity``."""
    parser = commands.add_parser(
        "heterogeneity", help="say how unlike the sites of a data set are, before training"
    )
    parser.add_argument(
        "folders", type=Path, nargs="*", metavar="DIR", help="site folders or above"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the report as HTML")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write it as JSON")
    parser.add_argument(
        "--metadata-only", action="store_true", help="look at manifests and at no image"
    )
    parser.add_argument(
        "--federated", type=Path, metavar="FILE", help="statistics.json of 'jobs/statistics'"
    )
    parser.add_argument("--seed", type=int, default=SEED, help="of the permutations")
    add_preparation_options(parser)
    parser.set_defaults(run=_heterogeneity)


def _heterogeneity(options: argparse.Namespace) -> None:
    # Imported here, as the other commands have no use for it.
    from partitions.heterogeneity.results import as_json, as_page, console_text

    comparison = _compared(options)
    print(console_text(comparison))
    for path, write in ((options.out, as_page), (options.json, as_json)):
        if path is not None:
            write_text(path, write(comparison))
            print(f"wrote {path}")


def _compared(options: argparse.Namespace) -> Comparison:
    from partitions.heterogeneity.comparison import compare

    if (options.federated is None) == (not options.folders):
        raise ConfigError("name site folders, or --federated with the result of a job")
    if options.federated is not None:
        from partitions.heterogeneity.federated import read_federated

        scales = _scales(read_config(options.config, options.settings))
        views = read_federated(options.federated)
        return compare("federated", views, {}, options.seed, scales=scales)
    found = {path.resolve(): path for root in options.folders for path in find_site_folders(root)}
    manifests = [read_manifest(path) for path in found.values()]
    _check_names(manifests)
    return _look_at(manifests, options)


def _look_at(manifests: Sequence[SiteManifest], options: argparse.Namespace) -> Comparison:
    from partitions.heterogeneity.comparison import compare
    from partitions.heterogeneity.sites import view_of
    from partitions.preparation import prepare_site

    dataset = " and ".join(sorted({manifest.dataset for manifest in manifests}))
    if options.metadata_only:
        return compare(dataset, [view_of(one, None) for one in manifests], {}, options.seed)
    config = read_config(options.config, options.settings)
    views = []
    for manifest in manifests:
        cache = options.cache / manifest.site if options.cache else manifest.root / DEFAULT_CACHE
        views.append(view_of(manifest, prepare_site(manifest, config, cache)))
    return compare(dataset, views, as_dict(config), options.seed, scales=_scales(config))


def _scales(config: PreparationConfig) -> dict[str, Scale]:
    """The scales of the domains in which all volumes have the same."""
    found = {domain: fixed_scale(config.scaling(domain)) for domain in DOMAINS}
    return {domain: scale for domain, scale in found.items() if scale is not None}


def _check_names(manifests: Sequence[SiteManifest]) -> None:
    first: dict[str, SiteManifest] = {}
    for manifest in manifests:
        other = first.setdefault(manifest.site, manifest)
        if other is not manifest:
            raise ConfigError(
                f"{manifest.root}: site '{manifest.site}' is also in {other.root}; look at one of "
                "them at a time"
            )
