"""The report on how unlike sites are: on the console, as JSON, as a page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from fedi2i.typed_config import record_from
from partitions.__main__ import main
from partitions.commands.heterogeneity import _scales
from partitions.heterogeneity.comparison import compare
from partitions.heterogeneity.intensities import histogram_of
from partitions.heterogeneity.results import as_page, console_text
from partitions.heterogeneity.sites import SiteImages, SiteView, grey, shown_categories, view_of
from partitions.manifest import SiteManifest, SubjectRecord, write_manifest
from partitions.preparation import PreparationConfig
from partitions.preparation.corrections.shifts import SHIFT
from partitions.preparation.intensities import Scale

MakeSite = Callable[..., SiteManifest]
WINDOW = {"kind": "window", "low": -1024, "high": 3071, "unit": "HU"}
SETTINGS = ["--set", "spacing=null", "--set", "size=[40,30]"]


def many(site: str, ages: list[Any], sexes: str, folder: Path) -> SiteManifest:
    """A site of patients without scans."""
    records = tuple(
        SubjectRecord(
            f"{site}-{n:04d}",
            site,
            ("train", "val", "test")[n % 3],
            {"t1": f"{n}/t1.nii"},
            metadata={"sex": sexes[n % len(sexes)], "name": f"Secret {n}"}
            | ({} if age is None else {"age": age}),
        )
        for n, age in enumerate(ages)
    )
    return SiteManifest("set", site, records, folder / site)


def test_demographics_are_counted_and_tested_and_unknown_ages_stay_unknown(tmp_path: Path) -> None:
    young = many("north", [20, 22, 24, 26, 28, None], "F", tmp_path)
    old = many("south", [60, 62, 64, "90+", 68, 70], "FM", tmp_path)
    found = compare("set", [view_of(old, None), view_of(young, None)], {}, seed=0)
    north, south = found.views
    assert (north.ages.known, north.ages.quartiles) == (5, (22, 24, 26))
    assert south.ages.quartiles == pytest.approx((62.5, 66, 69.5))
    assert south.categories["sex"] == {"F": 3, "M": 3}
    assert found.tests["age"][0] == "Kruskal-Wallis"
    assert found.tests["age"][2] < 0.01
    # Pearson's with the correction for two by two tables, by hand.
    corrected = 12 * (abs(6 * 3 - 0 * 3) - 6) ** 2 / (6 * 6 * 9 * 3)
    assert found.tests["sex"][1] == pytest.approx(corrected)
    assert "name" not in north.categories


def test_numbers_stand_by_their_size_and_words_by_the_alphabet(tmp_path: Path) -> None:
    times = ("10000", "800", "unknown", "nan", "3.5", "none")
    site = many("north", [40] * len(times), "F", tmp_path)
    subjects = tuple(
        replace(subject, metadata={"t1_tr": time})
        for subject, time in zip(site.subjects, times, strict=True)
    )
    view = view_of(replace(site, subjects=subjects), None)
    assert shown_categories([view])["t1_tr"] == ["3.5", "800", "10000", "nan", "none", "unknown"]


def test_a_thousand_patients_metadata_are_read_from_their_manifests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for site in range(10):
        ages = [int(age) for age in rng.normal(40 + 3 * site, 10, 100).clip(18, 89)]
        write_manifest(many(f"s{site}", ages, "FFM", tmp_path))
    page, record = tmp_path / "page.html", tmp_path / "report.json"
    command = ["heterogeneity", str(tmp_path), "--metadata-only"]
    assert main([*command, "--out", str(page), "--json", str(record)]) == 0
    assert "s0: 100 patients, age" in capsys.readouterr().out
    content = json.loads(record.read_text())
    assert sum(site["patients"] for site in content["sites"]) == 1000
    assert content["tests"]["age"]["p"] < 1e-6
    assert content["distances"] == []
    assert "Secret" not in page.read_text() + record.read_text()


@pytest.mark.slow
def test_sites_with_another_contrast_are_apart_and_the_page_shows_it_by_itself(
    make_site: MakeSite, tmp_path: Path
) -> None:
    make_site(name="A")
    make_site(name="B", shift=1000)
    other = make_site(name="C", shift=2000)
    shift = {SHIFT: {"contrast": 1.0, "on": "source", "seed": 3}}
    shifted = [replace(one, metadata=one.metadata | shift) for one in other.subjects]
    write_manifest(replace(other, subjects=tuple(shifted)))
    page, record = tmp_path / "page.html", tmp_path / "report.json"
    command = ["heterogeneity", str(tmp_path / "data"), *SETTINGS, "--seed", "1"]
    assert main([*command, "--out", str(page), "--json", str(record)]) == 0
    found = {
        (one["domain"], one["one"], one["other"]): one
        for one in json.loads(record.read_text())["distances"]
    }
    assert len(found) == 6
    assert found["source", "A", "C"]["wasserstein"] > 10 * found["source", "A", "B"]["wasserstein"]
    assert found["target", "A", "C"]["wasserstein"] < 0.02
    assert found["source", "A", "C"]["p"] < 0.05 < found["source", "A", "B"]["p"]
    text = page.read_text(encoding="utf-8")
    assert text.count("<polyline") == 6
    assert text.count("<img ") == 12
    assert not re.search(r"(?:src|href)=\"(?!data:)|https?://|<script", text)
    written = record.read_text()
    assert main([*command, "--json", str(record)]) == 0
    assert record.read_text() == written


@pytest.mark.parametrize("bins_at_the_end", [0, 2])
def test_a_federated_result_makes_the_same_page_without_patients(
    bins_at_the_end: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def bins(*shares: float) -> list[list[float]]:
        shares += (0,) * bins_at_the_end
        return [[n, n + 1, share] for n, share in enumerate(shares)]

    result: dict[str, Any] = {
        "age": {
            "count": {"north": {"patients": 20}, "west": {"patients": 0}, "Global": {}},
            "mean": {"north": {"patients": 51.5}, "west": {}, "Global": {"patients": 99}},
        }
    }
    for domain in ("source", "target"):
        result[domain] = {
            "count": {site: {"patients": n} for site, n in (("north", 20), ("east", 40))},
            "histogram": {
                "north": {"patients": bins(20, 0)},
                "east": {"patients": bins(0, 40)},
            },
        }
    path, record = tmp_path / "statistics.json", tmp_path / "out.json"
    path.write_text(json.dumps(result))
    page = tmp_path / "page.html"
    command = ["heterogeneity", "--federated", str(path), "--out", str(page)]
    assert main([*command, "--json", str(record)]) == 0
    assert page.read_text(encoding="utf-8").count("<polyline") == 4
    content = json.loads(record.read_text())
    assert {site["site"]: site["patients"] for site in content["sites"]} == {
        "east": 40,
        "north": 20,
        "west": 0,
    }
    assert [one["wasserstein"] for one in content["distances"]] == [1 / (2 + bins_at_the_end)] * 2
    assert content["distances"][0]["mmd"] is None
    said = capsys.readouterr().out
    assert "north: 20 patients, age mean 51.5" in said
    assert "99" not in said + record.read_text()


def _ct_site(name: str, hu: np.ndarray) -> SiteView:
    """A site with one patient, whose CT has these values inside the mask."""
    levels = np.rint(Scale(-1024, 3071, "HU").to_intensity(hu) * 65535).astype(np.uint16)
    shares = histogram_of(levels, np.ones(levels.shape, np.uint8))
    images = {"target": SiteImages(1, shares), "source": SiteImages(1, shares)}
    return replace(view_of(many(name, [50], "F", Path()), None), images=images)


def test_the_distance_of_cts_is_that_of_their_hu() -> None:
    rng = np.random.default_rng(0)
    soft, denser = rng.normal(40, 150, 40_000), rng.normal(240, 250, 40_000)
    config = record_from(PreparationConfig, {"target": "ct", "target_scaling": WINDOW}, "test")
    views = [_ct_site("north", soft), _ct_site("south", denser)]
    found = compare("set", views, {}, seed=0, scales=_scales(config))
    source, target = found.distances
    # Independent of bins and scale; a bin has 64 HU, and the values lie evenly in it.
    assert target.in_unit == pytest.approx(wasserstein_distance(soft, denser), rel=0.02)
    assert target.unit == "HU"
    assert (source.in_unit, source.unit) == (None, "")
    said = console_text(found).splitlines()
    assert said[-1].endswith(f"of the intensity range ({target.in_unit:.3g} HU)")
    assert said[-2].endswith("of the intensity range")
    page = as_page(found)
    assert page.count(f"<small>{target.in_unit:.3g} HU</small>") == 2
    source_axis, target_axis = page.split('<svg viewBox="-24')[1:]
    assert re.findall(r">([-.\d]+)</text>", source_axis) == ["0", "0.25", "0.5", "0.75", "1"]
    numbers = re.findall(r'<text x="([.\d]+)".*?>([-\d]+)</text>', target_axis)
    assert [number for _, number in numbers] == ["-1000", "0", "1000", "2000", "3000"]
    # 560 units wide from -1024 to 3071 HU.
    places = [560 * (int(number) + 1024) / 4095 for _, number in numbers]
    assert [float(place) for place, _ in numbers] == pytest.approx(places, abs=0.5)


def test_pictures_of_a_ct_are_seen_through_a_window_and_others_as_they_are() -> None:
    window = Scale(-1024, 3071, "HU")
    levels = 16 * np.array([0, 24, 1024, 1524, 2024, 4095], np.uint16)  # -1024 ... 500 ... 3071 HU
    assert grey(levels, window).tolist() == [0, 0, 127, 191, 255, 255]
    assert grey(levels, Scale(0, 500)).tolist() == (levels // 256).tolist()


def test_a_distance_is_shaded_by_the_largest_of_the_page_and_a_tiny_one_stays_pale() -> None:
    soft = np.random.default_rng(0).normal(40, 150, 4000)
    one, near, far = (
        _ct_site(name, soft + add) for name, add in zip("abc", (0, 4, 1200), strict=True)
    )

    def shades(*views: SiteView) -> list[float]:
        page = as_page(compare("set", views, {}, seed=0))
        return [float(shade) for shade in re.findall(r"rgba\(213, 94, 0, ([.\d]+)\)", page)]

    assert 0 < max(shades(one, near)) < 0.05
    assert max(shades(one, near, far)) == 0.6


def test_a_federated_result_has_hu_where_the_job_s_preparation_is_given(tmp_path: Path) -> None:
    path, record = tmp_path / "statistics.json", tmp_path / "out.json"
    result = _result_with({})
    for domain in ("source", "target"):  # the second site's values lie one bin of eight higher
        result[domain]["histogram"]["north"]["patients"] = _bins(20, *[0.0] * 7)
        result[domain]["histogram"]["east"]["patients"] = _bins(0.0, 20, *[0.0] * 6)
    path.write_text(json.dumps(result))
    config = tmp_path / "preparation.yaml"
    config.write_text(json.dumps({"target": "ct", "target_scaling": WINDOW}))
    command = ["heterogeneity", "--federated", str(path), "--json", str(record)]
    assert main([*command, "--config", str(config)]) == 0
    found = {
        (one["domain"], one["one"], one["other"]): one["in_unit"]
        for one in json.loads(record.read_text())["distances"]
    }
    # An eighth of 4096 HU, of which a window from -1024 to 3071 has 4095 and a step.
    assert found["target", "east", "north"] == pytest.approx(512, abs=0.1)
    assert found["source", "east", "north"] is None


def _result_with(odd: dict[str, Any]) -> dict[str, Any]:
    """A result of three sites, of which the site 'west' has sent some of its numbers odd."""
    flat = [[n / 8, (n + 1) / 8, 2.5] for n in range(8)]
    found: dict[str, Any] = {}
    for feature in ("age", "source", "target"):
        sent = {"count": 20, "mean": 50.0, "histogram": flat}
        found[feature] = {
            name: {
                **{site: {"patients": value} for site in ("north", "east")},
                "west": {"patients": odd.get(name, value)},
            }
            for name, value in sent.items()
        }
    return found


def _bins(*shares: float) -> list[list[float]]:
    return [[n / len(shares), (n + 1) / len(shares), share] for n, share in enumerate(shares)]


@pytest.mark.parametrize(
    "odd",
    [
        {"histogram": _bins(*[1.25] * 16)},
        {"histogram": _bins(*[0.0] * 8)},
        {"histogram": _bins(36, *[-5.0] * 7)},
        {"histogram": _bins(float("nan"), *[1.0] * 7)},
        {"histogram": _bins(*[1e308] * 8)},
        {"count": float("inf")},
        {"count": -3},
        {"count": 1.5},
        {"count": "many"},
        {"mean": float("nan")},
        {"mean": 10**400},
        {"mean": [50.0]},
    ],
)
def test_one_site_s_odd_numbers_are_refused_by_the_site_s_name(
    odd: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, page = tmp_path / "statistics.json", tmp_path / "page.html"
    command = ["heterogeneity", "--federated", str(path), "--out", str(page)]
    path.write_text(json.dumps(_result_with({})))
    assert main(command) == 0
    page.unlink()
    path.write_text(json.dumps(_result_with(odd)))
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "site 'west'" in said and "without the site" in said
    assert not page.exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "name site folders, or --federated"),
        (["--federated", "nothing.json"], "is not the result of the job 'statistics'"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["heterogeneity", *words]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert sentence in said[0]
