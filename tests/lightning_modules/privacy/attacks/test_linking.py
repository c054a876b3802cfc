"""Whose scanner is behind an update."""

from __future__ import annotations

import numpy as np

from lightning_modules.privacy.attacks.linking import likenesses, link

SITES, LENGTH = 4, 300


def _tables(own: float) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    common, sites = rng.normal(size=LENGTH), rng.normal(size=(SITES, LENGTH))
    tables = []
    for _ in range(10):
        first, second = (
            10 * common + own * sites + rng.normal(size=(SITES, LENGTH)) for _ in range(2)
        )
        tables.append(likenesses(first, second))
    return tables


def test_updates_with_a_part_of_their_site_s_own_are_given_its_name() -> None:
    found = link(_tables(own=1.0), 200, np.random.default_rng(0))
    assert found.right > 0.95
    assert found.p == 1 / 201
    assert found.trials == 40


def test_updates_that_share_all_but_noise_are_named_by_chance() -> None:
    found = link(_tables(own=0.0), 200, np.random.default_rng(0))
    assert found.chance == 0.25
    assert found.right < 0.45
    assert found.p > 0.01
