"""The audit of CycleGAN and of patient-level privacy: they are attacked, and chance is chance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedi2i.cli.program import main
from fedi2i.errors import ConfigError
from fedi2i.typed_config import merged, read_yaml
from jobs.running.audit.findings import JSON_FILE
from jobs.running.audit.inversion import SLICE, InversionPiece, inversion_pieces
from jobs.running.audit.membership import (
    ModelPiece,
    PredictabilityPiece,
    _attacks,
    membership_pieces,
)
from jobs.running.audit.people import halves
from jobs.running.audit.pieces import Found
from jobs.running.audit.plan import AuditPlan, Sizes, make_plan, mechanism_from
from jobs.running.audit.run import prepared_sites, run_audit
from lightning_modules.configuration import experiment_from

TINY = Path(__file__).parents[1] / "experiments" / "tiny.yaml"
SIZES = Sizes(4, 1, 1, 1, 1, 20, 2)
PATIENT = "patient_noise:noise_multiplier=2,sampling_rate=0.5"
CYCLEGAN = {"model": {"name": "cyclegan", "image_buffer": 2}}
DRAWS = 200


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def plan_of(data: Path, mechanisms: Sequence[str], **changes: Any) -> AuditPlan:
    values = merged(read_yaml(TINY)["experiment"], {"training": {"rounds": 1, "steps": 2}})
    experiment = experiment_from(merged(values, changes), "test")
    (site,) = prepared_sites(data / "north", experiment)
    chosen = [mechanism_from(text) for text in mechanisms]
    plan = make_plan((experiment, chosen), [site], None, False, "Tiny audit")
    return replace(plan, sizes=SIZES)


def auc_of(scores: np.ndarray, members: np.ndarray) -> float:
    """Mean over the models of the chance that a member scores above another patient."""
    found = []
    for score, inside in zip(scores, members, strict=True):
        above = score[inside][:, None] - score[~inside][None, :]
        found.append(float(np.mean((above > 0) + 0.5 * (above == 0))))
    return float(np.mean(found))


@pytest.mark.parametrize(
    ("mechanisms", "changes", "attacks"),
    [
        ([PATIENT], {}, {"reconstruction", "predictability", "reference", "discriminator"}),
        ([], CYCLEGAN, {"reconstruction", "predictability", "reference", "discriminator", "cycle"}),
    ],
)
def test_on_shuffled_membership_every_attack_falls_to_chance(
    tiny_cohort: Path, mechanisms: list[str], changes: dict[str, Any], attacks: set[str]
) -> None:
    plan = plan_of(tiny_cohort, mechanisms, **changes)
    audited = plan.mechanisms[-1]
    pieces = [p for p in membership_pieces(plan) if isinstance(p, ModelPiece)]
    models = [piece.compute() for piece in pieces if piece.mechanism == audited]
    errors = PredictabilityPiece(plan.site, 1).compute()["errors"]
    predictability = np.asarray(errors)
    found: dict[str, list[float]] = {}
    for draw in range(DRAWS):
        for name, trials in _attacks(shuffled(models, draw), predictability).items():
            found.setdefault(name, []).append(auc_of(trials.scores, trials.members))
    assert attacks <= set(found)
    # One draw varies by 0.2, so the mean of all by 0.015.
    assert {name: np.mean(aucs) for name, aucs in found.items()} == {
        name: pytest.approx(0.5, abs=0.06) for name in found
    }
    leaking = [
        {**model, "mask": np.where(np.asarray(model["members"]), 0.1, 0.2)} for model in models
    ]
    planted = _attacks([as_arrays(model) for model in leaking], predictability)["reconstruction"]
    assert auc_of(planted.scores, planted.members) == 1.0  # what leaks is found


def as_arrays(model: Found) -> Found:
    return {name: np.asarray(value) for name, value in model.items()}


def shuffled(models: Sequence[Found], draw: int) -> list[Found]:
    """The models' scores beside memberships that have nothing to do with their training."""
    number = len(models[0]["members"])
    return [
        {**as_arrays(model), "members": halves("chance", number, place // 2, draw)[place % 2]}
        for place, model in enumerate(models)
    ]


def test_an_attacker_of_noised_gradients_knows_how_long_the_noise_is(tiny_cohort: Path) -> None:
    plan = plan_of(tiny_cohort, [PATIENT])
    mechanism = plan.mechanisms[-1]
    piece = InversionPiece(plan.experiment, mechanism, plan.site, None, 0, SLICE, True, 1)
    update = piece._update()
    settings = mechanism.privacy.settings
    values = sum(v.numel() for k, v in update.received.items() if k.startswith("generator."))
    # One step of plain gradient descent with a rate of 1: the noise of a mean over one patient.
    spread = settings.noise_multiplier * settings.clipping_generator / settings.expected_patients
    # The length of so many draws has a standard deviation of 1 / sqrt(2 n) of itself.
    apart = 6 / np.sqrt(2 * values)
    assert apart < 0.2
    assert update.noise_norm == pytest.approx(spread * np.sqrt(values), rel=apart)


def test_an_audit_of_unpaired_slices_says_that_no_image_was_sought(
    tiny_cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of(tiny_cohort, [], **CYCLEGAN)
    assert inversion_pieces(plan) == []
    run_audit(plan, tmp_path, at_once=1)
    findings = json.loads((tmp_path / JSON_FILE).read_text(encoding="utf-8"))
    (none,) = findings["mechanisms"]
    assert (none["inversion"], findings["strong_enough"]) == (None, None)
    assert [row["attack"] for row in none["membership"]["attacks"]] == [
        *("reconstruction", "predictability", "reference"),
        *("cycle", "discriminator", "reference_discriminator"),
    ]
    assert main(["report", str(tmp_path)]) == 0
    assert "linear attack" not in capsys.readouterr().out
    page = (tmp_path / "audit.html").read_text(encoding="utf-8")
    reason = "its slices are unpaired, and these attacks need pairs"
    assert f"No image was sought in the updates of the audited model: {reason}. Read that" in page
    assert f"Not tried on the audited model: {reason}." in page


@pytest.mark.parametrize(
    ("model", "reason"),
    [({"neighbours": 1}, "neighbouring slices"), ({"lambda_features": 10}, "features, a loss")],
)
def test_a_model_that_the_attacks_on_gradients_do_not_know_is_not_called_unpaired(
    tiny_cohort: Path, model: dict[str, int], reason: str
) -> None:
    """With the wrong loss an attack fails, and the failure would look like safety."""
    assert plan_of(tiny_cohort, []).not_inverted == ""
    plan = plan_of(tiny_cohort, [], model=model)
    assert inversion_pieces(plan) == []
    assert reason in plan.not_inverted
    assert "unpaired" not in plan.not_inverted


def test_a_model_of_volumes_is_refused_as_no_attack_knows_it(tiny_cohort: Path) -> None:
    networks = {"generator": {"channels": [4, 8]}, "discriminator": {"channels": 4, "layers": 1}}
    with pytest.raises(ConfigError, match="the attacks of this audit know models of slices alone"):
        plan_of(tiny_cohort, [], model={"patch": [6, 16, 16], **networks})


def test_patient_level_privacy_of_a_model_that_does_not_admit_it_is_refused(
    tiny_cohort: Path,
) -> None:
    with pytest.raises(ConfigError, match="'cyclegan' does not admit patient-level"):
        plan_of(tiny_cohort, [PATIENT], **CYCLEGAN)
