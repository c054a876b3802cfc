"""Names of normalisation layers in configurations, as MONAI knows them."""

from __future__ import annotations

from typing import Any

_MONAI = {
    "instance": ("INSTANCE", {"affine": False}),
    "instance_affine": ("INSTANCE", {"affine": True}),
    "batch": ("BATCH", {}),
}


def monai_norm(name: str) -> tuple[str, dict[str, Any]]:
    """MONAI's layer name and arguments for ``instance``, ``instance_affine`` or ``batch``.

    Instance normalisation is the default for federated runs: it keeps no running statistics that
    averaging could spoil.
    """
    return _MONAI[name]
