"""Update-level differential privacy as a pair of filters: ``SpendBudget`` and ``AddNoise``.

``SpendBudget`` stands in the way of the model that arrives. It writes the round into the site's
ledger, refuses it where the budget is spent, before anything is trained, and remembers the weights.
``AddNoise`` stands in the way of the answer: it clips what training changed, adds the noise, and
puts the received weights back, so that gates, aggregators and strategies see weights as always.

NVFlare runs a site's filters before a job's, in both directions. Where the site's own policy has
the pair, the job's pair finds its work done: one clip, one noise, one line in the ledger, whatever
the job asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.filter import Filter
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.app_constant import AppConstants
from nvflare.private.fed.simulator.simulator_const import SimulatorConstants

from app_custom.aggregation.model_message import parts_of
from app_custom.gates.job_limits import BudgetRefusedError
from app_custom.nvflare_context import local_folder, site_name, workspace_folder
from app_custom.participant.site_configuration import (
    checked_run_name,
    read_site_config,
    state_folder,
)
from app_custom.privacy.received_model import (
    Arrays,
    PrivacyRefusalError,
    TaskMemory,
    owner_of,
    received_model,
    task_of,
    trained_alone,
)
from app_custom.privacy.secure_sum.key_exchange import EXCHANGE_TASKS, exchange_fault
from fedi2i.epsilon import EPSILON_ROUND, EPSILON_TOTAL
from fedi2i.errors import ConfigError, UserError
from lightning_modules.privacy.accountant import Release
from lightning_modules.privacy.ledger import Budget, BudgetSpentError, Event, Ledger, Spent
from lightning_modules.privacy.update_noise import noised_update

LEDGER = "privacy_ledger.jsonl"
ANCHOR = "privacy_anchor.json"
_SENSITIVITY = 2.0
"""Sites that are known to take part are replaced, not removed: one can move the sum by 2 C."""


@dataclass(frozen=True)
class _Begun:
    """A task whose round is in the ledger and whose answer is awaited."""

    received: Arrays
    clipping: Mapping[str, float]
    noise_multiplier: float
    samples: int
    share_metrics: bool
    ledger: Ledger
    spent: Spent


_MEMORY: TaskMemory[_Begun] = TaskMemory()
_SPENT: TaskMemory[str] = TaskMemory()
"""Why a task is not trained whose budget is spent."""
_VALIDATED: dict[tuple[str, str], tuple[str, bool]] = {}
"""(Site, job) to the validation under way, and whether its metrics may leave."""


class SpendBudget(Filter):
    """Enters a round into the ledger before it is trained, or refuses it.

    Args:
        clipping: network to the norm C to which its update is clipped, in units of the weights.
        noise_multiplier: standard deviation of the noise as a multiple of C.
        epsilon: the most that this site spends, over all jobs.
        delta: the delta at which epsilon is computed.
        samples: the number of training samples that the site states, whatever it has: its true
            number is data that no noise covers.
        share_metrics: whether validation metrics leave. They are outside the guarantee; training
            losses never leave.
        run: names the ledger in the simulator, where a ledger belongs to one run; a site's own
            kit has one ledger for life, whatever stands here.

    Raises:
        ConfigError: a value that no mechanism can have.
    """

    def __init__(
        self,
        clipping: Mapping[str, float],
        noise_multiplier: float,
        epsilon: float,
        delta: float,
        samples: int = 1,
        share_metrics: bool = False,
        run: str = "run",
    ) -> None:
        super().__init__()
        for network, bound in clipping.items():
            if not 0 < bound < float("inf"):
                raise ConfigError(f"clipping of '{network}' is {bound}; write a norm above 0")
        if not clipping:
            raise ConfigError("clipping is empty; write a norm for every network that is shared")
        if samples < 1:
            raise ConfigError(f"samples is {samples}; write 1 or more")
        self._clipping = dict(clipping)
        self._budget = Budget(epsilon, delta)
        # Each network is a mechanism of its own, with its own C.
        self._releases = tuple(Release(noise_multiplier, _SENSITIVITY) for _ in clipping)
        self._noise_multiplier = noise_multiplier
        self._samples = samples
        self._share_metrics = share_metrics
        self._run = checked_run_name(run)

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """Spend and remember; the model passes on as it came.

        Where the budget is spent the model passes on as well, and the executor answers in its
        place: a filter's own refusal could not tell the submitter why.

        Raises:
            PrivacyRefusalError: the ledger cannot be trusted, or the message holds no model that an
                update could be measured from.
        """
        task_name = str(fl_ctx.get_prop(FLContextKey.TASK_NAME))
        if task_name == AppConstants.TASK_VALIDATION:
            owner, task = owner_of(fl_ctx), task_of(fl_ctx)
            if _VALIDATED.get(owner, ("", False))[0] != task:
                _VALIDATED[owner] = (task, self._share_metrics)
            return shareable
        if task_name in EXCHANGE_TASKS:
            return shareable  # keys and openings of masks: no model comes or goes
        if task_name != AppConstants.TASK_TRAIN:
            raise PrivacyRefusalError(
                f"task '{task_name}' sends models in a way that this site's differential privacy "
                "does not cover; take a job in which sites answer the server alone"
            )
        if _MEMORY.of_task(fl_ctx) is not None or _SPENT.of_task(fl_ctx) is not None:
            return shareable  # the site's own policy has it already, or has refused it
        received = received_model(shareable)
        round_number = int(shareable.get_header(AppConstants.CURRENT_ROUND, -1))
        ledger = site_ledger(fl_ctx, self._run)
        event = Event(
            job=str(fl_ctx.get_job_id()),
            round_number=round_number,
            mechanism="update",
            releases=self._releases,
            clipping=self._clipping,
            simulated=is_simulated(fl_ctx),
        )
        try:
            if event.simulated and round_number == 0:
                ledger.discard()
            spent = ledger.spend(event, self._budget)
        except BudgetSpentError as error:
            _MEMORY.forget(fl_ctx)
            _SPENT.begin(fl_ctx, str(error))
            return shareable
        except UserError as error:
            self.log_error(fl_ctx, f"site '{site_name(fl_ctx)}' does not train: {error}")
            raise PrivacyRefusalError(str(error)) from error
        self.log_info(
            fl_ctx,
            f"site '{site_name(fl_ctx)}' enters round {round_number} into its "
            f"{'simulated ' if event.simulated else ''}privacy ledger: {spent.told(self._budget)}",
        )
        begun = _Begun(
            received=received,
            clipping=self._clipping,
            noise_multiplier=self._noise_multiplier,
            samples=self._samples,
            share_metrics=self._share_metrics,
            ledger=ledger,
            spent=spent,
        )
        _MEMORY.begin(fl_ctx, begun)
        return shareable


class AddNoise(Filter):
    """Clips and noises the update of a round that ``SpendBudget`` has entered into the ledger."""

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """Return the answer with a clipped and noised update, a stated number of samples, epsilon.

        Raises:
            PrivacyRefusalError: an answer with weights whose round is not in the ledger.
            DataError: weights that no clipping bounds.
        """
        if shareable.get_return_code() != ReturnCode.OK:
            _MEMORY.forget(fl_ctx)
            return shareable
        dxo = from_shareable(shareable)
        if dxo.data_kind == DataKind.METRICS:
            may_leave = _VALIDATED.get(owner_of(fl_ctx)) == (task_of(fl_ctx), True)
            return shareable if may_leave else _without_metrics(shareable)
        if dxo.data_kind == DataKind.APP_DEFINED and not exchange_fault(dxo.data):
            return shareable
        if _MEMORY.is_done(fl_ctx, dxo):
            return shareable  # the site's own policy has done it: these very weights
        begun = _MEMORY.of_task(fl_ctx)
        _MEMORY.forget(fl_ctx)
        if begun is None or dxo.data_kind != DataKind.WEIGHTS:
            raise PrivacyRefusalError(
                f"an answer of kind '{dxo.data_kind}' has no round in this site's privacy ledger"
            )
        answer = self._noised(dxo, begun)
        begun.ledger.released(begun.spent.sequence)
        _MEMORY.note_done(fl_ctx, answer)
        return answer.update_shareable(shareable)

    def _noised(self, dxo: DXO, begun: _Begun) -> DXO:
        trained, received = trained_alone(dxo, begun.received, "noise")
        noised = noised_update(received, trained, begun.clipping, begun.noise_multiplier)
        metrics: dict[str, float] = {
            EPSILON_ROUND: begun.spent.epsilon_round,
            EPSILON_TOTAL: begun.spent.epsilon_total,
        }
        if begun.share_metrics:
            metrics |= dxo.meta.get(MetaKey.INITIAL_METRICS) or {}
        meta = {
            MetaKey.NUM_STEPS_CURRENT_ROUND: begun.samples,
            MetaKey.INITIAL_METRICS: metrics,
        }
        return DXO(DataKind.WEIGHTS, data=noised.state, meta=meta)


def keeps_to_the_ledger(fl_ctx: FLContext) -> bool:
    """Whether the pair stands in this site's way, by its own policy or by the job.

    The learner asks before it trains. Where the answer is yes, nothing may leave on ways that pass
    no filter, such as the points of curves.

    Args:
        fl_ctx: context of this site's run.

    Raises:
        ConfigError: one of the pair stands alone.
    """
    parts = list(parts_of(fl_ctx))
    spends = any(isinstance(part, SpendBudget) for part in parts)
    noises = any(isinstance(part, AddNoise) for part in parts)
    if not spends and not noises:
        return False
    if not (spends and noises):
        raise ConfigError(
            "SpendBudget and AddNoise protect a site as a pair, and one of them is missing; put "
            "both into every scope of the site's privacy.json, or both into the job"
        )
    return True


def refuse_round_without_ledger(fl_ctx: FLContext) -> None:
    """Refuse to train a round that ``SpendBudget`` has not entered, as the models of a swarm.

    Raises:
        BudgetRefusedError: the budget is spent.
        ConfigError: the site keeps a ledger and the running round is not in it.
    """
    why = _SPENT.of_task(fl_ctx)
    if why is not None:
        raise BudgetRefusedError(why)
    if keeps_to_the_ledger(fl_ctx) and _MEMORY.of_task(fl_ctx) is None:
        raise ConfigError(
            "this round is not in the site's privacy ledger, because its model came past the "
            "filters; take a job in which sites answer the server alone"
        )


def _without_metrics(shareable: Shareable) -> Shareable:
    return DXO(DataKind.METRICS, data={}).update_shareable(shareable)


def site_ledger(fl_ctx: FLContext, run: str) -> Ledger:
    """The ledger of this site: one for life in a kit, one per run in the simulator.

    Args:
        fl_ctx: context of this site.
        run: the run's name.
    """
    local, site = local_folder(fl_ctx), site_name(fl_ctx)
    state = state_folder(read_site_config(local), site, workspace_folder(fl_ctx)) / site
    if is_simulated(fl_ctx):
        return Ledger(state / f"privacy-{run}" / LEDGER, state / f"privacy-{run}" / ANCHOR)
    return Ledger(state / LEDGER, local / ANCHOR)


def is_simulated(fl_ctx: FLContext) -> bool:
    """Whether this is a simulator's site: by its own file, as a server may call a job anything."""
    job_is = fl_ctx.get_job_id() == SimulatorConstants.JOB_NAME
    return bool(job_is and read_site_config(local_folder(fl_ctx)).shared_machine)
