"""A session holds one site's data, learner and validation for the lifetime of a process.

This module imports Torch, MONAI and Lightning. The executor imports it at the first task, so that
reading a job's configuration does not wait for them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
import torch
from nvflare.apis.analytix import AnalyticsDataType
from nvflare.apis.signal import Signal
from nvflare.app_common.tracking.log_writer import LogWriter
from torch import Tensor

from app_custom.executor.kept_models import KeptModels
from app_custom.gates.job_limits import (
    rounded,
)
from app_custom.gates.shared_metrics import SHARED_METRICS
from app_custom.gates.study_numbers import GLOBAL, PERSONAL
from app_custom.nvflare_files import GLOBAL_MODEL, PERSONAL_MODEL
from app_custom.participant.site_configuration import (
    SiteConfig,
)
from app_custom.privacy.patient_noise.rounds import PatientRounds
from app_custom.study.site_study import SiteStudy
from fedi2i.errors import UserError
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.evaluation.panels import panel
from lightning_modules.evaluation.validation import (
    load_translator,
    mean_over_patients,
    patient_metrics,
    patients,
    translate_patient,
)
from lightning_modules.metrics.presets.catalogue import on_prepared_slices
from lightning_modules.networks.building import build_translator
from lightning_modules.networks.modulation import for_site
from lightning_modules.sharing.tensor_file import write_tensors
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.learner import Learner, RoundResult
from lightning_modules.translation.unlike_training import source_percentiles
from partitions.preparation import PreparedSite

logger = logging.getLogger(__name__)


class RunEndedError(RuntimeError):
    """A run has ended while this site was training for it."""


class SiteSession:
    """Does the executor's tasks with this site's data and learner.

    Attributes:
        patient_rounds: enters rounds into the ledger, where the job trains with patient-level
            differential privacy.
    """

    def __init__(
        self,
        experiment: ExperimentConfig,
        prepared: PreparedSite,
        learner: Learner,
        hardware: Hardware,
        config: SiteConfig,
        curves: LogWriter | None,
        run_folder: Path,
        ended: Signal | None = None,
        held: IO[bytes] | None = None,
        patient_rounds: PatientRounds | None = None,
        kept: KeptModels | None = None,
        every_metric: bool = False,
        describes_source: bool = False,
        study: SiteStudy | None = None,
    ) -> None:
        self._study = study
        self.patient_rounds = patient_rounds
        self._describes_source = describes_source
        self._kept = kept
        self._experiment = experiment
        self._prepared = prepared
        self._learner = learner
        self._hardware = hardware
        self._config = config
        self._curves = curves
        self._run_folder = run_folder
        self._ended = ended
        self._held = held  # nobody removes the prepared slices while this is open
        self._picture: np.ndarray | None = None
        preset = on_prepared_slices(experiment.preset)
        self._preset = preset if every_metric else preset.in_rounds
        self._translator = experiment.model.described.translator
        self._generator = build_translator(experiment.model)

    def train(
        self,
        state: Mapping[str, np.ndarray],
        arrays: Mapping[str, np.ndarray],
        round_number: int,
        accepted_round: int | None = None,
    ) -> RoundResult:
        """Train one round from the received state and the strategy's arrays.

        Raises:
            RunEndedError: the run ended or failed in the meantime; nothing is kept of the round.
        """
        result = self._learner.train(
            _tensors(state), round_number, self._report, _tensors(arrays), accepted_round
        )
        return replace(result, metrics=rounded(self._config.limits, result.metrics))

    def validate(
        self,
        state: Mapping[str, np.ndarray],
        round_number: int,
        accepted_round: int | None = None,
    ) -> dict[str, float]:
        """Compute the metrics on this site's validation patients.

        ``val/...`` belong to the received model, completed by what the site keeps to itself;
        ``personal/...`` to the site's own model where the strategy has one. With those of the final
        model go the percentiles of the training's source scans, where the site says so: they make
        ``translate`` warn of a scan that is far from them. All are rounded as the site's own limits
        say.
        """
        started = time.perf_counter()
        completed = self._learner.complete(_tensors(state), round_number, accepted_round)
        metrics = self._measure(completed, "val")
        personal = self._learner.personal(round_number, accepted_round)
        if personal is not None:
            metrics |= self._measure(personal, "personal")
        metrics = rounded(self._config.limits, metrics)
        if self._config.share_curves:
            for name, value in metrics.items():
                self._send_scalar(name, value, round_number)
        if self._picture is not None:
            self._send("val/source_target_translated_error", self._picture, round_number, "IMAGE")
        if self._describes_source and round_number == self._experiment.training.rounds:
            metrics |= rounded(self._config.limits, self._source())
        metrics["time/validate_seconds"] = time.perf_counter() - started
        return metrics

    def _source(self) -> dict[str, float]:
        least = self._config.statistics.least_patients
        return source_percentiles(self._prepared.split("train"), least)

    def keep_personal_model(
        self,
        state: Mapping[str, np.ndarray],
        round_number: int,
        accepted_round: int | None = None,
    ) -> None:
        """Write the model that this site would use: with its local parts, or its personal one.

        It is written where the strategy makes sites differ, and stays at the site.
        """
        if not self._experiment.strategy.record.site.has_personal_models:
            return
        model = self._own_model(state, round_number, accepted_round)
        write_tensors(self._run_folder / PERSONAL_MODEL, {"model": model})

    def keep_models(
        self,
        state: Mapping[str, np.ndarray],
        round_number: int,
        metrics: Mapping[str, float],
        accepted_round: int | None = None,
        final: bool = False,
    ) -> None:
        """Keep the received model as this site would use it, where the site's own file says so.

        It is the site's own convenience: what cannot be kept is said in its log, and the round
        goes on for everybody.

        Args:
            state: the received model.
            round_number: finished rounds.
            metrics: of this model on the site's validation patients; they stay at the site.
            accepted_round: the last round of this site that the server took.
            final: whether it is the model after the last round; else it is kept if it is the best.
        """
        if self._kept is None:
            return
        model = self._own_model(state, round_number, accepted_round)
        keep = self._kept.keep_final if final else self._kept.keep_if_best
        try:
            keep(model, round_number, metrics)
        except (UserError, OSError) as error:
            logger.error("the model of round %d is not kept: %s", round_number, error)

    def _own_model(
        self, state: Mapping[str, np.ndarray], round_number: int, accepted_round: int | None
    ) -> Mapping[str, Tensor]:
        return self._learner.personal(round_number, accepted_round) or self._learner.complete(
            _tensors(state), round_number, accepted_round
        )

    def keep_global_model(self, state: Mapping[str, np.ndarray]) -> None:
        """Write the final global model, where the server cannot; it stays at the site."""
        write_tensors(self._run_folder / GLOBAL_MODEL, {"model": _tensors(state)})

    def study_numbers(
        self, state: Mapping[str, np.ndarray], round_number: int, accepted_round: int | None = None
    ) -> dict[str, float]:
        """What a study may learn of this site's test patients; their rows and pictures stay here.

        None where the job belongs to no study or the site's own file says so. What cannot be
        measured is said in the site's log, and the job ends well for everybody.

        Args:
            state: the final model, as it was received.
            round_number: finished rounds.
            accepted_round: the last round of this site that the server took.

        Raises:
            RunEndedError: the run ended while the site trained its own arm.
        """
        if self._study is None:
            return {}
        completed = self._learner.complete(_tensors(state), round_number, accepted_round)
        models: dict[str, Mapping[str, Tensor]] = {GLOBAL: completed}
        if self._experiment.strategy.record.site.personal_term is not None:
            models[PERSONAL] = self._own_model(state, round_number, accepted_round)
        try:
            return self._study.numbers(models, self._hardware, self._stop_if_ended)
        except (UserError, OSError) as error:
            logger.error("nothing is measured for the study: %s", error)
            return {}

    def _measure(self, model: Mapping[str, Tensor], prefix: str) -> dict[str, float]:
        load_translator(self._generator, model, self._translator)
        generator = for_site(self._generator, self._prepared)
        rows: list[dict[str, float]] = []
        for patient in patients(self._prepared.split("val")):
            view = self._experiment.model.view
            prediction = translate_patient(generator, patient, self._hardware, view)
            rows.append(patient_metrics(prediction, patient, self._preset))
            if len(rows) == 1 and prefix == "val" and self._config.share_images:
                self._picture = panel(patient, prediction, self._preset)
        return mean_over_patients(rows, prefix)

    def _report(self, tag: str, value: float, step: int) -> None:
        """Hear of the training as it goes on: send its losses, and stop it when the run is over."""
        self._stop_if_ended()
        if self._config.share_curves:
            self._send_scalar(tag, value, step)

    def _stop_if_ended(self, *_: object) -> None:
        if self._ended is not None and self._ended.triggered:
            raise RunEndedError("the run has ended")

    def _send_scalar(self, tag: str, value: float, step: int) -> None:
        if tag in SHARED_METRICS:
            coarse = rounded(self._config.limits, {tag: value})
            self._send(tag, coarse[tag], step, "SCALAR")

    def _send(self, tag: str, value: float | np.ndarray, step: int, kind: str) -> None:
        if self._curves is not None:
            self._curves.write(tag, value, AnalyticsDataType[kind], global_step=step)


def _tensors(state: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {key: torch.as_tensor(np.array(value)) for key, value in state.items()}
