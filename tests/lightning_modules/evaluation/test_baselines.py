"""The baselines without a network, against plain numpy; a mean target stays where it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lightning_modules.configuration import ExperimentConfig
from lightning_modules.evaluation.baselines import (
    Line,
    MeanTarget,
    baselines_of,
    fitted_line,
    training_median,
)
from lightning_modules.evaluation.results import evaluate
from lightning_modules.evaluation.validation import patients
from lightning_modules.training.hardware import Hardware
from partitions.manifest import read_manifest
from partitions.preparation import PreparedSite, PreparedSplit, PreparedSubject, prepare_site

ONE = 65535


def split_of(*stacks: np.ndarray, domains: Sequence[tuple[str, ...]] = ()) -> PreparedSplit:
    """A split of patients with these targets; pixels of value 0 lie outside the masks."""
    ends = np.cumsum([len(stack) for stack in stacks])
    kinds = domains or [("source", "target")] * len(stacks)
    subjects = tuple(
        PreparedSubject(f"p{n}", int(end - len(stack)), int(end), None, {}, kinds[n])
        for n, (stack, end) in enumerate(zip(stacks, ends, strict=True))
    )
    target = np.concatenate(stacks).astype(np.uint16)
    return PreparedSplit(target, target, (target > 0).astype(np.uint8), None, subjects)


def test_the_mean_of_patients_with_equal_stacks_is_the_mean_of_each_pixel() -> None:
    first, second = np.full((4, 2, 3), 10000), np.full((4, 2, 3), 30000)
    second[2] = 50000
    found = MeanTarget(split_of(first, second), 0.0).volume(4) * ONE
    expected = torch.full((4, 2, 3), 20000.0)
    expected[2] = 30000.0
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0.01)


def test_patients_of_other_heights_meet_at_the_same_relative_height() -> None:
    rising = np.arange(1, 7)[:, None, None] * np.full((6, 2, 2), 1000)
    found = MeanTarget(split_of(rising), 0.0).volume(3) * ONE
    # the middles of three slices lie at 1/6, 3/6, 5/6 of the height: slices 2, 4 and 6 of six
    torch.testing.assert_close(found[:, 0, 0], torch.tensor([2000.0, 4000.0, 6000.0]))
    taller = MeanTarget(split_of(rising), 0.0).volume(12) * ONE
    torch.testing.assert_close(taller[::2, 0, 0], torch.arange(1.0, 7.0) * 1000)
    torch.testing.assert_close(taller[1::2, 0, 0], torch.arange(1.0, 7.0) * 1000)


def test_only_pixels_inside_a_mask_count_and_elsewhere_stands_the_constant() -> None:
    first, second = np.full((1, 1, 3), 20000), np.full((1, 1, 3), 40000)
    first[0, 0, 1], first[0, 0, 2], second[0, 0, 2] = 0, 0, 0
    found = MeanTarget(split_of(first, second), 0.25).volume(1)[0, 0]
    torch.testing.assert_close(found, torch.tensor([30000 / ONE, 40000 / ONE, 0.25]))


@pytest.mark.parametrize("pixels", [1, 2, 7, 8, 501])
def test_the_constant_is_the_median_inside_the_masks(pixels: int) -> None:
    values = np.random.default_rng(pixels).integers(1, ONE, size=(1, 1, pixels))
    padded = np.concatenate([values, np.zeros_like(values)], axis=2)
    assert training_median(split_of(padded)) == pytest.approx(np.median(values) / ONE, rel=1e-12)


def test_patients_without_a_target_do_not_count() -> None:
    known, unknown = np.full((2, 2, 2), 10000), np.full((2, 2, 2), 60000)
    split = split_of(known, unknown, domains=[("source", "target"), ("source",)])
    assert training_median(split) == pytest.approx(10000 / ONE)
    assert float(MeanTarget(split, 0.0).volume(2).max()) == pytest.approx(10000 / ONE)


def test_the_line_is_that_of_least_squares_over_the_pixels_inside_the_masks() -> None:
    draws = np.random.default_rng(11)
    source = draws.integers(0, ONE, size=(6, 5, 4)).astype(np.uint16)
    target = np.clip(50000 - 0.6 * source + draws.normal(0, 3000, source.shape), 0, ONE)
    mask = draws.integers(0, 2, size=source.shape).astype(np.uint8)
    whole, half = ("source", "target"), ("target",)
    subjects = (
        PreparedSubject("a", 0, 2, None, {}, whole),
        PreparedSubject("without a source", 2, 3, None, {}, half),
        PreparedSubject("b", 3, 6, None, {}, whole),
    )
    split = PreparedSplit(source, target.astype(np.uint16), mask, None, subjects)
    counted = mask > 0
    counted[2] = False
    ours = fitted_line(split)
    assert ours is not None
    slope, intercept = np.polyfit(source[counted] / ONE, split.target[counted] / ONE, deg=1)
    assert (ours.slope, ours.intercept) == pytest.approx((slope, intercept), rel=1e-9)


def test_a_line_predicts_intensities_and_no_others() -> None:
    predicted = Line(-2.0, 1.5)(torch.tensor([0.0, 0.25, 0.5, 1.0]))
    torch.testing.assert_close(predicted, torch.tensor([1.0, 1.0, 0.5, 0.0]))


def test_a_source_of_one_value_gives_the_mean_target_and_no_pixels_give_no_line() -> None:
    flat = split_of(np.full((1, 2, 2), 20000))
    flat.target[0, 0] = 40000
    mapped = PreparedSplit(
        np.full_like(flat.source, 7), flat.target, flat.mask, None, flat.subjects
    )
    assert fitted_line(mapped) == Line(0.0, pytest.approx(30000 / ONE))
    outside = PreparedSplit(flat.source, flat.target, np.zeros_like(flat.mask), None, flat.subjects)
    assert fitted_line(outside) is None


def test_an_unseen_site_takes_the_mean_of_the_sites_lines(
    sites: dict[str, PreparedSite], island: PreparedSite
) -> None:
    """The tiny cohort's targets are its sources with the contrast inverted."""
    found = baselines_of([*sites.values(), island])
    lines = [found[name].line for name in sites]
    assert all(line is not None and line.slope < 0 for line in lines)
    mean = Line(
        np.mean([line.slope for line in lines if line]),
        np.mean([line.intercept for line in lines if line]),
    )
    assert found["island"].line == mean


@pytest.fixture
def island(
    tiny_cohort: Path, tmp_path: Path, make_experiment: Callable[..., ExperimentConfig]
) -> PreparedSite:
    """An unseen site: all its patients are test patients."""
    config = make_experiment().data.preparation
    manifest = read_manifest(tiny_cohort / "island")
    tested = tuple(replace(record, split="test") for record in manifest.subjects)
    unseen = replace(manifest, subjects=tested)
    return prepare_site(unseen, config, tmp_path / "cache", progress=False)


def test_a_site_without_training_patients_has_the_others_constant_and_no_mean_target(
    sites: dict[str, PreparedSite], island: PreparedSite
) -> None:
    found = baselines_of([*sites.values(), island])
    assert found["island"].mean_target is None
    constants = [found[name].constant for name in sites]
    assert found["island"].constant == pytest.approx(np.median(constants))
    assert baselines_of([island])["island"].constant is None


def test_the_patients_of_an_unseen_site_make_no_baseline_whatever_their_split(
    sites: dict[str, PreparedSite],
) -> None:
    """Else the mean target of a patient would be measured on the same patient."""
    assert sites["east"].split("train").subjects
    found = baselines_of(list(sites.values()), unseen=["east"])
    others = [baselines_of([sites[name]])[name].constant for name in sites if name != "east"]
    assert found["east"].mean_target is None
    assert found["east"].constant == pytest.approx(np.median(others))


def test_results_hold_rows_of_all_baselines_and_no_file_holds_a_mean_target(
    sites: dict[str, PreparedSite], island: PreparedSite, hardware: Hardware, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    evaluate({"copy": nn.Identity()}, [*sites.values(), island], hardware, out)
    psnr = pd.read_csv(out / "results.csv").query("metric == 'psnr'")
    arms = psnr.groupby("site")["arm"].unique()
    for name in sites:
        assert set(arms[name]) == {"source", "mapped-source", "constant", "mean-target", "copy"}
    assert set(arms["island"]) == {"source", "mapped-source", "constant", "copy"}
    kinds = {name.rpartition("/")[2] for name in np.load(out / "slices.npz").files}
    assert kinds == {"source", "target", "mask", "copy"}
    files = {"results.csv", "slices.npz", "baselines.csv"}
    assert {path.name for path in out.iterdir()} == files
    followed = (out / "baselines.csv").read_text(encoding="utf-8")
    assert not any(subject.subject in followed for subject in sites["east"].manifest.subjects)


def test_baselines_are_followed_on_validation_patients_of_the_sites_that_trained(
    sites: dict[str, PreparedSite], island: PreparedSite, hardware: Hardware, tmp_path: Path
) -> None:
    evaluate({}, [*sites.values(), island], hardware, tmp_path, unseen=["island"])
    rows = pd.read_csv(tmp_path / "baselines.csv")
    assert set(rows["arm"]) == {"source", "mapped-source", "constant", "mean-target"}
    assert set(rows["site"]) == {*sites, "all"}
    psnr = rows[(rows.arm == "constant") & (rows.metric == "val/psnr")].set_index("site")["value"]
    expected = {}
    for name, site in sites.items():
        training, validation = site.split("train"), site.split("val")
        constant = np.median(training.target[training.mask > 0] / 65535)
        (only,) = validation.subjects
        where = slice(only.start, only.stop)
        error = validation.target[where][validation.mask[where] > 0] / 65535 - constant
        expected[name] = -10 * np.log10(np.mean(error**2))
    assert psnr.drop("all").to_dict() == pytest.approx(expected, abs=1e-4)
    assert psnr["all"] == pytest.approx(np.mean(list(expected.values())), abs=1e-4)


def test_a_site_s_mean_target_depends_on_its_own_patients_alone(
    sites: dict[str, PreparedSite],
) -> None:
    north, east = sites.values()
    patient = next(patients(north.split("test")))
    alone = baselines_of([north])[north.site].predictions(patient)
    beside = baselines_of([east, north])[north.site].predictions(patient)
    assert all(torch.equal(alone[name], beside[name]) for name in alone)
