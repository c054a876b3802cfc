"""The Lightning modules of the models; ``lightning_modules/model_networks.py`` lists them."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from lightning_modules.configuration import TrainingConfig
    from lightning_modules.model_configuration import ModelConfig
    from lightning_modules.privacy.patient_settings import PatientNoise


def build_module(
    model: ModelConfig,
    training: TrainingConfig,
    seed: int,
    patient_noise: PatientNoise | None = None,
) -> pl.LightningModule:
    """The module with seeded initial weights; its state_dict holds the networks alone.

    Args:
        model: the model.
        training: its optimizers.
        seed: of the initial weights.
        patient_noise: has it train with patient-level differential privacy.
    """
    if model.module.is_own:  # whoever asks for noise of patients has refused it
        from lightning_modules.modules.own_module import trainable_module

        return trainable_module(model.module, seed)
    build = resolve_name(model.described.module)
    module: pl.LightningModule = build(model, training, seed)
    if patient_noise is None:
        return module
    from lightning_modules.modules.patient_noise import PatientNoiseModule
    from lightning_modules.privacy.update_noise import system_noise

    return PatientNoiseModule(module, model.name, patient_noise, system_noise())
