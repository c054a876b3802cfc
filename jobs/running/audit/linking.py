"""Property of a site: whose scanner is behind an update?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from jobs.privacy.catalogue import PrivacyConfig
from jobs.running.audit.people import halves, people, splits_of
from jobs.running.audit.pieces import Found
from jobs.running.audit.plan import AuditedMechanism, AuditPlan
from jobs.running.audit.training import acts_in_training, released, updates
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.privacy.attacks.linking import likenesses, link
from lightning_modules.seeding import derive_seed
from lightning_modules.training.learner import State
from partitions.preparation import PreparedSite, PreparedSplit

FEWEST_SITES = 3
FEWEST_PEOPLE = 2


@dataclass(frozen=True)
class LinkingPiece:
    """A round at every site, twice, on two halves of its patients; then name either by the other.

    Attributes:
        experiment: the run's settings.
        mechanisms: under which updates leave.
        sites: two patients or more each.
        draw: number of the halves.
    """

    experiment: ExperimentConfig
    mechanisms: tuple[AuditedMechanism, ...]
    sites: tuple[PreparedSite, ...]
    draw: int

    @property
    def name(self) -> str:
        """See ``Piece``."""
        return f"property of a site, draw {self.draw + 1}"

    def compute(self) -> Found:
        """A table of likenesses per mechanism and direction."""
        vectors: dict[str, list[list[NDArray[np.float64]]]] = {}
        for site in self.sites:
            everybody = people(site)
            members = halves(site.site, len(everybody), self.draw, self.experiment.seed)
            for half, inside in enumerate(members):
                splits = splits_of(site, [p for p, m in zip(everybody, inside, strict=True) if m])
                arm = f"audit linking {site.site} {self.draw} {half}"
                ((received, trained),) = self._round(PrivacyConfig(), splits, arm)
                for mechanism in self.mechanisms:
                    sent = released(self.experiment, mechanism.privacy, received, trained, arm)
                    if acts_in_training(mechanism.privacy):
                        ((received, sent),) = self._round(mechanism.privacy, splits, arm)
                    by_half = vectors.setdefault(mechanism.label, [[], []])
                    by_half[half].append(_vector(received, sent))
        return {
            f"{label}/{direction}": likenesses(
                np.stack(halved[direction]), np.stack(halved[1 - direction])
            )
            for label, halved in vectors.items()
            for direction in (0, 1)
        }

    def _round(
        self, privacy: PrivacyConfig, splits: Sequence[PreparedSplit], arm: str
    ) -> list[tuple[State, State]]:
        return list(updates(self.experiment, privacy, splits, arm, rounds=1))


def linking_pieces(plan: AuditPlan) -> list[LinkingPiece]:
    """None where there are too few sites to tell apart."""
    sites = tuple(site for site in plan.sites if len(people(site)) >= FEWEST_PEOPLE)
    if len(sites) < FEWEST_SITES:
        return []
    return [
        LinkingPiece(plan.experiment, plan.mechanisms, sites, draw)
        for draw in range(plan.sizes.draws)
    ]


def linking_of(
    plan: AuditPlan, mechanism: AuditedMechanism, results: Mapping[str, Found]
) -> dict[str, Any] | None:
    """How often an update was given its site's name; None where there are too few sites."""
    pieces = linking_pieces(plan)
    if not pieces:
        return None
    tables = [results[p.name][f"{mechanism.label}/{way}"] for p in pieces for way in (0, 1)]
    rng = np.random.default_rng(derive_seed(plan.experiment.seed, "audit names", mechanism.label))
    found = link(tables, plan.sizes.permutations, rng)
    return {**asdict(found), "sites": len(pieces[0].sites)}


def _vector(received: Mapping[str, Tensor], sent: Mapping[str, Tensor]) -> NDArray[np.float64]:
    parts = [(sent[key] - received[key]).double().flatten().numpy() for key in sorted(sent)]
    return np.concatenate(parts)
