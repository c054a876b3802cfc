"""FedMA's layer-wise protocol at a site: finished layers are frozen, the rest stay its own.

Wang et al., ICLR 2020, arXiv:2002.06440, algorithm 1. In every round the server matches one more
channel group (``lightning_modules.matching.layer_stages``). The site takes the finished tensors
from the global model, puts the rest of its own model of the last round into the new channel order,
and trains the rest on.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from lightning_modules.matching.layer_stages import finished_before, number_of_stages
from lightning_modules.strategies.realignment import Groups, permutations_for, realigned_state

State = dict[str, Tensor]


def finished_tensors(round_number: int, groups: Groups) -> frozenset[str]:
    """Keys that are frozen in a round; none in the first round of a pass."""
    return finished_before(round_number % number_of_stages(groups.values()), groups)


def layerwise_start(
    received: Mapping[str, Tensor],
    own: Mapping[str, Tensor] | None,
    own_round: int,
    round_number: int,
    site: str,
    server: Mapping[str, Tensor],
    groups: Groups,
) -> State:
    """The shared weights that a site starts a round from.

    Args:
        received: the global model.
        own: the site's own model after the last round it took part in.
        own_round: that round.
        round_number: the round that starts.
        site: the site.
        server: arrays that came with the global model.
        groups: channel groups per network.

    Returns:
        The received model at the start of a pass, or where the site missed the round before, so
        that its own layers no longer fit; else the mixture of finished and own layers.
    """
    finished = finished_tensors(round_number, groups)
    if not finished or own is None or own_round != round_number - 1:
        return dict(received)
    aligned = realigned_state(own, groups, permutations_for(server, own_round, site))
    return {key: value if key in finished else aligned[key] for key, value in received.items()}
