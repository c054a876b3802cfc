"""Derived seeds."""

from __future__ import annotations

import subprocess
import sys
from itertools import product

import pytest

from lightning_modules.seeding import derive_seed


def test_a_seed_is_the_first_63_bits_of_a_sha256() -> None:
    # printf '2026/slice order/north/3' | sha256sum -> its first 16 digits, halved
    assert derive_seed(2026, "slice order", "north", 3) == int("49b9ce837cc13331", 16) >> 1


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_another_process_derives_the_same_seed(hash_seed: str) -> None:
    code = "from lightning_modules.seeding import derive_seed; print(derive_seed(1, 'a', 2))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == derive_seed(1, "a", 2)


def test_purposes_sites_and_rounds_never_share_a_stream() -> None:
    names = list(product(range(5), ("noise", "slice order"), ("a", "b", "a1"), range(20)))
    assert len({derive_seed(*name) for name in names}) == len(names)


def test_seeds_fit_what_torch_and_numpy_accept() -> None:
    assert all(0 <= derive_seed(seed, "x") < 2**63 for seed in range(100))
