"""The server's half of each strategy: which aggregator, with which arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning_modules.configuration import ExperimentConfig
from lightning_modules.strategies.settings import StrategyConfig, coefficients

_PACKAGE = "app_custom.aggregators"


def aggregator(experiment: ExperimentConfig, min_sites: int) -> tuple[str, dict[str, Any]]:
    """Class path and arguments of the aggregator that an experiment's strategy needs.

    Args:
        experiment: the experiment.
        min_sites: fewest updates that make a round.
    """
    path, arguments = _AGGREGATORS.get(experiment.strategy.name, _mean)(experiment)
    partial = {"partial_networks": True} if may_leave_out_networks(experiment) else {}
    return f"{_PACKAGE}.{path}", {"min_sites": min_sites, **arguments, **partial}


def may_leave_out_networks(experiment: ExperimentConfig) -> bool:
    """Whether a site may have nothing to train some networks of the model on."""
    return experiment.model.name == "cyclegan"


Entry = tuple[str, dict[str, Any]]


def _mean(experiment: ExperimentConfig) -> Entry:
    return "fedavg.FedAvgAggregator", {}


def _fedma(experiment: ExperimentConfig) -> Entry:
    strategy = experiment.strategy
    return "fedma.FedMAAggregator", {
        "initialisation": strategy.initialisation,
        "matching_sweeps": strategy.matching_sweeps,
        "stay_margin": strategy.stay_margin,
        # Only sites that keep optimizers have something to put in the new order.
        "send_permutations": experiment.training.optimizer_state == "keep",
    }


def _fedma_layerwise(experiment: ExperimentConfig) -> Entry:
    strategy = experiment.strategy
    return "fedma_layerwise.FedMALayerwiseAggregator", {
        "initialisation": strategy.initialisation,
        "matching_sweeps": strategy.matching_sweeps,
        "stay_margin": strategy.stay_margin,
    }


def _fedavgm(experiment: ExperimentConfig) -> Entry:
    strategy = experiment.strategy
    return "fedavgm.FedAvgMAggregator", {
        "momentum": strategy.server_momentum,
        "learning_rates": _learning_rates(strategy),
    }


def _fedadam(experiment: ExperimentConfig) -> Entry:
    strategy = experiment.strategy
    return "fedadam.FedAdamAggregator", {
        "second_moment": strategy.server_optimizer,
        "beta1": strategy.server_beta1,
        "beta2": strategy.server_beta2,
        "tau": strategy.server_tau,
        "learning_rates": _learning_rates(strategy),
    }


def _scaffold(experiment: ExperimentConfig) -> Entry:
    return "scaffold.ScaffoldAggregator", {}


def _feddyn(experiment: ExperimentConfig) -> Entry:
    return "feddyn.FedDynAggregator", {"alpha": coefficients(experiment.strategy)}


def _fedmedian(experiment: ExperimentConfig) -> Entry:
    return "fedmedian.FedMedianAggregator", {"sample_weights": experiment.strategy.sample_weights}


def _trimmed_mean(experiment: ExperimentConfig) -> Entry:
    return "trimmed_mean.TrimmedMeanAggregator", {
        "trim_fraction": experiment.strategy.trim_fraction,
        "sample_weights": experiment.strategy.sample_weights,
    }


def _learning_rates(strategy: StrategyConfig) -> dict[str, float | None]:
    return {
        "generator": strategy.server_learning_rate_generator,
        "discriminator": strategy.server_learning_rate_discriminator,
    }


_AGGREGATORS: dict[str, Callable[[ExperimentConfig], Entry]] = {
    "fedma": _fedma,
    "fedma_layerwise": _fedma_layerwise,
    "fedavgm": _fedavgm,
    "fedadam": _fedadam,
    "scaffold": _scaffold,
    "feddyn": _feddyn,
    "fedmedian": _fedmedian,
    "trimmed_mean": _trimmed_mean,
}
"""Strategies that are not here (FedAvg, FedProx, FedBN, FedPer, Ditto) use the weighted mean."""
