"""A synthetic run of all strategies, for the page as a reader sees it; every number is invented."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

SITES = ("north", "east", "south", "west")
UNSEEN = "island"
TRAIN = dict(zip(SITES, (10, 24, 8, 14), strict=True)) | {UNSEEN: 0}
PATIENTS = {
    "north": 3,
    "east": 4,
    "south": 3,
    "west": 3,
    UNSEEN: 8,
}
ROUNDS = 10
MODEL_BYTES = 3_400_000
# label, final PSNR in dB at federated sites, the same at the unseen one
GLOBAL = {
    "fedavg": ("FedAvg", 21.3, 21.9),
    "fedavg_independent": ("FedAvg, independent start", 20.6, 21.2),
    "fedprox": ("FedProx", 21.1, 21.6),
    "fedma": ("FedMA", 21.3, 21.9),
    "fedma_independent": ("FedMA, independent start", 20.9, 21.4),
    "fedma_layerwise": ("FedMA layer by layer", 19.2, 19.6),
    "fedavgm": ("FedAvgM", 21.6, 22.0),
    "fedadam": ("FedAdam", 17.4, 17.9),
    "fedyogi": ("FedYogi", 12.9, 13.4),
    "scaffold": ("SCAFFOLD", 21.5, 21.7),
    "feddyn": ("FedDyn", 21.2, 21.5),
    "ditto": ("Ditto (global)", 21.3, 21.9),
    "fedmedian": ("FedMedian", 21.0, 21.5),
    "trimmed_mean": ("Trimmed mean", 21.2, 21.6),
    "cyclic": ("Cyclic", 20.4, 20.2),
    "swarm": ("Swarm", 21.3, 21.9),
}
# job, label of the family, at home, elsewhere
PERSONAL = {
    "fedbn": ("fedbn", "FedBN (personal)", 21.8, 19.8),
    "fedper": ("fedper", "FedPer (personal)", 21.5, 19.5),
    "ditto_personal": ("ditto", "Ditto (personal)", 22.0, 20.4),
}
SITE_RATIO = {
    "fedprox": (0.0027, 0.0018),
    "scaffold": (0.61, 0.34),
    "feddyn": (0.0044, 0.0026),
    "ditto": (0.0031, 0.0022),
}
SERVER_RATIO = {
    "fedavgm": (0.48, 0.51),
    "fedadam": (1.7, 2.4),
    "fedyogi": (2.6, 3.9),
    "feddyn": (0.09, 0.05),
    "fedmedian": (0.31, 0.28),
    "trimmed_mean": (0.0, 0.0),
    "fedma_independent": (0.12, 0.08),
    "fedma_layerwise": (0.05, 0.03),
}
GROUPS = {
    "generator": (
        "unet.model.0.conv",
        "unet.model.1.submodule.0.conv",
        "unet.model.1.submodule.1.submodule.0.conv",
        "unet.model.1.submodule.1.submodule.1.submodule.conv",
        "unet.model.1.submodule.1.submodule.2.conv",
        "unet.model.1.submodule.2.conv",
    ),
    "discriminator": (
        "patches.initial_conv.conv",
        "patches.0.conv",
        "patches.1.conv",
        "patches.2.conv",
    ),
}
# job: what it does, and whether a ratio or a moved fraction is expected to differ from 0
STRATEGIES = {
    "fedavg": ("weighted mean", False),
    "fedavg_independent": ("weighted mean, own first weights", False),
    "fedprox": ("proximal term at the sites", True),
    "fedma": ("matches channels, then averages", True),
    "fedma_independent": ("matches channels, own first weights", True),
    "fedma_layerwise": ("matches one layer per round", True),
    "fedavgm": ("server momentum", True),
    "fedadam": ("adaptive server step", True),
    "fedyogi": ("adaptive server step", True),
    "fedbn": ("normalisation stays at the site", False),
    "fedper": ("a part of the model stays at the site", False),
    "scaffold": ("control variates at the sites", True),
    "feddyn": ("dynamic term, sites and server", True),
    "ditto": ("personal model pulled to the global", True),
    "fedmedian": ("median instead of mean", True),
    "trimmed_mean": ("mean without extremes", True),
    "cyclic": ("model goes from site to site", False),
    "swarm": ("weighted mean, made at the sites", False),
}
REFERENCE = "fedavg"
_PHASE = {name: number for number, name in enumerate((*GLOBAL, *PERSONAL))}

Row = tuple[str, str, int, str, float]


def write(folder: Path) -> Path:
    """Write the run folder."""
    (folder / "run.json").write_text(json.dumps(description()), encoding="utf-8")
    result_rows().to_csv(folder / "results.csv", index=False)
    curve_rows().to_csv(folder / "curves.csv", index=False)
    np.savez_compressed(folder / "slices.npz", **slice_arrays())
    return folder


def description() -> dict[str, Any]:
    """The content of run.json."""
    arms: list[dict[str, Any]] = [_arm("source", "Source as prediction", 0.0, 0, 0, 0, "copied")]
    for name, (label, *_) in GLOBAL.items():
        note = "the final model of the server"
        arm = _arm(name, label, 480.0 + _PHASE[name], ROUNDS, 6000, 285_600_000, note)
        arms.append(arm | _strategy(name))
    for family, (job, label, *_) in PERSONAL.items():
        cost = 480.0 + _PHASE.get(job, _PHASE[family])
        for site in SITES:
            arm = _arm(f"{job}@{site}", label, cost, ROUNDS, 6000, 285_600_000, "the site's model")
            arms.append(arm | _strategy(job) | {"family": family, "site": site})
    arms.append(_arm("centralised", "Centralised", 420.0, ROUNDS, 6000, 0, "no communication"))
    arms += [
        _arm(f"local-{s}", f"Local: {s}", 110.0, ROUNDS, 1500, 0, "no communication") for s in SITES
    ]
    return {
        "title": "Eighteen strategies on invented numbers",
        "created": "2026-01-02T03:04:05+00:00",
        "seed": 7,
        "computed": True,
        "data_note": "Every number of this page is invented to test the layout.",
        "preset": {"name": "mr", "data_range": 1.0, "mask": "head"},
        "experiment": {"training": {"rounds": ROUNDS, "steps": 150}},
        "versions": {"torch": "2", "nvflare": "2.9"},
        "machine": {"cpu": "none", "cores": 2, "precision": "float32"},
        "manifests": {site: "f" * 64 for site in PATIENTS},
        "sites": [
            {"name": site, "unseen": site == UNSEEN, "train": TRAIN[site], "val": 3}
            | {"test": count, "description": "1.5 T, mean age 40 years, computed"}
            for site, count in PATIENTS.items()
        ],
        "arms": arms,
    }


def _strategy(job: str) -> dict[str, Any]:
    does, acts = STRATEGIES[job]
    return {"does": does, "acts": acts} | ({"reference": True} if job == REFERENCE else {})


def _arm(
    name: str, label: str, seconds: float, rounds: int, steps: int, sent: int, note: str
) -> dict[str, Any]:
    return {"name": name, "label": label, "seconds": seconds, "rounds": rounds, "steps": steps} | {
        "bytes_sent": sent,
        "note": note,
    }


def result_rows() -> pd.DataFrame:
    """Five metrics per patient, all of them following from an invented PSNR."""
    rows = []
    for arm in description()["arms"]:
        for place, (site, count) in enumerate(PATIENTS.items()):
            for number in range(count):
                psnr = _psnr(arm, site) + np.sin(5 * place + 2.1 * number)
                # a little that belongs to arm and patient alone
                psnr += 0.25 * np.sin(7.3 * number + 3.1 * place + _own(arm["name"]))
                error = 10 ** (-psnr / 20)
                values = {
                    "psnr": psnr,
                    "ssim": 0.98 - 1.6 * error,
                    "mae": 0.6 * error,
                    "nrmse": 2.2 * error,
                    "mse": error**2,
                }
                subject = f"{site[0]}{number + 1:02d}"
                rows += [
                    (arm["name"], site, "test", subject, metric, float(value))
                    for metric, value in values.items()
                ]
    return pd.DataFrame(rows, columns=["arm", "site", "split", "subject", "metric", "value"])


def _own(name: str) -> float:
    """A number per arm; FedMA from shared weights is FedAvg, and so is a swarm."""
    name = "fedavg" if name in ("fedma", "swarm", "ditto") else name
    return float(sum(map(ord, name)) % 100)


def _psnr(arm: dict[str, Any], site: str) -> float:
    name = arm["name"]
    if name == "source":
        return 6.5
    if name == "centralised":
        return 22.2
    if name.startswith("local-"):
        return 20.9 if name.endswith(site) else 18.8
    if name in GLOBAL:
        return GLOBAL[name][2 if site == UNSEEN else 1]
    return PERSONAL[arm["family"]][2 if arm["site"] == site else 3]


def curve_rows() -> pd.DataFrame:
    """Validation, losses and diagnostics of every job."""
    rows = [*_quality(), *_diagnostics(), *_channels(), *_traffic()]
    return pd.DataFrame(rows, columns=["arm", "site", "round", "metric", "value"])


def _quality() -> Iterator[Row]:
    finals = {name: home for name, (_, home, _) in GLOBAL.items()}
    finals |= {job: home for job, _, home, _ in PERSONAL.values() if job not in GLOBAL}
    for job, final in finals.items():
        if job == "cyclic":
            yield from _relay(final)
            continue
        for site in SITES:
            yield from _curve(job, site, "val", final)
    for site in SITES:
        yield from _curve("ditto", site, "personal", PERSONAL["ditto_personal"][2])
        yield from _curve(f"local-{site}", site, "val", 20.9)
        yield from _curve("centralised", site, "val", 22.2)


def _relay(final: float) -> Iterator[Row]:
    for place, site in enumerate(SITES):
        for number in range(ROUNDS):
            yield "cyclic", site, number, "relay/psnr", _rise(final, number, place)
        yield "cyclic", site, ROUNDS, "val/psnr", _rise(final, ROUNDS, place)


def _curve(job: str, site: str, kind: str, final: float) -> Iterator[Row]:
    place = SITES.index(site) + _own(job)
    for number in range(ROUNDS + 1):
        psnr = _rise(final, number, place)
        yield job, site, number, f"{kind}/psnr", psnr
        yield job, site, number, f"{kind}/ssim", 0.98 - 1.6 * 10 ** (-psnr / 20)
        if kind == "val" and number < ROUNDS:
            yield job, site, number, "train/l1", 0.5 * 10 ** (-psnr / 20)
            yield job, site, number, "train/loss_generator", 40 * 10 ** (-psnr / 20) + 0.4
            yield job, site, number, "train/loss_discriminator", 0.3 + 0.01 * np.sin(number + place)


def _rise(final: float, number: int, place: float) -> float:
    """From 7 dB towards the final value, with a little noise."""
    return float(final - (final - 7) * np.exp(-0.9 * number) + 0.2 * np.sin(3 * number + place))


def _diagnostics() -> Iterator[Row]:
    for job in GLOBAL:
        if job in ("cyclic", "swarm"):
            continue
        for number in range(ROUNDS):
            for index, role in enumerate(("generator", "discriminator")):
                ratio = SERVER_RATIO.get(job, (0.0, 0.0))[index]
                if job.startswith("fedma") and number > 0:
                    ratio *= 0.1
                for site in ("server", "all"):
                    yield job, site, number, f"strategy/server_ratio_{role}", ratio
                if job in SITE_RATIO:
                    term = SITE_RATIO[job][index] * (1 + 0.2 * np.sin(number))
                    for site in (*SITES, "all"):
                        yield job, site, number, f"strategy/ratio_{role}", float(term)


def _channels() -> Iterator[Row]:
    stages = max(map(len, GROUPS.values()))
    for job in ("fedma", "fedma_independent", "fedma_layerwise"):
        for number in range(ROUNDS):
            for network, groups in GROUPS.items():
                matched = dict.fromkeys(groups, 0.0)
                if job == "fedma_independent":
                    matched = dict.fromkeys(groups, 0.97 if number == 0 else 0.02 / number)
                if job == "fedma_layerwise":
                    stage = number % stages
                    first = 0.94 if number < stages else 0.03
                    matched = {group: first for group in groups[stage : stage + 1]}
                for group, moved in matched.items():
                    for site in (*SITES, "all"):
                        yield job, site, number, f"fedma/moved/{network}/{group}", moved
                mean = float(np.mean(list(matched.values()))) if matched else 0.0
                for site in ("server", "all"):
                    yield job, site, number, f"fedma/moved_{network}", mean


def _traffic() -> Iterator[Row]:
    for job in (*GLOBAL, "fedbn", "fedper"):
        size = MODEL_BYTES * (2 if job == "scaffold" else 1)
        for number in range(ROUNDS + 1):
            for site in (*SITES, "all"):
                yield job, site, number, "traffic/bytes_sent", float(size)
                if number < ROUNDS:
                    yield job, site, number, "traffic/bytes_received", float(size)


def slice_arrays() -> dict[str, np.ndarray]:
    """A disc with a softer copy per arm; south's patients have a lesion."""
    arms = [arm["name"] for arm in description()["arms"]]
    rows, columns = np.mgrid[0:72, 0:60]
    mask = ((rows - 36) / 32) ** 2 + ((columns - 30) / 26) ** 2 < 1
    arrays = {}
    for site, count in PATIENTS.items():
        for number in range(count):
            where = f"{site}/{site[0]}{number + 1:02d}"
            waves = 0.5 + 0.3 * np.sin(rows / 5 + number) * np.cos(columns / 6)
            target = np.where(mask, waves, 0)
            arrays |= {f"{where}/target": target, f"{where}/mask": mask.astype(float)}
            for index, arm in enumerate(arms):
                noise = 0.12 * np.sin(rows * (1 + index % 5) / 3 + index)
                arrays[f"{where}/{arm}"] = np.where(mask, np.clip(target + noise, 0, 1), 0)
            if site == "south":
                lesion = (rows - 30) ** 2 + (columns - 36) ** 2 < 40
                arrays[f"{where}/lesion"] = lesion.astype(float)
    return {key: array.astype(np.float16) for key, array in arrays.items()}
