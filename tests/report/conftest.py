"""A small synthetic run folder; its numbers are short enough to check by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import eighteen_strategies
import numpy as np
import pandas as pd
import pytest

from report.numbers.analysis import Analysis, analyse
from report.page.render import render_page
from report.run.folder import read_run
from report.run.records import Run

KEYS = ["arm", "site", "split", "subject", "metric", "value"]
PATIENTS = {"a": ["a1", "a2", "a3"], "b": ["b1", "b2"], "u": ["u1", "u2"]}
# PSNR in dB per arm, in the order of PATIENTS
PSNR = {
    "source": [10, 11, 12, 13, 14, 15, 16],
    "local-a": [20, 22, 24, 15, 16, 17, 18],
    "local-b": [14, 15, 16, 21, 25, 19, 22],
    "centralised": [25, 26, 27, 28, 29, 24, 25],
    "fedavg": [23, 25, 27, 26, 28, 21, 24],
    "fedprox": [24, 24, 27, 25, 28, 22, 23],
}
# the same for strategies after which each of the sites a and b has a model of its own
PERSONAL_PSNR = {
    "fedbn@a": [24, 26, 28, 18, 19, 20, 22],
    "fedbn@b": [17, 18, 19, 27, 29, 22, 26],
    "ditto": [23, 25, 27, 26, 28, 21, 24],
    "ditto@a": [25, 26, 27, 20, 20, 21, 21],
    "ditto@b": [19, 19, 19, 26, 27, 23, 22],
}
# what a job's strategy does, and whether a ratio or a moved fraction is expected to differ from 0
STRATEGIES = {
    "fedavg": {"does": "weighted mean", "acts": False},
    "fedprox": {"does": "proximal term", "acts": True},
    "fedbn": {"does": "normalisation stays at the site", "acts": False},
    "ditto": {"does": "personal models", "acts": True},
}
FAMILIES = {"fedbn": ("fedbn", "FedBN (personal)"), "ditto": ("ditto_personal", "Ditto (personal)")}


def description() -> dict[str, Any]:
    """The content of run.json."""
    return {
        "title": "Two sites & one <unseen>",
        "created": "2025-01-02T03:04:05+00:00",
        "seed": 3,
        "computed": True,
        "data_note": "Phantoms only.",
        "preset": {"name": "mr", "data_range": 1.0, "mask": "head"},
        "experiment": {"model": {"generator": {"depth": 5}}, "rounds": 2},
        "versions": {"numpy": "2"},
        "machine": {"cpu": "test", "cores": 2, "precision": "float32", "torch_threads": 1},
        "manifests": {"a": "f" * 64},
        "sites": [
            {"name": n, "unseen": n == "u", "train": t, "val": 1, "test": len(PATIENTS[n])}
            | {"description": f"scanner {n}"}
            for n, t in (("a", 3), ("b", 9), ("u", 0))
        ],
        "arms": [
            {"name": n, "label": n.upper(), "seconds": 61.0, "rounds": 2, "steps": 20}
            | {"bytes_sent": None, "note": ""}
            | STRATEGIES.get(n, {})
            for n in PSNR
        ],
    }


def personal_arms() -> list[dict[str, Any]]:
    """The entries of run.json for PERSONAL_PSNR; both models of a family say the family's cost."""
    arms = []
    for name in PERSONAL_PSNR:
        job, _, site = name.partition("@")
        arm = {"name": name, "label": "Ditto (global)", "seconds": 90.0, "rounds": 2, "steps": 40}
        arm |= {"bytes_sent": 5000, "note": "the final model"} | STRATEGIES[job]
        if site:
            family, label = FAMILIES[job]
            arm |= {"label": label, "family": family, "site": site, "note": "the site's model"}
        arms.append(arm)
    return arms


def result_rows(psnr: dict[str, list[int]] = PSNR) -> pd.DataFrame:
    """PSNR as above; MAE is 1 / PSNR, so that lower is better there."""
    patients = [(site, subject) for site, subjects in PATIENTS.items() for subject in subjects]
    rows = []
    for arm, values in psnr.items():
        for (site, subject), value in zip(patients, values, strict=True):
            rows.append((arm, site, "test", subject, "psnr", float(value)))
            rows.append((arm, site, "test", subject, "mae", 1 / value))
            # validation rows must not enter any table
            rows.append((arm, site, "val", f"{subject}v", "psnr", 99.0))
    return pd.DataFrame(rows, columns=KEYS)


def curve_rows() -> pd.DataFrame:
    """Two rounds; site a at 20 and 22 dB, site b at 10 and 14 dB for fedavg."""
    rows = [
        ("fedavg", "a", 1, "val/psnr", 20.0),
        ("fedavg", "a", 2, "val/psnr", 22.0),
        ("fedavg", "b", 1, "val/psnr", 10.0),
        ("fedavg", "b", 2, "val/psnr", 14.0),
        ("fedavg", "b", 3, "val/psnr", 15.0),
        ("local-a", "a", 1, "val/psnr", 19.0),
        ("local-a", "b", 1, "val/psnr", 1.0),
        ("centralised", "all", 1, "train/l1", 0.5),
        ("fedprox", "a", 1, "fedprox/ratio_generator", 0.1),
    ]
    return pd.DataFrame(rows, columns=["arm", "site", "round", "metric", "value"])


def personal_curve_rows() -> pd.DataFrame:
    """FedBN's and Ditto's curves; of Ditto both the global model and the sites' own."""
    rows = [
        ("fedbn", "a", 1, "val/psnr", 22.0),
        ("fedbn", "b", 1, "val/psnr", 24.0),
        ("fedbn", "a", 1, "train/l1", 0.3),
        ("ditto", "a", 1, "val/psnr", 20.0),
        ("ditto", "b", 1, "val/psnr", 10.0),
        ("ditto", "a", 1, "personal/psnr", 25.0),
        ("ditto", "b", 1, "personal/psnr", 27.0),
        ("ditto", "a", 1, "train/l1", 0.4),
    ]
    return pd.DataFrame(rows, columns=["arm", "site", "round", "metric", "value"])


def slice_arrays(psnr: dict[str, list[int]] = PSNR) -> dict[str, np.ndarray]:
    """A slice per patient, arm and kind; the lesion is only in patient a1."""
    arrays = {}
    mask = np.zeros((40, 32))
    mask[5:35, 6:26] = 1
    for site, subjects in PATIENTS.items():
        for subject in subjects:
            arrays |= {f"{site}/{subject}/{arm}": mask * 0.5 for arm in psnr if arm != "source"}
            arrays[f"{site}/{subject}/source"] = mask * 0.9
            arrays[f"{site}/{subject}/target"] = mask * 0.6
            arrays[f"{site}/{subject}/mask"] = mask
    lesion = np.zeros((40, 32))
    lesion[18:22, 10:16] = 1
    arrays["a/a1/lesion"] = lesion
    return {key: array.astype(np.float16) for key, array in arrays.items()}


WriteRun = Callable[..., Path]


@pytest.fixture(scope="session")
def strategies_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run of eighteen strategies, shared: nothing may be changed in it."""
    return read_run(eighteen_strategies.write(tmp_path_factory.mktemp("eighteen")))


@pytest.fixture(scope="session")
def strategies_analysis(strategies_run: Run) -> Analysis:
    """Its numbers, shared."""
    return analyse(strategies_run)


@pytest.fixture(scope="session")
def strategies_page(strategies_analysis: Analysis) -> str:
    """Its page, shared."""
    return render_page(strategies_analysis)


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    """Write a run folder; each part can be replaced, None leaves the file out."""

    def write(
        about: Any = "usual", results: Any = "usual", curves: Any = None, slices: Any = None
    ) -> Path:
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        about = description() if isinstance(about, str) else about
        results = result_rows() if isinstance(results, str) else results
        (folder / "run.json").write_text(json.dumps(about), encoding="utf-8")
        results.to_csv(folder / "results.csv", index=False)
        if curves is not None:
            curves.to_csv(folder / "curves.csv", index=False)
        if slices is not None:
            np.savez_compressed(folder / "slices.npz", **slices)
        return folder

    return write


@pytest.fixture
def about() -> dict[str, Any]:
    """The content of run.json, free to be changed."""
    return description()


@pytest.fixture
def results() -> pd.DataFrame:
    """The rows of results.csv, free to be changed."""
    return result_rows()


@pytest.fixture
def curves() -> pd.DataFrame:
    """The rows of curves.csv, free to be changed."""
    return curve_rows()


@pytest.fixture
def slices() -> dict[str, np.ndarray]:
    """The arrays of slices.npz, free to be changed."""
    return slice_arrays()


@pytest.fixture
def personal_about(about: dict[str, Any]) -> dict[str, Any]:
    """The content of run.json with personal arms."""
    about["arms"] += personal_arms()
    return about


@pytest.fixture
def personal_results() -> pd.DataFrame:
    """The rows of results.csv with personal arms."""
    return result_rows(PSNR | PERSONAL_PSNR)


@pytest.fixture
def personal_curves() -> pd.DataFrame:
    """The rows of curves.csv with personal arms."""
    return pd.concat([curve_rows(), personal_curve_rows()], ignore_index=True)


@pytest.fixture
def personal_slices() -> dict[str, np.ndarray]:
    """The arrays of slices.npz with personal arms."""
    return slice_arrays(PSNR | PERSONAL_PSNR)
