"""Changed slices under strategies: no strategy moves the draws, and each trains on them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from in_process_federation import InProcessFederation, same
from test_reductions import EQUAL

from lightning_modules.strategies.catalogue import STRATEGIES, STRATEGY_JOBS

MakeFederation = Callable[..., InProcessFederation]
AUGMENTATION = {"flip": 0.5, "rotation": 10, "translation": 0.1, "contrast": 0.2}
ONE_OF_EACH_KIND = ("fedbn", "scaffold", "fedma_independent", "fedma_layerwise", "trimmed_mean")
"""Parts that stay, arrays beside the model, matched channels, whole passes, robust means."""


@pytest.mark.parametrize("name", EQUAL)
def test_a_strategy_that_is_fedavg_is_so_on_changed_slices(
    make_federation: MakeFederation, name: str
) -> None:
    training = {"steps": 2, "augmentation": AUGMENTATION}
    plain = make_federation(training=training).run()
    settings = STRATEGIES[name].fedavg_at or {}
    other = make_federation(training=training, strategy={"name": name, **settings})
    assert same(other.run(), plain)


@pytest.mark.parametrize("job", ONE_OF_EACH_KIND)
def test_strategies_of_every_kind_train_on_changed_slices(
    make_federation: MakeFederation, job: str
) -> None:
    strategy = STRATEGY_JOBS[job].values
    training = {"steps": 1, "augmentation": AUGMENTATION}
    changed = make_federation(strategy=strategy, training=training)
    plain = make_federation(strategy=strategy, training={"steps": 1})
    assert not same(changed.run(), plain.run())
    assert not changed.refused
