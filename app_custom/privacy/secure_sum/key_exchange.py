"""The messages of secure aggregation that hold no model: keys, who has them, openings of masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app_custom.privacy.secure_sum.signed_keys import announcement_fault
from lightning_modules.privacy.pairwise_masks import SECRET_BYTES

KEYS, ROSTER, OPEN = "mask_keys", "mask_roster", "mask_open"
EXCHANGE_TASKS = (KEYS, ROSTER, OPEN)
"""Tasks: announce a key; check and keep all sites' keys; give away the own masks of a round."""

SUM_SITES = "fedi2i.sum_sites"
"""Header of a task: names of the sites whose sum is wanted, sorted."""
ATTEMPT = "fedi2i.sum_attempt"
"""Cookie of a round's task, which its answer carries back: which set of sites it was for."""

ROUND_REPEATED = "fedi2i.round_repeated"
"""Event at the server: the round begins again with fewer sites, and what was said of it is void."""

MASKED = "masked/"
"""Prefix of the arrays of an answer; no network may be called so."""
ANNOUNCEMENT, ANNOUNCEMENTS = "announcement", "announcements"
KEPT, OPENING = "kept", "opening"
"""Names in the data of the answers, each of which holds one thing."""


def exchange_fault(data: object) -> str:
    """Say why data are no answer of the exchange; empty if they are one.

    Gates ask here: each answer holds one thing of a fixed form, and nothing beside it.
    """
    if not isinstance(data, Mapping) or len(data) != 1:
        return "it does not hold one thing"
    ((name, value),) = data.items()
    if name == ANNOUNCEMENT:
        return announcement_fault(value)
    if name not in (KEPT, OPENING):
        return f"'{name}' is not on the list of what may leave"
    fits = isinstance(value, bytes) and len(value) == SECRET_BYTES
    return "" if fits else f"'{name}' has not {SECRET_BYTES} bytes"


def attempt(number: int, sites: list[str]) -> list[Any]:
    """What the cookie of a round's task holds."""
    return [number, *sites]
