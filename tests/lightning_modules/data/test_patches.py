"""Patches of volumes: where they lie, what is read for them, and what is refused."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedi2i.errors import ConfigError, DataError
from lightning_modules.configuration import experiment_from, experiment_values
from lightning_modules.data.augmentation import Augmenter
from lightning_modules.data.batches import BatchSource
from lightning_modules.data.patches import PatchPlaces
from lightning_modules.data.patients import PatientDraws
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.data.source_view import SourceView
from partitions.preparation import PreparedSplit, PreparedSubject
from partitions.preparation.grids.native_grid import SliceGeometry

PATCH = (4, 6, 8)
VIEW = SourceView(patch=PATCH)
SIZE = (20, 24)


def _numbered(*slices: int, kept: tuple[int, ...] = ()) -> PreparedSplit:
    """Volumes whose every voxel has a value of its own, and a mask of some of their voxels."""
    total = sum(slices)
    source = np.arange(total * SIZE[0] * SIZE[1], dtype=np.uint16).reshape(total, *SIZE)
    mask = np.zeros(source.shape, np.uint8)
    mask[:, 3:11, 15:23] = 1
    subjects, start = [], 0
    for number, count in enumerate(slices):
        geometry = None
        if kept:
            affine = tuple(tuple(float(v) for v in row) for row in np.eye(4))
            geometry = SliceGeometry((24, 20, 99), affine, affine, (0, 0), kept)
        stop = start + count
        both = ("source", "target")
        subjects.append(PreparedSubject(f"s{number}", start, stop, None, {}, both, geometry))
        start = stop
    return PreparedSplit(source, 65535 - source, mask, None, tuple(subjects))


def _stored(images: Tensor) -> np.ndarray:
    found: np.ndarray = np.rint((images.double().numpy() + 1) / 2 * 65535).astype(np.int64)
    return found


def test_a_patch_lies_in_its_volume_and_holds_a_voxel_of_the_mask_of_the_drawn_slice() -> None:
    split = _numbered(9, 4)
    places = PatchPlaces(split, VIEW)
    centres = set()
    for place in range(13):
        for seed in range(40):
            block = places.draw(place, np.random.default_rng(seed))
            assert tuple(part.stop - part.start for part in block) == PATCH
            low, high = (0, 9) if place < 9 else (9, 13)
            assert low <= block[0].start <= place < block[0].stop <= high
            assert block[1].start >= 0 and block[1].stop <= SIZE[0]
            assert block[2].start >= 0 and block[2].stop <= SIZE[1]
            assert split.mask[place][block[1:]].any()
            centres.add((block[1].start, block[2].start))
    # Rows 3 to 10 minus half a patch, from the border on; columns likewise up to the other border.
    assert {row for row, _ in centres} == set(range(8))
    assert {column for _, column in centres} == set(range(11, 17))


def test_source_and_target_of_a_batch_are_the_same_voxels_of_one_patient() -> None:
    slices = TrainingSlices([_numbered(9, 4), _numbered(5)]).seen_as(VIEW)
    indices = np.array([0, 12, 15])
    batch = slices.batch(indices, [np.random.default_rng(k) for k in range(3)])
    assert batch["source"].shape == batch["target"].shape == (3, 1, *PATCH)
    assert bool((_stored(batch["source"]) + _stored(batch["target"]) == 65535).all())
    for found, (first, last) in zip(
        _stored(batch["source"])[:, 0], [(0, 9), (9, 13), (0, 5)], strict=True
    ):
        # Neighbours along columns, rows and slices differ by 1, a row's and a slice's voxels.
        assert {int(step) for step in np.diff(found, axis=2).ravel()} == {1}
        assert {int(step) for step in np.diff(found, axis=1).ravel()} == {SIZE[1]}
        assert {int(step) for step in np.diff(found, axis=0).ravel()} == {SIZE[0] * SIZE[1]}
        assert first <= found.min() // (SIZE[0] * SIZE[1]) <= last - PATCH[0]


def test_patches_of_a_step_follow_from_names_and_numbers_alone() -> None:
    def drawn(first: int, steps: int, seed: int = 1, arm: str = "north") -> list[bytes]:
        slices = TrainingSlices([_numbered(9, 4)]).seen_as(VIEW)
        source = BatchSource("pix2pix", slices, seed, arm, 2)
        found = source.batches(first, steps)
        return [batch["source"].numpy().tobytes() for batch in found]

    whole = drawn(0, 12)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    assert whole[7:] == drawn(7, 5)
    torch.set_num_threads(threads)
    assert len(set(whole)) == 12
    assert whole != drawn(0, 12, seed=2) and whole != drawn(0, 12, arm="east")


def test_every_slice_is_drawn_once_before_any_is_drawn_again() -> None:
    split = _numbered(9, 4)
    slices = TrainingSlices([split]).seen_as(SourceView(patch=(1, 6, 8)))
    source = BatchSource("pix2pix", slices, 3, "north", 1)
    seen = [int(_stored(batch["source"]).min()) // (20 * 24) for batch in source.batches(0, 13)]
    assert sorted(seen) == list(range(13))
    assert source.samples == 13


def test_a_patch_does_not_reach_over_slices_that_preparation_left_out() -> None:
    split = _numbered(9, kept=(3, 4, 5, 6, 7, 9, 10, 11, 14))
    slices = TrainingSlices([split]).seen_as(SourceView(patch=(3, 6, 8)))
    assert len(slices) == 8  # the last slice stands alone, and no patch can lie around it
    places = PatchPlaces(split, SourceView(patch=(3, 6, 8)))
    starts = {places.draw(n, np.random.default_rng(k))[0].start for n in range(5) for k in range(9)}
    assert starts == {0, 1, 2}
    assert {places.draw(n, np.random.default_rng(0))[0].start for n in (5, 6, 7)} == {5}


def test_a_volume_smaller_than_the_patch_is_refused_by_name() -> None:
    slices = TrainingSlices([_numbered(9, 3)])
    sentence = r"subject 's1': its volume has 3 slices without a gap, and model.patch \[4, 6, 8\]"
    with pytest.raises(DataError, match=sentence):
        slices.seen_as(VIEW)
    gap = _numbered(6, kept=(1, 2, 3, 5, 6, 7))
    with pytest.raises(DataError, match="its volume has 3 slices without a gap"):
        TrainingSlices([gap]).seen_as(VIEW)


def test_no_more_than_the_patches_is_read_of_a_mapped_volume(tmp_path: Path) -> None:
    shape = (64, 512, 512)  # 32 MiB as it is stored
    mapped = {}
    for name, kind in (("source", np.uint16), ("target", np.uint16), ("mask", np.uint8)):
        array = np.lib.format.open_memmap(tmp_path / name, "w+", kind, shape)
        array[:, 200:300, 200:300] = 1
        array.flush()
        mapped[name] = np.load(tmp_path / name, mmap_mode="r")
    subject = PreparedSubject("s", 0, 64, None, {})
    split = PreparedSplit(**mapped, lesion=None, subjects=(subject,))
    slices = TrainingSlices([split]).seen_as(SourceView(patch=(16, 32, 32)))
    tracemalloc.start()
    for step in range(20):
        slices.batch(np.array([step, step + 20]), [np.random.default_rng(k) for k in (0, 1)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Two patches as float32 in two domains, their stored forms, and one slice's mask: 1.5 MiB.
    assert peak < 2 * 2**20


def test_a_patient_who_is_drawn_gives_patches_of_its_own_volume_alone() -> None:
    slices = TrainingSlices([_numbered(9, 4)]).seen_as(VIEW)
    draws = PatientDraws(slices, 1.0, 3, ["generator"], 1, np.random.default_rng(0).random)
    ((first, second),) = [draw["generator"] for draw in draws]
    assert first["source"].shape == second["source"].shape == (3, 1, *PATCH)
    border = 9 * SIZE[0] * SIZE[1]
    assert _stored(first["source"]).max() < border <= _stored(second["source"]).min()


def test_a_patch_is_mirrored_and_recoloured_as_a_whole() -> None:
    chosen = {"flip": 1.0, "contrast": 0.5}
    settings = experiment_from({"training": {"augmentation": chosen}}, "x").training.augmentation
    augmenter = Augmenter(settings, {"source": 0.0, "target": 0.0})
    patch = torch.rand(2, 1, *PATCH, generator=torch.Generator().manual_seed(0)) * 2 - 1
    pair = {"source": patch, "target": patch}
    changed = augmenter(pair, [np.random.default_rng(k) for k in range(2)])
    assert torch.equal(changed["target"], patch.flip(-1))
    mirrored = (patch.flip(-1) + 1) / 2
    exponents = torch.log((changed["source"] + 1) / 2) / torch.log(mirrored)
    for one in exponents:  # one contrast for all slices of a patch
        assert float(one.std()) < 1e-3
    assert abs(float(exponents[0].mean() - exponents[1].mean())) > 1e-2


SMALL: dict[str, Any] = {
    "generator": {"channels": [4, 8]},
    "discriminator": {"channels": 4, "layers": 1},
}


@pytest.mark.parametrize(
    ("model", "training", "sentence"),
    [
        ({"patch": [8, 8]}, {}, r"model.patch is \[8, 8\]; give slices, rows and columns"),
        ({"patch": [0, 8, 8]}, {}, r"of at least 1 and at most 1,024 slices"),
        ({"patch": [2000, 8, 8]}, {}, r"of at least 1 and at most 1,024 slices"),
        (
            {"patch": [8, 98, 8]},
            {},
            r"x: model.patch \[8, 98, 8\] is larger than the prepared slices, whose "
            r"data.preparation.size is \[96, 80\]; take fewer rows or columns",
        ),
        ({"patch": [8, 8, 8], "neighbours": 1}, {}, "leave one of both out"),
        ({"patch": [7, 8, 8]}, {}, r"model.patch \[7, 8, 8\] must be divisible by 2 for a gen"),
        ({"patch": [4, 8, 8]}, {}, r"model.patch \[4, 8, 8\] is too small for a discriminator"),
        (
            {"patch": [8, 8, 8], "generator": {"kind": "srresnet", "residual_units": 1}},
            {},
            "model.patch trains networks of volumes, and a 'srresnet' is one of slices; take "
            "'unet' or a network of your own",
        ),
        (
            {"patch": [8, 8, 8]},
            {"augmentation": {"rotation": 5.0}},
            "beyond the border of a patch there is nothing to show",
        ),
    ],
)
def test_what_cannot_be_cut_or_trained_is_refused_before_the_first_round(
    model: dict[str, Any], training: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        experiment_from({"model": {**SMALL, **model}, "training": training}, "x")


def test_an_experiment_without_a_patch_is_written_as_before() -> None:
    assert "patch" not in experiment_values(experiment_from({}, "x"))["model"]
    chosen = experiment_from({"model": {**SMALL, "patch": [8, 16, 16]}}, "x")
    values = experiment_values(chosen)
    assert values["model"]["patch"] == [8, 16, 16]
    assert experiment_from(values, "x") == chosen
    assert replace(chosen.model, patch=()).view == SourceView()
