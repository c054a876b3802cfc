"""The experiment files of public data sets, from the layout on the disk to rows of results.

Each data set is generated in its real layout, read, prepared and trained as its experiment file
says, on smaller slices by a smaller network, in one process; then finished models are measured in
the file's preset. Sources are made from targets by a known rule, so that some rows are known.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from in_process_federation import InProcessFederation
from miniature_scans import write_scan
from PIL import Image
from test_brats import NEW, SITE_NO, write_case
from test_ldct import body, write_images
from test_synthrad import write_mha

from fedi2i.typed_config import merged
from jobs.writing.federation import read_federated_experiment
from lightning_modules.configuration import experiment_from, experiment_values
from lightning_modules.evaluation.results import evaluate
from lightning_modules.evaluation.validation import load_translator
from lightning_modules.metrics.presets.catalogue import PRESETS
from lightning_modules.metrics.tissues.mae import TISSUE_MAE
from lightning_modules.networks.generators.catalogue import build_generator
from lightning_modules.training.hardware import Hardware
from partitions.manifest import SiteManifest
from partitions.preparation import prepare_site
from partitions.readers.brats import import_brats
from partitions.readers.ixi import import_ixi
from partitions.readers.ldct import import_ldct
from partitions.readers.lgg import import_lgg
from partitions.readers.synthrad import import_synthrad

EXPERIMENTS = Path(__file__).parents[3] / "jobs" / "experiments"
HARDWARE = Hardware("cpu", "32-true", 1)
MODEL = {
    "generator": {"channels": [4, 8]},
    "discriminator": {"channels": 4, "layers": 2},
}
NEEDS_LARGER_SLICES = {"vif", "ms_ssim_3_scales"}
Manifests = tuple[SiteManifest, ...]


def _twice(source: Path, target: Path) -> None:
    """Make a source whose values are twice those of the target and five more."""
    image = nibabel.load(target)
    data = np.asarray(image.dataobj)
    nibabel.Nifti1Image(np.where(data, 2 * data + 5, 0).astype(np.int16), image.affine).to_filename(
        source
    )


def _ixi(root: Path) -> Manifests:
    for number, hospital in enumerate(["Guys", "HH", "IOP"] * 3):
        name = f"IXI{number:03d}-{hospital}-{number:04d}"
        target = write_scan(root / "PD" / f"{name}-PD.nii.gz", (26, 26, 12))
        (root / "T2").mkdir(exist_ok=True)
        _twice(root / "T2" / f"{name}-T2.nii.gz", target)
    return import_ixi(root, root.parent / "out", seed=1)


def _brats(root: Path) -> Manifests:
    places = [1, 4, 6, 13, 18, 21] * 3
    names = [f"BraTS-GLI-{number:05d}-000" for number in range(len(places))]
    for name in names:
        write_case(root, name, NEW)
        _twice(root / name / f"{name}-t1n.nii.gz", root / name / f"{name}-t2w.nii.gz")
    mapping = root.parent / "BraTS2023_2017_GLI_Mapping.csv"
    pd.DataFrame({"BraTS2023": names, SITE_NO: places}).to_csv(mapping, index=False)
    return import_brats(root, root.parent / "out", seed=1, sites=mapping)


def _synthrad(root: Path) -> Manifests:
    for centre in "ABCD":
        for number in range(3):
            folder = root / "synthRAD2025_Task1_Train/Task1/AB" / f"1AB{centre}{number:03d}"
            for image in ("mr", "ct", "mask"):
                air = -1024 if image == "ct" else 0
                write_mha(folder / f"{image}.mha", air, label=image == "mask")
    return import_synthrad(root, root.parent / "out", seed=1, task="1")


def _ldct(root: Path) -> Manifests:
    for number, region in enumerate("LCN" * 3):
        patient = f"{region}{number:03d}"
        study = root / "LDCT-and-Projection-data" / patient / "12-23-2021-NA-NA-61870"
        full = body(number)
        write_images(study, patient, "Full Dose Images", full)
        write_images(study, patient, "Low Dose Images", full + 7)
    return import_ldct(root, root.parent / "out", seed=1)


def _lgg(root: Path) -> Manifests:
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, 40),) * 2, indexing="ij")
    inside = rows**2 + columns**2 < 0.7
    for number, hospital in enumerate(["CS", "DU", "HT"] * 3):
        name = f"TCGA_{hospital}_{number:04d}_19990101"
        random = np.random.default_rng(number)
        for index in range(1, 7):
            flair = np.where(inside, random.integers(20, 120, inside.shape), 0)
            channels = (np.where(inside, 2 * flair + 5, 0), flair, flair // 2)
            (root / name).mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))
            picture.save(root / name / f"{name}_{index}.tif")
            lesion = ((abs(rows) < 0.2) & (abs(columns) < 0.2)) * 255
            Image.fromarray(lesion.astype(np.uint8)).save(root / name / f"{name}_{index}_mask.tif")
    return import_lgg(root, root.parent / "out", seed=1)


class DataSet(NamedTuple):
    """A data set, and what must come out of it.

    Attributes:
        bring_in: writes the layout and reads it.
        size: of the slices.
        preset: that the experiment file names.
        known: arm, metric and value of rows that follow from the rule of the source.
    """

    bring_in: Callable[[Path], Manifests]
    size: list[int]
    preset: str
    known: tuple[str, str, float, float]


SAME = ("source", "mae", 0.0, 0.003)
"""Percentiles undo the rule, but for the rounding of whole numbers."""
DATA_SETS = {
    "ixi": DataSet(_ixi, [28, 28], "mr", SAME),
    "brats": DataSet(_brats, [24, 24], "mr", SAME),
    "synthrad2025": DataSet(_synthrad, [12, 12], "synthrad2025", ("constant", "mae_hu", 48, 6)),
    "ldct": DataSet(_ldct, [24, 20], "ldct", ("source", "rmse_hu", 7.0, 1e-3)),
    "lgg": DataSet(_lgg, [40, 40], "mr", SAME),
}


@pytest.mark.parametrize("name", DATA_SETS)
def test_a_public_data_set_goes_from_its_layout_to_results_in_its_preset(
    name: str, tmp_path: Path
) -> None:
    expected = DATA_SETS[name]
    (tmp_path / "download").mkdir()
    manifests = {one.site: one for one in expected.bring_in(tmp_path / "download")}
    committed = read_federated_experiment(EXPERIMENTS / f"{name}.yaml")
    federation = committed.federation
    assert set(manifests) == {*federation.sites, *federation.unseen}
    changes = {
        "data": {"preparation": {"size": expected.size}},
        "model": MODEL,
        "training": {"rounds": 1, "steps": 2, "batch_size": 2, "precision": "fp32"},
    }
    experiment = experiment_from(merged(experiment_values(committed.experiment), changes), name)
    assert experiment.preset == expected.preset
    sites = {
        site: prepare_site(manifest, experiment.data.preparation, tmp_path / "cache" / site, False)
        for site, manifest in manifests.items()
    }
    trained = InProcessFederation(
        experiment, {site: sites[site] for site in federation.sites}, tmp_path / "state"
    )
    before = trained.tensors()
    trained.run()
    assert not trained.refused
    assert any(not torch.equal(value, before[key]) for key, value in trained.tensors().items())
    generator = build_generator(experiment.model.generator)
    load_translator(generator, trained.tensors())
    path = evaluate(
        {"fedavg": generator}, sites.values(), HARDWARE, tmp_path / "out",
        unseen=federation.unseen, preset=experiment.preset,
    )  # fmt: skip
    rows = pd.read_csv(path)
    assert set(rows.preset) == {expected.preset} and set(rows.site) == set(sites)
    measured = rows[(rows.arm == "fedavg") & ~rows.metric.isin(NEEDS_LARGER_SLICES)]
    absent = set(PRESETS[expected.preset].metrics) - NEEDS_LARGER_SLICES - set(measured.metric)
    assert absent == ({"lesion_mae"} if name == "ixi" else set())
    # A miniature's body need not hold every tissue.
    everywhere = measured[~measured.metric.isin({one.name for one in TISSUE_MAE})]
    assert np.isfinite(everywhere.value).all()
    arm, metric, value, off = expected.known
    known = rows[(rows.arm == arm) & (rows.metric == metric)].value
    assert len(known) == rows[["site", "subject"]].drop_duplicates().shape[0]
    assert known.tolist() == pytest.approx([value] * len(known), abs=off)
