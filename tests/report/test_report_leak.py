"""The figure of an audit: quality against leak."""

from __future__ import annotations

from pathlib import Path

import pytest

from report.figures.leak import REFERENCE_ATTACK, draw_leak
from report.run.audit import Attack, Audit, AuditedMechanism


def mechanism(auc: float, right: float, band: tuple[float, float]) -> AuditedMechanism:
    around = (auc - 0.05, auc + 0.05)
    attack = Attack(
        *(REFERENCE_ATTACK, "against reference models", auc, around, band, 0.5, 120, 120),
        *(0.01, 0.0, (0.0, 0.1), 0.02),
    )
    signs = {"everywhere": right, "inside": right, "guess": 0.93, "worst": right, "slices": 6.0}
    attacks = {attack.name: attack}
    return AuditedMechanism(
        *("noise", "nothing", None, 20.0, 0.3, 0.8, attacks, attack.name, 0.5, 1, signs, (), None)
    )


@pytest.mark.parametrize(
    ("auc", "right", "band"),
    [
        (0.92, 1.0, (0.41, 0.59)),  # nothing is protected
        (0.48, 0.287, (0.45, 0.55)),  # noise has turned most signs round
        (0.2, 0.0, (0.1, 0.9)),  # few patients: the band of chance is wide
    ],
)
def test_whatever_was_found_lies_inside_the_figure(
    auc: float, right: float, band: tuple[float, float]
) -> None:
    plain = mechanism(0.92, 1.0, (0.41, 0.59))
    figure = draw_leak(Audit(Path("audit"), {}, (plain, mechanism(auc, right, band))))
    _, membership, signs = figure.axes
    for axis, values in ((membership, (auc - 0.05, auc + 0.05, *band)), (signs, (100 * right, 93))):
        left, most = axis.get_xlim()
        assert all(left < value < most for value in values)
