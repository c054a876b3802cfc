"""What a bundle's configuration names: MONAI transforms around the steps of ``translate``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms.transform import Transform

from lightning_modules.data.slices import from_network, to_intensity, to_network
from lightning_modules.translation.model_file import read_model
from lightning_modules.translation.new_scans import read_scan, result_names
from lightning_modules.translation.scans_to_scans import NIFTI, write_translation
from lightning_modules.translation.translator import Translator
from partitions.preparation.grids.native_grid import to_native_grid
from partitions.preparation.new_scan import prepare_source

Item = dict[str, Any]
_SCAN, _PREPARED, _VALUES = "scan", "prepared", "values"


class _OfModel(Transform):
    """A transform that does what a model file says.

    Args:
        model: path of the model file in the bundle.
    """

    def __init__(self, model: str) -> None:
        super().__init__()
        self.translator = Translator(read_model(Path(model)))


class PrepareScand(_OfModel):
    """From the path of a scan to slices for the network, with the neighbours that it is shown.

    Shape (channels, rows, columns, slices), range [-1, 1].
    """

    def __call__(self, data: Mapping[str, Any]) -> Item:
        """Add the scan and what is needed for the way back."""
        card = self.translator.card
        config, path = card.preparation, Path(data["image"])
        scan = read_scan(path, config.source)
        prepared = prepare_source(scan.volume, scan.grid, config)
        around = card.network.view.around(prepared.geometry.kept)
        slices = to_network(to_intensity(prepared.source[around])).permute(1, 2, 3, 0)
        return {**data, "path": path, "image": slices, _SCAN: scan, _PREPARED: prepared}


class ToScansGridd(_OfModel):
    """From the network's slices to a volume on the scan's own grid, in the target's unit."""

    def __call__(self, data: Mapping[str, Any]) -> Item:
        """Add the volume."""
        slices = from_network(data["pred"].permute(3, 0, 1, 2)).clamp(0.0, 1.0).cpu().numpy()
        geometry = data[_PREPARED].geometry
        values = to_native_grid(np.asarray(slices), geometry, self.translator.scale)
        return {**data, _VALUES: values}


class SaveTranslationd(_OfModel):
    """Writes the volume as NIfTI.

    Args:
        model: path of the model file in the bundle.
        folder: where to write.
    """

    def __init__(self, model: str, folder: str) -> None:
        super().__init__(model)
        self._folder = Path(folder)

    def __call__(self, data: Mapping[str, Any]) -> Item:
        """Add where it was written."""
        path: Path = data["path"]
        name = result_names([path], self.translator.card.preparation.target)[path]
        target = self._folder / f"{name}{NIFTI}"
        written = write_translation(target, data[_VALUES], data[_SCAN], self.translator)
        return {**data, "written": written}


def infer(
    dataset: Iterable[Item],
    network: torch.nn.Module,
    inferer: Callable[[torch.Tensor, torch.nn.Module], torch.Tensor],
    postprocessing: Callable[[Item], Item],
    device: torch.device,
) -> list[Item]:
    """Run a bundle's parts on every scan of its data set.

    MONAI's own evaluator does the same, and needs another package (ignite) for it.
    """
    results = []
    with torch.inference_mode():
        for item in dataset:
            predicted = inferer(item["image"][None].to(device), network)[0]
            results.append(postprocessing({**item, "pred": predicted}))
    return results
