"""Sites with different pairs pooled: each is measured on its own, and the file is of one pair."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from three_contrasts import CONTRASTS, PAIR, TRAINED, UNSEEN, write_three_contrasts

from lightning_modules.configuration import experiment_from
from lightning_modules.evaluation.results import evaluate, read_generator
from lightning_modules.evaluation.validation import patient_metrics, patients, translate_patient
from lightning_modules.networks.modulation import for_pair
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.training_run import Arm, train_arm
from lightning_modules.translation.model_file import build_network, read_model
from partitions.manifest import read_manifest
from partitions.preparation import prepare_site

HARDWARE = Hardware("cpu", "32-true", 1)


def test_two_sites_with_different_pairs_train_one_model_whose_file_translates_a_third(
    tmp_path: Path,
) -> None:
    cohort = write_three_contrasts(tmp_path / "data")
    experiment = experiment_from(
        {
            "sharing": "generator",
            "data": {
                "preparation": {
                    "source": PAIR[0],
                    "target": PAIR[1],
                    "size": [48, 40],
                    "spacing": 1.5,
                },
                "pairs": [
                    {"site": site, "source": one, "target": two}
                    for site, (one, two) in TRAINED.items()
                ],
            },
            "model": {
                "name": "conditional",
                "contrasts": list(CONTRASTS),
                "generator": {"channels": [4, 6, 8]},
            },
            "training": {"rounds": 1, "steps": 6, "batch_size": 2},
        },
        "test",
    )
    prepared = {
        site: prepare_site(
            read_manifest(cohort / site),
            experiment.data.preparation_at(site),
            cohort / site / "prepared",
            progress=False,
        )
        for site in (*TRAINED, UNSEEN)
    }
    arm = Arm("pooled", [prepared[site] for site in TRAINED], steps=6)
    path = train_arm(experiment, arm, HARDWARE, tmp_path / "out")

    generator = read_generator(experiment.model, path)
    file = read_model(path.with_suffix(".safetensors"))
    assert file.card.task == "t2 to flair"
    assert file.card.network.generator.norm == "instance_affine"
    assert file.card.intensities is None  # no site that trains has read a T2
    alone = build_network(file.card, file.weights)
    image = torch.rand(2, 1, 48, 40) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(alone(image), for_pair(generator.eval(), *PAIR)(image))

    results = evaluate(
        {"pooled": generator},
        list(prepared.values()),
        HARDWARE,
        tmp_path / "results",
        unseen=[UNSEEN],
    )
    with results.open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["metric"] == "psnr"]
    measured = {(row["arm"], row["site"]): float(row["value"]) for row in rows}
    for site, pair in (*TRAINED.items(), (UNSEEN, PAIR)):
        *_, patient = patients(prepared[site].split("test"))
        prediction = translate_patient(for_pair(generator, *pair), patient, HARDWARE)
        assert measured["pooled", site] == patient_metrics(prediction, patient)["psnr"]
    # A constant of the sites that have its target; a line of none, as no site has its pair.
    assert ("constant", UNSEEN) in measured
    assert ("mapped-source", UNSEEN) not in measured
    assert ("mapped-source", "north") in measured
