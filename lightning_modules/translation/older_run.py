"""A model file of a model that a run has left without one: of an older release, or a site's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fedi2i.errors import DataError
from fedi2i.metric_files import read_metrics
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.sharing.tensor_file import read_tensors
from lightning_modules.translation.model_card import card_of, training_record
from lightning_modules.translation.model_file import ModelFile, translator_weights
from lightning_modules.translation.unlike_training import slice_distances, source_intensities
from partitions.manifest import read_manifest
from partitions.preparation import prepare_site


def model_of_run(
    path: Path, experiment: ExperimentConfig, metrics: Path | None, data: Sequence[Path]
) -> ModelFile:
    """Put a model together from its state_dict, its experiment and what is known of its data.

    Args:
        path: the state_dict, under ``model``.
        experiment: what the run was made of.
        metrics: the run's ``metrics.csv``; None leaves the results out.
        data: site folders whose training scans are described in the card.

    Raises:
        DataError: the file is missing, damaged, or no whole model.
        ConfigError: it is another model than the experiment's.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such model file; correct the path")
    state = read_tensors(
        path, "damaged, or no model of a run", lambda content: dict(content["model"])
    )
    translator = experiment.model.described.translator
    weights = translator_weights(state, translator, experiment.model, experiment.data.preparation)
    if weights is None:
        raise DataError(
            f"{path}: holds a part of the translator alone; the rest stays at each site, whose "
            "personal_model.pt is whole"
        )
    rows = read_metrics(metrics) if metrics is not None else []
    rounds = max((number for _, number, _, _ in rows), default=None)
    record = training_record(experiment, path.parent.name, rows, path.stem, rounds)
    sites = [
        prepare_site(manifest, experiment.data.preparation_at(manifest.site), one / "prepared")
        for one, manifest in ((one, read_manifest(one)) for one in data)
    ]
    source = experiment.data.preparation.source
    splits = [site.split("train") for site in sites if site.config.source == source]
    record = replace(
        record,
        # An older run's release is not known.
        release="",
        data={site.site: site.content_hash for site in sites},
        samples=record.samples
        or {site.site: len(TrainingSlices([site.split("train")])) for site in sites},
    )
    card = card_of(experiment, record, source_intensities(splits), slice_distances(splits))
    return ModelFile(card, weights)
