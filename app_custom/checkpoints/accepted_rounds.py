"""The last round of each site that the server took: told to the sites, so that both go on from it.

A site keeps optimizers, controls, local layers and the like after every round it has trained. Where
its answer was late, refused or lost, what it kept is ahead of the server's model and of sums that
the server keeps over sites (SCAFFOLD, FedDyn). So the server says which round it took, and the site
goes on with what it kept after that one: a round the server did not take has not happened.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

META_KEY = "accepted_rounds"
"""In the meta data of the global model."""
NONE_YET = -1
_MEMORY = "accepted/"

Memory = dict[str, np.ndarray]


def note_accepted(memory: Memory, sites: Iterable[str], round_number: int) -> None:
    """Enter a round's sites into the server's memory, which is saved with finished rounds."""
    for site in sites:
        memory[f"{_MEMORY}{site}"] = np.asarray([round_number], dtype=np.int64)


def accepted_rounds(memory: Mapping[str, np.ndarray], sites: Iterable[str]) -> dict[str, int]:
    """The last accepted round of each site, or -1."""
    found = {site: memory.get(f"{_MEMORY}{site}") for site in sites}
    return {site: NONE_YET if value is None else int(value[0]) for site, value in found.items()}


def accepted_round_of(site: str, meta: Mapping[str, Any]) -> int | None:
    """What a model's meta data say about a site; None in workflows without such a server."""
    rounds = meta.get(META_KEY)
    return None if rounds is None else int(rounds.get(site, NONE_YET))
