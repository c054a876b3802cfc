"""What a job says of the study that it belongs to: its arm, and what the study is about.

The server and whoever writes a job read this, so it imports nothing that trains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app_custom.participant.site_configuration import checked_run_name
from fedi2i.errors import ConfigError
from fedi2i.typed_config import check_values, number, record_from

STUDY_FILE = "study.json"
"""In the folder of a study at a site."""


@dataclass(frozen=True)
class StudyTask:
    """The part of a study that one job is; its seed is the experiment's.

    Attributes:
        study: the study's name.
        arm: the job's name among the study's arms.
        reference: the arm that all others are compared with.
        metric: of the primary outcome.
        margin: of equivalence, in the metric's unit.
        design: digest of all that may not change while the study runs.
        local: whether each site also trains its own arm in this job, on its own data alone.
    """

    study: str = "study"
    arm: str = "fedavg"
    reference: str = "fedavg"
    metric: str = "psnr"
    margin: float = number(0.3, above=True, most=1e6)
    design: str = ""
    local: bool = False


def study_task(values: Mapping[str, Any] | None, where: str) -> StudyTask | None:
    """Read and check a job's argument; None for a job of no study.

    Args:
        values: the argument.
        where: the argument's place, for messages.

    Raises:
        ConfigError: an unknown key, a margin out of range, or a name that is a path.
    """
    if values is None:
        return None
    task = record_from(StudyTask, values, where)
    check_values(task, where, "study.")
    for key in ("study", "arm", "reference"):
        try:
            checked_run_name(getattr(task, key))
        except ConfigError as error:
            raise ConfigError(f"{where}: study.{key}: {error}") from error
    return task
