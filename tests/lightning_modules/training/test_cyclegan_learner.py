"""The learner with CycleGAN: rounds repeat bit for bit, and sites may have one domain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.nn.functional import l1_loss

from fedi2i.errors import DataError
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.data.batches import BatchSource
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.evaluation.validation import (
    load_translator,
    patient_metrics,
    patients,
    validate,
)
from lightning_modules.networks.building import build_networks
from lightning_modules.networks.generators.catalogue import build_generator
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.learner import Learner
from lightning_modules.training.local_state import LocalStateStore
from lightning_modules.training.training_run import Arm, train_arm
from partitions.manifest import read_manifest
from partitions.preparation import PreparedSite, PreparedSplit, PreparedSubject, prepare_site

MakeExperiment = Callable[..., ExperimentConfig]
MakeSite = Callable[..., PreparedSite]
State = dict[str, Tensor]
NETWORKS = ["discriminator_a", "discriminator_b", "generator_ab", "generator_ba"]
GENERATORS = ["generator_ab", "generator_ba"]
DOMAINS = ("source", "target")
OTHER = {"source": "target", "target": "source"}


def _same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def _networks(state: Mapping[str, object]) -> list[str]:
    return sorted({key.split(".")[0] for key in state})


def _part(state: State, network: str) -> State:
    return {key: value for key, value in state.items() if key.startswith(f"{network}.")}


@pytest.fixture
def experiment(make_experiment: MakeExperiment) -> ExperimentConfig:
    """The tiny experiment with CycleGAN and unpaired preparation."""
    return _cyclegan(make_experiment)


def _cyclegan(make_experiment: MakeExperiment, **changes: Any) -> ExperimentConfig:
    model = {"name": "cyclegan", "image_buffer": 4, **changes.pop("model", {})}
    preparation = {"pairing": "unpaired"}
    return make_experiment(model=model, data={"preparation": preparation}, **changes)


@pytest.fixture
def make_site(tiny_cohort: Path, tmp_path: Path, experiment: ExperimentConfig) -> MakeSite:
    """Prepare a tiny site whose training subjects have some domains alone; and without val."""

    def make(*domains: str, name: str = "north", without_val: bool = False) -> PreparedSite:
        manifest = read_manifest(tiny_cohort / name)
        files = {"source": "t1", "target": "t2"}
        subjects = [
            replace(record, files={files[d]: record.files[files[d]] for d in domains})
            if record.split == "train"
            else record
            for record in manifest.subjects
            if not (without_val and record.split == "val")
        ]
        changed = replace(manifest, subjects=tuple(subjects))
        config = experiment.data.preparation
        return prepare_site(changed, config, tmp_path / "prepared", progress=False)

    return make


@pytest.fixture
def make_learner(make_site: MakeSite, hardware: Hardware, tmp_path: Path) -> Callable[..., Learner]:
    """A new learner of a tiny site; learners with the same ``store`` share their kept state."""

    def make(
        experiment: ExperimentConfig, *domains: str, store: str = "state", site: str = "north"
    ) -> Learner:
        slices = TrainingSlices([make_site(*(domains or DOMAINS), name=site).split("train")])
        return Learner(experiment, site, slices, hardware, LocalStateStore(tmp_path / store))

    return make


def _plain_loop(experiment: ExperimentConfig, split: PreparedSplit, rounds: int) -> State:
    """CycleGAN as the paper writes it, with torch alone and without image buffer."""
    training = experiment.training
    networks = build_networks(experiment.model, experiment.seed)
    ab, ba, judge_a, judge_b = (
        networks[name]
        for name in ("generator_ab", "generator_ba", "discriminator_a", "discriminator_b")
    )
    slices = TrainingSlices([split])
    source = BatchSource("cyclegan", slices, experiment.seed, "north", training.batch_size)
    for number in range(rounds):
        adam_g = torch.optim.Adam([*ab.parameters(), *ba.parameters()], 2e-3, (0.5, 0.999))
        adam_d = torch.optim.Adam(
            [*judge_a.parameters(), *judge_b.parameters()], 5e-4, (0.5, 0.999)
        )
        for batch in source.batches(number * training.steps, training.steps):
            a, b = batch["source"], batch["target"]
            fake_b = ab(a)
            fooled_b = (judge_b(fake_b) - 1).square().mean()
            cycle_a, same_a = l1_loss(ba(fake_b), a), l1_loss(ba(a), a)
            fake_a = ba(b)
            fooled_a = (judge_a(fake_a) - 1).square().mean()
            cycle_b, same_b = l1_loss(ab(fake_a), b), l1_loss(ab(b), b)
            loss = fooled_b + fooled_a + 10.0 * (cycle_a + cycle_b) + 5.0 * (same_a + same_b)
            adam_g.zero_grad()
            loss.backward()
            adam_g.step()
            judged = (judge_b(b) - 1).square().mean() + judge_b(fake_b.detach()).square().mean()
            other = (judge_a(a) - 1).square().mean() + judge_a(fake_a.detach()).square().mean()
            adam_d.zero_grad()
            (0.5 * judged + 0.5 * other).backward()
            adam_d.step()
    return dict(networks.state_dict())


def test_one_site_equals_a_plain_pytorch_loop(
    make_experiment: MakeExperiment, make_learner: Callable[..., Learner], make_site: MakeSite
) -> None:
    experiment = _cyclegan(make_experiment, model={"image_buffer": 0})
    expected = _plain_loop(experiment, make_site(*DOMAINS).split("train"), 2)
    learner = make_learner(experiment)
    state = learner.initial_state()
    for number in range(2):
        state = learner.train(state, number).state
    assert state.keys() == expected.keys()
    for key, value in state.items():
        torch.testing.assert_close(value, expected[key], rtol=0, atol=1e-5, msg=key)


@pytest.mark.parametrize("kind", ["unet", "resnet"])
def test_a_round_is_repeated_bit_for_bit_by_a_fresh_learner_and_by_a_busy_one(
    make_experiment: MakeExperiment, make_learner: Callable[..., Learner], kind: str
) -> None:
    generator = {"kind": kind, "dropout": 0.2, "residual_units": 1}
    experiment = _cyclegan(make_experiment, model={"generator": generator})
    torch.manual_seed(1)
    start = make_learner(experiment).initial_state()
    direct = make_learner(experiment).train(start, 3).state
    torch.manual_seed(2)
    assert _same(make_learner(experiment).train(start, 3).state, direct)
    busy = make_learner(experiment)
    for number in range(2):
        busy.train(start, number)
    # Were translations of those rounds still in the buffers, the discriminators would differ.
    assert _same(busy.train(start, 3).state, direct)


def test_the_image_buffer_acts(
    make_experiment: MakeExperiment, make_learner: Callable[..., Learner]
) -> None:
    with_buffer = make_learner(_cyclegan(make_experiment))
    without = make_learner(_cyclegan(make_experiment, model={"image_buffer": 0}))
    start = without.initial_state()
    one, other = (learner.train(start, 0).state for learner in (with_buffer, without))
    assert not _same(_part(one, "discriminator_b"), _part(other, "discriminator_b"))


def test_a_site_with_both_domains_trains_and_sends_all_four_networks(
    experiment: ExperimentConfig, make_learner: Callable[..., Learner], make_site: MakeSite
) -> None:
    learner = make_learner(experiment)
    start = learner.initial_state()
    result = learner.train(start, 0)
    assert result.state.keys() == start.keys()
    for network in NETWORKS:
        assert not _same(_part(result.state, network), _part(start, network)), network
    assert result.samples == 2 * len(make_site(*DOMAINS).split("train").source)
    assert {"train/loss_discriminator", "train/identity"} <= result.metrics.keys()


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_site_with_one_domain_trains_and_sends_the_generators_alone(
    experiment: ExperimentConfig,
    make_learner: Callable[..., Learner],
    make_site: MakeSite,
    domain: str,
) -> None:
    learner = make_learner(experiment, domain)
    start = learner.initial_state()
    assert _networks(start) == NETWORKS
    result = learner.train(start, 0)
    assert _networks(result.state) == GENERATORS
    for network in GENERATORS:
        assert not _same(_part(result.state, network), _part(start, network)), network
    assert result.samples == len(make_site(domain).split("train").source)
    assert "train/loss_discriminator" not in result.metrics
    assert "train/cycle" in result.metrics


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("domain", DOMAINS)
def test_discriminators_that_stay_at_a_site_with_one_domain_stay_as_they_were_bit_for_bit(
    make_experiment: MakeExperiment,
    make_learner: Callable[..., Learner],
    tmp_path: Path,
    domain: str,
    norm: str,
) -> None:
    model = {"discriminator": {"norm": norm}}
    experiment = _cyclegan(make_experiment, model=model, sharing="generator")
    learner = make_learner(experiment, domain)
    first = learner.train(learner.initial_state(), 0)
    learner.train(first.state, 1)
    found = LocalStateStore(tmp_path / "state").load(2)
    assert found is not None
    initial = build_networks(experiment.model, experiment.seed).state_dict()
    kept = found[1]["networks"]
    assert _networks(kept) == NETWORKS[:2]
    assert _same(kept, {key: initial[key] for key in kept})


@pytest.mark.parametrize("domain", DOMAINS)
def test_what_stands_in_the_arrays_for_a_missing_domain_never_reaches_training(
    experiment: ExperimentConfig,
    make_site: MakeSite,
    hardware: Hardware,
    tmp_path: Path,
    domain: str,
) -> None:
    split = make_site(domain).split("train")
    missing = getattr(split, OTHER[domain])
    assert not missing.any()
    noise = np.random.default_rng(0).integers(0, 65536, missing.shape, dtype=np.uint16)
    states = []
    for number, given in enumerate((split, replace(split, **{OTHER[domain]: noise}))):
        store = LocalStateStore(tmp_path / str(number))
        learner = Learner(experiment, "north", TrainingSlices([given]), hardware, store)
        states.append(learner.train(learner.initial_state(), 0).state)
    assert _same(*states)


@pytest.mark.parametrize("domain", DOMAINS)
def test_patients_with_one_domain_are_never_measured(make_site: MakeSite, domain: str) -> None:
    site = make_site(domain)
    assert len(site.split("train").subjects) == 2
    assert list(patients(site.split("train"))) == []
    assert len(list(patients(site.split("val")))) == 1


def test_sites_with_one_domain_each_train_everything_when_pooled(
    experiment: ExperimentConfig, make_site: MakeSite, hardware: Hardware, tmp_path: Path
) -> None:
    pooled = [make_site("source").split("train"), make_site("target", name="east").split("train")]
    store = LocalStateStore(tmp_path / "state")
    learner = Learner(experiment, "centralised", TrainingSlices(pooled), hardware, store)
    result = learner.train(learner.initial_state(), 0)
    assert _networks(result.state) == NETWORKS
    assert result.samples == sum(len(split.source) for split in pooled)


def test_a_site_without_training_slices_is_refused_by_its_name(
    experiment: ExperimentConfig, hardware: Hardware, tmp_path: Path
) -> None:
    store = LocalStateStore(tmp_path)
    learner = Learner(experiment, "island", TrainingSlices([]), hardware, store)
    with pytest.raises(DataError, match="island: no training slices"):
        learner.train(learner.initial_state(), 0)


@pytest.mark.parametrize("domain", DOMAINS)
def test_what_a_strategy_sends_belongs_to_the_networks_that_the_site_sends(
    make_experiment: MakeExperiment, make_learner: Callable[..., Learner], domain: str
) -> None:
    experiment = _cyclegan(make_experiment, strategy={"name": "scaffold"})
    learner = make_learner(experiment, domain)
    start = learner.initial_state()
    result = learner.train(start, 0, extras={f"control/{k}": v for k, v in start.items()})
    assert _networks(result.state) == GENERATORS
    assert result.extras
    assert {key.removeprefix("control/") for key in result.extras} <= result.state.keys()
    assert "strategy/ratio_discriminator" not in result.metrics


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("sharing", ["generator", "generator+discriminator"])
def test_the_local_arm_of_a_site_with_one_domain_ends_with_a_whole_shared_model(
    make_experiment: MakeExperiment,
    make_site: MakeSite,
    hardware: Hardware,
    tmp_path: Path,
    domain: str,
    sharing: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    experiment = _cyclegan(make_experiment, sharing=sharing)
    path = train_arm(experiment, Arm("north", [make_site(domain)], 4), hardware, tmp_path / "arm")
    model: State = torch.load(path, weights_only=True)["model"]
    initial = build_networks(experiment.model, experiment.seed).state_dict()
    assert _networks(model) == (GENERATORS if sharing == "generator" else NETWORKS)
    for network in _networks(model):
        untouched = _same(_part(model, network), _part(dict(initial), network))
        assert untouched == network.startswith("discriminator"), network
    assert "north: its slices cannot train discriminator_a, discriminator_b" in caplog.text


def test_a_site_without_validation_patients_trains_and_has_no_metrics_of_its_own(
    experiment: ExperimentConfig, make_site: MakeSite, hardware: Hardware, tmp_path: Path
) -> None:
    lonely = make_site("source", without_val=True)
    generator = build_generator(experiment.model.generator)
    assert validate(generator, lonely.split("val"), hardware) == {}
    train_arm(experiment, Arm("north", [lonely], 2), hardware, tmp_path / "alone")
    table = pd.read_csv(tmp_path / "alone" / "metrics.csv")
    assert "train/cycle" in set(table.metric)
    assert not table.metric.str.startswith("val/").any()
    sites = [lonely, make_site("target", name="east")]
    train_arm(experiment, Arm("centralised", sites, 2), hardware, tmp_path / "pooled")
    table = pd.read_csv(tmp_path / "pooled" / "metrics.csv")
    validation = table[table.metric == "val/psnr"]
    assert set(validation.site) == {"east", "all"}
    wide = validation.pivot(index="round", columns="site", values="value")
    assert (wide["all"] == wide["east"]).all()


def test_bf16_trains_and_gives_back_float32(
    experiment: ExperimentConfig, make_site: MakeSite, tmp_path: Path
) -> None:
    slices = TrainingSlices([make_site(*DOMAINS).split("train")])
    half = Hardware("cpu", "bf16-mixed", 1)
    learner = Learner(experiment, "north", slices, half, LocalStateStore(tmp_path / "half"))
    result = learner.train(learner.initial_state(), 0)
    assert all(value.dtype == torch.float32 for value in result.state.values())
    assert all(np.isfinite(value) for value in result.metrics.values())


def _heads(seed: int) -> PreparedSplit:
    """Bright heads with a few dark spots as source; the target has their contrast inverted.

    The spots are what tells the domains apart: a mapping that leaves the contrast as it is makes
    bright heads with dark spots, and no slice of the target is one.
    """
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(*(np.linspace(-1, 1, 32),) * 2, indexing="ij")
    sources, masks = [], []
    for _ in range(80):
        height, width = rng.uniform(0.7, 0.9, 2)
        spots = np.zeros_like(x)
        for _ in range(rng.integers(2, 5)):
            column, row = rng.uniform(-0.4, 0.4, 2)
            distance = np.hypot(x - column, y - row) / rng.uniform(0.08, 0.17)
            spots = np.maximum(spots, np.exp(-0.5 * distance**2))
        masks.append((x / width) ** 2 + (y / height) ** 2 < 1)
        sources.append((0.85 - 0.7 * spots) * masks[-1])
    source, mask = np.array(sources), np.array(masks)
    source_levels, target_levels = (
        (image * 65535).round().astype(np.uint16) for image in (source, (1 - source) * mask)
    )
    subjects = [PreparedSubject(f"s{n}", 20 * n, 20 * n + 20, None, {}) for n in range(4)]
    heads = mask.astype(np.uint8)
    return PreparedSplit(source_levels, target_levels, heads, None, tuple(subjects))


@pytest.mark.slow
def test_it_learns_to_invert_contrast_without_ever_seeing_a_pair(
    make_experiment: MakeExperiment, hardware: Hardware, tmp_path: Path
) -> None:
    # The identity term asks for the opposite of an inversion; docs/cyclegan.md has figures.
    # Unpaired training goes up and down: four seeds had between 12 and 23 dB after five rounds,
    # and which of them depends on the processor; after eight, all had 19.7 dB or more.
    rates = {"learning_rate_generator": 4e-3, "learning_rate_discriminator": 5e-4}
    experiment = _cyclegan(
        make_experiment,
        model={"lambda_cycle": 3.0, "lambda_identity": 0.0, "image_buffer": 50},
        training={"steps": 75, **rates},
    )
    trained_on, unseen = _heads(1), _heads(2)
    # The source comes from some subjects and the target from others: there is no pair to find.
    first, second, third, fourth = trained_on.subjects
    subjects = (
        replace(first, domains=("source",)),
        replace(second, domains=("target",)),
        replace(third, domains=("source",)),
        replace(fourth, domains=("target",)),
    )
    slices = TrainingSlices([replace(trained_on, subjects=subjects)])
    learner = Learner(experiment, "north", slices, hardware, LocalStateStore(tmp_path))
    generator = build_generator(experiment.model.generator)

    def quality(state: State) -> dict[str, float]:
        load_translator(generator, state, "generator_ab")
        return validate(generator, unseen, hardware)

    state = learner.initial_state()
    before = quality(state)
    for number in range(8):
        state = learner.train(state, number).state
    after = quality(state)
    as_source = [patient_metrics(patient.source, patient) for patient in patients(unseen)]
    baseline = float(np.mean([row["psnr"] for row in as_source]))
    assert after["val/psnr"] > max(before["val/psnr"], baseline) + 5
    assert after["val/ssim"] > before["val/ssim"] + 0.3
