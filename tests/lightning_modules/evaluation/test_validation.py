"""Translating and measuring whole patients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_modules.evaluation.validation import (
    Patient,
    load_translator,
    mean_over_patients,
    patient_metrics,
    patients,
    translate,
    validate,
)
from lightning_modules.networks.configuration import GeneratorConfig
from lightning_modules.networks.generators.catalogue import build_generator
from lightning_modules.training.hardware import Hardware
from partitions.preparation import PreparedSite, PreparedSplit, PreparedSubject


class _Negative(nn.Module):
    """Inverts contrast: x in [-1, 1] becomes -x, so intensity i becomes 1 - i."""

    def forward(self, source: Tensor) -> Tensor:
        assert source.shape[1:2] == (1,)
        return -source


def _split(lesion: bool) -> PreparedSplit:
    rng = np.random.default_rng(1)
    source = rng.integers(0, 65536, (5, 16, 16), dtype=np.uint16)
    mask = np.ones(source.shape, np.uint8)
    spot = np.zeros_like(mask)
    spot[4, 2:4, 2:4] = 1
    subjects = tuple(
        PreparedSubject(name, *span, None, {}) for name, span in (("a", (0, 2)), ("b", (2, 5)))
    )
    return PreparedSplit(source, 65535 - source, mask, spot if lesion else None, subjects)


def test_patients_get_their_own_slices() -> None:
    split = _split(lesion=True)
    first, second = patients(split)
    assert (first.subject, second.subject) == ("a", "b")
    for patient, start, stop in ((first, 0, 2), (second, 2, 5)):
        for image, stored in ((patient.source, split.source), (patient.target, split.target)):
            expected = torch.from_numpy(stored[start:stop].astype(np.float32)) / 65535
            torch.testing.assert_close(image, expected)
        assert patient.mask.dtype == torch.bool
    assert first.lesion is not None
    assert second.lesion is not None
    assert not first.lesion.any()
    assert int(second.lesion.sum()) == 4


@pytest.mark.parametrize("slices", [1, 8, 19])
def test_a_volume_is_translated_in_intensities_slice_by_slice(
    slices: int, hardware: Hardware
) -> None:
    source = torch.rand(slices, 16, 12)
    translated = translate(_Negative(), source, hardware)
    assert translated.dtype == torch.float32
    torch.testing.assert_close(translated, 1 - source, atol=1e-6, rtol=0)


def test_slices_do_not_influence_each_other(hardware: Hardware) -> None:
    torch.manual_seed(0)
    generator = build_generator(GeneratorConfig(channels=(4, 8), norm="batch"))
    source = torch.rand(11, 16, 16)
    whole = translate(generator, source, hardware)
    torch.testing.assert_close(whole[9:10], translate(generator, source[9:10], hardware))


def test_translation_is_without_dropout_and_leaves_the_generator_as_it_was(
    hardware: Hardware,
) -> None:
    torch.manual_seed(0)
    generator = build_generator(GeneratorConfig(channels=(4, 8), norm="batch", dropout=0.5))
    before = {key: value.clone() for key, value in generator.state_dict().items()}
    source = torch.rand(2, 16, 16)
    first = translate(generator, source, hardware)
    assert torch.equal(first, translate(generator, source, hardware))
    assert generator.training
    assert not first.requires_grad
    for key, value in generator.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_validation_is_the_plain_mean_over_patients(hardware: Hardware) -> None:
    metrics = validate(_Negative(), _split(lesion=True), hardware)
    rows = [
        patient_metrics(translate(_Negative(), patient.source, hardware), patient)
        for patient in patients(_split(lesion=True))
    ]
    assert metrics["val/mae"] == pytest.approx((rows[0]["mae"] + rows[1]["mae"]) / 2)
    # Contrast inversion is the right answer here, up to float32 rounding.
    assert metrics["val/psnr"] > 100
    assert "lesion_mae" not in rows[0]
    assert metrics["val/lesion_mae"] == rows[1]["lesion_mae"]


def test_a_metric_is_averaged_over_the_patients_that_have_it() -> None:
    rows = [{"mae": 1.0, "lesion_mae": 5.0}, {"mae": 2.0}, {"mae": 6.0}]
    assert mean_over_patients(rows) == {"val/mae": 3.0, "val/lesion_mae": 5.0}
    assert mean_over_patients([]) == {}


def test_the_lesion_error_counts_lesion_voxels_only() -> None:
    target = torch.zeros(1, 16, 16)
    lesion = torch.zeros(1, 16, 16, dtype=torch.bool)
    lesion[0, 3, 3] = True
    patient = Patient("p", target, target, torch.ones_like(lesion), lesion)
    prediction = torch.full_like(target, 0.5)
    prediction[0, 3, 3] = 0.125
    assert patient_metrics(prediction, patient)["lesion_mae"] == pytest.approx(0.125)


def test_only_the_generators_part_of_a_state_is_loaded() -> None:
    torch.manual_seed(0)
    given, loaded = (build_generator(GeneratorConfig(channels=(4, 8))) for _ in range(2))
    state = {f"generator.{key}": value for key, value in given.state_dict().items()}
    load_translator(
        loaded, {**state, "discriminator.x": torch.ones(1), "generator2.x": torch.ones(1)}
    )
    source = torch.rand(1, 1, 16, 16)
    assert torch.equal(given(source), loaded(source))


def test_a_prepared_site_gives_every_patient_of_the_split(sites: dict[str, PreparedSite]) -> None:
    north = sites["north"]
    assert [patient.subject for patient in patients(north.split("test"))] == ["north-003"]
    assert [patient.subject for patient in patients(north.split("train"))] == [
        "north-000",
        "north-001",
    ]
