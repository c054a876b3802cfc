"""What each privacy mechanism costs a round beside plain FedAvg: seconds, megabytes, memory.

Usage: ``python benchmarks/privacy.py``, or with names of mechanisms. The model is the demo's, with
both networks; a round is ``--steps`` training steps of a site, and the mean over four sites at the
server. Everything runs in one process, plain work and a mechanism's in turns, so that a noisy
machine disturbs both alike; seconds are medians. Memory is what a process of its own grows by
while it makes one answer. ``privacy_quality.py`` measures what mechanisms cost in images.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import encryption
import numpy as np
import psutil
import secure_sum
import torch

from app_custom.privacy.nvflare_filters import PercentileOnUpdates, SVTOnUpdates
from jobs.privacy.percentile import Percentile
from jobs.privacy.svt import SparseVector
from jobs.privacy.update_noise import UpdateNoise, clipping
from lightning_modules.combining.updates import SiteUpdate, Weights
from lightning_modules.combining.weighted_mean import weighted_mean
from lightning_modules.configuration import ExperimentConfig, experiment_from
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.networks.building import build_networks
from lightning_modules.privacy.encrypted_model import (
    EncryptedMean,
    decrypted_model,
    encrypted_model,
    layout_of,
)
from lightning_modules.privacy.encrypted_sums import MODULUS_BITS, SCALE_BITS
from lightning_modules.privacy.integer_code import IntegerCode
from lightning_modules.privacy.pairwise_masks import MaskRound
from lightning_modules.privacy.patient_settings import PatientNoise
from lightning_modules.privacy.update_noise import noised_update, system_noise
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.learner import Learner
from lightning_modules.training.local_state import LocalStateStore
from partitions.preparation import PreparedSplit, PreparedSubject

SITES = ("a", "b", "c", "d")
SAMPLES = 200
PATIENTS, SLICES = 4, 2
"""Drawn for a step, and slices of each; the plain step takes a batch of as many slices."""
DEMO: dict[str, Any] = {"size": (96, 80), "channels": [16, 32, 64, 128], "d": 16, "layers": 3}


@dataclass(frozen=True)
class Row:
    """One cost.

    Attributes:
        what: what was measured, in a few words.
        plain: in a round of FedAvg.
        private: in a round with the mechanism.
        unit: of both, ``s`` or ``MB``.
    """

    what: str
    plain: float
    private: float
    unit: str


@dataclass(frozen=True)
class Round:
    """What a mechanism does with a model after training.

    Attributes:
        answer: from a trained model to what leaves the site.
        mean: from all answers to what the server sends out.
        received: what a site does with that before it trains.
    """

    answer: Callable[[Weights], Any]
    mean: Callable[[Sequence[Any]], Any]
    received: Callable[[Any], Any] = lambda model: model


def plain(_: Weights) -> Round:
    """FedAvg without a mechanism."""
    return Round(dict, _weighted)


def update_noise(before: Weights) -> Round:
    """Update-level differential privacy."""
    experiment, settings = _experiment(DEMO, 1), UpdateNoise()
    experiment = replace(experiment, sharing="generator+discriminator")
    norms = clipping(settings, experiment)
    sigma = settings.noise_multiplier
    return Round(lambda trained: noised_update(before, trained, norms, sigma).state, _weighted)


def percentile(before: Weights) -> Round:
    """NVFlare's PercentilePrivacy."""
    part = PercentileOnUpdates(**asdict(Percentile()))
    return Round(lambda trained: part.released(before, trained, system_noise()), _weighted)


def svt(before: Weights) -> Round:
    """NVFlare's SVTPrivacy."""
    settings = SparseVector()
    part = SVTOnUpdates(
        settings.fraction,
        settings.svt_epsilon,
        settings.noise_var,
        settings.gamma,
        settings.tau,
        settings.steps,
    )
    return Round(lambda trained: part.released(before, trained, system_noise()), _weighted)


def masks(before: Weights) -> Round:
    """Secure aggregation, with all weights as one network."""
    code, asked = IntegerCode(), MaskRound("job", 0, SITES)
    secrets, weight = secure_sum.secrets_of(SITES), code.weight_of(SAMPLES)
    openings = {site: secrets[site].opening(asked) for site in SITES}
    turn = {"next": 0}

    def answer(trained: Weights) -> np.ndarray:
        site = SITES[turn["next"] % len(SITES)]
        turn["next"] += 1
        return secure_sum.answer_of(code, weight, dict(before), dict(trained), asked, secrets[site])

    def mean(answers: Sequence[np.ndarray]) -> Any:
        named = dict(zip(SITES, answers, strict=True))
        return secure_sum.mean_of(code, weight, dict(before), named, asked, openings)

    return Round(answer, mean)


def encrypted(before: Weights) -> Round:
    """Encrypted averaging."""
    site, server = encryption.keys_of(MODULUS_BITS, SCALE_BITS)
    layout = layout_of(before)

    def mean(answers: Sequence[Weights]) -> Weights:
        found = EncryptedMean(layout, server)
        for sealed in answers:
            found.add(sealed, SAMPLES)
        return found.message(before)

    return Round(
        lambda trained: encrypted_model(trained, SAMPLES, len(SITES), site),
        mean,
        lambda summed: decrypted_model(summed, site),
    )


AFTER_TRAINING: dict[str, Callable[[Weights], Round]] = {
    "update_noise": update_noise,
    "percentile": percentile,
    "svt": svt,
    "secure_sum": masks,
    "encryption": encrypted,
}
"""Mechanisms that act on a trained model."""
MECHANISMS = (*AFTER_TRAINING, "patient_noise")


def costs(mechanism: str, steps: int, repeats: int, case: dict[str, Any]) -> Iterator[Row]:
    """Yield what a round costs without and with a mechanism.

    Args:
        mechanism: its name.
        steps: training steps of a round.
        repeats: how often everything is measured.
        case: size of slices, channels of generator and discriminator.
    """
    by_patient = mechanism == "patient_noise"
    step, noised_step = step_seconds(case, repeats if by_patient else max(1, repeats // 2))
    before, trained = _models(case)
    made = [make(before) for make in (plain, AFTER_TRAINING.get(mechanism, plain))]
    site: list[list[float]] = [[], []]
    server: list[list[float]] = [[], []]
    sizes = [0.0, 0.0]
    for _ in range(repeats):
        for number, round_ in enumerate(made):
            answers, spent = [], 0.0
            for model in trained:
                seconds, answer = _timed(round_.answer, model)
                answers.append(answer)
                spent += seconds / len(trained)
            seconds, summed = _timed(round_.mean, answers)
            server[number].append(seconds)
            site[number].append(spent + _timed(round_.received, summed)[0])
            sizes[number] = _megabytes(answers[0])
    training = steps * step, steps * (noised_step if by_patient else step)
    rounds = [alone + median(found) for alone, found in zip(training, site, strict=True)]
    yield Row(f"a site's round of {steps} steps", rounds[0], rounds[1], "s")
    yield Row(
        f"the server's mean over {len(SITES)} sites", median(server[0]), median(server[1]), "s"
    )
    yield Row("a site's answer", sizes[0], sizes[1], "MB")
    if not by_patient:
        yield Row("memory for one answer", _growth("", case), _growth(mechanism, case), "MB")


def step_seconds(case: dict[str, Any], repeats: int, steps: int = 8) -> tuple[float, float]:
    """Median seconds of a step without and with patient-level differential privacy.

    Every patient is drawn for every step of each network, so that the work is always the same.
    """
    experiment = _experiment(case, steps)
    noise = PatientNoise(sampling_rate=1.0, slices=SLICES, patients=PATIENTS)
    slices = _random_slices(case["size"])
    with tempfile.TemporaryDirectory() as folder:
        learners = [
            Learner(
                experiment,
                "site",
                slices,
                Hardware("cpu", "32-true", torch.get_num_threads()),
                LocalStateStore(Path(folder)),
                patient_noise=chosen,
            )
            for chosen in (None, noise)
        ]
        state = learners[0].initial_state()
        seconds: list[list[float]] = [[], []]
        for number in range(repeats + 1):
            for learner, found in zip(learners, seconds, strict=True):
                found.append(learner.train(state, number).seconds / steps)
    # The first rounds load and allocate.
    return median(seconds[0][1:]), median(seconds[1][1:])


def _growth(mechanism: str, case: dict[str, Any]) -> float:
    """Megabytes by which a process grows while it makes one answer; seen every two milliseconds."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_one_answer, args=(mechanism, case, theirs))
    process.start()
    ours.recv()
    watched = psutil.Process(process.pid)
    before = peak = watched.memory_info().rss
    ours.send("go")
    while not ours.poll(0.002):
        peak = max(peak, watched.memory_info().rss)
    peak = max(peak, watched.memory_info().rss)
    ours.recv()
    ours.send("end")
    process.join()
    return float(peak - before) / 1e6


def _one_answer(mechanism: str, case: dict[str, Any], connection: Connection) -> None:
    before, trained = _models(case)
    made = AFTER_TRAINING.get(mechanism, plain)(before)
    connection.send("ready")
    connection.recv()
    kept = made.answer(trained[0])
    connection.send("done")
    connection.recv()
    del kept


def _weighted(answers: Sequence[Weights]) -> Weights:
    updates = [
        SiteUpdate(name, answer, SAMPLES) for name, answer in zip(SITES, answers, strict=True)
    ]
    return weighted_mean(updates)


def _experiment(case: dict[str, Any], steps: int) -> ExperimentConfig:
    return experiment_from(
        {
            "data": {"preparation": {"size": list(case["size"])}},
            "model": {
                "generator": {"channels": case["channels"]},
                "discriminator": {"channels": case["d"], "layers": case.get("layers", 2)},
            },
            "training": {"steps": steps, "batch_size": PATIENTS * SLICES},
        },
        "benchmark",
    )


def _models(case: dict[str, Any]) -> tuple[Weights, list[Weights]]:
    """The received model and what every site trained."""
    networks = build_networks(_experiment(case, 1).model, 2026)
    before = {key: value.numpy() for key, value in networks.state_dict().items()}
    random = np.random.default_rng(0)
    return before, [
        {
            key: value + random.normal(scale=0.005, size=value.shape).astype(value.dtype)
            for key, value in before.items()
        }
        for _ in SITES
    ]


def _random_slices(size: tuple[int, int], each: int = 8) -> TrainingSlices:
    random = np.random.default_rng(0)
    count = PATIENTS * each
    source, target = random.integers(0, 65536, (2, count, *size), dtype=np.uint16)
    subjects = tuple(
        PreparedSubject(f"s{number}", number * each, (number + 1) * each, None, {})
        for number in range(PATIENTS)
    )
    mask = np.ones((count, *size), np.uint8)
    return TrainingSlices([PreparedSplit(source, target, mask, None, subjects)])


def _timed(work: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - started, result


def _megabytes(answer: Any) -> float:
    arrays = [answer] if isinstance(answer, np.ndarray) else list(answer.values())
    return float(sum(array.nbytes for array in arrays)) / 1e6


def main() -> None:
    """Print a line per cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mechanisms", nargs="*", choices=[*MECHANISMS, []], help="default: all")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=150, help="of a round")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for mechanism in options.mechanisms or MECHANISMS:
        print(mechanism, flush=True)
        for row in costs(mechanism, options.steps, options.repeats, DEMO):
            ratio = f"{row.private / row.plain:8.3f} x" if row.plain else ""
            print(
                f"  {row.what:<36}{row.plain:>10.4g}{row.private:>10.4g} {row.unit:<3}{ratio}",
                flush=True,
            )


if __name__ == "__main__":
    main()
