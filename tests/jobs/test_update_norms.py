"""Clipping norms are chosen by the lengths of updates on data that may tell them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_cohort import SITES

from fedi2i.errors import ConfigError, DataError
from jobs.__main__ import main
from jobs.running.update_norms import UpdateNorm, _lengths, clipping_norms, update_norms
from jobs.writing.federation import FederatedExperiment, read_federated_experiment
from partitions.manifest import read_manifest, write_manifest

TINY = Path(__file__).parents[1] / "experiments" / "tiny.yaml"


def job() -> FederatedExperiment:
    return read_federated_experiment(
        TINY,
        {
            "experiment": {"training": {"steps": 2, "optimizer": "sgd"}},
            "federation": {"sites": ["east", "north"], "unseen": []},
        },
    )


def test_the_norm_of_a_role_is_the_median_of_all_rounds_but_the_first() -> None:
    lengths = {0: (9.0, 8.0), 1: (1.0, 2.0), 2: (3.0, 4.14)}
    norms = [
        UpdateNorm(number, site, network, norm * scale)
        for number, pair in lengths.items()
        for site, norm in zip(("a", "b"), pair, strict=True)
        for network, scale in (("generator", 1.0), ("discriminator", 10.0))
    ]
    assert clipping_norms(norms) == {"generator": 2.5, "discriminator": 25.0}


def test_a_norm_is_that_of_all_changes_of_a_network() -> None:
    before = {
        "generator.a": torch.zeros(2),
        "generator.b": torch.ones(1),
        "discriminator.a": torch.ones(1),
    }
    after = {
        **before,
        "generator.a": torch.tensor([3.0, 0.0]),
        "generator.b": torch.full((1,), 5.0),
    }
    found = {one.network: one.norm for one in _lengths(0, "north", before, after)}
    assert found == {"generator": 5.0, "discriminator": 0.0}


def test_every_site_s_update_is_measured_and_the_command_prints_the_lines_to_take(
    tiny_cohort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    norms = update_norms(job(), tiny_cohort, rounds=2)
    assert [(one.round_number, one.site, one.network) for one in norms] == [
        (number, site, network)
        for number in (0, 1)
        for site in ("east", "north")
        for network in ("generator", "discriminator")
    ]
    assert all(one.norm > 0 for one in norms)
    options = ["--experiment", str(TINY), "--data", str(tiny_cohort), "--rounds", "2"]
    assert main(["clipping", *options, "--set", "training.steps=1"]) == 0
    said = capsys.readouterr().out
    assert "privacy:\n  clipping_generator: " in said and "  clipping_discriminator: " in said


def test_lengths_of_real_patients_updates_are_not_printed_unless_they_are_public(
    tiny_cohort: Path, tmp_path: Path
) -> None:
    for site in SITES[:2]:
        shutil.copytree(tiny_cohort / site, tmp_path / site)
        manifest = read_manifest(tmp_path / site)
        write_manifest(replace(manifest, computed=False))
    with pytest.raises(DataError, match="not computed; lengths of patients' updates are data"):
        update_norms(job(), tmp_path, rounds=2)
    assert update_norms(job(), tmp_path, rounds=2, public=True)


def test_the_first_round_alone_is_too_few(tiny_cohort: Path) -> None:
    with pytest.raises(ConfigError, match="--rounds 1: write 2 or more"):
        update_norms(job(), tiny_cohort, rounds=1)
