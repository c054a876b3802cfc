"""What a job asks of a cluster."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from fedi2i.errors import ConfigError
from fedi2i.typed_config import number

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,+-]*")
"""What Slurm calls partitions and accounts; several have commas between them."""


@dataclass(frozen=True)
class Resources:
    """What one job, an arm of one seed, may use. Another choice is no other study.

    Attributes:
        cores: processor cores.
        memory: main memory.
        gpus: GPUs.
        hours: after so long Slurm stops the job and puts it into the queue again, where it goes on
            after its last finished round.
        partition: of the cluster; by default the cluster's own choice.
        account: that pays for the time; by default the cluster's own choice.
    """

    cores: int = number(4, low=1, most=4096, meaning="processor cores")
    memory: float = number(16.0, above=True, most=65536, meaning="GiB of main memory")
    gpus: int = number(0, most=64, meaning="GPUs")
    hours: float = number(24.0, above=True, most=8760, meaning="hours without an interruption")
    partition: str = ""
    account: str = ""

    def check_names(self, where: str) -> None:
        """Refuse names that no cluster has: they become lines of a script that a shell runs.

        Raises:
            ConfigError: naming the key.
        """
        for key in ("partition", "account"):
            name = getattr(self, key)
            if name and not _NAME.fullmatch(name):
                raise ConfigError(
                    f"{where}: resources.{key} is {name!r}; write a name of your cluster, in "
                    "letters, digits, '_', '-', '.' and '+'"
                )

    @property
    def minutes(self) -> int:
        """The time, in whole minutes."""
        return math.ceil(60 * self.hours)
