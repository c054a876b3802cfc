"""The server sends out a model that it was given, to be measured and not trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from nvflare.apis.dxo import DXO, DataKind
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.model_locator import ModelLocator
from torch import Tensor

from app_custom.server.model_files import mapped_model
from fedi2i.errors import ConfigError, UserError
from lightning_modules.configuration import ExperimentConfig, experiment_from
from lightning_modules.networks.building import build_networks
from lightning_modules.sharing.tensor_file import read_model_state
from lightning_modules.translation.model_file import SUFFIX, read_model
from partitions.preparation.configuration import PreparationConfig

GIVEN = "given"
"""What the server's ``fedi2i.yaml`` calls the model, below ``models``."""
_FINDS_TARGETS = ("pairing", "registration")
"""Of a preparation: which target a source is compared with, and where it lies. All other keys, new
ones too, decide what the model is given and what its values mean."""


class GivenModel(ModelLocator):
    """Has NVFlare's evaluation send out one model: the translator of a file of the server's owner.

    The server's own ``fedi2i.yaml`` maps the name to a file, so that a job can name no path. It is
    a model file, whose card must be of the job's task, or a state_dict that a run left.

    Args:
        settings: the experiment's values.
        name: the model's name.
    """

    def __init__(self, settings: Mapping[str, Any], name: str = GIVEN) -> None:
        super().__init__()
        self._experiment = experiment_from(settings, "job argument 'settings'")
        self._name = name

    def get_model_names(self, fl_ctx: FLContext) -> list[str]:
        """Name the one model to evaluate."""
        return [self._name]

    def locate_model(self, model_name: str, fl_ctx: FLContext) -> DXO | None:
        """Return the translator as the sites receive it; end the job where there is none."""
        try:
            state = given_translator(mapped_model(self._name, fl_ctx), self._experiment)
        except UserError as error:
            self.system_panic(f"server: {error}", fl_ctx)
            return None
        return DXO(DataKind.WEIGHTS, data={key: value.numpy() for key, value in state.items()})


def given_translator(path: Path, experiment: ExperimentConfig) -> dict[str, Tensor]:
    """The translator of a file, under the names that the sites expect.

    Raises:
        ConfigError: it is a model of another task.
        DataError: the file is missing, damaged or holds another model.
    """
    prefix = f"{experiment.model.described.translator}."
    if path.suffix == SUFFIX:
        model = read_model(path)
        _check_task(path, model.card.preparation, experiment.data.preparation)
        if model.card.network.generator != experiment.model.of_pair:
            raise ConfigError(f"{path}: has another generator than the job describes")
        return {prefix + key: value for key, value in model.weights.items()}
    drawn = build_networks(experiment.model, experiment.seed).state_dict()
    shapes = {key: tuple(value.shape) for key, value in drawn.items() if key.startswith(prefix)}
    return read_model_state(path, shapes)


def _check_task(path: Path, own: PreparationConfig, wanted: PreparationConfig) -> None:
    for key in (one.name for one in fields(own) if one.name not in _FINDS_TARGETS):
        if getattr(own, key) != getattr(wanted, key):
            raise ConfigError(
                f"{path}: a model of another task: '{key}' of its preparation is "
                f"{getattr(own, key)}, and {getattr(wanted, key)} in the job"
            )
