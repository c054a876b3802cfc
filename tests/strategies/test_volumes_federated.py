"""Federations whose networks are three-dimensional and are trained on patches of volumes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch
from in_process_federation import InProcessFederation, same
from test_participation import AGGREGATED

from fedi2i.errors import DataError
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.evaluation.validation import load_translator, validate
from lightning_modules.matching.network_groups import network_groups
from lightning_modules.matching.permutations import permute
from lightning_modules.model_configuration import ModelConfig
from lightning_modules.networks.building import build_networks, example_inputs
from lightning_modules.networks.generators.catalogue import build_generator
from lightning_modules.privacy.patient_settings import PatientNoise
from lightning_modules.strategies.catalogue import STRATEGY_JOBS
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.learner import Learner
from lightning_modules.training.local_state import LocalStateStore
from partitions.preparation import PreparedSite

MakeFederation = Callable[..., InProcessFederation]
HARDWARE = Hardware("cpu", "32-true", 1)
MODEL: dict[str, Any] = {
    "patch": [6, 16, 16],
    "generator": {"channels": [4, 8]},
    "discriminator": {"channels": 4, "layers": 1},
}
VOLUMES: dict[str, Any] = {"model": MODEL, "training": {"steps": 1}}
UNPAIRED = {"model": {"name": "cyclegan", **MODEL}, "training": {"steps": 1}}


@pytest.mark.parametrize("job", AGGREGATED)
def test_every_strategy_trains_networks_of_volumes(
    make_federation: MakeFederation, job: str
) -> None:
    federation = make_federation(strategy=STRATEGY_JOBS[job].values, **VOLUMES)
    before = {key: value.copy() for key, value in federation.weights.items()}
    after = federation.run(2)
    assert not federation.refused
    assert {value.ndim for key, value in after.items() if key.endswith("conv.weight")} == {5}
    assert all(np.isfinite(value).all() for value in after.values())
    assert not same(before, after)


def _psnr(federation: InProcessFederation, sites: dict[str, PreparedSite]) -> float:
    model = federation.experiment.model
    generator = build_generator(model.generator, model.view)
    load_translator(generator, federation.tensors())
    return fmean(
        validate(generator, site.split("val"), HARDWARE, view=model.view)["val/psnr"]
        for name, site in sites.items()
        if name in ("east", "north")
    )


@pytest.mark.parametrize("strategy", ["fedavg", "fedma"])
def test_a_federation_on_patches_translates_unseen_volumes_better_after_a_few_rounds(
    make_federation: MakeFederation, prepared_sites: dict[str, PreparedSite], strategy: str
) -> None:
    federation = make_federation(
        strategy={"name": strategy}, model=MODEL, training={"steps": 30, "batch_size": 2}
    )
    before = _psnr(federation, prepared_sites)
    federation.run(3)
    assert _psnr(federation, prepared_sites) > before + 1.0


def test_a_round_can_be_repeated_in_another_process_to_the_bit(
    make_federation: MakeFederation,
) -> None:
    values = {**VOLUMES, "training": {"steps": 3}}
    one, other = (make_federation(strategy={"name": "fedavg"}, **values) for _ in range(2))
    assert same(one.run(2), other.run(2))


def test_fedma_of_one_site_that_is_matched_with_itself_is_fedavg(
    make_federation: MakeFederation,
) -> None:
    one, other = (
        make_federation(("north",), strategy={"name": name}, **VOLUMES).run(1)
        for name in ("fedavg", "fedma")
    )
    assert same(one, other)


@pytest.mark.parametrize("upsampling", ["transposed", "nearest"])
def test_permuted_channels_of_a_network_of_volumes_are_the_same_function(upsampling: str) -> None:
    model = ModelConfig(patch=(8, 16, 24))
    shape: dict[str, Any] = {"channels": (4, 6, 8), "residual_units": 1, "upsampling": upsampling}
    judge = replace(model.discriminator, layers=1)
    model = replace(model, generator=replace(model.generator, **shape), discriminator=judge)
    found = network_groups(build_networks(model, seed=1), model, ["generator", "discriminator"])
    one, other = (build_networks(model, seed=1).double().eval() for _ in range(2))
    for name, groups in found.items():
        assert len(groups.sizes) >= 2
        rng = np.random.default_rng(3)
        moves = {group: rng.permutation(number) for group, number in groups.sizes.items()}
        state = {key: value.numpy() for key, value in one[name].state_dict().items()}
        moved = permute(state, groups, moves)
        assert any(not np.array_equal(moved[key], state[key]) for key in state)
        arrays = {key: torch.from_numpy(np.array(value)) for key, value in moved.items()}
        other[name].load_state_dict(arrays)
        inputs = [torch.rand(v.shape).double() * 2 - 1 for v in example_inputs(model, name)]
        with torch.no_grad():
            assert torch.allclose(other[name](*inputs), one[name](*inputs), rtol=0, atol=1e-9)


def test_cyclegan_trains_on_patches_of_either_domain(make_federation: MakeFederation) -> None:
    federation = make_federation(**UNPAIRED)
    before = {key: value.copy() for key, value in federation.weights.items()}
    after = federation.run(2)
    moved = {key.partition(".")[0] for key in after if not np.array_equal(before[key], after[key])}
    assert moved == {"generator_ab", "generator_ba", "discriminator_a", "discriminator_b"}


def test_patient_level_noise_takes_patches(
    make_federation: MakeFederation, prepared_sites: dict[str, PreparedSite], tmp_path: Path
) -> None:
    experiment = make_federation(**VOLUMES).experiment
    slices = TrainingSlices([prepared_sites["north"].split("train")])
    noise = PatientNoise(sampling_rate=1.0, patients=2)
    store = LocalStateStore(tmp_path / "state")
    learner = Learner(experiment, "north", slices, HARDWARE, store, patient_noise=noise)
    result = learner.train(learner.initial_state(), 0)
    assert all(bool(value.isfinite().all()) for value in result.state.values())
    assert not any(name.startswith("train/l") for name in result.metrics)


def test_a_patch_larger_than_a_patient_s_volume_is_refused_before_the_first_round(
    make_federation: MakeFederation,
) -> None:
    federation = make_federation(model={**MODEL, "patch": [8, 16, 16]})
    sentence = (
        r"subject 'east-000': its volume has 6 slices without a gap, and model.patch \[8, 16, 16\] "
        "is larger; take patches of at most 6 slices, or leave the subject out"
    )
    with pytest.raises(DataError, match=sentence):
        federation.learner("east")


def test_a_network_of_monai_in_three_dimensions_is_tried_and_trained(
    make_federation: MakeFederation, allow_own: Callable[[str], None]
) -> None:
    path = "monai.networks.nets.AttentionUnet"
    allow_own(path)
    sizes = {"in_channels": 1, "out_channels": 1, "channels": [4, 8], "strides": [2]}
    # The tiny experiment's channels give way to the defaults, which say nothing.
    own = {"path": path, "args": {"spatial_dims": 3, **sizes}, "channels": [16, 32, 64, 128]}
    federation = make_federation(
        strategy={"name": "fedavg"},
        model={"patch": [6, 16, 16], "generator": own, "discriminator": MODEL["discriminator"]},
        training={"steps": 1},
    )
    before = {key: value.copy() for key, value in federation.weights.items()}
    after = federation.run(1)
    assert not federation.refused and not same(before, after)
