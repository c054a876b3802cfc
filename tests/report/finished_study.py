"""A small finished study of computed data, written once for many tests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from fedi2i.digest import digest

SEEDS = (11, 12, 13)
GAIN = {"source": -9.0, "fedavg": 0.0, "fedprox": 3.0}
PATIENTS = {"a": ["a1", "a2", "a3"], "u": ["u1", "u2"]}


def write(folder: Path, computed: bool = True) -> Path:
    """Three seeds, two strategies, one federated and one unseen site."""
    experiment = {"rounds": 2}
    design = {
        "title": "A study of two strategies",
        "release": "0.3.0",
        "reference": "fedavg",
        "primary_outcome": {"metric": "psnr", "patients": "federated"},
        "margin": 0.3,
        "experiment": {**experiment, "seed": None},
        "manifests": {"a": "f" * 64},
    }
    record = {
        "title": "One run",
        "created": "2025-01-02T03:04:05+00:00",
        "computed": computed,
        "preset": {"name": "mr"},
        "experiment": experiment,
        "versions": {"fedi2i": "0.3.0"},
        "manifests": design["manifests"],
        "primary_outcome": design["primary_outcome"],
        "design": digest(design),
        "sites": [
            {"name": site, "unseen": site == "u", "train": 0, "val": 0, "test": len(subjects)}
            for site, subjects in PATIENTS.items()
        ],
        "arms": [{"name": name, "label": name.upper()} for name in GAIN],
    }
    for seed in SEEDS:
        run = folder / f"seed-{seed}"
        run.mkdir(parents=True)
        (run / "run.json").write_text(json.dumps(record | {"seed": seed}), encoding="utf-8")
        _results(seed).to_csv(run / "results.csv", index=False)
        _curves().to_csv(run / "curves.csv", index=False)
    folders = {str(seed): f"seed-{seed}" for seed in SEEDS}
    study = {"created": record["created"], "design": design, "folders": folders}
    (folder / "study.json").write_text(json.dumps(study), encoding="utf-8")
    return folder


def _results(seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    rows = [
        (arm, site, "test", subject, "psnr", 20 + gain + 0.3 * random.normal())
        for arm, gain in GAIN.items()
        for site, subjects in PATIENTS.items()
        for subject in subjects
    ]
    return pd.DataFrame(rows, columns=["arm", "site", "split", "subject", "metric", "value"])


def _curves() -> pd.DataFrame:
    rows = [(arm, "a", n, "val/psnr", 10.0 + n) for arm in ("fedavg", "fedprox") for n in range(3)]
    return pd.DataFrame(rows, columns=["arm", "site", "round", "metric", "value"])
