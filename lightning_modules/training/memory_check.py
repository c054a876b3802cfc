"""Whether a training step fits into memory, said before the first one is taken."""

from __future__ import annotations

import logging
from pathlib import Path

import psutil
import torch

from fedi2i.errors import ConfigError
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.step_memory import (
    StepMemory,
    counted,
    mebibytes,
    step_memory,
    trained_size,
)

logger = logging.getLogger(__name__)

TIGHT = 0.8
"""Part of the free memory beyond which a step is warned of."""
_HALF = 0.5  # of a number's bytes in bf16


def check_memory(
    experiment: ExperimentConfig,
    hardware: Hardware,
    slices: int | None = None,
    at_once: int = 1,
) -> None:
    """Refuse to train what does not fit into the memory that is free, and warn where it is tight.

    Nothing is refused where a step's memory or the free memory cannot be known.

    Args:
        experiment: the experiment.
        hardware: what it trains on.
        slices: of a step; by default the experiment's.
        at_once: trainings that share the memory for certain.

    Raises:
        ConfigError: with both figures and what to change.
    """
    step, free = step_memory(experiment, slices), free_memory(hardware.device)
    if step is None or free is None:
        return
    each = _least(step, hardware)
    where = "this GPU" if hardware.accelerator == "gpu" else "this machine"
    size = " x ".join(str(side) for side in trained_size(experiment))
    whose = f"each of {at_once} trainings at once" if at_once > 1 else "training"
    figures = (
        f"{whose} takes at least {mebibytes(each)} MiB for a step of {counted(step.slices)} of "
        f"{size}, and {mebibytes(free)} MiB are free on {where}"
    )
    if at_once * each > free:
        raise ConfigError(f"the model does not fit into memory: {figures}; {_remedy(step)}")
    if at_once * each > TIGHT * free:
        logger.warning("memory is tight: %s; if it runs out, %s", figures, _remedy(step))


def free_memory(device: torch.device) -> int | None:
    """Bytes that this process can still take on a device; None where nobody says.

    Of main memory it is what the system says is available without swapping, and no more than
    what the control group of the process (a container, a job of Slurm) leaves.
    """
    try:
        if device.type == "cuda":
            return int(torch.cuda.mem_get_info(device)[0])
        rooms = [psutil.virtual_memory().available, *_rooms_of_groups()]
        return int(min(rooms))
    except (OSError, RuntimeError, ValueError, psutil.Error):
        return None


_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


def _rooms_of_groups() -> list[int]:
    """What each control group above this process leaves of its limit (Linux, version 2)."""
    try:
        lines = _OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:  # another system
        return []
    own = next((line[3:] for line in lines if line.startswith("0::")), None)
    if own is None:
        return []
    lowest = _GROUPS / own.strip("/")
    groups = [group for group in (lowest, *lowest.parents) if group.is_relative_to(_GROUPS)]
    return [room for group in groups if (room := _room_of_group(group)) is not None]


def _room_of_group(group: Path) -> int | None:
    """What is left of one group's limit; the files that it could drop count as free.

    Where there is no limit the file has a word in place of a number.
    """
    try:
        limit = int((group / "memory.max").read_text(encoding="utf-8"))
        taken = int((group / "memory.current").read_text(encoding="utf-8"))
        lines = (group / "memory.stat").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    files = [int(line.split()[1]) for line in lines if line.startswith("inactive_file ")]
    return limit - taken + sum(files)


def _least(step: StepMemory, hardware: Hardware) -> int:
    """What a step takes at the least: in bf16 most activations have half the bytes."""
    if hardware.precision == "32-true":
        return step.total
    return step.total - step.activations + int(_HALF * step.activations)


def _remedy(step: StepMemory) -> str:
    """What to change: the batch helps where activations are the most of it."""
    if step.activations > step.total / 2 and step.slices > 1:
        return "lower training.batch_size, or take a smaller data.preparation.size or network"
    if step.activations > step.total / 2:
        return "take a smaller data.preparation.size, or a network with fewer channels"
    return "take a network with fewer channels or levels"
