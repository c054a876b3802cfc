"""Works that a study's methods rest on, and their numbers in the text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from report.run.records import Arm


@dataclass(frozen=True)
class Reference:
    """One work.

    Attributes:
        text: authors, title where known, venue and year.
        link: ``doi:...`` or ``arXiv:...``; empty where there is neither.
    """

    text: str
    link: str


BINKOWSKI = Reference(
    "Binkowski, Sutherland, Arbel, Gretton: Demystifying MMD GANs. ICLR 2018", "arXiv:1801.01401"
)
HARALICK = Reference(
    "Haralick, Shanmugam, Dinstein: Textural features for image classification. IEEE Transactions "
    "on Systems, Man, and Cybernetics 3, 1973",
    "doi:10.1109/TSMC.1973.4309314",
)
DORFMAN = Reference(
    "Dorfman, Berbaum, Metz: Receiver operating characteristic rating analysis, generalization to "
    "the population of readers and patients with the jackknife method. Investigative Radiology 27, "
    "1992",
    "doi:10.1097/00004424-199209000-00015",
)
HILLIS = Reference(
    "Hillis: A comparison of denominator degrees of freedom methods for multiple observer ROC "
    "analysis. Statistics in Medicine 26, 2007",
    "doi:10.1002/sim.2532",
)
HOLM = Reference(
    "Holm: A simple sequentially rejective multiple test procedure. Scandinavian Journal of "
    "Statistics 6, 1979",
    "",
)
SCHUIRMANN = Reference(
    "Schuirmann: A comparison of the two one-sided tests procedure and the power approach for "
    "assessing the equivalence of average bioavailability. Journal of Pharmacokinetics and "
    "Biopharmaceutics 15, 1987",
    "doi:10.1007/BF01068419",
)
CLAIM = Reference(
    "Tejani, Klontzas, Gatti et al.: Checklist for Artificial Intelligence in Medical Imaging "
    "(CLAIM): 2024 update. Radiology: Artificial Intelligence 6, 2024",
    "doi:10.1148/ryai.240300",
)
SOFTWARE = {
    "nvflare": Reference(
        "Roth et al.: NVIDIA FLARE: federated learning from simulation to real-world, 2022",
        "arXiv:2210.13291",
    ),
    "monai": Reference(
        "Cardoso et al.: MONAI: an open-source framework for deep learning in healthcare, 2022",
        "arXiv:2211.02701",
    ),
}
"""Package to the work that describes it."""
MODELS = {
    "pix2pix": Reference(
        "Isola et al.: Image-to-image translation with conditional adversarial networks. CVPR 2017",
        "arXiv:1611.07004",
    ),
    "cyclegan": Reference(
        "Zhu et al.: Unpaired image-to-image translation using cycle-consistent adversarial "
        "networks. ICCV 2017",
        "arXiv:1703.10593",
    ),
}
"""The model's name in the settings to the work that describes it."""
METRICS = {
    "ssim": Reference(
        "Wang et al.: Image quality assessment: from error visibility to structural similarity. "
        "IEEE Transactions on Image Processing 13, 2004",
        "doi:10.1109/TIP.2003.819861",
    ),
}
"""A metric's name to the work that defines it."""


def of_strategy(arm: Arm) -> tuple[Reference, ...]:
    """The paper of an arm's strategy, where the run names it."""
    return (Reference(arm.paper.text, arm.paper.link),) if arm.paper else ()


@dataclass(frozen=True)
class Sentence:
    """A sentence without its full stop, and the works that it rests on."""

    text: str
    cited: tuple[Reference, ...] = ()


class Numbering:
    """Numbers references in the order in which they are first cited."""

    def __init__(self) -> None:
        self._numbers: dict[Reference, int] = {}

    def cite(self, works: Iterable[Reference]) -> str:
        """``[1, 3]`` with a space before it; nothing without works."""
        numbers = sorted({self._numbers.setdefault(w, len(self._numbers) + 1) for w in works})
        return f" [{', '.join(map(str, numbers))}]" if numbers else ""

    def written(self, sentences: Iterable[Sentence]) -> str:
        """The sentences as running text."""
        return " ".join(f"{item.text}{self.cite(item.cited)}." for item in sentences)

    @property
    def works(self) -> tuple[Reference, ...]:
        """Everything cited so far, in the order of the numbers."""
        return tuple(self._numbers)
