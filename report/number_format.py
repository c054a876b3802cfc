"""Numbers as readers see them: fixed digits, a true minus sign, infinity and 'none' said."""

from __future__ import annotations

import math
from collections.abc import Sequence

NONE = "\N{EN DASH}"


def number(value: float | None, decimals: int, signed: bool = False) -> str:
    """``value`` with fixed digits; None and NaN give a dash, infinity its sign."""
    if value is None or math.isnan(value):
        return NONE
    if math.isinf(value):
        text = "∞" if value > 0 else "-∞"
    else:
        # adding 0.0 turns a rounded -0.0 into 0.0
        text = f"{round(value, decimals) + 0.0:.{decimals}f}"
    if signed and not text.startswith("-"):
        text = f"+{text}"
    return text.replace("-", "\N{MINUS SIGN}")


def p_value(value: float | None) -> str:
    """A p-value with three digits, or ``< 0.001``."""
    if value is None or math.isnan(value):
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def decimals_for(largest: float) -> int:
    """Digits after the point that give about three significant ones for ``largest``."""
    if not math.isfinite(largest) or largest <= 0:
        return 4
    if largest >= 10:
        return 1
    return 2 if largest >= 1 else 4


def ratio(value: float | None) -> str:
    """A ratio of norms with two significant digits: ``0``, ``0.0027``, ``1.4``, ``∞``."""
    if value is None or math.isnan(value):
        return NONE
    if value == 0 or math.isinf(value):
        return number(value, 0)
    if value < 1e-4:
        return "< 0.0001"
    return number(value, max(0, 1 - math.floor(math.log10(value))))


def percent(fraction: float | None) -> str:
    """A fraction of 1 as ``0 %``, ``< 0.1 %``, ``3.1 %`` or ``97 %``."""
    if fraction is None or math.isnan(fraction):
        return NONE
    if 0 < fraction < 1e-3:
        return "< 0.1 %"
    return f"{number(100 * fraction, 1 if 0 < fraction < 0.1 else 0)} %"


def duration(seconds: float | None) -> str:
    """Seconds as ``1 h 02 min``, ``3 min 20 s`` or ``4.2 s``."""
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def byte_size(count: int | None) -> str:
    """Bytes with a decimal unit (1 MB = 10^6 bytes)."""
    if count is None:
        return NONE
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"


def thousands(count: int | None) -> str:
    """A whole number with thin spaces between thousands."""
    return NONE if count is None else f"{count:,}".replace(",", "\u2009")


def listed(words: Sequence[str]) -> str:
    """One or more words as ``a``, ``a and b``, ``a, b and c``.

    Semicolons stand between words of which one has a comma of its own.
    """
    if len(words) == 1:
        return words[0]
    between, last = ("; ", "; and ") if any("," in word for word in words) else (", ", " and ")
    return f"{between.join(words[:-1])}{last}{words[-1]}"


def counted(count: int, noun: str) -> str:
    """``1 patient``, ``4 patients``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def epsilon_text(value: float | None) -> str:
    """An epsilon with three significant digits, ``ε = 1.95`` or ``ε = 42,000``; or that none is."""
    if value is None:
        return "no ε"
    if value < 100:
        return f"ε = {value:.3g}"
    step = 10 ** (math.floor(math.log10(value)) - 2)
    return f"ε = {round(value / step) * step:,.0f}"
