"""A site's rounds under patient-level differential privacy: what they spend, and what leaves.

A round's noisy steps are in the site's ledger before the first of them is taken. Beside the trained
weights leave what the job states, what the ledger says, and validation metrics where both the job
and the site share them. Losses of training never leave: the learner does not even compute them.
"""

from __future__ import annotations

from collections.abc import Mapping

from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_context import FLContext

from app_custom.nvflare_context import site_name
from app_custom.privacy.patient_noise.policy import PatientPrivacy
from app_custom.privacy.update_filters import is_simulated, keeps_to_the_ledger, site_ledger
from fedi2i.epsilon import EPSILON_ROUND, EPSILON_TOTAL, LEAST_PATIENTS
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.data.patients import patients_digest
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.privacy.ledger import Event, Spent
from lightning_modules.privacy.patient_settings import PatientNoise, check_patients

MECHANISM = "patient"


class PatientRounds(FLComponent):
    """Enters rounds into the site's ledger.

    Args:
        noise: the job's settings.
        policy: the site's own demand.
        experiment: the experiment.
        slices: the site's training slices, of both domains.
        run: the run's name.

    Attributes:
        share_metrics: whether validation metrics leave.

    Raises:
        DataError: the site has too few patients for the job, or too many for the delta.
    """

    def __init__(
        self,
        noise: PatientNoise,
        policy: PatientPrivacy,
        experiment: ExperimentConfig,
        slices: TrainingSlices,
        run: str,
    ) -> None:
        super().__init__()
        self._noise = noise
        self._budget = policy.budget(noise)
        check_patients(noise, self._budget, len(slices.patients()))
        self._model = experiment.model.name
        self._steps = experiment.training.steps
        self._data = patients_digest(slices)
        self._run = run
        self.share_metrics = policy.shares_metrics(noise)

    def begin(self, round_number: int, fl_ctx: FLContext) -> Spent:
        """Write all noisy steps of a round into the ledger, before any is taken.

        Raises:
            BudgetSpentError: the budget does not allow the round; nothing is written.
            DataError: the ledger cannot be trusted or written.
        """
        ledger = site_ledger(fl_ctx, self._run)
        event = Event(
            job=str(fl_ctx.get_job_id()),
            round_number=round_number,
            mechanism=MECHANISM,
            releases=(self._noise.release(self._model, self._steps),),
            clipping=self._noise.clipping(self._model),
            data=self._data,
            simulated=is_simulated(fl_ctx),
        )
        # Where the filters of noised updates act too, they have begun the run's ledger anew.
        if event.simulated and round_number == 0 and not keeps_to_the_ledger(fl_ctx):
            ledger.discard()
        spent = ledger.spend(event, self._budget)
        self.log_info(fl_ctx, self._sentence(spent, fl_ctx))
        return spent

    def end(self, spent: Spent, fl_ctx: FLContext) -> None:
        """Note that a round's answer is ready to leave.

        Raises:
            DataError: the ledger cannot be trusted or written.
        """
        site_ledger(fl_ctx, self._run).released(spent.sequence)

    def metrics(self, spent: Spent) -> dict[str, float]:
        """What leaves of the ledger; it follows from settings that everybody knows."""
        return {
            EPSILON_ROUND: spent.epsilon_round,
            EPSILON_TOTAL: spent.epsilon_total,
            LEAST_PATIENTS: float(self._noise.patients),
        }

    def learnt(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """The metrics of training that come from noised gradients alone, and so may leave.

        How long it took is none of them: it grows with the number of patients who were drawn.
        """
        return {name: value for name, value in metrics.items() if name.startswith("strategy/")}

    def _sentence(self, spent: Spent, fl_ctx: FLContext) -> str:
        return (
            f"site '{site_name(fl_ctx)}': this round spends epsilon {spent.epsilon_round:.4g}, "
            f"which makes {spent.epsilon_total:.4g} of {self._budget.epsilon:g} at delta "
            f"{self._budget.delta:g}, for adding or removing one patient of a site with at least "
            f"{self._noise.patients}"
        )
