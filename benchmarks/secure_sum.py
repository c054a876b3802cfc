"""Time and bytes of secure aggregation beside plain averaging of the same updates.

Usage: ``python benchmarks/secure_sum.py --millions 1 10 --sites 4``. Work with and without masks
alternates in one process, so that a noisy machine disturbs both alike; the figures are medians. The
exchange of keys, once per job, needs no arithmetic to speak of and is not measured here.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import numpy as np

from lightning_modules.combining.updates import SiteUpdate
from lightning_modules.combining.weighted_mean import weighted_mean
from lightning_modules.privacy.integer_code import IntegerCode, check_sum
from lightning_modules.privacy.pairwise_masks import (
    MaskRound,
    SiteSecrets,
    masked,
    new_private_key,
    opened,
    public_key,
    words_digest,
)

SAMPLES = 200
CODES = {"32 bits": IntegerCode(), "64 bits": IntegerCode(64, 32, 16.0, 1)}


@dataclass(frozen=True)
class Row:
    """One cost.

    Attributes:
        what: what was measured, in a few words.
        plain: without masks.
        private: with them.
        unit: of both.
    """

    what: str
    plain: float
    private: float
    unit: str


def secure_sum(millions: float, sites: int, repeats: int) -> Iterator[Row]:
    """What a round costs a site and the server, without the training.

    Args:
        millions: parameters of the model, in millions.
        sites: how many sites.
        repeats: how often everything is measured.
    """
    names = tuple(f"site-{number:03d}" for number in range(sites))
    rng = np.random.default_rng(0)
    anchor = {"generator.w": rng.normal(size=round(millions * 1e6)).astype(np.float32)}
    trained = {
        name: {"generator.w": (anchor["generator.w"] + rng.normal(scale=0.01)).astype(np.float32)}
        for name in names
    }
    for label, code in CODES.items():
        yield from _code_rows(label, code, anchor, trained, repeats)


def _code_rows(
    label: str,
    code: IntegerCode,
    anchor: dict[str, np.ndarray],
    trained: dict[str, dict[str, np.ndarray]],
    repeats: int,
) -> Iterator[Row]:
    names = tuple(trained)
    asked, secrets = MaskRound("job", 0, names), secrets_of(names)
    weight = code.weight_of(SAMPLES)
    answers: dict[str, np.ndarray] = {}
    times: dict[str, list[float]] = {"site": [], "server": [], "plain": []}
    for _ in range(repeats):
        for name in names:
            with _timed(times["site"]):
                sent = answer_of(code, weight, anchor, trained[name], asked, secrets[name])
            answers[name] = sent
        openings = {name: secrets[name].opening(asked) for name in names}
        with _timed(times["server"]):
            mean_of(code, weight, anchor, answers, asked, openings)
        updates = [SiteUpdate(name, trained[name], SAMPLES) for name in names]
        with _timed(times["plain"]):
            weighted_mean(updates)
    size = anchor["generator.w"].nbytes
    yield Row(f"{label}: a site's answer", size / 1e6, answers[names[0]].nbytes / 1e6, "MB")
    yield Row(f"{label}: masking at a site", 0.0, median(times["site"]), "s")
    yield Row(
        f"{label}: mean of {len(names)} at the server",
        median(times["plain"]),
        median(times["server"]),
        "s",
    )


def secrets_of(names: tuple[str, ...]) -> dict[str, SiteSecrets]:
    """Secrets of sites that know each other's keys."""
    private = {name: new_private_key() for name in names}
    public = {name: public_key(key) for name, key in private.items()}
    return {name: SiteSecrets(name, private[name], bytes(32), public) for name in names}


def answer_of(
    code: IntegerCode,
    weight: int,
    anchor: dict[str, np.ndarray],
    trained: dict[str, np.ndarray],
    asked: MaskRound,
    secrets: SiteSecrets,
) -> np.ndarray:
    """What a site sends: its update as integers, under masks."""
    model = words_digest(anchor)
    update = {key: value.astype(np.float64) - anchor[key] for key, value in trained.items()}
    sent = masked(code.encode(update, weight).words, "generator", asked, secrets, model)
    words_digest({"generator": sent})
    return sent


def mean_of(
    code: IntegerCode,
    weight: int,
    anchor: dict[str, np.ndarray],
    answers: dict[str, np.ndarray],
    asked: MaskRound,
    openings: dict[str, bytes],
) -> dict[str, np.ndarray]:
    """The new model, from all answers and the openings of their sum."""
    total = np.zeros_like(next(iter(answers.values())))
    for words in answers.values():
        total += words
    found = code.decode(opened(total, "generator", asked, openings), anchor)
    check_sum(found, [weight] * len(answers))
    return {key: (value + found.mean[key]).astype(value.dtype) for key, value in anchor.items()}


@contextmanager
def _timed(seconds: list[float]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds.append(time.perf_counter() - started)


def main() -> None:
    """Measure and print a table per size of model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", type=float, nargs="+", default=[1.0])
    parser.add_argument("--sites", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    for millions in options.millions:
        print(f"{millions:g} M parameters, {options.sites} sites")
        for row in secure_sum(millions, options.sites, options.repeats):
            print(f"  {row.what:<32}{row.plain:>10.3f}{row.private:>10.3f} {row.unit}")


if __name__ == "__main__":
    main()
