"""The executor receives the global model at a site, validates and trains it, returns an update."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.app_common.app_constant import AppConstants

from app_custom.aggregation.model_message import (
    last_accepted_round,
    pack,
    refuse_encryption,
    unpack,
)
from app_custom.audit_trail import audit
from app_custom.gates.job_limits import REFUSED, REFUSED_BY, JobRefusedError
from app_custom.gates.shared_metrics import TRAIN_METRICS, shared_metrics
from app_custom.nvflare_context import site_name, submitter
from app_custom.participant.release import Releases, announce, announced_by_peer
from app_custom.participant.site_configuration import checked_run_name
from app_custom.privacy.encryption.filters import check_encryption, encrypts
from app_custom.privacy.patient_noise.policy import noise_from
from app_custom.study.task import study_task
from fedi2i.errors import ConfigError, UserError
from lightning_modules.configuration import experiment_from
from lightning_modules.training.participation import participation_from

if TYPE_CHECKING:
    from app_custom.executor.site_session import SiteSession
    from app_custom.privacy.patient_noise.rounds import PatientRounds


class TranslationExecutor(Executor):
    """Runs the learner for the tasks ``train`` and ``validate``.

    NVFlare may build this object anew for every task; what must last is in files (see
    ``lightning_modules.training.local_state``). The session is imported at the first task, because
    it needs Torch and MONAI, and Lightning where a task trains.

    Args:
        settings: the experiment's values that differ from the defaults.
        run_name: names the run: what this site keeps from round to round belongs to it alone.
        release: the release of FedI2I that wrote the job.
        patient_noise: settings of patient-level differential privacy that differ from the defaults
            of ``PatientNoise``; None trains without it.
        only_evaluates: the job measures a given model, once: also by the metrics that are too slow
            for every round. Nothing of it is kept, as its card would call this site's data those of
            a training.
        stragglers: sites that do a part of every round's steps, and which part. A site's own limits
            hold for what is left.
        study: what the job says of the study that it belongs to, see ``StudyTask``; a site whose
            own file agrees measures the final model on its test patients, too.

    Raises:
        ConfigError: unknown or impossible settings, or a name that is a path.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        run_name: str,
        release: str = "",
        patient_noise: Mapping[str, Any] | None = None,
        only_evaluates: bool = False,
        stragglers: Mapping[str, float] | None = None,
        study: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self._releases = Releases(job=release)
        self._run_name = checked_run_name(run_name)
        self._experiment = experiment_from(settings, "job argument 'settings'")
        self._noise = noise_from(patient_noise, "job argument")
        self._only_evaluates = only_evaluates
        self._participation = participation_from({"stragglers": stragglers or {}}, "job argument")
        self._study = study_task(study, "job argument")
        self._session: SiteSession | None = None

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Announce this site's release, and note the server's with the first task."""
        if event_type == EventType.START_RUN:
            announce(fl_ctx)
        elif event_type == EventType.BEFORE_TASK_EXECUTION:
            self._releases = replace(self._releases, server=announced_by_peer(fl_ctx))

    def execute(
        self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal
    ) -> Shareable:
        """Do one task; a failure is answered with a return code and explained in this site's log.

        The explanation may name files and patients, so it stays at the site. Where the site's own
        limits refuse the job, the limit's name goes along, and the site's audit trail has a line.
        """
        try:
            if task_name == AppConstants.TASK_TRAIN:
                return self._train(shareable, fl_ctx)
            if task_name == AppConstants.TASK_VALIDATION:
                return self._validate(shareable, fl_ctx)
            return make_reply(ReturnCode.TASK_UNKNOWN)
        except JobRefusedError as refused:
            return self._refused(refused, fl_ctx)
        except UserError as error:
            self.log_error(fl_ctx, f"site '{site_name(fl_ctx)}' cannot do '{task_name}': {error}")
        except Exception as error:  # noqa: BLE001 - any failure must reach the server
            if abort_signal.triggered:
                self.log_info(fl_ctx, f"'{task_name}' was broken off: the run has ended")
                return make_reply(ReturnCode.TASK_ABORTED)
            self.log_exception(
                fl_ctx, f"site '{site_name(fl_ctx)}' failed in '{task_name}': {error}"
            )
        return make_reply(ReturnCode.EXECUTION_EXCEPTION)

    def _refused(self, refused: JobRefusedError, fl_ctx: FLContext) -> Shareable:
        self.log_error(fl_ctx, f"site '{site_name(fl_ctx)}': job {refused}")
        audit(submitter(fl_ctx), REFUSED, refused)
        return make_reply(ReturnCode.EXECUTION_EXCEPTION, headers={REFUSED_BY: str(refused.rule)})

    def _train(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        from app_custom.privacy.update_filters import refuse_round_without_ledger

        refuse_round_without_ledger(fl_ctx)
        session = self._opened(fl_ctx)
        received = from_shareable(shareable)
        state, arrays = unpack(received.data)
        round_number = int(shareable.get_header(AppConstants.CURRENT_ROUND))
        accepted = last_accepted_round(site_name(fl_ctx), received.meta)
        private = self._patient_rounds(session)
        spent = private and private.begin(round_number, fl_ctx)
        if private is None or private.share_metrics:
            validated = session.validate(state, round_number, accepted)
        else:
            validated = {}
        session.keep_models(state, round_number, validated, accepted)
        result = session.train(state, arrays, round_number, accepted)
        learnt = {**result.metrics, "time/train_seconds": result.seconds}
        if private and spent:
            validated |= private.metrics(spent)
            learnt = private.learnt(result.metrics)
            private.end(spent, fl_ctx)
        sent = pack(result.state, result.extras)
        update = DXO(
            DataKind.WEIGHTS,
            data={key: value.numpy() for key, value in sent.items()},
            meta={
                MetaKey.NUM_STEPS_CURRENT_ROUND: result.samples,
                MetaKey.INITIAL_METRICS: shared_metrics(validated),
                TRAIN_METRICS: shared_metrics(learnt),
            },
        )
        return update.to_shareable()

    def _patient_rounds(self, session: SiteSession) -> PatientRounds | None:
        """The session's, where the job trains with patient-level differential privacy."""
        if self._noise is None:
            return None
        if session.patient_rounds is None:
            raise ConfigError("the job trains with noise, and this session has no ledger for it")
        return session.patient_rounds

    def _validate(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        session = self._opened(fl_ctx, measures_only=True)
        rounds = self._experiment.training.rounds
        received = from_shareable(shareable)
        state, _ = unpack(received.data)
        accepted = last_accepted_round(site_name(fl_ctx), received.meta)
        private = self._patient_rounds(session)
        shown = private is None or private.share_metrics
        metrics = session.validate(state, rounds, accepted) if shown else {}
        session.keep_personal_model(state, rounds, accepted)
        if not self._only_evaluates:
            session.keep_models(state, rounds, metrics, accepted, final=True)
        if encrypts(fl_ctx):  # the server cannot read it, so no result of a job holds it
            session.keep_global_model(state)
        if self._study is not None:
            metrics |= session.study_numbers(state, rounds, accepted)
        return DXO(DataKind.METRICS, data=shared_metrics(metrics)).to_shareable()

    def _opened(self, fl_ctx: FLContext, measures_only: bool = False) -> SiteSession:
        if self._session is None:
            from app_custom.executor.session_opening import open_session

            strategy = self._experiment.strategy.record
            refuse_encryption(fl_ctx, f"strategy '{strategy.label}'")
            check_encryption(fl_ctx, strategy)
            self._session = open_session(
                self._experiment,
                self._run_name,
                self._releases,
                fl_ctx,
                self._noise,
                self._only_evaluates,
                self._participation,
                measures_only,
                self._study,
            )
        return self._session
