"""A strategy at a site: its gradient term, what the site keeps of it, and what it sends besides."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from lightning_modules.strategies.control_variates import ControlVariates
from lightning_modules.strategies.dynamic_regularisation import DynamicRegularisation
from lightning_modules.strategies.gradient_editor import GradientTerm
from lightning_modules.strategies.proximal import ProximalTerm
from lightning_modules.strategies.settings import CONTROL, StrategyConfig, coefficients

Arrays = dict[str, Tensor]


def gradient_term(
    strategy: StrategyConfig,
    memory: Mapping[str, Tensor],
    server: Mapping[str, Tensor],
    roles: Mapping[str, str],
) -> GradientTerm | None:
    """The term that a strategy adds to gradients, or None for strategies that add none.

    Args:
        strategy: the strategy.
        memory: what the site kept of it after the last round it took part in.
        server: the strategy's arrays that came with the global model, as ``name/key``.
        roles: network name to role.
    """
    if strategy.name == "fedprox":
        return ProximalTerm(coefficients(strategy))
    if strategy.name == "scaffold":
        weight = float(strategy.control_weight or 0.0)
        return ControlVariates(weight, own=memory, server=named(CONTROL, server))
    if strategy.name == "feddyn":
        return DynamicRegularisation(coefficients(strategy), memory, roles)
    return None


def memory_of(
    term: GradientTerm | None, before: Mapping[str, Tensor], trained: Mapping[str, Tensor]
) -> Arrays:
    """What the site keeps of its strategy for the next round.

    Args:
        term: the round's term.
        before: what it kept until now; stays for networks that were not trained.
        trained: the state_dict after the last step.
    """
    if isinstance(term, ControlVariates):
        return {**before, **term.controls()}
    if isinstance(term, DynamicRegularisation):
        return {**before, **term.linear_terms(trained)}
    return {}


def contribution(term: GradientTerm | None) -> Arrays:
    """What the site sends besides its model, as ``name/key``."""
    if isinstance(term, ControlVariates):
        return {f"{CONTROL}/{key}": value for key, value in term.changes().items()}
    return {}


def named(name: str, arrays: Mapping[str, Tensor]) -> Arrays:
    """The arrays of one name, without it: ``control/generator.w`` as ``generator.w``."""
    prefix = f"{name}/"
    return {key[len(prefix) :]: value for key, value in arrays.items() if key.startswith(prefix)}
