"""A run with pictures of eight test patients, for reader studies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from fedi2i.cli.program import main

SUBJECTS = {"northern": 5, "islandic": 3}
PATIENTS = [(site, f"{site}-no{n}") for site, count in SUBJECTS.items() for n in range(count)]
ARMS = ("fedavg", "centralised", "local-northern")
SEED = 20261


def arrays() -> dict[str, np.ndarray]:
    """Noisy targets and smooth translations; masks of different sizes; traces outside masks."""
    random = np.random.default_rng(5)
    pictures = {}
    for number, (site, subject) in enumerate(PATIENTS):
        mask = np.zeros((40, 36))
        mask[6 : 26 + number, 8:28] = 1
        noise = random.random(mask.shape)
        pictures[f"{site}/{subject}/mask"] = mask
        pictures[f"{site}/{subject}/target"] = noise
        pictures[f"{site}/{subject}/source"] = 1 - noise
        for place, arm in enumerate(ARMS, start=1):
            pictures[f"{site}/{subject}/{arm}"] = np.full(mask.shape, place / 5)
    return {key: array.astype(np.float16) for key, array in pictures.items()}


def write(folder: Path) -> Path:
    """Write the run's folder."""
    folder.mkdir()
    about = {
        "title": "A run to be read",
        "created": "2025-01-02T03:04:05+00:00",
        "seed": 3,
        "computed": False,
        "preset": {"name": "mr", "data_range": 1.0, "mask": "head"},
        "sites": [
            {"name": site, "unseen": site == "islandic", "train": 4, "val": 1, "test": count}
            for site, count in SUBJECTS.items()
        ],
        "arms": [
            {"name": arm, "label": f"The {arm} label", "seconds": 1.0, "rounds": 1, "steps": 1}
            | {"bytes_sent": None, "note": ""}
            for arm in ARMS
        ],
    }
    rows = [
        (arm, site, "test", subject, "psnr", 20.0 + 3 * place + number)
        for place, arm in enumerate(("source", *ARMS))
        for number, (site, subject) in enumerate(PATIENTS)
    ]
    columns = ["arm", "site", "split", "subject", "metric", "value"]
    (folder / "run.json").write_text(json.dumps(about), encoding="utf-8")
    pd.DataFrame(rows, columns=columns).to_csv(folder / "results.csv", index=False)
    np.savez_compressed(folder / "slices.npz", **arrays())
    return folder


def prepare(run: Path, out: Path, *more: str) -> int:
    """Draw a study of three arms."""
    arms = [word for arm in ARMS[:2] for word in ("--arm", arm)] + ["--arm", "local-only"]
    return main(
        ["readers", "prepare", str(run), "--out", str(out), "--seed", f"{SEED}", *arms, *more]
    )
