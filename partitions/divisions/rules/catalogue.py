"""All rules of division, found by walking this package, and names for the usual metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import partitions.divisions.rules as package
from fedi2i.catalogue import members
from fedi2i.typed_config import choose
from partitions.divisions.rules.interface import Rule

RULES: Mapping[str, Rule] = members(package, "RULE")
"""Every rule by its name, which is the name of its file."""

SHORT: Mapping[str, tuple[str, dict[str, Any]]] = {
    "scanner": ("category", {"keys": ["manufacturer", "model", "field_strength"]}),
    "manufacturer": ("category", {"keys": ["manufacturer"]}),
    "model": ("category", {"keys": ["model"]}),
    "field_strength": ("category", {"keys": ["field_strength"]}),
    "modality": ("category", {"keys": ["modality"]}),
    "sex": ("category", {"keys": ["sex"]}),
    "region": ("category", {"keys": ["region"]}),
    "country": ("category", {"keys": ["country"]}),
    "anatomy": ("category", {"keys": ["body_part"]}),
    "dose": ("category", {"keys": ["dose"]}),
}
"""Words for the rule ``category`` with its keys."""


def named_rule(name: str) -> tuple[str, dict[str, Any]]:
    """The rule that a word stands for, and the settings that the word implies.

    Raises:
        ConfigError: there is no such word; the sentence has the nearest.
    """
    choose(name, (*RULES, *SHORT), "--by")
    return SHORT.get(name, (name, {}))
