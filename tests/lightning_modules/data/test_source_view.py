"""What a generator is shown of a source: the right neighbours, of one patient, up to the ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from constant_slices import BOTH, constant_split
from torch import Tensor, nn

from fedi2i.errors import ConfigError
from lightning_modules.configuration import experiment_from, experiment_values
from lightning_modules.data.augmentation import Augmenter
from lightning_modules.data.patients import PatientDraws, patients_digest
from lightning_modules.data.slices import TrainingSlices, to_intensity, to_network
from lightning_modules.data.source_view import ONE_SLICE, SourceView
from lightning_modules.evaluation.validation import patients, translate_patient, validate
from lightning_modules.model_configuration import ModelConfig
from lightning_modules.networks.building import build_networks, example_inputs
from lightning_modules.networks.generators.catalogue import GENERATORS, build_generator
from lightning_modules.networks.own_check import check_own_networks
from lightning_modules.privacy.attacks.membership import discriminator_score
from lightning_modules.training.hardware import Hardware
from partitions.preparation import PreparedSplit
from partitions.preparation.grids.native_grid import SliceGeometry

HARDWARE = Hardware("cpu", "32-true", 1)
GENERATOR = [-0.007739872, -0.003487987, 0.027088443]
DISCRIMINATOR = [-0.006157482, -0.009354880, -0.011023387]


class Copies(nn.Module):
    """Gives back one channel of its input, as though it were a translation."""

    def __init__(self, channel: int) -> None:
        super().__init__()
        self._channel = channel

    def forward(self, source: Tensor) -> Tensor:
        return source[:, self._channel : self._channel + 1]


def _with_gap(split: PreparedSplit, *kept: int) -> PreparedSplit:
    """A split whose only subject has these slices of its scan."""
    affine = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 3.0, 0.0), (0.0,) * 3 + (1.0,))
    geometry = SliceGeometry((3, 2, kept[-1] + 1), affine, affine, (0, 0), kept)
    (subject,) = split.subjects
    return replace(split, subjects=(replace(subject, geometry=geometry),))


def _stored(channels: Tensor) -> list[list[int]]:
    """The stored value of every channel of constant slices."""
    assert bool((channels.amax((2, 3)) == channels.amin((2, 3))).all())
    return [[round(float(v + 1) / 2 * 65535) for v in one] for one in channels[:, :, 0, 0].double()]


def test_a_volume_s_last_slices_are_repeated_at_its_ends() -> None:
    assert SourceView(1).around(range(4)).tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 3]]
    assert SourceView(2).around(range(2)).tolist() == [[0, 0, 0, 1, 1], [0, 0, 1, 1, 1]]
    assert SourceView(1).around([7]).tolist() == [[0, 0, 0]]
    assert ONE_SLICE.around(range(3)).tolist() == [[0], [1], [2]]
    assert SourceView(1).around([]).shape == (0, 3)


def test_what_lies_behind_a_left_out_slice_is_no_neighbour() -> None:
    found = SourceView(2).around([3, 4, 6, 7, 9])
    assert found.tolist() == [
        *([0, 0, 0, 1, 1], [0, 0, 1, 1, 1]),
        *([2, 2, 2, 3, 3], [2, 2, 3, 3, 3]),
        [4, 4, 4, 4, 4],
    ]


def test_a_batch_holds_the_neighbours_of_the_same_patient_and_one_target() -> None:
    # Subjects of 3, 1 and 2 slices: stored 100 to 105, of another site 200 and 201.
    sites = [constant_split(100, (3, BOTH), (1, BOTH), (2, BOTH)), constant_split(200, (2, BOTH))]
    slices = TrainingSlices(sites).seen_as(SourceView(1))
    batch = slices.batch(np.array([0, 1, 2, 3, 4, 5, 7]))
    assert batch["source"].shape == (7, 3, 2, 3)
    assert _stored(batch["source"]) == [
        *([100, 100, 101], [100, 101, 102], [101, 102, 102]),
        [103, 103, 103],
        *([104, 104, 105], [104, 105, 105]),
        [200, 201, 201],
    ]
    assert _stored(batch["target"]) == [[1100], [1101], [1102], [1103], [1104], [1105], [1201]]
    gap = TrainingSlices([_with_gap(constant_split(300, (3, BOTH)), 5, 6, 8)]).seen_as(
        SourceView(1)
    )
    expected = [[300, 300, 301], [300, 301, 301], [302, 302, 302]]
    assert _stored(gap.batch(np.arange(3))["source"]) == expected


def test_subjects_without_a_source_are_nobody_s_neighbours() -> None:
    split = constant_split(100, (2, BOTH), (2, ("target",)), (2, BOTH))
    batch = TrainingSlices([split], view=SourceView(1)).batch(np.arange(4))
    expected = [[100, 100, 101], [100, 101, 101], [104, 104, 105], [104, 105, 105]]
    assert _stored(batch["source"]) == expected


def test_a_generator_that_copies_the_next_slice_gives_the_next_slice_of_every_patient() -> None:
    split = constant_split(100, (3, BOTH), (2, BOTH))
    levels = {"next": 2, "itself": 1, "before": 0}
    found = {
        name: [
            [round(float(one) * 65535) for one in volume[:, 0, 0].double()]
            for patient in patients(split)
            for volume in [translate_patient(Copies(channel), patient, HARDWARE, SourceView(1))]
        ]
        for name, channel in levels.items()
    }
    assert found["next"] == [[101, 102, 102], [104, 104]]
    assert found["itself"] == [[100, 101, 102], [103, 104]]
    assert found["before"] == [[100, 100, 101], [103, 103]]
    (gap,) = patients(_with_gap(constant_split(300, (3, BOTH)), 5, 6, 8))
    behind = translate_patient(Copies(2), gap, HARDWARE, SourceView(1))
    assert [round(float(one) * 65535) for one in behind[:, 0, 0].double()] == [301, 301, 302]


def test_validation_shows_the_neighbours() -> None:
    rng = np.random.default_rng(0)
    split = constant_split(0, (12, BOTH))
    source = rng.integers(0, 65536, (12, 24, 24), dtype=np.uint16)
    target = source[[*range(1, 12), 11]]
    mask = np.ones(source.shape, np.uint8)
    split = replace(split, source=source, target=target, mask=mask)
    assert validate(Copies(2), split, HARDWARE, view=SourceView(1))["val/mae"] < 1e-6
    assert validate(Copies(1), split, HARDWARE, view=SourceView(1))["val/mae"] > 0.1


def test_a_slice_alone_is_what_it_was_to_the_bit() -> None:
    rng = np.random.default_rng(1)
    split = constant_split(0, (5, BOTH), (4, BOTH))
    stored = rng.integers(0, 65536, (9, 24, 16), dtype=np.uint16)
    split = replace(split, source=stored, target=65535 - stored)
    batch = TrainingSlices([split]).batch(np.array([8, 2]))["source"]
    by_hand = torch.from_numpy(stored[[8, 2]].astype(np.float32) / 65535.0).unsqueeze(1) * 2.0 - 1.0
    assert torch.equal(batch, by_hand)
    network = build_networks(ModelConfig(), seed=2026)["generator"].eval()
    (first, _) = patients(replace(split, mask=np.ones(stored.shape, np.uint8)))
    with torch.inference_mode():
        expected = (network(first.source.unsqueeze(1) * 2.0 - 1.0).squeeze(1) + 1.0) / 2.0
    assert torch.equal(translate_patient(network, first, HARDWARE), expected)


def test_the_first_weights_without_neighbours_are_those_that_were_recorded() -> None:
    """Printed by the release before neighbours: the first layers of both networks."""
    state = build_networks(ModelConfig(), seed=2026).state_dict()
    generator = state["generator.unet.model.0.conv.weight"]
    discriminator = state["discriminator.patches.initial_conv.conv.weight"]
    assert generator.shape == (16, 1, 3, 3) and discriminator.shape == (16, 2, 4, 4)
    assert generator.flatten()[:3].tolist() == pytest.approx(GENERATOR, abs=1e-7)
    assert discriminator.flatten()[:3].tolist() == pytest.approx(DISCRIMINATOR, abs=1e-7)
    values = experiment_values(experiment_from({}, "x"))
    assert "neighbours" not in values["model"]


@pytest.mark.parametrize("kind", GENERATORS)
def test_only_the_first_layer_of_a_generator_grows(kind: str) -> None:
    chosen = {"kind": kind, "channels": [4, 6, 8], "residual_units": 1}
    both = [
        experiment_from({"model": {"generator": chosen, "neighbours": k}}, "x").model
        for k in (0, 2)
    ]
    one, five = (build_generator(model.generator, model.view).state_dict() for model in both)
    grown = [key for key in one if one[key].shape != five[key].shape]
    # With residual units the U-Net's first layer has a second path, a convolution beside it.
    assert grown[0] == next(iter(one))
    assert len({key.split(".")[2 if kind == "unet" else 0] for key in grown}) == 1
    assert all((one[key].shape[1], five[key].shape[1]) == (1, 5) for key in grown)
    source = torch.randn(2, 5, 32, 48)
    assert build_generator(both[1].generator, both[1].view)(source).shape == (2, 1, 32, 48)


def test_pix2pix_s_discriminator_judges_a_target_beside_all_that_the_generator_was_shown() -> None:
    model = ModelConfig(neighbours=1)
    networks = build_networks(model, seed=1)
    shown, target = (torch.randn(one.shape) for one in example_inputs(model, "discriminator"))
    assert (shown.shape[1], target.shape[1]) == (3, 1)
    judge = networks["discriminator"].eval()
    changed = shown.clone()
    changed[:, 2] += 1.0
    assert not torch.equal(judge(shown, target), judge(changed, target))
    (generator_input,) = example_inputs(model, "generator")
    assert networks["generator"](generator_input).shape == target.shape


def test_the_membership_attack_shows_a_discriminator_what_training_showed_it() -> None:
    class Judge(nn.Module):
        def forward(self, source: Tensor, target: Tensor) -> Tensor:
            assert source.shape[1:] == (3, 2, 3) and target.shape[1:] == (1, 2, 3)
            return (source[:, 2:] - source[:, :1]) * 65535 / 2

    (patient,) = patients(constant_split(100, (4, BOTH)))
    # Next minus previous: 1, 2, 2, 1 levels.
    score = discriminator_score(Judge(), patient, HARDWARE, view=SourceView(1))
    assert score == pytest.approx(1.5, abs=1e-2)


def test_a_patient_s_draws_hold_nothing_of_other_patients() -> None:
    """The part of a step that clipping bounds is one patient's, neighbours included."""

    def drawn(split: PreparedSplit) -> list[Tensor]:
        slices = TrainingSlices([split]).seen_as(SourceView(1))
        ones = PatientDraws(slices, 1.0, 9, ["generator"], 1, lambda n: np.linspace(0, 0.9, n))
        (step,) = ones
        return [batch["source"] for batch in step["generator"]]

    split = constant_split(100, (3, BOTH), (2, BOTH))
    other = replace(split, source=split.source.copy())
    other.source[:3] = 9
    before, after = drawn(split), drawn(other)
    assert not torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1]) and before[1].shape == (2, 3, 2, 3)
    views = (TrainingSlices([split]), TrainingSlices([split]).seen_as(SourceView(2)))
    assert patients_digest(views[0]) == patients_digest(views[1])


def test_neighbours_are_moved_and_recoloured_with_their_slice() -> None:
    bent = {"flip": 0.5, "rotation": 20.0, "translation": 0.1, "contrast": 0.5, "brightness": 0.2}
    settings = experiment_from({"training": {"augmentation": bent}}, "x").training.augmentation
    augmenter = Augmenter(settings, {"source": 0.0, "target": 0.0})
    image = torch.rand(4, 1, 20, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    randoms = [[np.random.default_rng(n) for n in range(4)] for _ in range(2)]
    alone = augmenter({"source": image}, randoms[0])["source"]
    three = augmenter({"source": image.expand(4, 3, 20, 24).clone()}, randoms[1])["source"]
    assert not torch.equal(alone, image)
    for channel in range(3):
        assert torch.allclose(three[:, channel], alone[:, 0], atol=1e-6)


def test_neighbours_are_read_from_the_mapped_volume_and_nothing_else_is_read(
    tmp_path: Any,
) -> None:
    split = constant_split(100, (6, BOTH))
    np.save(tmp_path / "source.npy", split.source)
    mapped = np.load(tmp_path / "source.npy", mmap_mode="r")
    slices = TrainingSlices([replace(split, source=mapped)]).seen_as(SourceView(1))
    expected = to_network(to_intensity(split.source[2:5][None]))
    assert torch.equal(slices.batch(np.array([3]))["source"], expected)
    assert [path.name for path in tmp_path.iterdir()] == ["source.npy"]


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (
            {"name": "cyclegan", "neighbours": 1},
            "x: model.neighbours is 1, but 'cyclegan' brings a translation back to its source, and "
            "a translated slice has no translated neighbours; set it to 0, or take 'pix2pix' or "
            "'regression'",
        ),
        ({"neighbours": -1}, "model.neighbours is -1; it must be from 0 to 8"),
        ({"neighbours": 9}, "model.neighbours is 9; it must be from 0 to 8"),
        ({"neighbours": 0.5}, "neighbours"),
    ],
)
def test_what_cannot_be_shown_is_refused_before_the_first_round(
    model: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        experiment_from({"model": model}, "x")


def test_a_network_of_a_lab_s_own_is_tried_on_the_channels_that_it_will_be_shown(
    allow_own: Any,
) -> None:
    path = "monai.networks.nets.BasicUNet"
    allow_own(path)

    def experiment(channels: int, made: int, neighbours: int) -> Any:
        sizes = {"in_channels": channels, "out_channels": made}
        args = {"spatial_dims": 2, "features": [4, 4, 4, 4, 4, 4], **sizes}
        model = {
            "generator": {"path": path, "args": args},
            "discriminator": {"channels": 2, "layers": 1},
            "neighbours": neighbours,
        }
        return experiment_from({"data": {"preparation": {"size": [32, 32]}}, "model": model}, "x")

    check_own_networks(experiment(3, 1, 1))
    with pytest.raises(ConfigError, match=r"give its first layer the 3 channels that model\.neigh"):
        check_own_networks(experiment(1, 1, 1))
    with pytest.raises(ConfigError, match=r"has the shape 2 x 1 x 32 x 32, that of one slice for"):
        check_own_networks(experiment(3, 3, 1))
