"""Inversion: images from updates, from one step on one slice to a whole round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest
from torch import Tensor

from jobs.running.audit.people import (
    Person,
    halves,
    images_of,
    middle_of,
    people,
    splits_of,
)
from jobs.running.audit.pieces import Found
from jobs.running.audit.plan import AuditedMechanism, AuditPlan
from jobs.running.audit.seen_update import SeenUpdate, slices_of
from jobs.running.audit.training import noise_alone, single_steps, updates
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.data.slices import from_network, to_intensity, to_network
from lightning_modules.privacy.attacks.gradient_matching import Search, match_gradients
from lightning_modules.privacy.attacks.linear_inversion import error_signs, sign_rates
from lightning_modules.privacy.attacks.similarity import Image, likeness, nearest
from lightning_modules.seeding import derive_seed
from partitions.preparation import PreparedSite

SLICE, STEP, ROUND = "one slice", "one step", "a round"
ENOUGH_SIGNS = 0.99
"""What the linear attack must reach on the job of one slice, or the audit is too weak."""
LINEAR_ITERATIONS = 150
DOMAINS = ("source", "target")


@dataclass(frozen=True)
class InversionPiece:
    """Rebuild a slice from one update.

    Attributes:
        experiment: the run's settings.
        mechanism: under which the update leaves.
        site: the attacked site's prepared data.
        elsewhere: another site, at whose mean image the search starts; grey where there is none.
        person: number of the patient whose slice is sought.
        amount: ``one slice``, ``one step`` on a batch, or ``a round`` of the run's own.
        source_known: whether the attacker has the source image.
        iterations: of the search, on each grid.
    """

    experiment: ExperimentConfig
    mechanism: AuditedMechanism
    site: PreparedSite
    elsewhere: PreparedSite | None
    person: int
    amount: str
    source_known: bool
    iterations: int

    @property
    def name(self) -> str:
        """See ``Piece``."""
        known = "source known" if self.source_known else "nothing known"
        return f"inversion, {self.mechanism.label}, {self.amount}, {known}, slice {self.person + 1}"

    def compute(self) -> Found:
        """Numbers and, for the site alone, pictures of the reconstruction."""
        update = self._update()
        start = self._start(update)
        linear = self.source_known and self.amount == SLICE
        signs = self._signs(update) if linear else None
        result = match_gradients(
            update.networks(self.experiment),
            self.experiment.model,
            update.gradient,
            start,
            self.source_known,
            Search(iterations=self.iterations),
            signs,
        )
        rebuilt = {"source": _image(result.source), "target": _image(result.target)}
        found = {"left": result.left, **self._compared(update, rebuilt)}
        if signs is not None:
            found |= self._linear(update, signs)
        return found

    def _update(self) -> SeenUpdate:
        everybody = people(self.site)
        if self.amount == ROUND:
            members = halves(self.site.site, len(everybody), 0, self.experiment.seed)
            side = int(members[1][self.person])
            inside = [n for n in range(len(everybody)) if members[side][n]]
            splits = splits_of(self.site, [everybody[n] for n in inside])
            experiment = self.experiment
        else:
            number = 1 if self.amount == SLICE else self.experiment.training.batch_size
            inside = [
                (self.person + n) % len(everybody) for n in range(min(number, len(everybody)))
            ]
            splits = [middle_of(self.site, everybody[n]) for n in inside]
            experiment = single_steps(self.experiment, len(inside))
        arm = f"audit inversion {self.amount} {self.person}"
        privacy = self.mechanism.privacy
        ((received, sent),) = updates(experiment, privacy, splits, arm, rounds=1)
        # Noise on nothing at all has the length of the noise on the update: the attacker knows it.
        noise = noise_alone(experiment, privacy, splits, received, f"{arm} length")
        return SeenUpdate(received, sent, noise, splits, tuple(inside))

    def _start(self, update: SeenUpdate) -> tuple[Tensor, Tensor]:
        shape = (1, 1, *self.site.config.size)
        grey = torch.zeros(shape)
        source, target = grey, grey
        if self.elsewhere is not None:
            source, target = (_mean_image(self.elsewhere, domain) for domain in DOMAINS)
        if self.source_known:
            source = to_network(to_intensity(update.slices("source")[:1]))
        return source, target

    def _compared(self, update: SeenUpdate, rebuilt: Mapping[str, Image]) -> Found:
        """The reconstruction beside what one gets without the update."""
        everybody = people(self.site)
        middles = [middle_of(self.site, person) for person in everybody]
        outside = [n for n in range(len(everybody)) if n not in update.inside]
        rng = np.random.default_rng(derive_seed(self.experiment.seed, "random slice", self.person))
        stranger = int(rng.choice(outside))
        found: dict[str, Any] = {}
        for domain in DOMAINS:
            truths = [_intensity(row) for row in update.slices(domain)]
            candidates = [_intensity(slices_of(middle, domain)[0]) for middle in middles]
            others = _all_slices(self.site, [everybody[n] for n in outside], domain)
            truth = truths[nearest(rebuilt[domain], truths)]
            shown = {
                "rebuilt": rebuilt[domain],
                "mean": np.mean([candidates[n] for n in outside], axis=0).astype(np.float32),
                "random": candidates[stranger],
                "nearest": others[nearest(truth, others)],
            }
            for what, image in shown.items():
                # Everybody is compared with the slice of the update that suits best.
                like = likeness(image, truths[nearest(image, truths)])
                found[f"{domain}/{what}"] = [like.ssim, like.psnr, like.r]
                found[f"picture/{domain}/{what}"] = image
            found[f"picture/{domain}/truth"] = truth
            found[f"{domain}/identified"] = nearest(rebuilt[domain], candidates) in update.inside
        found["chance"] = len(update.inside) / len(everybody)
        return found

    def _signs(self, update: SeenUpdate) -> Tensor:
        return error_signs(
            update.judged(self.experiment),
            self.experiment.model,
            to_network(to_intensity(update.slices("source")[:1])),
            update.of_generator,
            update.noise_norm,
            LINEAR_ITERATIONS,
        )

    def _linear(self, update: SeenUpdate, signs: Tensor) -> Found:
        source = to_network(to_intensity(update.slices("source")[:1]))
        with torch.no_grad():
            output = update.networks(self.experiment)["generator"](source)[0, 0]
        target = to_network(to_intensity(update.slices("target")[:1]))[0, 0]
        mask = torch.from_numpy(update.slices("mask")[0] > 0)
        rates = sign_rates(signs, output, target, mask)
        truth = torch.where(output > target, 1.0, -1.0)
        return {
            "linear": [rates.everywhere, rates.inside, rates.guess],
            "picture/linear/found": (signs.numpy() + 1) / 2,
            "picture/linear/truth": (truth.numpy() + 1) / 2,
        }


def inversion_pieces(plan: AuditPlan) -> list[InversionPiece]:
    """Slices of different patients; updates of more than a slice without a mechanism alone.

    None of a model that the attacks do not know, see ``AuditPlan.not_inverted``.
    """
    if plan.not_inverted:
        return []
    others = [site for site in plan.sites if site.site != plan.site.site and people(site)]
    elsewhere = max(others, key=lambda site: len(people(site))) if others else None
    number = len(people(plan.site))
    pieces = []
    for mechanism in plan.mechanisms:
        acts = mechanism.privacy.acts
        amounts = {SLICE: plan.sizes.protected_slices if acts else plan.sizes.slices}
        if not acts:
            amounts |= {STEP: plan.sizes.larger, ROUND: plan.sizes.larger}
        for amount, slices in amounts.items():
            for known in (True, False) if amount == SLICE else (False,):
                pieces += [
                    InversionPiece(
                        plan.experiment,
                        mechanism,
                        plan.site,
                        elsewhere,
                        person,
                        amount,
                        known,
                        plan.sizes.iterations,
                    )
                    for person in range(min(slices, number))
                ]
    return pieces


def inversion_of(
    plan: AuditPlan, mechanism: AuditedMechanism, results: Mapping[str, Found]
) -> dict[str, Any] | None:
    """Means over the slices, by what the attacker saw and knew; no picture is in it.

    None where no image was sought.
    """
    pieces = [piece for piece in inversion_pieces(plan) if piece.mechanism == mechanism]
    if not pieces:
        return None
    groups: dict[tuple[str, bool], list[Found]] = {}
    for piece in pieces:
        groups.setdefault((piece.amount, piece.source_known), []).append(results[piece.name])
    rows = [
        {"update": amount, "source_known": known, **_summary(found, known)}
        for (amount, known), found in groups.items()
    ]
    return {"linear": _linear_summary(groups[SLICE, True]), "matching": rows}


def _summary(found: Sequence[Found], known: bool) -> dict[str, Any]:
    domains = ("target",) if known else DOMAINS
    images = {
        domain: {
            what: dict(
                zip(
                    ("ssim", "psnr", "r"),
                    np.mean([one[f"{domain}/{what}"] for one in found], axis=0).tolist(),
                    strict=True,
                )
            )
            for what in ("rebuilt", "mean", "random", "nearest")
        }
        for domain in domains
    }
    identified = {
        domain: _rate([bool(one[f"{domain}/identified"]) for one in found]) for domain in domains
    }
    return {
        "slices": len(found),
        "left": float(np.mean([one["left"] for one in found])),
        "images": images,
        "identified": identified,
        "chance": float(found[0]["chance"]),
    }


def _rate(hits: Sequence[bool]) -> dict[str, float]:
    interval = binomtest(sum(hits), len(hits)).proportion_ci(method="exact")
    return {
        "share": sum(hits) / len(hits),
        "low": float(interval.low),
        "high": float(interval.high),
    }


def _linear_summary(found: Sequence[Found]) -> dict[str, Any]:
    rates = np.stack([one["linear"] for one in found])
    everywhere, inside, guess = rates.mean(axis=0).tolist()
    return {
        "slices": len(found),
        "everywhere": everywhere,
        "inside": inside,
        "guess": guess,
        "worst": float(rates[:, 0].min()),
    }


def _all_slices(site: PreparedSite, persons: Sequence[Person], domain: str) -> list[Image]:
    volumes = [images for person in persons for images in images_of(site, person)]
    return [image for volume in volumes for image in getattr(volume, domain).numpy()]


def _mean_image(site: PreparedSite, domain: str) -> Tensor:
    """Of the middle slices of another site's patients, as a network's input."""
    middles = [slices_of(middle_of(site, person), domain)[0] for person in people(site)]
    return to_network(to_intensity(np.stack(middles)).mean(dim=0, keepdim=True))


def _image(output: Tensor) -> Image:
    image: Image = from_network(output)[0].numpy()
    return image


def _intensity(stored: np.ndarray) -> Image:
    image: Image = to_intensity(stored).numpy()
    return image
