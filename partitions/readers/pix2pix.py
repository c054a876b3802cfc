"""Folders of pix2pix and of much research code: each picture holds source and target side by side.

``train/1.png``, ``val/...``, ``test/...``; the left half is A, the right half B. Isola et al.,
"Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017, arXiv:1611.07004.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from fedi2i.errors import ConfigError
from partitions.layouts.found_scans import Recognised, say
from partitions.layouts.picture_folders import (
    Picture,
    find_stacks,
    found_in,
    grey,
    halves,
    has_splits,
    import_stacks,
    read_picture,
)
from partitions.manifest import SiteManifest
from partitions.readers import Reader

DATASET = "pix2pix"
SEQUENCES = ("a", "b")


def import_pix2pix(
    source: Path,
    out: Path,
    dataset: str = DATASET,
    sequences: Sequence[str] = SEQUENCES,
    site: str | None = None,
) -> tuple[SiteManifest, ...]:
    """Convert the pictures to NIfTI volumes and write one manifest per site.

    Args:
        source: holds ``train``, ``val`` and ``test``, or a folder per site that holds them.
        out: the site folders are made here.
        dataset: the data set's name.
        sequences: what the left and the right half are called.
        site: the site of a folder that holds the splits itself; None for the folder's name.

    Raises:
        ConfigError: not two different sequences.
        DataError: no pictures, or one that cannot be used; no manifest is written then.
    """
    if len(set(sequences)) != 2 or len(sequences) != 2:
        raise ConfigError(f"--sequences {' '.join(sequences)}: name two, left and right")
    stacks = find_stacks(source, site)
    say(found_in(stacks, sequences).problems)
    return import_stacks(stacks, out, dataset, partial(_cut, names=sequences))


def recognise(folder: Path) -> Recognised | None:
    """What a folder in this layout holds: pictures that are twice as wide as high, in grey."""
    places = [folder] if has_splits(folder) else [p for p in folder.iterdir() if has_splits(p)]
    if not places:
        return None
    stacks = find_stacks(folder)
    picture = read_picture(stacks[0].pictures[0])
    if picture.shape[1] != 2 * picture.shape[0] or not _is_grey(picture):
        return None
    return Recognised(found_in(stacks, SEQUENCES), ("--source", str(folder)))


def _is_grey(picture: Picture) -> bool:
    return picture.ndim == 2 or bool((picture[..., :3] == picture[..., :1]).all())


def _cut(path: Path, names: Sequence[str]) -> dict[str, Picture]:
    return dict(zip(names, halves(grey(read_picture(path), path), path), strict=True))


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source", type=Path, required=True, help="holds train, val, test; or a folder per site"
    )
    parser.add_argument("--dataset", default=DATASET, help=f"by default {DATASET}")
    parser.add_argument(
        "--sequences",
        nargs=2,
        default=SEQUENCES,
        metavar=("LEFT", "RIGHT"),
        help="what the halves show; by default a b",
    )
    parser.add_argument("--site", help="of a folder that holds train itself; by default its name")


READER = Reader(
    help="pictures of pix2pix, source and target side by side",
    add_options=_add_options,
    bring_in=lambda options: import_pix2pix(
        options.source, options.out, options.dataset, options.sequences, options.site
    ),
    out=Path("data/pix2pix"),
    settings=("source=a", "target=b", "spacing=null", "size=[256,256]"),
    layout="grey pictures in train, val and test, twice as wide as high (pix2pix)",
    recognise=recognise,
    general=True,
)
