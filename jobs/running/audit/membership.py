"""Membership: models on random halves of the site's patients, their scores, what they tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import nn

from jobs.running.audit.people import halves, images_of, people, splits_of
from jobs.running.audit.pieces import Found
from jobs.running.audit.plan import AuditedMechanism, AuditPlan
from jobs.running.audit.training import hardware_of, updates
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.evaluation.validation import (
    Patient,
    patient_metrics,
    translate,
    translate_patient,
)
from lightning_modules.networks.building import build_networks
from lightning_modules.privacy.attacks.membership import (
    discriminator_score,
    predictability_error,
    reconstruction_errors,
    reference_scores,
)
from lightning_modules.privacy.attacks.statistics import (
    Trials,
    few_alarms,
    p_of_largest,
    separation,
)
from lightning_modules.seeding import derive_seed
from partitions.preparation import PreparedSite

FEWEST_WITH_LESION = 8
_WAY_BACK = "generator_ba"
"""CycleGAN's generator of sources: whoever has it can look how well a patient comes back."""
QUALITY = ("psnr", "ssim")
LABELS = {
    "reconstruction": "reconstruction error",
    "predictability": "reconstruction minus predictability error",
    "cycle": "error of the cycle back to the source",
    "discriminator": "discriminator's score (LOGAN)",
    "reference": "reconstruction error against reference models",
    "reference_discriminator": "discriminator's score against reference models",
    "lesion": "error inside the lesion against reference models",
}


@dataclass(frozen=True)
class ModelPiece:
    """Train one model on half of the patients and score all of them.

    Attributes:
        experiment: the run's settings.
        mechanism: its label and settings.
        site: the prepared data.
        number: of the model; 2k and 2k + 1 are partners.
        shared: the networks that the attacker has.
    """

    experiment: ExperimentConfig
    mechanism: AuditedMechanism
    site: PreparedSite
    number: int
    shared: tuple[str, ...]

    @property
    def name(self) -> str:
        """See ``Piece``."""
        return f"membership, {self.mechanism.label}, model {self.number + 1}"

    def compute(self) -> Found:
        """Scores by patient: errors, logits, image quality, and who was a member."""
        everybody, experiment = people(self.site), self.experiment
        pair, place = divmod(self.number, 2)
        members = halves(self.site.site, len(everybody), pair, experiment.seed)[place]
        chosen = [person for person, inside in zip(everybody, members, strict=True) if inside]
        splits = splits_of(self.site, chosen)
        arm = f"audit model {self.number}"
        *_, (_, state) = updates(experiment, self.mechanism.privacy, splits, arm)
        networks = build_networks(experiment.model, experiment.seed)
        networks.load_state_dict({**networks.state_dict(), **state})
        rows = [
            _mean_of_scans([self._scores(networks, scan) for scan in images_of(self.site, person)])
            for person in everybody
        ]
        names = dict.fromkeys(["mask", "lesion", *QUALITY, *(name for row in rows for name in row)])
        table = {name: [row.get(name, np.nan) for row in rows] for name in names}
        return {"members": members, **table}

    def _scores(self, networks: nn.ModuleDict, patient: Patient) -> dict[str, float]:
        """What the attacks, and the table of qualities, need of one scan."""
        hardware, described = hardware_of(self.experiment), self.experiment.model.described
        view = self.experiment.model.view
        translated = translate_patient(networks[described.translator], patient, hardware, view)
        quality = patient_metrics(translated, patient)
        found = reconstruction_errors(translated, patient)
        found |= {name: quality[name] for name in QUALITY}
        if _WAY_BACK in self.shared:
            back = translate(networks[_WAY_BACK], translated, hardware)
            found["cycle"] = float((back - patient.source).abs()[patient.mask].mean())
        # The last one judges the target's domain.
        judges = [name for name in self.shared if described.roles[name] == "discriminator"]
        if judges:
            judge = networks[judges[-1]]
            found["logit"] = discriminator_score(judge, patient, hardware, described.paired, view)
        return found


@dataclass(frozen=True)
class PredictabilityPiece:
    """How hard every patient is to predict without any model."""

    site: PreparedSite
    seed: int

    @property
    def name(self) -> str:
        """See ``Piece``."""
        return "membership, predictability of the images"

    def compute(self) -> Found:
        """The predictability error by patient."""
        rng = np.random.default_rng(derive_seed(self.seed, "audit predictability"))
        errors = [
            float(np.mean([predictability_error(p, rng) for p in images_of(self.site, person)]))
            for person in people(self.site)
        ]
        return {"errors": errors}


def membership_pieces(plan: AuditPlan) -> list[ModelPiece | PredictabilityPiece]:
    """All models of all mechanisms."""
    return [
        ModelPiece(plan.experiment, mechanism, plan.site, number, plan.shared)
        for mechanism in plan.mechanisms
        for number in range(plan.sizes.models)
    ] + [PredictabilityPiece(plan.site, plan.experiment.seed)]


def membership_of(
    plan: AuditPlan, mechanism: AuditedMechanism, results: Mapping[str, Found]
) -> dict[str, Any]:
    """What the scores of one mechanism's models tell; no value of a single patient is in it."""
    pieces = [piece for piece in membership_pieces(plan) if isinstance(piece, ModelPiece)]
    own = [results[piece.name] for piece in pieces if piece.mechanism == mechanism]
    predictability = results[PredictabilityPiece(plan.site, plan.experiment.seed).name]["errors"]
    attacks = _attacks(own, predictability)
    times = plan.sizes.permutations
    rng = np.random.default_rng(derive_seed(plan.experiment.seed, "audit chance", mechanism.label))
    rows = []
    for name, trials in attacks.items():
        found = separation(trials, times, rng)
        rows.append(
            {
                "attack": name,
                "label": LABELS[name],
                **asdict(found),
                "models": len(trials.members),
                "patients": int(trials.members.shape[1]),
                "member_trials": int(trials.members.sum()),
                "non_member_trials": trials.non_members,
                "few_alarms": asdict(few_alarms(trials, times, rng)),
            }
        )
    whole = [trials for name, trials in attacks.items() if name != "lesion"]
    best = max((row for row in rows if row["attack"] != "lesion"), key=lambda row: row["auc"])
    return {
        "attacks": rows,
        "largest": {
            "attack": best["attack"],
            "auc": best["auc"],
            "p": p_of_largest(whole, times, rng),
            "chosen_from": len(whole),
        },
        "quality": _held_out_quality(own),
    }


def _attacks(models: Sequence[Found], predictability: np.ndarray) -> dict[str, Trials]:
    members = np.stack([model["members"] for model in models]).astype(bool)
    error = np.stack([model["mask"] for model in models])
    scores = {
        "reconstruction": -error,
        "predictability": predictability - error,
        "reference": reference_scores(-error, members),
    }
    if "cycle" in models[0]:
        scores["cycle"] = -np.stack([model["cycle"] for model in models])
    if "logit" in models[0]:
        logit = np.stack([model["logit"] for model in models])
        scores["discriminator"] = logit
        scores["reference_discriminator"] = reference_scores(logit, members)
    attacks = {name: Trials(score, members) for name, score in scores.items()}
    lesion = np.stack([model["lesion"] for model in models])
    has_one = np.isfinite(lesion).all(axis=0)
    inside = members[:, has_one]
    if has_one.sum() >= FEWEST_WITH_LESION and (inside.any(axis=1) & ~inside.all(axis=1)).all():
        attacks["lesion"] = Trials(reference_scores(-lesion[:, has_one], inside), inside)
    return attacks


def _held_out_quality(models: Sequence[Found]) -> dict[str, float]:
    """Image quality on the patients that a model was not trained on; mean and spread of models."""
    found = {}
    for name in QUALITY:
        means = [float(model[name][~model["members"].astype(bool)].mean()) for model in models]
        found[name] = float(np.mean(means))
        found[f"{name}_spread"] = float(np.std(means, ddof=1))
    return found


def _mean_of_scans(scans: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = {name for scan in scans for name in scan}
    return {name: float(np.mean([s[name] for s in scans if name in s])) for name in names}
