"""The file with the distances of sets, as an evaluation writes it."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from textured_patients import textured_split

from fedi2i.errors import DataError
from lightning_modules.evaluation.distributions import measured
from lightning_modules.evaluation.distributions.extractor import RealSlices, train_extractor
from lightning_modules.evaluation.distributions.measured import (
    COLUMNS,
    DISTRIBUTIONS_FILE,
    Distributions,
)
from lightning_modules.evaluation.results import evaluate
from lightning_modules.evaluation.validation import Patient, patients
from lightning_modules.training.hardware import Hardware
from partitions.preparation import PreparedSite, PreparedSplit


@dataclass(frozen=True)
class _Site:
    """As much of a prepared site as is asked for."""

    site: str
    splits: dict[str, PreparedSplit]

    def split(self, name: str) -> PreparedSplit:
        return self.splits[name]


def _site(name: str, seed: int, test: int) -> PreparedSite:
    counts = {"train": 3, "val": 1, "test": test}
    splits = {split: textured_split(seed + n, count) for n, (split, count) in
              enumerate(counts.items())}  # fmt: skip
    return _Site(name, splits)  # type: ignore[return-value]


@pytest.fixture
def three_sites(monkeypatch: pytest.MonkeyPatch) -> list[PreparedSite]:
    """Two that train, of which one has too few test patients, and an unseen one."""

    def shorter(slices: RealSlices) -> object:
        return train_extractor(slices, steps=20)

    monkeypatch.setattr(measured, "train_extractor", shorter)
    return [_site("north", 10, 3), _site("east", 20, 1), _site("island", 30, 2)]


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _tested(site: PreparedSite, splits: tuple[str, ...]) -> Iterator[Patient]:
    for split in splits:
        yield from patients(site.split(split))


def test_every_arm_has_a_row_per_group_and_measure_and_better_ones_are_nearer(
    three_sites: list[PreparedSite], tmp_path: Path
) -> None:
    found = Distributions(three_sites, ["island"])
    for site in three_sites:
        unseen = site.site == "island"
        for patient in _tested(site, ("train", "val", "test") if unseen else ("test",)):
            blurred = torch.from_numpy(gaussian_filter(patient.target.numpy(), (0, 1, 1)))
            arms = {"copy": patient.target, "blurred": blurred}
            if not unseen:
                arms["mean-target"] = torch.zeros_like(patient.target)
            found.add(site.site, patient, arms)
    rows = _read(found.write(tmp_path))
    assert tuple(rows[0]) == COLUMNS
    # east alone has one test patient; the unseen site is tested with all of its six.
    counts = {row["site"]: (row["patients"], row["slices"]) for row in rows}
    assert counts == {"north": ("3", "24"), "all": ("4", "32"), "island": ("6", "48")}
    assert {row["arm"] for row in rows if row["site"] == "island"} == {"copy", "blurred"}
    value = {(row["arm"], row["site"], row["measure"]): float(row["value"]) for row in rows}
    for site, measure in {(row["site"], row["measure"]) for row in rows}:
        assert value["copy", site, measure] == pytest.approx(0.0, abs=1e-9)
        assert value["blurred", site, measure] > 0.01
    assert {row["measure"]: len(row["extractor"]) for row in rows} == {"kid": 12, "texture": 0}
    assert len({row["extractor"] for row in rows if row["measure"] == "kid"}) == 1


def test_the_extractor_sees_no_patient_of_an_unseen_site(
    three_sites: list[PreparedSite], tmp_path: Path
) -> None:
    other = replace(three_sites[2], splits=_site("island", 90, 2).splits)  # type: ignore[type-var]
    digests = [
        Distributions([*three_sites[:2], island], ["island"])._extractor.digest
        for island in (three_sites[2], other)
    ]
    assert digests[0] == digests[1]


def test_one_person_with_several_scans_counts_once(three_sites: list[PreparedSite]) -> None:
    split = three_sites[0].split("test")
    one = replace(
        split,
        subjects=tuple(replace(s, metadata={"patient_id": "anna"}) for s in split.subjects),
    )
    site = _Site("north", {"train": three_sites[0].split("train"), "test": one})
    with pytest.raises(DataError, match=r"too few are north \(1 patients, 24 slices\)"):
        Distributions([site])  # type: ignore[list-item]


def test_too_few_patients_are_refused_before_anything_is_trained(
    three_sites: list[PreparedSite], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(slices: RealSlices) -> object:
        raise AssertionError("trained")

    monkeypatch.setattr(measured, "train_extractor", never)
    with pytest.raises(DataError) as raised:
        Distributions([three_sites[1]])
    assert str(raised.value) == (
        "the distribution distance needs 3 patients with 20 slices together; too few are east "
        "(1 patients, 8 slices): give more patients, or leave --distributions out"
    )


def test_few_slices_of_enough_patients_are_refused(three_sites: list[PreparedSite]) -> None:
    splits = {"train": textured_split(1, 2), "test": textured_split(2, 4, slices=4)}
    with pytest.raises(DataError, match=r"\(4 patients, 16 slices\)"):
        Distributions([_Site("north", splits)])  # type: ignore[list-item]


def test_a_diverged_arm_has_rows_without_numbers(
    three_sites: list[PreparedSite], tmp_path: Path
) -> None:
    found = Distributions(three_sites[:1])
    for patient in _tested(three_sites[0], ("test",)):
        found.add("north", patient, {"lost": torch.full_like(patient.target, np.nan)})
    assert {row["value"] for row in _read(found.write(tmp_path))} == {"nan"}


def test_an_evaluation_without_them_takes_an_earlier_file_away(
    sites: dict[str, PreparedSite], hardware: Hardware, tmp_path: Path
) -> None:
    (tmp_path / DISTRIBUTIONS_FILE).write_text("of other models\n", encoding="utf-8")
    evaluate({}, [sites["north"]], hardware, tmp_path)
    assert not (tmp_path / DISTRIBUTIONS_FILE).exists()


def test_an_evaluation_hands_over_every_patient_with_every_arm_and_writes(
    sites: dict[str, PreparedSite], hardware: Hardware, tmp_path: Path
) -> None:
    seen: list[tuple[str, str, set[str]]] = []

    class Recorder:
        def add(self, site: str, patient: Patient, predictions: dict[str, torch.Tensor]) -> None:
            seen.append((site, patient.subject, set(predictions)))

        def write(self, out: Path) -> Path:
            (out / DISTRIBUTIONS_FILE).write_text("written\n", encoding="utf-8")
            return out / DISTRIBUTIONS_FILE

    arms = {"copy": torch.nn.Identity()}
    recorder: Distributions = Recorder()  # type: ignore[assignment]
    evaluate(arms, sites.values(), hardware, tmp_path, distributions=recorder)
    expected = {
        (name, subject.subject) for name, site in sites.items()
        for subject in site.split("test").subjects
    }  # fmt: skip
    assert {(site, subject) for site, subject, _ in seen} == expected
    baselines = {"source", "mapped-source", "constant", "mean-target"}
    assert all(names == {"copy", *baselines} for _, _, names in seen)
    assert (tmp_path / DISTRIBUTIONS_FILE).read_text(encoding="utf-8") == "written\n"
