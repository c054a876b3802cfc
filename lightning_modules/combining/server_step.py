"""A server optimizer's step on top of the sites' mean."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lightning_modules.combining.updates import Weights

Step = Callable[[str, np.ndarray], np.ndarray]
"""From a key and the mean update of its parameter (float64) to the step the server takes."""


def with_server_step(
    mean: Weights, anchor: Weights, is_parameter: Callable[[str], bool], step: Step
) -> Weights:
    """The model after the server's step on every parameter; buffers take the mean.

    The step is measured from the model that was sent out, never from a copy the server keeps, so
    that a loaded or continued model is not lost. It is added as mean + (step - update), which is
    the same as anchor + step and equals the mean to the last bit where the step is the update.
    """
    stepped = {}
    for key, value in mean.items():
        if is_parameter(key) and np.issubdtype(value.dtype, np.floating):
            exact = value.astype(np.float64)
            update = exact - anchor[key]
            stepped[key] = (exact + (step(key, update) - update)).astype(value.dtype)
        else:
            stepped[key] = value
    return stepped
