"""What preparation costs, cold and cached, and what training from its cache costs.

Usage: ``make benchmark-preparation`` (or ``python benchmarks/preparation.py --data data/demo
[--set registration=rigid ...]``). Sites are prepared one after the other, in a process of their
own, into a folder that is deleted afterwards. Parts are shares of the processor's time, which other
work on the machine does not change. ``--subjects 1000`` lays out that many small copies of some
subjects instead, and measures ``fedi2i data prepare`` with all its processes. Training steps from
the cache and from tensors in memory alternate, so that a noisy machine disturbs both alike.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from many_subjects import lay_out, prepare
from omegaconf import OmegaConf
from torch import Tensor

from fedi2i.typed_config import record_from
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.networks.generators.catalogue import build_generator
from partitions.manifest import read_manifest
from partitions.preparation import PreparationConfig, open_prepared, prepare_site
from partitions.site_folders import find_site_folders

PARTS = {
    "decoding": (("volume.py", "read_volume"),),
    "resampling": (
        ("resampling.py", "plane_of"),
        ("resampling.py", "sampled"),
        ("applied.py", "laid_on_source"),
    ),
    "cutting to size": (("resampling.py", "padded"), ("cutting.py", "_as_slices")),
    "headers": (("scans.py", "open_scans"),),
    "rules": (("finding.py", "apply"),),
    "hashes of voxels": (("volume.py", "digest"),),
    "foreground and scale": (("masks.py", "mask_of"), ("subject.py", "volume_scale")),
    "intensities": (("intensities.py", "to_intensity"), ("intensities.py", "to_levels")),
    "bias field": (("applied.py", "evened"),),
    "hashes of files": (("inputs.py", "file_digests"),),
    "files of subjects": (("subject_file.py", "write"), ("subject_file.py", "read_facts")),
    "joining arrays": (("assembly.py", "assemble_split"),),
}
"""Where the time goes, by functions that do not call one another."""


@dataclass(frozen=True)
class Prepared:
    """Preparing some sites.

    Attributes:
        folders: the caches.
        subjects: how many.
        cold: seconds until all were prepared.
        cached: seconds until all were found again.
        mib: largest memory of the process.
        shares: part of the cold seconds by `PARTS`, measured by a profiler in a second run.
    """

    folders: tuple[Path, ...]
    subjects: int
    cold: float
    cached: float
    mib: float
    shares: dict[str, float]


def main() -> None:
    """Print the figures."""
    options = _parser().parse_args()
    torch.set_num_threads(1)
    if options.subjects:
        many(options)
        return
    config = record_from(
        PreparationConfig, OmegaConf.to_container(OmegaConf.from_dotlist(options.set)), "--set"
    )
    with tempfile.TemporaryDirectory() as place:
        found = in_a_process(find_site_folders(options.data), config, Path(place))
        print(f"{found.subjects} subjects, peak memory {found.mib:.0f} MiB")
        for name, seconds in (("cold", found.cold), ("cached", found.cached)):
            print(f"{name:<8}{found.subjects / seconds:10.2f} subjects/s ({seconds:.2f} s)")
        for name, share in found.shares.items():
            print(f"  {name:<22}{share:7.1%}")
        cache, memory = training(found.folders, options.steps)
        print(f"training step: from the cache {1e3 * cache:.2f} ms")
        print(f"               from memory    {1e3 * memory:.2f} ms, ratio {cache / memory:.3f}")


def many(options: argparse.Namespace) -> None:
    """Print what many subjects need: the memory of all processes, cold and from the cache."""
    with tempfile.TemporaryDirectory() as place:
        written = lay_out(options.data, Path(place), options.subjects, options.thin)
        print(f"{options.subjects} subjects, {written / 2**20:.0f} MiB of scans", flush=True)
        for name in ("cold", "cached"):
            found = prepare(Path(place), options.set, options.workers)
            print(
                f"{name:<8}{options.subjects / found.seconds:10.2f} subjects/s "
                f"({found.seconds:.2f} s), at most {found.mib:.0f} MiB in all processes",
                flush=True,
            )


def in_a_process(sites: Sequence[Path], config: PreparationConfig, place: Path) -> Prepared:
    """Measure in a fresh process, whose memory holds nothing else."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(measure, sites, config, place).result()


def measure(sites: Sequence[Path], config: PreparationConfig, place: Path) -> Prepared:
    """Prepare sites cold, find them again, and prepare them once more under a profiler."""
    torch.set_num_threads(1)
    manifests = [read_manifest(site) for site in sites]
    # The first call of all imports MONAI, which is no part of a subject's time.
    import partitions.preparation.subject  # noqa: F401

    def prepare(cache: Path) -> tuple[Path, ...]:
        made = [prepare_site(m, config, cache / m.site, progress=False) for m in manifests]
        return tuple(site.folder for site in made)

    cold, folders = _timed(prepare, place / "cold")
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cached, _ = _timed(prepare, place / "cold")
    profile = cProfile.Profile(time.process_time)
    profile.runcall(prepare, place / "profiled")
    subjects = sum(
        len(open_prepared(folder).split(split).subjects)
        for folder in folders
        for split in ("train", "val", "test")
    )
    return Prepared(folders, subjects, cold, cached, mib, shares(profile))


def shares(profile: cProfile.Profile) -> dict[str, float]:
    """Part of the profiled seconds that each of `PARTS` took, and what is left."""
    statistics = pstats.Stats(profile)
    entries: dict[Any, Any] = statistics.stats  # type: ignore[attr-defined]
    total = float(statistics.total_tt)  # type: ignore[attr-defined]
    spent = {
        part: sum(
            cumulative
            for (path, _, name), (_, _, _, cumulative, _) in entries.items()
            if (Path(path).name, name) in functions and "partitions" in path
        )
        for part, functions in PARTS.items()
    }
    return {
        **{part: seconds / total for part, seconds in spent.items()},
        "everything else": 1 - sum(spent.values()) / total,
    }


def training(folders: Sequence[Path], steps: int) -> tuple[float, float]:
    """Median seconds of a generator's step of 2 slices: from the cache, and from memory."""
    slices = TrainingSlices([open_prepared(folder).split("train") for folder in folders])
    everything = slices.batch(np.arange(len(slices)))
    generator = build_generator(ExperimentConfig().model.generator)
    optimizer = torch.optim.Adam(generator.parameters(), 1e-3)
    rng = np.random.default_rng(0)
    spent: dict[str, list[float]] = {"cache": [], "memory": []}

    def step(batch: dict[str, Tensor]) -> None:
        optimizer.zero_grad()
        (generator(batch["source"]) - batch["target"]).abs().mean().backward()
        optimizer.step()

    for _ in range(steps):
        chosen = rng.integers(len(slices), size=2)
        seconds, _ = _timed(lambda indices: step(slices.batch(indices)), chosen)
        spent["cache"].append(seconds)
        seconds, _ = _timed(
            lambda indices: step({name: part[indices] for name, part in everything.items()}), chosen
        )
        spent["memory"].append(seconds)
    return median(spent["cache"][1:]), median(spent["memory"][1:])


def _timed(work: Callable[[Any], Any], argument: Any) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work(argument)
    return time.perf_counter() - started, result


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data/demo"))
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--subjects", type=int, help="lay out so many small subjects instead")
    parser.add_argument("--thin", type=int, default=4, help="of them every so many voxels are kept")
    parser.add_argument("--workers", type=int, default=2, help="sites at a time, with --subjects")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    return parser


if __name__ == "__main__":
    main()
