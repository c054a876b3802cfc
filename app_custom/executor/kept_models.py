"""A site that agrees keeps the models that it would use, in its own folder, for ``translate``.

Nothing is sent for it: the server's models pass by in the course of the run. The site adds to their
cards what it knows of its own data, which is one more reason why the copies stay where they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from fedi2i.errors import DataError, UserError
from fedi2i.files import PRIVATE_FILE
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.translation.model_card import TrainingRecord, card_of, training_record
from lightning_modules.translation.model_file import (
    SUFFIX,
    ModelFile,
    read_card,
    translator_weights,
    write_model,
)
from lightning_modules.translation.unlike_training import slice_distances, source_intensities
from partitions.preparation import PreparedSite

FINAL, BEST = "final", "best"
_MEASURES = ("personal/psnr", "val/psnr")
"""What models are compared by: of the site's own model where it has one, else of the global one."""


class KeptModels:
    """The final model of a run, and the best one on this site's own validation patients.

    Args:
        folder: of this run alone, in this site's folder for models.
        run: the run's name.
        experiment: the run's.
        prepared: this site's data.
        privacy: settings of the privacy mechanism, as the site knows them.
    """

    def __init__(
        self,
        folder: Path,
        run: str,
        experiment: ExperimentConfig,
        prepared: PreparedSite,
        privacy: Mapping[str, object] | None = None,
    ) -> None:
        self._folder = folder
        self._run = run
        self._experiment = experiment
        self._prepared = prepared
        self._privacy = dict(privacy or {})

    def keep_if_best(
        self, model: Mapping[str, Tensor], rounds: int, metrics: Mapping[str, float]
    ) -> bool:
        """Keep a model if it beats the best one so far; the initial model does not compete.

        Args:
            model: state_dict with the whole translator.
            rounds: finished rounds.
            metrics: on this site's validation patients; without any nothing is compared.
        """
        value = _measure(metrics)
        if rounds == 0 or value is None:
            return False
        best = self._best_so_far(rounds)
        if best is not None and value <= best:
            return False
        self._write(BEST, model, rounds, metrics)
        return True

    def keep_final(
        self, model: Mapping[str, Tensor], rounds: int, metrics: Mapping[str, float]
    ) -> Path:
        """Keep the model after the last round, which competes for the best one, too."""
        self.keep_if_best(model, rounds, metrics)
        return self._write(FINAL, model, rounds, metrics)

    def _best_so_far(self, rounds: int) -> float | None:
        path = self._folder / f"{BEST}{SUFFIX}"
        if not path.is_file():
            return None
        try:
            record = read_card(path).training
        except UserError:  # damaged, or of another release
            return None
        # A run that was started anew begins with its first round: what is there is an older one's.
        return _measure(record.results) if (record.rounds or 0) < rounds else None

    def _write(
        self, chosen: str, model: Mapping[str, Tensor], rounds: int, metrics: Mapping[str, float]
    ) -> Path:
        translator = self._experiment.model.described.translator
        own = self._prepared.config
        weights = translator_weights(model, translator, self._experiment.model, own)
        if weights is None:
            raise DataError("the model that this site would use lacks a part of its translator")
        training = self._prepared.split("train")
        data = replace(self._experiment.data, preparation=own)
        card = card_of(
            replace(self._experiment, data=data),
            self._record(chosen, rounds, metrics, len(training.source)),
            source_intensities([training]),
            slice_distances([training]),
        )
        path = self._folder / f"{chosen}{SUFFIX}"
        return write_model(path, ModelFile(card, weights), PRIVATE_FILE)

    def _record(
        self, chosen: str, rounds: int, metrics: Mapping[str, float], slices: int
    ) -> TrainingRecord:
        site = self._prepared.site
        record = training_record(self._experiment, self._run, [], chosen, rounds, self._privacy)
        return replace(
            record,
            samples={site: slices},
            data={site: self._prepared.content_hash},
            results={
                name: value
                for name, value in metrics.items()
                if name.startswith(("val/", "personal/"))
            },
        )


def _measure(metrics: Mapping[str, float]) -> float | None:
    return next((metrics[name] for name in _MEASURES if name in metrics), None)
