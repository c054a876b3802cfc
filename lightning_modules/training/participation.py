"""Who takes part in a round, and with how much of it, where a study lets sites drop out by plan.

Real sites are missing without a plan. A study that asks what drop-out costs needs the same one for
every arm: who misses which round follows from the experiment's seed, the site's name and the number
of the round alone, so that it is the same in every process, in any order and after a new start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fedi2i.errors import ConfigError
from fedi2i.typed_config import check_values, nearest, number, record_from
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.seeding import derive_seed

_SEEDS = 2.0**63
"""Number of seeds that ``derive_seed`` may give."""


@dataclass(frozen=True)
class Participation:
    """Sites that miss rounds, and sites that do a part of a round, by plan.

    Attributes:
        missing: probability that a site misses a round. Where too many would, those stay that were
            least likely to miss it, so that the fewest sites of a round are there.
        stragglers: sites that do a part of every round's steps, and which part, above 0 and at
            most 1.
    """

    missing: float = number(0.0, high=1.0, meaning="probability that a site misses a round")
    stragglers: dict[str, float] = field(default_factory=dict)

    @property
    def acts(self) -> bool:
        """Whether any site does less than a whole run."""
        return bool(self.missing or self.stragglers)

    def steps(self, site: str, steps: int) -> int:
        """The steps that a site does of a round's, at least 1."""
        return max(1, round(self.stragglers.get(site, 1.0) * steps))

    def present(
        self, sites: Sequence[str], least: int, seed: int, round_number: int
    ) -> tuple[str, ...]:
        """The sites that take part in a round, sorted.

        Args:
            sites: all sites that train.
            least: the fewest sites of a round.
            seed: the experiment's.
            round_number: counted from 0.
        """
        draws = {
            site: derive_seed(seed, "participation", site, round_number) / _SEEDS for site in sites
        }
        there = sum(draw >= self.missing for draw in draws.values())
        likeliest = sorted(draws, key=lambda site: draws[site], reverse=True)
        return tuple(sorted(likeliest[: max(there, least)]))

    def site_steps(
        self, sites: Sequence[str], least: int, seed: int, rounds: int, steps: int
    ) -> int:
        """The optimizer steps of each network, over all sites and rounds.

        Args:
            sites: all sites that train.
            least: the fewest sites of a round.
            seed: the experiment's.
            rounds: of the run.
            steps: of a round, where a site does all of it.
        """
        return sum(
            self.steps(site, steps)
            for number in range(rounds)
            for site in self.present(sites, least, seed, number)
        )


def with_steps(experiment: ExperimentConfig, steps: int) -> ExperimentConfig:
    """The experiment with another number of steps per round."""
    return replace(experiment, training=replace(experiment.training, steps=steps))


EVERYBODY = Participation()
"""All sites do all of every round."""


def participation_from(values: Mapping[str, Any], where: str) -> Participation:
    """The record from plain values, checked.

    Args:
        values: what differs from the defaults.
        where: the file or argument the values came from, for messages.

    Raises:
        ConfigError: an unknown key or a value out of range.
    """
    record = record_from(Participation, values, where)
    check_values(record, where)
    check_stragglers(record.stragglers, where)
    return record


def check_stragglers(
    stragglers: Mapping[str, float], where: str, sites: Sequence[str] | None = None
) -> None:
    """Refuse parts of a round that cannot be.

    Args:
        stragglers: sites, and their parts.
        where: the key, for messages.
        sites: the sites that train, where they are known.

    Raises:
        ConfigError: a site that does not train, or a part that is none.
    """
    for site, part in stragglers.items():
        if sites is not None and site not in sites:
            raise ConfigError(
                f"{where} names '{site}', which does not train; {nearest(site, sites)}"
            )
        if not 0.0 < part <= 1.0:
            raise ConfigError(
                f"{where} of '{site}' is {part}; write which part of a round's steps it does, "
                "above 0 and at most 1"
            )
