"""Draw mechanisms against image quality and measured leak: one row each, three panels."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from report.figures.style import GLOBAL_COLOUR, REFERENCE_COLOUR, STYLE, WIDTH_INCHES
from report.number_format import epsilon_text
from report.run.audit import Audit, AuditedMechanism

REFERENCE_ATTACK = "reference"
_ROW_INCHES = 0.55


def draw_leak(audit: Audit) -> Figure:
    """Quality to the left, leak to the right, the mechanisms from top to bottom.

    Args:
        audit: the findings, one or more mechanisms.
    """
    rows = audit.mechanisms
    places = np.arange(len(rows))[::-1]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, 1.5 + _ROW_INCHES * len(rows)), layout="constrained")
        inverted = rows[0].linear is not None
        quality, membership, *signs = figure.subplots(1, 3 if inverted else 2, sharey=True)
        for place, row in zip(places, rows, strict=True):
            quality.errorbar(
                row.psnr, place, xerr=row.psnr_spread, fmt="o", color="#222222", capsize=3
            )
            _draw_membership(membership, row, place)
            for axis in signs:
                _draw_signs(axis, row.linear or {}, place)
        quality.set_yticks(places, [_row_label(row) for row in rows])
        quality.set_ylim(-0.6, len(rows) - 0.4)
        quality.set_title("Image quality")
        quality.set_xlabel("PSNR on other patients, dB  (right is better)")
        membership.axvline(0.5, color="#888888", linewidth=1)
        _show_all(membership, 0.3, 1.02)
        membership.set_title("Membership")
        membership.set_xlabel("AUC, reference models  (0.5 is guessing)")
        for axis in signs:
            _show_all(axis, 45, 103)
            axis.set_title("Linear inversion of one slice")
            axis.set_xlabel("signs right, % of pixels  (bar: guessing)")
        return figure


def _show_all(axis: Axes, left: float, right: float) -> None:
    """The usual range, or more where something was found below it: noise turns signs round."""
    room = 0.03 * (right - left)
    axis.set_xlim(min(left, axis.dataLim.x0 - room), right)


def _draw_signs(axis: Axes, linear: Mapping[str, float], place: int) -> None:
    axis.plot(100 * linear["guess"], place, "|", color="#888888", ms=14, mew=2, zorder=3)
    axis.plot(100 * linear["everywhere"], place, "o", color=GLOBAL_COLOUR, ms=6)


def _draw_membership(axis: Axes, row: AuditedMechanism, place: int) -> None:
    attack = row.attacks[REFERENCE_ATTACK]
    low, high = attack.chance
    axis.barh(place, high - low, left=low, height=0.5, color="#dfe4ea", zorder=1)
    low, high = attack.interval
    axis.plot([low, high], [place, place], color=REFERENCE_COLOUR, linewidth=2, zorder=2)
    axis.plot(attack.auc, place, "o", color=REFERENCE_COLOUR, ms=6, zorder=3)


def _row_label(row: AuditedMechanism) -> str:
    label = row.label.replace(", ", "\n", 1)
    return f"{label}\n{epsilon_text(row.epsilon)}"
