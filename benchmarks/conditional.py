"""One conditional generator against separate models and their chain, on held and unheld pairs.

Usage: ``make benchmark-conditional`` (or ``python benchmarks/conditional.py --data data/demo``).
Sites and settings are those of ``jobs/experiments/conditional.yaml``. Federations run without
messages (``jobs.running.plain_loop``); pooled models see the same slices in as many steps as all
sites take together. A separate model is the same generator with the L1 term alone and takes the
steps of the sites that hold its pair; the chain translates twice, through T1. Prints mean PSNR in
dB over all patients of the sites that take no part in the training.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from jobs.running.plain_loop import PlainLoop
from jobs.writing.federation import FederatedExperiment, read_federated_experiment
from lightning_modules.evaluation.baselines import SiteBaselines, baselines_of
from lightning_modules.evaluation.results import read_generator
from lightning_modules.evaluation.validation import (
    Patient,
    load_translator,
    patient_metrics,
    patients,
    translate_patient,
)
from lightning_modules.networks.building import build_translator
from lightning_modules.networks.modulation import for_pair
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.training_run import Arm, train_arm
from partitions.manifest import SPLITS, read_manifest
from partitions.preparation import PreparedSite, prepare_site

EXPERIMENT = Path(__file__).resolve().parents[1] / "jobs" / "experiments" / "conditional.yaml"
HARDWARE = Hardware("cpu", "32-true", 1)
Pair = tuple[str, str]
MIDDLE = "t1"
PAIRS: tuple[Pair, ...] = (("t1", "t2"), ("t1", "flair"), ("t2", "flair"), ("flair", "t2"))
"""The first two are held by sites that train, the others by none."""
Translate = Callable[[Patient], Tensor]
Found = dict[Pair, float]


def main() -> None:
    """Train all arms, two at a time, and print a line for each."""
    options = _parser().parse_args()
    arms: dict[str, tuple[Callable[..., Found], Mapping[str, Any]]] = {
        "constant": (untrained, {"name": "constant"}),
        "line from the source": (untrained, {"name": "mapped-source"}),
        "separate models, and their chain": (separate, {}),
        "federated, codes alone": (federated, {"pseudo_source": 0.0}),
        "federated, pseudo-source": (federated, {"pseudo_source": 1.0}),
        "pooled, codes alone": (pooled, {"pseudo_source": 0.0}),
        "pooled, pseudo-source": (pooled, {"pseudo_source": 1.0}),
    }
    print(f"{'':<34}" + "".join(f"{f'{one} to {two}':>13}" for one, two in PAIRS))
    with ProcessPoolExecutor(options.at_once, multiprocessing.get_context("spawn")) as pool:
        runs = {
            name: pool.submit(arm, options.data.resolve(), options.seed, options.rounds, **more)
            for name, (arm, more) in arms.items()
        }
        for name, run in runs.items():
            found = run.result()
            print(f"{name:<34}" + "".join(f"{found[pair]:13.2f}" for pair in PAIRS), flush=True)


def untrained(data: Path, seed: int, rounds: int, name: str) -> Found:
    """A baseline, from the training patients of whoever holds its pair; else of its target."""
    found = {}
    for pair in PAIRS:
        job = described(seed, rounds, pair=pair)
        trained = [prepared(data, site, job, pair) for site in job.federation.sites]
        unseen = [prepared(data, site, job, pair) for site in job.federation.unseen]
        known = baselines_of([*trained, *unseen], job.federation.unseen)
        found[pair] = measured(unseen, lambda site, k=known: partial(_baseline, k[site], name))
    return found


def _baseline(known: SiteBaselines, name: str, patient: Patient) -> Tensor:
    return known.predictions(patient)[name]


def separate(data: Path, seed: int, rounds: int) -> Found:
    """A model of its own for each pair that sites hold, in both directions; else two of them."""
    models: dict[Pair, nn.Module] = {}
    for _, contrast in PAIRS[:2]:
        for pair in ((MIDDLE, contrast), (contrast, MIDDLE)):
            job = described(seed, rounds, pair=pair)
            own = {MIDDLE, contrast}
            held = described(seed, rounds).experiment.data.pairs
            sites = [
                prepared(data, one.site, job, pair)
                for one in held
                if {one.source, one.target} == own
            ]
            models[pair] = trained_alone(job, sites)

    def chain(pair: Pair) -> Sequence[nn.Module]:
        one, other = pair
        return [models[pair]] if pair in models else [models[one, MIDDLE], models[MIDDLE, other]]

    return everywhere(data, seed, rounds, chain)


def federated(data: Path, seed: int, rounds: int, pseudo_source: float) -> Found:
    """The conditional generator, averaged over the sites after every round."""
    job = described(seed, rounds, pseudo_source=pseudo_source)
    sites = {site: prepared(data, site, job) for site in job.federation.sites}
    with tempfile.TemporaryDirectory() as folder:
        weights = PlainLoop(job.experiment, sites, Path(folder), HARDWARE).run(rounds)
    generator = build_translator(job.experiment.model)
    load_translator(generator, {key: torch.from_numpy(value) for key, value in weights.items()})
    return everywhere(data, seed, rounds, lambda pair: [for_pair(generator, *pair)])


def pooled(data: Path, seed: int, rounds: int, pseudo_source: float) -> Found:
    """The conditional generator, trained on all sites' slices."""
    job = described(seed, rounds, pseudo_source=pseudo_source)
    generator = trained_alone(job, [prepared(data, site, job) for site in job.federation.sites])
    return everywhere(data, seed, rounds, lambda pair: [for_pair(generator, *pair)])


def described(
    seed: int, rounds: int, pair: Pair | None = None, pseudo_source: float = 1.0
) -> FederatedExperiment:
    """The experiment: conditional, or for one pair the same generator with the L1 term alone."""
    changes: dict[str, Any] = {"seed": seed, "training": {"rounds": rounds}}
    if pair is None:
        changes["model"] = {"pseudo_source": pseudo_source}
    else:
        changes["model"] = {"name": "regression", "contrasts": []}
        changes["data"] = {"pairs": [], "preparation": {"source": pair[0], "target": pair[1]}}
    return read_federated_experiment(EXPERIMENT, {"experiment": changes})


def trained_alone(job: FederatedExperiment, sites: Sequence[PreparedSite]) -> nn.Module:
    """What an arm without a federation learns, with the steps of all its sites."""
    torch.set_num_threads(1)
    steps = job.experiment.training.steps * len(sites)
    with tempfile.TemporaryDirectory() as folder:
        path = train_arm(job.experiment, Arm("pooled", sites, steps), HARDWARE, Path(folder))
        return read_generator(job.experiment.model, path)


def prepared(
    data: Path, site: str, job: FederatedExperiment, pair: Pair | None = None
) -> PreparedSite:
    """A site's slices of its own pair, or of a given one."""
    config = job.experiment.data.preparation_at(site)
    if pair is not None:
        config = replace(config, source=pair[0], target=pair[1])
    folder = data / site
    return prepare_site(read_manifest(folder), config, folder / "prepared", progress=False)


def everywhere(
    data: Path, seed: int, rounds: int, chain: Callable[[Pair], Sequence[nn.Module]]
) -> Found:
    """The PSNR of every pair, by generators that translate one after the other."""
    found = {}
    for pair in PAIRS:
        job, generators = described(seed, rounds), chain(pair)
        sites = [prepared(data, site, job, pair) for site in job.federation.unseen]

        def translate(patient: Patient, generators: Sequence[nn.Module] = generators) -> Tensor:
            for generator in generators:
                translated = translate_patient(generator, patient, HARDWARE)
                patient = replace(patient, source=translated.clamp(0.0, 1.0))
            return translated

        found[pair] = measured(sites, lambda _, translate=translate: translate)
    return found


def measured(sites: Sequence[PreparedSite], of_site: Callable[[str], Translate]) -> float:
    """Mean PSNR in dB over all patients of some sites."""
    return fmean(
        patient_metrics(of_site(site.site)(patient), patient)["psnr"]
        for site in sites
        for split in SPLITS
        for patient in patients(site.split(split))
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data/demo"))
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--rounds", type=int, default=90, help="of five steps; by default 90")
    parser.add_argument("--at-once", type=int, default=2, help="arms beside each other")
    return parser


if __name__ == "__main__":
    main()
