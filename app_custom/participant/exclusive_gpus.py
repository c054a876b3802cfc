"""A job gets the GPUs that it asked for at a site, for itself alone, and sees no others.

NVFlare 2.9's own manager counts memory, so two jobs that ask for a GPU but for no memory get the
same one; and a job that asks for nothing inherits the devices of whichever job started before it.
A site's ``resources.json`` lists this manager; it works in the site's own process. The processes of
jobs build it too, and NVFlare's would refuse to be built where it sees fewer GPUs than the site
has.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from nvflare.apis.fl_context import FLContext
from nvflare.app_common.resource_managers.gpu_resource_manager import GPUResourceManager

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_OF_A_JOB = "FEDI2I_PROCESS_OF_A_JOB"
"""Environment variable that only processes of jobs inherit."""


class ExclusiveGPUs(GPUResourceManager):
    """Gives out whole GPUs. A site without any has ``num_of_gpus`` 0.

    Args:
        num_of_gpus: GPUs of this site for federated jobs; checked against ``nvidia-smi``.
        mem_per_gpu_in_GiB: memory of each that a job may count on.
        options: NVFlare's further settings.
    """

    def __init__(
        self,
        num_of_gpus: int,
        mem_per_gpu_in_GiB: float,  # noqa: N803 - NVFlare's name, in every resources.json
        **options: Any,
    ) -> None:
        if _OF_A_JOB in os.environ:
            options["ignore_host"] = True
        super().__init__(num_of_gpus, mem_per_gpu_in_GiB, **options)
        self._in_use: set[int] = set()

    def check_resources(
        self, resource_requirement: dict[str, Any], fl_ctx: FLContext
    ) -> tuple[bool, str]:
        """Reserve for a job, or say why not: whoever submitted it reads that as its status."""
        enough, token = super().check_resources(resource_requirement, fl_ctx)
        return enough, token if enough else self._reason(resource_requirement)

    def allocate_resources(
        self, resource_requirement: dict[str, Any], token: str, fl_ctx: FLContext
    ) -> dict[int, float]:
        """Take what was reserved. The job's process, which starts next, inherits the variable."""
        allocated: dict[int, float] = super().allocate_resources(
            resource_requirement, token, fl_ctx
        )
        os.environ[_OF_A_JOB] = "1"
        os.environ[_VISIBLE] = ",".join(str(gpu) for gpu in allocated)
        return allocated

    def _check_required_resource_available(self, resource_requirement: dict[str, Any]) -> bool:
        number, memory = self._asked(resource_requirement)
        return len(self._free(memory)) >= number

    def _reserve_resource(self, resource_requirement: dict[str, Any]) -> dict[int, float]:
        number, memory = self._asked(resource_requirement)
        taken = self._free(memory)[:number]
        self._in_use.update(taken)
        return dict.fromkeys(taken, memory)

    def _deallocate(self, resources: dict[int, float]) -> None:
        self._in_use.difference_update(resources)

    def _asked(self, requirement: dict[str, Any]) -> tuple[int, float]:
        number, memory = requirement.get(self.num_gpu_key, 0), requirement.get(self.gpu_mem_key, 0)
        # A number that cannot be is more than any site has, and the reason shows it.
        possible = isinstance(number, int) and number >= 0
        return (number if possible else sys.maxsize), memory

    def _free(self, memory: float) -> list[int]:
        return [gpu for gpu in self._fitting(memory) if gpu not in self._in_use]

    def _fitting(self, memory: float) -> list[int]:
        return [gpu for gpu, resource in self.resources.items() if resource.memory >= memory]

    def _reason(self, requirement: dict[str, Any]) -> str:
        number, memory = self._asked(requirement)
        with_memory = f" with {memory:g} GiB" if memory else ""
        fitting, free = len(self._fitting(memory)), len(self._free(memory))
        if fitting < number:
            return f"the job asks for {number} GPU(s){with_memory}, this site has {fitting}"
        return f"waiting for {number} GPU(s){with_memory}: {free} of {fitting} are free"
