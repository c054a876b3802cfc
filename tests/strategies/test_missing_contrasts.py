"""Sites of which one lacks a contrast train one generator of several, and patients lack others."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from in_process_federation import InProcessFederation
from three_contrasts import write_three_contrasts

from fedi2i.cli.program import main
from fedi2i.errors import ConfigError, DataError
from fedi2i.typed_config import merged
from jobs.running.comparison_checks import check_patients
from jobs.writing.federation import FederatedExperiment, FederationConfig
from lightning_modules.configuration import ExperimentConfig, experiment_from
from lightning_modules.evaluation.by_contrasts import CONTRASTS_FILE
from lightning_modules.evaluation.results import RESULTS_FILE, evaluate
from lightning_modules.evaluation.validation import (
    load_translator,
    patient_metrics,
    patients,
    translate_patient,
)
from lightning_modules.networks.building import build_translator
from lightning_modules.privacy.patient_settings import check_experiment
from lightning_modules.training.hardware import Hardware
from partitions.manifest import SiteManifest, read_manifest, write_manifest
from partitions.preparation import PreparedSite, prepare_site

HARDWARE = Hardware("cpu", "32-true", 1)
VALUES: dict[str, Any] = {
    "sharing": "generator",
    "data": {
        "preparation": {
            "source": "t1",
            "further_sources": ["flair"],
            "target": "t2",
            "size": [48, 40],
            "spacing": 1.5,
        },
    },
    "model": {
        "name": "regression",
        "generator": {"channels": [8, 16, 16], "upsampling": "nearest"},
    },
    "training": {
        "rounds": 5,
        "steps": 20,
        "batch_size": 4,
        "learning_rate_generator": 0.006,
        "beta1": 0.9,
        "optimizer_state": "keep",
    },
}
TEST_HAS = {"north": ("t1", "t2"), "east": ("t1", "flair", "t2"), "island": ("flair", "t2")}
"""What a site's patients have; east trains with all that they have, and island does not train."""


def keep(site: Path, names: tuple[str, ...]) -> SiteManifest:
    """Take all other sequences away from a site's subjects."""
    manifest = read_manifest(site)
    subjects = [
        replace(record, files={name: record.files[name] for name in names})
        for record in manifest.subjects
    ]
    write_manifest(replace(manifest, subjects=tuple(subjects)))
    return read_manifest(site)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = write_three_contrasts(tmp_path_factory.mktemp("missing"), (*TEST_HAS,))
    for site, names in TEST_HAS.items():
        keep(folder / site, names)
    return folder


def experiment(**changes: Any) -> ExperimentConfig:
    return experiment_from(merged(VALUES, changes), "test")


def prepared(cohort: Path, site: str) -> PreparedSite:
    config, folder = experiment().data.preparation, cohort / site
    return prepare_site(read_manifest(folder), config, folder / "prepared", progress=False)


def trained(
    cohort: Path, described: ExperimentConfig, folder: Path, sites: Sequence[str]
) -> torch.nn.Module:
    federation = InProcessFederation(
        described, {site: prepared(cohort, site) for site in sites}, folder
    )
    federation.run(described.training.rounds)
    generator = build_translator(described.model)
    load_translator(generator, federation.tensors())
    return generator


def psnrs(cohort: Path, generator: torch.nn.Module) -> Mapping[str, float]:
    """PSNR of each site's test patient."""
    view, found = experiment().model.view, {}
    for site in TEST_HAS:
        (patient,) = patients(prepared(cohort, site).split("test"))
        translated = translate_patient(generator, patient, HARDWARE, view)
        found[site] = patient_metrics(translated, patient)["psnr"]
    return found


def with_and_without(
    cohort: Path, folder: Path, sites: Sequence[str], rounds: int
) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """PSNR of each site's test patient after training with dropout, and without."""
    training = {"rounds": rounds}
    with_it, without = (
        psnrs(
            cohort,
            trained(
                cohort,
                experiment(model={"contrast_dropout": rate}, training=training),
                folder / str(rate),
                sites,
            ),
        )
        for rate in (0.6, 0.0)
    )
    return with_it, without


@pytest.mark.nightly
def test_with_contrast_dropout_a_set_that_no_site_trains_on_is_translated(
    cohort: Path, tmp_path: Path
) -> None:
    """Nobody trains on FLAIR alone.

    Faster: ``test_a_contrast_never_missing_in_training_is_missed_unless_it_was_taken_away``.
    """
    with_it, without = with_and_without(cohort, tmp_path, ("north", "east"), 5)
    assert with_it["island"] > 17 > 15.5 > without["island"]
    assert with_it["north"] > without["north"] - 2 and with_it["east"] > without["east"] - 2


def test_a_contrast_never_missing_in_training_is_missed_unless_it_was_taken_away(
    cohort: Path, tmp_path: Path
) -> None:
    with_it, without = with_and_without(cohort, tmp_path, ("east",), 3)
    assert with_it["island"] > without["island"] + 2


def test_results_are_told_apart_by_the_contrasts_that_patients_have(
    cohort: Path, tmp_path: Path
) -> None:
    sites = [prepared(cohort, site) for site in TEST_HAS]
    described = experiment()
    generators = {"first": build_translator(described.model)}
    (tmp_path / CONTRASTS_FILE).write_text("of an earlier evaluation")
    evaluate(generators, sites, HARDWARE, tmp_path, unseen=["island"], view=described.model.view)
    rows = list(csv.DictReader((tmp_path / CONTRASTS_FILE).open()))
    counts = {row["contrasts"]: int(row["patients"]) for row in rows}
    assert counts == {"t1": 1, "t1+flair": 1, "flair": 5}  # all of an unseen site's are measured
    results = list(csv.DictReader((tmp_path / RESULTS_FILE).open()))
    for arm in ("first", "source", "constant"):
        expected = fmean(
            float(row["value"])
            for row in results
            if (row["arm"], row["site"], row["metric"]) == (arm, "island", "psnr")
        )
        (found,) = (
            float(row["value"])
            for row in rows
            if (row["arm"], row["contrasts"], row["metric"]) == (arm, "flair", "psnr")
        )
        assert found == pytest.approx(expected)


def test_the_untrained_source_arm_is_the_first_contrast_that_a_patient_has(cohort: Path) -> None:
    (patient,) = patients(prepared(cohort, "island").split("test"))
    assert patient.held == ("flair",)
    missing, flair = patient.shown.chunk(2)
    assert torch.equal(patient.source, flair) and not missing.any()


def test_a_contrast_that_nobody_has_is_one_sentence_before_the_first_round(cohort: Path) -> None:
    preparation = {"further_sources": ["flair", "pd"]}
    job = FederatedExperiment(
        experiment=experiment(data={"preparation": preparation}),
        federation=FederationConfig(sites=["north", "east"], unseen=["island"]),
    )
    manifests = [read_manifest(cohort / site) for site in TEST_HAS]
    with pytest.raises(DataError, match=r"'pd' as a contrast of the source, and no training pat"):
        check_patients(job, manifests)
    known = replace(job, experiment=experiment())
    check_patients(known, manifests)
    # What only an unseen site has, nobody trains on.
    alone = replace(known, federation=FederationConfig(sites=["north"], unseen=["island"]))
    with pytest.raises(DataError, match="'flair' as a contrast of the source"):
        check_patients(alone, manifests)


def test_training_without_a_federation_refuses_it_likewise(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text("data: {preparation: {further_sources: [pd]}}")
    both = ["--data", str(cohort / "north"), "--data", str(cohort / "east")]
    assert main(["train", "--experiment", str(file), *both, "--out", str(tmp_path)]) == 2
    assert "data.preparation names 'pd' as a contrast" in capsys.readouterr().err


def test_one_site_alone_trains_without_the_contrast_that_it_lacks_and_says_so(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "experiment.yaml"
    few = {**VALUES["training"], "rounds": 1, "steps": 2}
    file.write_text(json.dumps(merged(VALUES, {"training": few})))
    out = tmp_path / "local-north"
    words = ["--experiment", str(file), "--data", str(cohort / "north"), "--out", str(out)]
    assert main(["train", *words]) == 0
    said = capsys.readouterr().err
    assert "no training patient of site 'north' has the contrast 'flair'" in said
    assert "'t1'" not in said
    assert (out / "model.pt").is_file()


def test_patient_level_privacy_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"test: the source has several contrasts .* draws batch"):
        check_experiment(experiment(), "test")
