"""What a site keeps by channel follows FedMA's permutations.

The server puts every site's channels into the order of the global model before it averages. What
the site has kept of the same round (Adam's moments, layers that were not averaged yet) is still in
the site's own order; the server sends the permutations it applied, and the site applies them too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightning_modules.matching.channel_groups import ChannelGroups
from lightning_modules.matching.permutations import Permutations, permute, permute_tensor

PERMUTATION = "permutation"
"""Arrays ``permutation/<round>/<site>/<network>/<group>`` that the server sends."""

Groups = Mapping[str, ChannelGroups]


def permutation_name(round_number: int, site: str, network: str, group: str) -> str:
    """Name of one permutation on its way to the sites."""
    return f"{PERMUTATION}/{round_number}/{site}/{network}/{group}"


def permutations_for(
    server: Mapping[str, Tensor], round_number: int, site: str
) -> dict[str, Permutations]:
    """One site's permutations of one round, by network; empty where nothing moved.

    Args:
        server: the arrays that came with the global model.
        round_number: the round whose update was permuted.
        site: the site.
    """
    prefix = permutation_name(round_number, site, "", "")[:-1]
    found: dict[str, Permutations] = {}
    for name, array in server.items():
        if name.startswith(prefix):
            network, _, group = name[len(prefix) :].partition("/")
            found.setdefault(network, {})[group] = array.numpy().astype(np.int64)
    return found


def realigned_state(
    state: Mapping[str, Tensor], groups: Groups, permutations: Mapping[str, Permutations]
) -> dict[str, Tensor]:
    """A state_dict in the global model's order.

    Args:
        state: keys with the network's name in front.
        groups: channel groups per network.
        permutations: permutations per network; networks without any are left as they are.
    """
    aligned = dict(state)
    for network, moves in permutations.items():
        prefix = f"{network}."
        own = {k[len(prefix) :]: v.numpy() for k, v in state.items() if k.startswith(prefix)}
        moved = permute(own, groups[network], moves)
        aligned |= {f"{prefix}{key}": torch.from_numpy(np.array(v)) for key, v in moved.items()}
    return aligned


def realigned_optimizers(
    optimizers: Sequence[dict[str, Any]],
    networks: Mapping[str, nn.Module],
    groups: Groups,
    permutations: Mapping[str, Permutations],
) -> list[dict[str, Any]]:
    """Optimizer states whose moments are in the global model's order.

    Args:
        optimizers: state_dicts of optimizers with one named parameter group per network.
        networks: the networks by name; they give the parameters' keys.
        groups: channel groups per network.
        permutations: permutations per network.
    """
    return [_realigned(state, networks, groups, permutations) for state in optimizers]


def _realigned(
    optimizer: dict[str, Any],
    networks: Mapping[str, nn.Module],
    groups: Groups,
    permutations: Mapping[str, Permutations],
) -> dict[str, Any]:
    moments = dict(optimizer["state"])
    for group in optimizer["param_groups"]:
        network = group["name"]
        keys = [key for key, _ in networks[network].named_parameters()]
        moves = permutations.get(network, {})
        for index, key in zip(group["params"], keys, strict=True):
            if moves and index in moments:
                moments[index] = {
                    name: _moved(key, value, groups[network], moves)
                    for name, value in moments[index].items()
                }
    return {**optimizer, "state": moments}


def _moved(key: str, value: Any, groups: ChannelGroups, moves: Permutations) -> Any:
    if not isinstance(value, Tensor) or value.ndim == 0:  # Adam's step counter
        return value
    return torch.from_numpy(np.array(permute_tensor(key, value.numpy(), groups, moves)))
