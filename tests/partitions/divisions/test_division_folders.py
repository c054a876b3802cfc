"""A division on disk: manifests that name scans where they are, and what the command says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from partitions.__main__ import main
from partitions.manifest import SiteManifest, SubjectRecord, read_manifest, write_manifest
from partitions.preparation import PreparationConfig, prepare_site
from partitions.site_folders import find_site_folders

MakeSite = Callable[..., SiteManifest]
CONFIG = PreparationConfig(size=(40, 32), spacing=None)


def made(out: Path) -> dict[str, SiteManifest]:
    return {site.site: site for site in map(read_manifest, find_site_folders(out))}


def bare_site(
    folder: Path, name: str, subjects: dict[str, dict[str, Any]], dataset: str = "set"
) -> Path:
    """A site folder with a manifest and no scans."""
    records = tuple(
        SubjectRecord(
            subject, name, "train", {"t1": f"{subject}/t1.nii", "t2": f"{subject}/t2.nii"}, **extra
        )
        for subject, extra in subjects.items()
    )
    write_manifest(SiteManifest(dataset, name, records, folder / name))
    return folder / name


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """One pooled manifest of 20 patients, of whom one has two sessions."""
    subjects: dict[str, dict[str, Any]] = {
        f"P{n:02d}": {"metadata": {"age": 20 + 3 * n, "sex": "FM"[n % 2]}} for n in range(20)
    }
    subjects["P00b"] = {"metadata": {"age": 22, "sex": "F", "patient_id": "P00"}}
    return bare_site(tmp_path / "data", "pool", subjects)


def test_a_divided_site_is_prepared_from_the_scans_where_they_are(
    make_site: MakeSite, tmp_path: Path
) -> None:
    source = make_site(splits=("train",) * 6)
    out = tmp_path / "divided"
    command = ["divide", str(source.root), "--by", "age", "--setting", "bands=2", "--out", str(out)]
    assert main(command) == 0
    assert [path.name for path in out.rglob("*") if path.is_file()] == ["manifest.json"] * 2
    sites = made(out)
    assert sorted(sites) == ["age-40-42_5", "age-42_5-45"]
    young = sites["age-40-42_5"]
    assert {record.metadata["age"] for record in young.subjects} == {40, 41, 42}
    prepared = prepare_site(young, CONFIG, tmp_path / "cache", progress=False)
    assert sum(len(prepared.split(name).subjects) for name in ("train", "val", "test")) == 3


def test_a_manifest_says_how_its_site_was_formed(pool: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["divide", str(pool / "manifest.json"), "--by", "dirichlet", "--out", str(out)]
    settings = ["--setting", "keys=[sex]", "--setting", "sites=2", "--seed", "7"]
    assert main([*command, *settings]) == 0
    sites = made(out)
    source = read_manifest(pool)
    for site in sites.values():
        assert site.dataset == "set-dirichlet"
        said = site.division
        assert said is not None
        assert (said.rule, said.seed, said.least) == ("dirichlet", 7, 3)
        assert said.settings == {
            "keys": ["sex"],
            "sites": 2,
            "alpha": 0.5,
            "tries": 200,
            "missing": "own",
            "vectors": "per category",
        }
        assert said.numpy == np.__version__
        assert said.sources == {"pool": source.content_hash()}
        assert said.patients == sum(said.categories.values()) == round(said.share * 20)
        assert said.left_over == {}
    assert sum(site.division.patients for site in sites.values() if site.division) == 20


def test_an_undivided_manifest_has_no_trace_of_divisions(pool: Path) -> None:
    assert "division" not in json.loads((pool / "manifest.json").read_text())


def test_all_scans_of_a_patient_are_at_one_site_and_in_one_split(
    pool: Path, tmp_path: Path
) -> None:
    for seed in range(3):
        out = tmp_path / f"out{seed}"
        assert (
            main(["divide", str(pool), "--by", "iid", "--out", str(out), "--seed", str(seed)]) == 0
        )
        found = [
            (site.site, record.split)
            for site in made(out).values()
            for record in site.subjects
            if record.patient == "P00"
        ]
        assert len(found) == 2
        assert len(set(found)) == 1


def test_two_people_of_one_name_stay_two_and_sites_of_origin_are_kept(tmp_path: Path) -> None:
    data = tmp_path / "data"
    both = {"sub-01": {}, "sub-02": {"metadata": {"patient_id": "P"}}, "sub-03": {}}
    bare_site(data, "north", both, "one")
    bare_site(data, "east", both, "other")
    out = tmp_path / "out"
    command = ["divide", str(data), "--by", "iid", "--setting", "sites=1", "--out", str(out)]
    assert main([*command, "--dataset", "both"]) == 0
    (site,) = made(out).values()
    assert site.dataset == "both"
    assert len({record.patient for record in site.subjects}) == len(site.subjects) == 6
    found = {record.subject: record for record in site.subjects}
    assert found["north_sub-02"].patient == "north_P"
    assert found["east_sub-01"].metadata["origin_site"] == "east"
    assert (site.root / found["east_sub-01"].files["t1"]).resolve() == (
        data / "east/sub-01/t1.nii"
    ).resolve()
    again = tmp_path / "again"
    command = ["divide", str(out), "--by", "site", "--least", "1", "--out", str(again)]
    assert main(command) == 0
    assert {name: len(site.subjects) for name, site in made(again).items()} == {
        "north": 3,
        "east": 3,
    }


def test_splits_are_kept_where_asked_for(make_site: MakeSite, tmp_path: Path) -> None:
    source = make_site(splits=("train", "val", "test", "test", "train", "test"))
    out = tmp_path / "out"
    command = ["divide", str(source.root), "--by", "iid", "--setting", "sites=2", "--out", str(out)]
    assert main([*command, "--splits", "kept"]) == 0
    kept = {record.subject: record.split for site in made(out).values() for record in site.subjects}
    assert kept == {record.subject: record.split for record in source.subjects}
    assert {site.split_seed for site in made(out).values()} == {None}


@pytest.mark.parametrize("splits", ["all", "train"])
def test_a_site_of_one_domain_lacks_the_other_in_the_splits_asked_for(
    splits: str, pool: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ["divide", str(pool), "--by", "one_domain", "--setting", "holds=[t1,t1+t2]"]
    assert main([*command, "--setting", f"splits={splits}", "--out", str(out)]) == 0
    sites = made(out)
    for record in sites["site-1"].subjects:
        whole = splits == "train" and record.split != "train"
        assert set(record.files) == ({"t1", "t2"} if whole else {"t1"})
    assert all(set(record.files) == {"t1", "t2"} for record in sites["site-2"].subjects)
    assert sites["site-1"].division is not None
    assert sites["site-1"].division.holds == ["t1"]


def test_computed_scans_stay_computed(pool: Path, tmp_path: Path) -> None:
    write_manifest(replace(read_manifest(pool), computed=True))
    assert main(["divide", str(pool), "--by", "quantity", "--least", "1", "--out", "out"]) == 0
    assert {site.computed for site in made(Path("out")).values()} == {True}


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def test_every_fold_leaves_one_site_to_test_alone(pool: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["divide", str(pool), "--by", "iid", "--setting", "sites=3", "--out", str(out)]
    assert main([*command, "--folds", "--dataset", "mine"]) == 0
    folds = {path.stem: OmegaConf.load(path) for path in (out / "folds").glob("*.yaml")}
    assert sorted(folds) == ["without-site-1", "without-site-2", "without-site-3"]
    assert folds["without-site-2"] == {
        "federation": {"sites": ["site-1", "site-3"], "unseen": ["site-2"]},
        "experiment": {"data": {"dataset": "mine"}},
    }


def test_dividing_again_leaves_no_site_of_the_former_division(pool: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for sites in (4, 2):
        settings = ["--setting", f"sites={sites}", "--folds"]
        assert main(["divide", str(pool), "--by", "iid", *settings, "--out", str(out)]) == 0
    assert sorted(made(out)) == ["site-1", "site-2"]
    assert len(list((out / "folds").glob("*.yaml"))) == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--by", "sexx"], "did you mean 'sex'"),
        (["--by", "region"], "no patient's metadata have 'region'"),
        (["--by", "iid", "--setting", "sites"], "--setting sites: write KEY=VALUE"),
        (["--by", "sex", "--least", "15"], "'F' would have 10, 'M' would have 10"),
        (["--by", "sex", "--shift", "X:noise=0.5"], "there is no site 'X'; sites: F, M"),
        (["--by", "sex", "--shift", "F:noise=2"], "noise is 2.0; it must be from 0 to 1"),
        (["--by", "sex", "--shift", "F:nois=1"], "unknown key 'nois'; did you mean 'noise'"),
        (["--by", "sex", "--shift", "noise=1"], "write SITE:KIND=SEVERITY"),
        (["--by", "iid", "--setting", "sites=1", "--folds"], "a single site cannot be left out"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_writes_nothing(
    words: list[str],
    sentence: str,
    pool: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert main(["divide", str(pool), *words, "--out", str(out)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert sentence in said[0]
    assert not out.exists()


@pytest.mark.parametrize("out", ["data", "data/pool/out", "data/pool"])
def test_a_division_does_not_mix_with_its_sources(
    out: str, pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert main(["divide", str(pool), "--by", "sex", "--out", str(tmp_path / out)]) == 2
    assert "name a folder beside it" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_who_was_left_over_is_said(
    pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--setting", "edges=[20,40,60]"]
    command = ["divide", str(pool), "--by", "age", *settings, "--out", str(tmp_path / "out")]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "by age: 14 patients at 2 sites" in said
    assert "left over: 6 patients with an age outside 20 to 60" in said
