"""Precision, threads and device of this process, chosen once and said in the log."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch

from fedi2i.cores import available_cores

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hardware:
    """What this process computes with.

    Attributes:
        accelerator: Lightning's name, ``cpu`` or ``gpu``.
        precision: Lightning's name, ``32-true`` or ``bf16-mixed``.
        threads: torch threads of this process.
    """

    accelerator: str
    precision: str
    threads: int

    @property
    def device(self) -> torch.device:
        """Where networks are evaluated."""
        return torch.device("cuda" if self.accelerator == "gpu" else "cpu")


def choose_hardware(precision: str, threads: int) -> Hardware:
    """Choose the device and precision, set torch's threads, and log the choice.

    Args:
        precision: ``auto``, ``fp32`` or ``bf16`` from the configuration.
        threads: torch threads, at least 1; see ``threads_for``.
    """
    accelerator = "gpu" if torch.cuda.is_available() else "cpu"
    use_bf16 = precision == "bf16" or (precision == "auto" and _multiplies_bf16(accelerator))
    hardware = Hardware(accelerator, "bf16-mixed" if use_bf16 else "32-true", max(1, threads))
    torch.set_num_threads(hardware.threads)
    logger.info(
        "computing on %s in %s with %d torch thread(s)",
        hardware.accelerator,
        hardware.precision,
        hardware.threads,
    )
    return hardware


def threads_for(sites_on_this_machine: int) -> int:
    """Cores of this machine divided by the sites that may train on it at once, at least 1.

    The number depends on the job and the machine, never on how many sites happen to run at the
    moment: sums over threads round differently, and results must not depend on that.
    """
    return max(1, available_cores() // max(1, sites_on_this_machine))


def _multiplies_bf16(accelerator: str) -> bool:
    """Whether bf16 matrix products have hardware of their own.

    On CPUs only AMX tiles count: AVX-512 BF16 alone made training steps of our networks slower
    than fp32 (docs/performance.md).
    """
    if accelerator == "gpu":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_amx_tile_supported())
