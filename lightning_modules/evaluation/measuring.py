"""Measure all predictions of one patient, in whatever process.

A process that only measures imports no network, and none of what builds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from fedi2i.cores import one_torch_thread
from lightning_modules.evaluation.images import native_pair, stored_target_of
from lightning_modules.evaluation.validation import Patient, patient_metrics
from lightning_modules.metrics.presets.catalogue import PRESETS, needs_scans
from partitions.manifest import SiteManifest
from partitions.preparation.configuration import PreparationConfig


@dataclass(frozen=True)
class Translated:
    """A patient and the predictions of all arms, to be measured in whatever process.

    Attributes:
        site: whose patient it is.
        patient: the prepared slices.
        predictions: by arm, of the shape of the target; intensities in [0, 1].
        manifest: leads to the patient's scan; None where that is not known.
        config: how the site was prepared.
        preset: name of what measures them.
    """

    site: str
    patient: Patient
    predictions: Mapping[str, Tensor]
    manifest: SiteManifest | None
    config: PreparationConfig
    preset: str


def measured(translated: Translated) -> tuple[str, str, dict[str, dict[str, float]]]:
    """Every arm's metrics of one patient, whose scan is read once.

    Returns:
        The site, the subject, and the metrics by arm.
    """
    patient, preset = translated.patient, PRESETS[translated.preset]
    with one_torch_thread():
        if needs_scans(preset):
            stored = stored_target_of(translated.manifest, translated.config, patient)
            found = {
                arm: preset.measure(native_pair(prediction, patient, stored, preset))
                for arm, prediction in translated.predictions.items()
            }
        else:
            found = {
                arm: patient_metrics(prediction, patient, preset)
                for arm, prediction in translated.predictions.items()
            }
    return translated.site, patient.subject, found
