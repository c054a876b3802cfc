"""Sites that train for real, under masks: the same model as plain averaging makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from in_process_federation import InProcessFederation
from masked_federation import MaskedFederation, MaskedSite, Weights, forget_everything
from nvflare.private.fed.simulator.simulator_const import SimulatorConstants
from pytest import MonkeyPatch

SITES = ("east", "north", "south")


def test_fedavg_under_masks_equals_plain_fedavg_to_half_of_the_last_binary_digit(
    make_federation: Callable[..., InProcessFederation], tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    plain = make_federation(sites=SITES, folder="plain")
    first = {key: value.copy() for key, value in plain.weights.items()}
    expected = plain.run()

    monkeypatch.setattr("nvflare_fakes.JOB", SimulatorConstants.JOB_NAME)
    forget_everything()
    again = make_federation(sites=SITES, folder="masked")
    sites = {name: MaskedSite(tmp_path / name, name, 1, trained_by(again)) for name in SITES}
    for site in sites.values():
        site.samples = int(plain.results[site.name].samples)
        local = tmp_path / site.name / "local" / "fedi2i.yaml"
        local.write_text("shared_machine: true\nlimits: {least_sites: 1}\n")
        site.mask = type(site.mask)("masked-run", 64, 32, 16.0, 1)
    masked = MaskedFederation(sites, first, bits=64, fraction_bits=32, bound=16.0)
    found = masked.run()

    assert masked.engine.panics() == []
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        most = 2.0**-33 + np.spacing(np.abs(value))
        assert (np.abs(found[key].astype(np.float64) - value) <= most).all()
        assert not np.array_equal(found[key], first[key]) or not value.size


def trained_by(federation: InProcessFederation) -> Callable[[str, int, Weights], Weights]:
    def train(site: str, number: int, received: Weights) -> Weights:
        state = {key: torch.as_tensor(np.array(value)) for key, value in received.items()}
        result = federation.learner(site).train(state, number, extras={}, accepted_round=-1)
        return {key: value.numpy() for key, value in result.state.items()}

    return train
