"""Updates that wait on disk."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from app_custom.aggregation.spooled_update import SMALL, spooled
from lightning_modules.combining.updates import LazyArrays, SiteUpdate
from lightning_modules.combining.weighted_mean import weighted_mean


def _update(site: str, size: int = SMALL, seed: int = 0) -> SiteUpdate:
    rng = np.random.default_rng(seed)
    weights = {
        "generator.b": rng.normal(size=3).astype(np.float32),
        "generator.w": rng.normal(size=(2, size)).astype(np.float32),
        "generator.steps": np.array(7),
        "generator.half": rng.normal(size=size).astype(np.float16),
        "discriminator.w": rng.normal(size=(size, 1)),
    }
    return SiteUpdate(site, weights, 3.0, {"control/generator.w": -weights["generator.w"]})


def test_it_comes_back_to_the_last_bit_with_its_types_and_in_its_order(tmp_path: Path) -> None:
    before = _update("north")
    after = spooled(before, tmp_path)
    assert isinstance(after.weights, LazyArrays)
    for found, given in ((after.weights, before.weights), (after.extras, before.extras)):
        assert list(found) == list(given)
        for key, value in given.items():
            assert type(found[key]) is np.ndarray
            assert found[key].dtype == value.dtype
            np.testing.assert_array_equal(found[key], value)
    assert (after.site, after.samples) == (before.site, before.samples)
    with pytest.raises(KeyError):
        after.weights["generator.x"]


def test_one_network_of_it_is_read_array_by_array(tmp_path: Path) -> None:
    part = spooled(_update("north"), tmp_path).for_network("discriminator")
    assert list(part.weights) == ["discriminator.w"]
    with pytest.raises(KeyError):
        part.weights["generator.w"]


def test_the_mean_is_that_of_updates_in_memory_to_the_last_bit(tmp_path: Path) -> None:
    updates = [_update(str(n), 3 * SMALL, n) for n in range(3)]
    expected = weighted_mean(updates)
    found = weighted_mean([spooled(update, tmp_path) for update in updates])
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value)


def _open_below(folder: Path) -> int:
    """Files of this process that lie, or lay, in the folder."""
    links = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sum(link.startswith(str(folder)) for link in links)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc to see open files in")
def test_no_folder_lists_the_file_and_it_ends_with_the_update(tmp_path: Path) -> None:
    update = spooled(_update("north"), tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert _open_below(tmp_path) == 2
    del update
    gc.collect()
    assert _open_below(tmp_path) == 0


def test_an_array_can_be_written_to_without_changing_the_update(tmp_path: Path) -> None:
    update = spooled(_update("north"), tmp_path)
    array = update.weights["generator.w"]
    before = array.copy()
    array += 1
    np.testing.assert_array_equal(update.weights["generator.w"], before)


MEASURE = """
import gc, pathlib, sys
import numpy, psutil
from app_custom.aggregation.malloc import return_freed_memory
from app_custom.aggregation.spooled_update import spooled
from lightning_modules.combining.updates import SiteUpdate

assert return_freed_memory()
process, held = psutil.Process(), []
before = process.memory_info().rss
for site in range(6):
    arrays = {f"generator.{n}": numpy.ones(1 << 20, numpy.float32) for n in range(8)}
    update = SiteUpdate(str(site), arrays, 1.0)
    held.append(spooled(update, pathlib.Path(sys.argv[1])) if sys.argv[1:] else update)
    del arrays, update
gc.collect()
print((process.memory_info().rss - before) >> 20)
"""
"""Prints by how many MiB six updates of 32 MiB each make a process grow."""


def _growth(*folder: str) -> int:
    """Measured in a process of its own, where nothing that others have freed is used again."""
    command = [sys.executable, "-c", MEASURE, *folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    return int(done.stdout)


def test_memory_does_not_grow_with_sites(tmp_path: Path) -> None:
    assert _growth() > 180
    assert _growth(str(tmp_path)) < 40


def test_where_the_file_cannot_be_written_it_stays_in_memory_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    update = _update("north")
    with caplog.at_level(logging.WARNING):
        assert spooled(update, tmp_path / "gone") is update
    assert "the update of site 'north' stays in memory (No such file or directory)" in caplog.text


def test_a_small_update_needs_no_file(tmp_path: Path) -> None:
    update = SiteUpdate("north", {"generator.w": np.ones(3)}, 1.0)
    assert spooled(update, tmp_path).weights is update.weights
