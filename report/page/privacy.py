"""Which privacy mechanism each job carried, what it promises, and what sites have spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedi2i.epsilon import EPSILON, EPSILON_ROUND, EPSILON_TOTAL, epsilon_text, with_verdict
from fedi2i.site_names import ALL_SITES
from report.number_format import NONE, listed
from report.numbers.strategy_effects import job_label
from report.run.records import Arm, Privacy, Run, SpentTogether

SITES_OWN = Privacy(
    mechanism="",
    label="differential privacy of the sites' own",
    promise="as the sites' own policies say; the job asked for none",
    guarantees=True,
    unit=NONE,
    relation=NONE,
    delta=None,
    epsilon=None,
    settings={},
)
"""What is known of a mechanism that stands in the sites' policies and not in the job."""


@dataclass(frozen=True)
class SiteBudget:
    """What a site's ledger says of a job.

    Attributes:
        site: its name.
        epsilon_round: of a round; smallest and largest where rounds differ.
        epsilon_total: of everything in the ledger after the last round, as a number.
        patients: its training patients, or None where the run does not name the site.
    """

    site: str
    epsilon_round: str
    epsilon_total: float
    patients: int | None = None

    @property
    def total(self) -> str:
        """The total as readers see it."""
        return epsilon_text(self.epsilon_total)


@dataclass(frozen=True)
class PrivateJob:
    """One line, or one per site, of the table.

    Attributes:
        label: of the job.
        privacy: its mechanism.
        sites: what sites have spent; empty where nothing is accounted for.
    """

    label: str
    privacy: Privacy
    sites: Sequence[SiteBudget]

    @property
    def largest(self) -> float | None:
        """The total of the site that has spent most."""
        return max((site.epsilon_total for site in self.sites), default=None)

    @property
    def planned(self) -> str:
        """What all rounds would spend by the job's settings, where no ledger says it."""
        planned = self.privacy.epsilon
        return NONE if planned is None else f"{epsilon_text(planned)} planned"


@dataclass(frozen=True)
class PrivacySection:
    """The table of jobs with a mechanism, and the sentences above it.

    Attributes:
        jobs: the jobs with a mechanism.
        sentences: a sentence and whether it warns.
    """

    jobs: list[PrivateJob]
    sentences: list[tuple[str, bool]]


def privacy_section(run: Run) -> PrivacySection:
    """Collect what ``run.json`` says of mechanisms and what the sites' ledgers have spent."""
    arms: dict[str, list[Arm]] = {}
    for arm in run.about.arms:
        if arm.kind in ("federated", "personal"):
            arms.setdefault(arm.job, []).append(arm)
    private, plain = [], []
    for name, models in arms.items():
        sites = _budgets(run, name)
        privacy = models[0].privacy or (SITES_OWN if sites else None)
        label = job_label(models)
        if privacy is None:
            plain.append(label)
        else:
            private.append(PrivateJob(label, privacy, sites))
    return PrivacySection(private, list(_sentences(private, plain, run.about.spent_together)))


def _sentences(
    private: Sequence[PrivateJob], plain: Sequence[str], study: Sequence[SpentTogether]
) -> list[tuple[str, bool]]:
    if not private:
        return [("No job of this run carries a privacy mechanism; nothing is promised.", False)]
    said = []
    empty = [job.label for job in private if not job.privacy.guarantees]
    if empty:
        said.append((f"Not differential privacy, and no guarantee at all: {listed(empty)}.", True))
    spent = [job for job in private if job.largest is not None]
    for job in spent:
        said.append((f"{job.label}: {with_verdict(job.largest or 0.0)}.", True))
    said += [(_together(one), False) for one in study]
    if len(spent) > 1 and not study:
        total = sum(job.largest or 0.0 for job in spent)
        said.append(
            (
                f"The {len(spent)} jobs were trained on the same patients. Together a site has "
                f"spent at most the sum: epsilon {epsilon_text(total)}, at the sum of their "
                "deltas.",
                False,
            )
        )
    if spent:
        said.append(
            (
                "Runs with other seeds, and the tuning of settings on the same patients, come on "
                "top: 'fedi2i jobs epsilon' with all their folders says what is spent together.",
                False,
            )
        )
    if plain:
        said.append(
            (
                f"Without a mechanism: {listed(plain)}. Patients are protected no better than by "
                "the least protected model of them that is given away.",
                False,
            )
        )
    return said


def _together(spent: SpentTogether) -> str:
    return (
        f"The {spent.trainings} trainings were on the same patients of {listed(spent.sites)}. "
        f"Composed, they spend epsilon {epsilon_text(spent.epsilon)} at delta {spent.delta:g} for "
        f"{spent.unit} ({spent.relation}); added up it would be {epsilon_text(spent.added_up)}."
    )


def _budgets(run: Run, job: str) -> list[SiteBudget]:
    if run.curves is None:
        return []
    curves, patients = run.curves, {site.name: site.train for site in run.about.sites}
    rows = curves[
        (curves["arm"] == job)
        & (curves["site"] != ALL_SITES)
        & curves["metric"].str.startswith(EPSILON)
    ].sort_values("round")
    found = []
    for site, own in rows.groupby("site"):
        rounds = own[own["metric"] == EPSILON_ROUND]["value"]
        totals = own[own["metric"] == EPSILON_TOTAL]["value"]
        if len(rounds) and len(totals):
            ends = dict.fromkeys(epsilon_text(value) for value in (rounds.min(), rounds.max()))
            spent = float(totals.iloc[-1])
            found.append(SiteBudget(str(site), " to ".join(ends), spent, patients.get(site)))
    return found
