"""Strategies that finish networks layer by layer need whole passes: fit the rounds to them."""

from __future__ import annotations

import dataclasses
import math

from fedi2i.errors import ConfigError
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.model_networks import shared_networks


def with_whole_passes(experiment: ExperimentConfig) -> ExperimentConfig:
    """The experiment with its rounds raised to whole passes and its steps cut to match.

    All strategies are compared at equal numbers of gradient steps, so more rounds mean fewer steps
    in each. Experiments with other strategies are returned as they are.
    """
    training, stages = experiment.training, rounds_of_a_pass(experiment)
    if stages == 1:
        return experiment
    rounds = stages * math.ceil(training.rounds / stages)
    steps = max(1, round(training.rounds * training.steps / rounds))
    changed = dataclasses.replace(training, rounds=rounds, steps=steps)
    return dataclasses.replace(experiment, training=changed)


def check_whole_passes(experiment: ExperimentConfig, where: str) -> None:
    """Refuse a run that would end in the middle of a pass.

    Raises:
        ConfigError: rounds are no multiple of the rounds of a pass.
    """
    stages, rounds = rounds_of_a_pass(experiment), experiment.training.rounds
    if rounds % stages:
        raise ConfigError(
            f"{where}: training.rounds is {rounds}, but '{experiment.strategy.name}' finishes one "
            f"layer a round and these networks take {stages}; take a multiple of {stages}"
        )


def rounds_of_a_pass(experiment: ExperimentConfig) -> int:
    """Rounds that belong together; 1 for strategies that need no certain number of them."""
    count = experiment.strategy.record.rounds_per_pass
    if count is None:
        return 1
    # Imported here, as few strategies need to trace networks to write a job.
    from lightning_modules.matching.network_groups import network_groups
    from lightning_modules.networks.building import build_networks

    networks = build_networks(experiment.model, experiment.seed)
    shared = shared_networks(experiment.model.described, experiment.sharing)
    size = experiment.data.preparation.size
    return count(network_groups(networks, experiment.model, shared, size))
