"""A volume translated patch by patch: windows that overlap, weighted by a Gaussian (3-D).

Windows have the size of the patches of training, as instance normalisation takes its statistics
from what a window shows. They lie in a fixed order, so that a result can be repeated.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lightning_modules.data.slices import from_network, to_network
from lightning_modules.data.source_view import SourceView, ends_of_runs
from lightning_modules.training.hardware import Hardware

OVERLAP = 0.5
"""Part of a window's side that the next window covers again."""


def translate_volume(
    generator: nn.Module,
    source: Tensor,
    hardware: Hardware,
    view: SourceView,
    heights: Sequence[int],
    windows_at_once: int,
) -> Tensor:
    """Translate a volume by MONAI's sliding window, in float32 whatever training computes in.

    Where preparation has left out slices, what lies on either side of the gap is translated by
    itself. A part that is smaller than the patch is enlarged by repeating its outermost voxels, and
    cut again.

    Args:
        generator: in any mode; it is evaluated without dropout and left as it was.
        source: (slices, rows, columns), intensities in [0, 1].
        hardware: where windows are translated; they are put together on the CPU.
        view: with a patch.
        heights: which slices of the scan these are, see ``SourceView.around``.
        windows_at_once: how many go through the network together.

    Returns:
        Same shape, float32 intensities in [0, 1], on the CPU.
    """
    # Imported here, as it takes long and a process that trains on slices does without it.
    from monai.inferers.utils import sliding_window_inference

    first, _ = ends_of_runs(heights)
    lengths = np.unique(first, return_counts=True)[1]
    was_training = generator.training
    generator.eval().to(hardware.device)
    parts = []
    with torch.inference_mode():
        for part in torch.split(source, lengths.tolist()):
            translated = sliding_window_inference(
                to_network(part[None, None]),
                roi_size=view.patch,
                sw_batch_size=windows_at_once,
                predictor=generator,
                overlap=OVERLAP,
                mode="gaussian",
                padding_mode="replicate",
                sw_device=hardware.device,
                device="cpu",
            )
            parts.append(from_network(translated)[0])
    generator.train(was_training)
    return torch.cat(parts)
