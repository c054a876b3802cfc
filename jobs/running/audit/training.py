"""What leaves a site after a round, under a mechanism, as the run's own learner makes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from jobs.privacy.catalogue import PrivacyConfig
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.seeding import derive_seed
from lightning_modules.training.hardware import Hardware, choose_hardware
from lightning_modules.training.learner import Learner, State
from lightning_modules.training.local_state import LocalStateStore
from partitions.preparation import PreparedSplit

_SELDOM = 1e-9
"""A sampling rate at which no patient is ever drawn."""
SLICE_RATES = {"generator": 1.0, "discriminator": 1e-2}
"""Learning rates of the job that asks for a gradient: small for the discriminator, whose step would
otherwise change what the generator is told; large enough for the digits of a float32."""


def hardware_of(experiment: ExperimentConfig) -> Hardware:
    """One thread a process: pieces are computed side by side, and sums over threads round."""
    return choose_hardware(experiment.training.precision, threads=1)


def single_steps(experiment: ExperimentConfig, batch_size: int) -> ExperimentConfig:
    """The job that makes an update a gradient: one step of SGD, in full precision."""
    training = replace(
        experiment.training,
        rounds=1,
        steps=1,
        batch_size=batch_size,
        optimizer="sgd",
        optimizer_state="reset",
        precision="fp32",
        learning_rate_generator=SLICE_RATES["generator"],
        learning_rate_discriminator=SLICE_RATES["discriminator"],
    )
    return replace(experiment, training=training)


def updates(
    experiment: ExperimentConfig,
    privacy: PrivacyConfig,
    splits: Sequence[PreparedSplit],
    arm: str,
    rounds: int | None = None,
) -> Iterator[tuple[State, State]]:
    """Round after round, what the site received and what it sends.

    The site goes on from what it sent, as if it were alone: the mean of a federation would bring in
    other sites' data and less noise, so that this is the most that a server can see of a site.

    Args:
        experiment: the run's settings.
        privacy: the mechanism.
        splits: the site's training data.
        arm: seeds the order of slices and the audit's noise.
        rounds: by default the run's.
    """
    with TemporaryDirectory(prefix="fedi2i-audit-") as folder:
        learner = Learner(
            experiment,
            arm,
            TrainingSlices(splits),
            hardware_of(experiment),
            LocalStateStore(Path(folder)),
            **_arguments(privacy),
        )
        state = learner.initial_state()
        for number in range(rounds or experiment.training.rounds):
            trained = {**state, **learner.train(state, number).state}
            sent = released(experiment, privacy, state, trained, f"{arm}/{number}")
            yield state, sent
            state = sent


def noise_alone(
    experiment: ExperimentConfig,
    privacy: PrivacyConfig,
    splits: Sequence[PreparedSplit],
    received: State,
    draw: str,
) -> State:
    """What leaves of a step in which nothing is learnt: noise of the length that everybody knows.

    Args:
        experiment: the job of one step.
        privacy: the mechanism.
        splits: the training data, of which none is used.
        received: the weights before the step.
        draw: seeds the audit's noise.
    """
    if not acts_in_training(privacy):
        return released(experiment, privacy, received, received, draw)
    # Nobody is drawn, while sums of gradients are divided by the same expected number of patients.
    settings = privacy.settings
    seldom = replace(
        settings,
        sampling_rate=_SELDOM,
        patients=round(settings.expected_patients / _SELDOM),
    )
    ((_, sent),) = updates(experiment, replace(privacy, settings=seldom), splits, draw, rounds=1)
    return sent


def acts_in_training(privacy: PrivacyConfig) -> bool:
    """Whether a mechanism makes another training, and not only other messages."""
    return bool(_arguments(privacy))


def _arguments(privacy: PrivacyConfig) -> Mapping[str, Any]:
    record = privacy.record
    if record is None or record.learner is None:
        return {}
    return record.learner(privacy.settings)


def released(
    experiment: ExperimentConfig, privacy: PrivacyConfig, received: State, trained: State, draw: str
) -> State:
    """What leaves of a trained model under a mechanism.

    Noise is drawn from the audit's seed, so that an audit can be repeated; a site's own noise comes
    from the system's entropy.
    """
    record = privacy.record
    if record is None or record.released is None:
        return trained
    rng = np.random.default_rng(derive_seed(experiment.seed, "audit noise", draw))
    sent = record.released(
        privacy.settings,
        experiment,
        {key: value.numpy() for key, value in received.items()},
        {key: value.numpy() for key, value in trained.items()},
        rng.standard_normal,
    )
    return {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in sent.items()}
