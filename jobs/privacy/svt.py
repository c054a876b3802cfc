"""NVFlare's SVTPrivacy on updates: a noisy choice of values leaves, cut off and with noise."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from app_custom.privacy.nvflare_filters import SVTOnUpdates, check_svt
from fedi2i.typed_config import number
from jobs.privacy.interface import (
    NO_GUARANTEE,
    PrivacyMechanism,
    filtered_updates,
    refuse_independent_start,
)

if TYPE_CHECKING:
    from jobs.writing.federation import FederatedExperiment


@dataclass(frozen=True)
class SparseVector:
    """Settings of SVTPrivacy. Its epsilon is of one coordinate and protects no site and no patient.

    The defaults are not NVFlare's, whose noise leaves nothing of an update (docs/privacy.md).

    Attributes:
        fraction: which part of all values leaves; the others become 0.
        svt_epsilon: epsilon of the choice of values.
        noise_var: the noise on each value has the scale ``2 gamma / noise_var``.
        gamma: larger values are cut to it, in units of the weights per step.
        tau: the threshold of the choice before its noise.
        steps: by how many steps the update is divided before it is compared with ``gamma``.
    """

    fraction: float = number(0.5, most=1.0, above=True, meaning="part of the values that leaves")
    svt_epsilon: float = number(0.1, above=True, meaning="epsilon of the choice of values")
    noise_var: float = number(10.0, above=True, meaning="noise of scale 2 gamma / noise_var")
    gamma: float = number(0.01, above=True, meaning="larger values per step are cut to it")
    tau: float = number(1e-6, meaning="threshold of the choice, at most 2 gamma / svt_epsilon")
    steps: int = number(1, low=1, meaning="steps by which an update is divided first")


def _refuse(job: FederatedExperiment, where: str) -> None:
    settings = job.privacy.settings
    refuse_independent_start(job, where)
    check_svt(
        settings.fraction,
        settings.svt_epsilon,
        settings.noise_var,
        settings.gamma,
        settings.tau,
        f"{where}: privacy",
    )


def _arguments(settings: SparseVector) -> dict[str, Any]:
    arguments = asdict(settings)
    arguments["epsilon"] = arguments.pop("svt_epsilon")
    return arguments


MECHANISM = PrivacyMechanism(
    name="svt",
    label="SVTPrivacy on updates (not differential privacy)",
    ending="svt",
    promise=f"{NO_GUARANTEE}: its epsilon is of one weight and grows with the model",
    settings=SparseVector,
    refuse=_refuse,
    **filtered_updates(SVTOnUpdates, _arguments),
)
