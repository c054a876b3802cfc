"""Sites that train for real, under masks: the same model as plain averaging makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from in_process_federation import InProcessFederation
from masked_federation import MaskedFederation, MaskedSite, Weights, forget_everything
from nvflare.private.fed.simulator.simulator_const import SimulatorConstants
from torch import Tensor

SITES = ("east", "north", "south")
AFFINE = {"norm": "instance_affine"}
"""Normalisation with parameters, so that FedBN has something to keep."""


@pytest.mark.parametrize("strategy", ["fedavg", "fedbn", "fedper", "lg_fedavg", "ditto"])
def test_the_shared_part_under_masks_equals_plain_averaging_and_what_stays_is_the_same(
    make_federation: Callable[..., InProcessFederation],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    strategy: str,
) -> None:
    """To half of the last binary digit of the integers."""
    changes = {
        "strategy": {"name": strategy},
        "model": {"generator": AFFINE, "discriminator": AFFINE},
    }
    plain = make_federation(sites=SITES, folder="plain", **changes)
    first = {key: value.copy() for key, value in plain.weights.items()}
    expected = plain.run()

    monkeypatch.setattr("nvflare_fakes.JOB", SimulatorConstants.JOB_NAME)
    forget_everything()
    again = make_federation(sites=SITES, folder="masked", **changes)
    sites = {name: MaskedSite(tmp_path / name, name, 1, trained_by(again)) for name in SITES}
    for site in sites.values():
        site.samples = int(plain.results[site.name].samples)
        local = tmp_path / site.name / "local" / "fedi2i.yaml"
        local.write_text("shared_machine: true\nlimits: {least_sites: 1}\n")
        site.mask = type(site.mask)("masked-run", 64, 32, 16.0, 1)
    masked = MaskedFederation(
        sites, first, strategy=strategy, bits=64, fraction_bits=32, bound=16.0
    )
    found = masked.run()

    assert masked.engine.panics() == []
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        most = 2.0**-33 + np.spacing(np.abs(value))
        assert (np.abs(found[key].astype(np.float64) - value) <= most).all()
        assert not np.array_equal(found[key], first[key]) or not value.size
    for site in SITES:
        kept, as_plain = kept_at(again, site), kept_at(plain, site)
        assert kept.keys() == as_plain.keys() and bool(kept) is (strategy != "fedavg")
        assert all(torch.equal(value, as_plain[key]) for key, value in kept.items())


def kept_at(federation: InProcessFederation, site: str) -> dict[str, Tensor]:
    """What a site keeps of the first round: its local parts, or its own model."""
    learner = federation.learner(site)
    personal = learner.personal(1, 0)
    if personal is not None:
        return dict(personal)
    whole, shared = learner.complete(federation.tensors(), 1, 0), federation.weights
    return {k: v for k, v in whole.items() if k not in shared}


def trained_by(federation: InProcessFederation) -> Callable[[str, int, Weights], Weights]:
    def train(site: str, number: int, received: Weights) -> Weights:
        state = {key: torch.as_tensor(np.array(value)) for key, value in received.items()}
        result = federation.learner(site).train(state, number, extras={}, accepted_round=-1)
        return {key: value.numpy() for key, value in result.state.items()}

    return train
