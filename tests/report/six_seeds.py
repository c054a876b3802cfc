"""Write a study of six seeds whose ways, sites and ranks are known; no file of it is real.

Every arm climbs 8 dB from the constant baseline's 14 dB by its own share per round; the models of
site ``small`` gain by joining, those of ``large`` lose.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedi2i.digest import digest

SEEDS = (1, 2, 3, 4, 5, 6)
SITES = {"small": 4, "large": 6, "middle": 5}
UNSEEN = {"island": 5}
ROUNDS = 6
CONSTANT, CENTRALISED = 14.0, 22.0
WAYS: Mapping[str, Sequence[float]] = {
    "fedavg": (10.5, 15.0, 18.0, 20.0, 21.2, 21.7, 21.9),
    "fedprox": (10.5, 15.0, 18.0, 20.0, 21.0, 21.3, 21.5),
    "scaffold": (10.5, 17.0, 20.0, 21.2, 21.65, 21.8, 21.9),
    "fedma": (10.5, 15.0, 18.0, 20.0, 21.6, 21.5, 21.9),
    "centralised": (10.5, 16.0, 19.0, 21.0, 21.7, 21.9, 22.0),
}
"""Validation PSNR before the first and after every round, the same at every site and seed."""
TEST = {"fedavg": 21.0, "fedprox": 20.0, "scaffold": 21.5, "fedma": 18.0, "centralised": 22.0}
"""Mean test PSNR, to which site, seed, patient and noise add."""
LOCAL = {"small": 17.0, "large": 24.0, "middle": 21.0}
"""Mean test PSNR of a site's own local-only model there."""
BYTES, SECONDS = 1_000_000, {"small": 5.0, "large": 8.0, "middle": 6.0}
"""What a round costs at a site: bytes one way, seconds of training."""
METRICS = (("psnr", "PSNR", "dB", "higher", 2), ("gmsd", "GMSD", "", "lower", 4))


def write(folder: Path, seeds: Sequence[int] = SEEDS, shift: float = 0.0) -> Path:
    """Write the study.

    Args:
        folder: where to; must not exist.
        seeds: of its runs.
        shift: added to FedAvg's ways per seed after the first: later seeds never arrive.
    """
    folder.mkdir(parents=True)
    design = _design()
    folders = {str(seed): f"seed-{seed}" for seed in seeds}
    for place, seed in enumerate(seeds):
        run = folder / folders[str(seed)]
        run.mkdir()
        about = _about(seed, digest(design))
        (run / "run.json").write_text(json.dumps(about), encoding="utf-8")
        results(seed).to_csv(run / "results.csv", index=False)
        _curves(seed, shift * place).to_csv(run / "curves.csv", index=False)
    study = {"created": "2025-01-02T03:04:05+00:00", "design": design, "folders": folders}
    (folder / "study.json").write_text(json.dumps(study), encoding="utf-8")
    return folder


def _design() -> dict[str, Any]:
    return {
        "title": "Six seeds of computed numbers",
        "release": "0.3.0",
        "reference": "fedavg",
        "primary_outcome": {"metric": "psnr", "patients": "unseen"},
        "margin": 0.3,
        "experiment": {"rounds": ROUNDS, "seed": None},
        "manifests": {site: "0" * 64 for site in SITES},
    }


def _about(seed: int, design: str) -> dict[str, Any]:
    sites = [
        {"name": name, "unseen": name in UNSEEN, "train": 9, "val": 2, "test": count}
        | {"description": f"scanner {name}"}
        for name, count in {**SITES, **UNSEEN}.items()
    ]
    labels = {"fedavg": "FedAvg", "fedprox": "FedProx", "scaffold": "SCAFFOLD", "fedma": "FedMA"}
    names = ["constant", *(f"local-{site}" for site in SITES), *TEST]
    arms = [
        {"name": name, "label": labels.get(name, name.capitalize()), "seconds": 60.0}
        | {"rounds": ROUNDS, "steps": 20, "bytes_sent": None, "note": ""}
        for name in names
    ]
    return _design() | {
        "title": f"Seed {seed}",
        "created": "2025-01-02T03:04:05+00:00",
        "seed": seed,
        "computed": True,
        "data_note": "All numbers are computed.",
        "preset": {"name": "mr", "data_range": 1.0, "mask": "head"},
        "experiment": {"rounds": ROUNDS},
        "versions": {"fedi2i": "0.3.0"},
        "machine": {"cpu": "test"},
        "metrics": [
            {"name": name, "label": label, "unit": unit, "better": better, "decimals": decimals}
            for name, label, unit, better, decimals in METRICS
        ],
        "sites": sites,
        "arms": arms,
        "design": design,
    }


def results(seed: int) -> pd.DataFrame:
    """Test rows: the arm's mean, the seed's and the patient's share, and a little noise.

    GMSD falls where PSNR rises, but for FedProx, whose GMSD is the best of all.
    """
    rows = []
    for site, count in {**SITES, **UNSEEN}.items():
        for patient in range(count):
            random = np.random.default_rng([seed, patient, len(site)])
            shared = 0.4 * np.sin(seed) + 0.3 * np.cos(patient)
            for arm, level in _levels(site).items():
                moves = 0.0 if arm == "constant" else shared + 0.1 * random.normal()
                gmsd = 0.05 if arm == "fedprox" else 0.3 - 0.01 * (level + moves)
                subject = f"{site}-{patient}"
                rows.append((arm, site, "test", subject, "psnr", level + moves))
                rows.append((arm, site, "test", subject, "gmsd", gmsd))
    return pd.DataFrame(rows, columns=["arm", "site", "split", "subject", "metric", "value"])


def _levels(site: str) -> dict[str, float]:
    local = {f"local-{own}": LOCAL[own] if own == site else 16.0 for own in SITES}
    return {"constant": CONSTANT, **local, **TEST}


def _curves(seed: int, shift: float) -> pd.DataFrame:
    rows: list[tuple[str, str, int, str, float]] = []
    for arm, way in WAYS.items():
        down = shift if arm == "fedavg" else 0.0
        for site in SITES:
            rows += [(arm, site, r, "val/psnr", value - down) for r, value in enumerate(way)]
        if arm == "centralised":
            seconds = sum(SECONDS.values())
            rows += [(arm, "all", r, "time/train_seconds", seconds) for r in range(ROUNDS)]
            continue
        for number in range(ROUNDS):
            for site, took in SECONDS.items():
                rows.append((arm, site, number, "time/train_seconds", took))
                rows.append((arm, site, number, "traffic/bytes_sent", float(BYTES)))
                rows.append((arm, site, number, "traffic/bytes_received", float(BYTES)))
            rows.append((arm, "all", number, "time/train_seconds", 6.0))
        rows += [(arm, site, ROUNDS, "traffic/bytes_sent", float(BYTES)) for site in SITES]
    return pd.DataFrame(rows, columns=["arm", "site", "round", "metric", "value"])
