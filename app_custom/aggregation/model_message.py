"""Server and sites send models with the strategy's extras and accepted rounds.

Beside the weights go the strategy's *extras* (arrays such as SCAFFOLD's controls, told apart from
parameters by their names) and, from the server, the last round of each site that it accepted.

A site keeps optimizers, controls, local layers and the like after every round it has trained. Where
its answer was late, refused or lost, what it kept is ahead of the server's model and of sums that
the server keeps over sites (SCAFFOLD, FedDyn). So the server says which round it accepted, and the
site goes on with what it kept after that one: a round the server did not accept has not happened.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
from nvflare.apis.fl_constant import FilterKey, FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.app_constant import AppConstants

from fedi2i.errors import ConfigError

PREFIX = "strategy/"
"""No network may be called so: keys of parameters start with a network's name and a dot."""
ACCEPTED_ROUNDS = "accepted_rounds"
"""Key in the meta data of the global model."""
NONE_YET = -1
EXECUTOR = "app_custom.executor.translation_executor.TranslationExecutor"
"""The executor that trains; whatever another one sends passes no filter of what is trained."""

_IN_MEMORY = "accepted/"
_ENCRYPTING = "nvflare.app_opt.he"

Memory = dict[str, np.ndarray]
Value = TypeVar("Value")


def pack(state: Mapping[str, Value], extras: Mapping[str, Value]) -> dict[str, Value]:
    """Combine a model and the strategy's extras in one mapping, as they travel."""
    return {**state, **{f"{PREFIX}{name}": value for name, value in extras.items()}}


def unpack(data: Mapping[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
    """Return the model, and the extras by their own names (``control/generator.w``)."""
    # Whoever sent this may have sent keys that are no texts; those are no strategy's.
    names = {key for key in data if isinstance(key, str) and key.startswith(PREFIX)}
    state = {key: value for key, value in data.items() if key not in names}
    return state, {key[len(PREFIX) :]: data[key] for key in names}


def note_accepted(memory: Memory, sites: Iterable[str], round_number: int) -> None:
    """Enter a round's sites into the server's memory, which is saved with finished rounds."""
    for site in sites:
        memory[f"{_IN_MEMORY}{site}"] = np.asarray([round_number], dtype=np.int64)


def accepted_rounds(memory: Mapping[str, np.ndarray], sites: Iterable[str]) -> dict[str, int]:
    """Look up the last accepted round of each site in the server's memory; -1 for none yet."""
    found = {site: memory.get(f"{_IN_MEMORY}{site}") for site in sites}
    return {site: NONE_YET if value is None else int(value[0]) for site, value in found.items()}


def last_accepted_round(site: str, meta: Mapping[str, Any]) -> int | None:
    """Read a site's last accepted round from a model's meta data.

    Returns:
        -1 where the server has accepted none yet; None in workflows without a server that says so.
    """
    rounds = meta.get(ACCEPTED_ROUNDS)
    return None if rounds is None else int(rounds.get(site, NONE_YET))


def refuse_encryption(fl_ctx: FLContext, strategy: str) -> None:
    """Refuse, before training, a participant that encrypts updates with NVFlare's own filters.

    Our aggregator checks, orders and analyses single updates; FedMA matches channels, medians sort
    values. Homomorphic encryption allows sums only. NVFlare's encrypting filters and aggregators
    live in ``nvflare.app_opt.he``; whatever comes from there, in the job or in a site's policy, is
    named. Jobs with ``privacy.mechanism: encryption`` have filters and an aggregator of ours
    (``app_custom.privacy.encryption.filters``), which this does not concern.

    Args:
        fl_ctx: context of this participant's run.
        strategy: name for the message.

    Raises:
        ConfigError: naming the class that encrypts.
    """
    for part in parts_of(fl_ctx):
        if type(part).__module__.startswith(_ENCRYPTING):
            raise ConfigError(
                f"{strategy} must see plain weights, but {type(part).__name__} encrypts them; take "
                "it out, or export a job with privacy.mechanism 'encryption' (docs/privacy.md)"
            )


def parts_of(fl_ctx: FLContext) -> Iterator[Any]:
    """List this participant's components and filters: the job's and its own privacy scope's."""
    runner = fl_ctx.get_prop(FLContextKey.RUNNER)
    config = getattr(runner, "config", runner)
    yield from (getattr(config, "components", None) or {}).values()
    scope = fl_ctx.get_prop(FLContextKey.SCOPE_OBJECT)
    for holder in (config, scope):
        for name in ("task_data_filters", "task_result_filters"):
            yield from _flat(getattr(holder, name, None) or {})


def filters_of_trained(fl_ctx: FLContext) -> list[Any]:
    """The job's filters that a trained model passes on its way out of this site, in order."""
    runner = fl_ctx.get_prop(FLContextKey.RUNNER)
    chains: dict[str, Any] = getattr(runner, "task_result_filters", None) or {}
    name = f"{AppConstants.TASK_TRAIN}{FilterKey.DELIMITER}{FilterKey.OUT}"
    return list(chains.get(name) or [])


def executors_of(fl_ctx: FLContext) -> set[str]:
    """The classes, with their modules, of all executors that do tasks of the job at this site."""
    runner = fl_ctx.get_prop(FLContextKey.RUNNER)
    table: Mapping[str, object] = getattr(getattr(runner, "task_router", None), "task_table", {})
    kinds = {type(executor) for executor in table.values()}
    return {f"{kind.__module__}.{kind.__qualname__}" for kind in kinds}


def _flat(filters: Mapping[str, Any]) -> Iterator[Any]:
    for found in filters.values():
        yield from found if isinstance(found, list) else _flat(found)
