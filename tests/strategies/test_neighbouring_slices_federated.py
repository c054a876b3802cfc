"""Federations whose generator is shown neighbouring slices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from in_process_federation import InProcessFederation, same

from lightning_modules.matching.network_groups import network_groups
from lightning_modules.model_configuration import ModelConfig
from lightning_modules.networks.building import build_networks

MakeFederation = Callable[..., InProcessFederation]
THREE: dict[str, Any] = {"model": {"neighbours": 1}, "training": {"steps": 2}}
FIRST = "generator.unet.model.0.conv.weight"


@pytest.mark.parametrize("strategy", ["fedavg", "fedma", "scaffold"])
def test_every_input_channel_of_the_global_model_learns(
    make_federation: MakeFederation, strategy: str
) -> None:
    federation = make_federation(strategy={"name": strategy}, **THREE)
    before = {key: value.copy() for key, value in federation.weights.items()}
    after = federation.run(2)
    assert not federation.refused
    assert after[FIRST].shape[1] == 3
    moved = np.abs(after[FIRST] - before[FIRST]).max(axis=(0, 2, 3))
    assert (moved > 0).all() and np.isfinite(after[FIRST]).all()


def test_fedma_of_one_site_that_is_matched_with_itself_is_fedavg(
    make_federation: MakeFederation,
) -> None:
    one, other = (
        make_federation(("north",), strategy={"name": name}, **THREE).run(1)
        for name in ("fedavg", "fedma")
    )
    assert same(one, other)


def test_fedma_leaves_the_neighbours_in_their_order() -> None:
    model = ModelConfig(neighbours=1)
    groups = network_groups(build_networks(model, seed=1), model, ["generator", "discriminator"])
    first = {
        "generator": "unet.model.0.conv.weight",
        "discriminator": "patches.initial_conv.conv.weight",
    }
    for network, key in first.items():
        pinned = {(one.key, one.axis): one.reason for one in groups[network].pinned}
        assert "network input" in pinned[key, 1]
        assert groups[network].axes[key][0][0].group is not None  # its output channels are matched
