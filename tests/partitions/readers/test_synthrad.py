"""SynthRAD of both years: NIfTI and MHA, centres, regions, validation inputs, overview folders."""

from __future__ import annotations

import shlex
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from miniature_scans import check, check_and_prepare, settings_of, write_scan

from partitions.__main__ import main
from partitions.commands.prepare import read_config
from partitions.manifest import SiteManifest
from partitions.preparation import PreparationConfig
from partitions.preparation.scaling import Scaling
from partitions.readers.synthrad import find_synthrad, import_synthrad, recognise


def write_patient(folder: Path, name: str, images: tuple[str, ...], ending: str = "nii.gz") -> None:
    for image in images:
        if ending == "nii.gz":
            air = -1024 if image == "ct" else 0
            write_scan(folder / name / f"{image}.nii.gz", air=air, label=image == "mask")
        else:
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / name / f"{image}.{ending}").touch()


@pytest.fixture
def release_2023(tmp_path: Path) -> Path:
    root = tmp_path / "2023"
    for name in ("1BA001", "1BA005", "1BB001", "1BC001"):
        write_patient(root / "Task1/brain", name, ("mr", "ct", "mask"))
    write_patient(root / "Task1/pelvis", "1PA001", ("mr", "ct", "mask"))
    write_patient(root / "Task1/brain/overview", "1BA099", ("mr", "ct", "mask"))
    (root / "Task1/brain/overview/1_brain_train.xlsx").touch()
    (root / "Task1/brain/overview/1BA001_train.png").touch()
    return root


@pytest.fixture
def release_2025(tmp_path: Path) -> Path:
    root = tmp_path / "2025"
    for name in ("1ABA005", "1HND001", "1THB002"):
        folder = root / "synthRAD2025_Task1_Train/Task1" / name[1:3]
        write_patient(folder, name, ("mr", "ct", "mask", "ct_def"), "mha")
    write_patient(root / "Val/Task1/AB", "1ABB090", ("mr", "mask"), "mha")
    write_patient(root / "Task2/AB", "2ABE010", ("cbct", "ct", "mask"), "mha")
    (root / "overviews").mkdir()
    (root / "overviews/1ABA005_overview.png").touch()
    return root


def subjects(manifests: tuple[SiteManifest, ...]) -> dict[str, list[str]]:
    return {m.site: [record.subject for record in m.subjects] for m in manifests}


def test_centres_become_sites_and_the_body_mask_is_taken(
    release_2023: Path, tmp_path: Path
) -> None:
    manifests = import_synthrad(release_2023, tmp_path / "out", seed=1)
    assert subjects(manifests) == {
        "A": ["1BA001", "1BA005", "1PA001"],
        "B": ["1BB001"],
        "C": ["1BC001"],
    }
    record = manifests[0].subjects[0]
    assert set(record.files) == {"mr", "ct"}
    assert record.mask is not None and record.mask.endswith("1BA001/mask.nii.gz")
    assert record.metadata == {"body_part": "brain", "task": 1}
    check_and_prepare(tmp_path / "out", *settings_of("synthrad2025"), "size=[12,12]")


def test_mha_is_named_where_it_lies_and_deformed_scans_are_left_out(
    release_2025: Path, tmp_path: Path
) -> None:
    manifests = import_synthrad(release_2025, tmp_path / "out", seed=1, task="1")
    assert subjects(manifests) == {"A": ["1ABA005"], "B": ["1ABB090", "1THB002"], "D": ["1HND001"]}
    record = manifests[0].subjects[0]
    assert set(record.files) == {"mr", "ct"}
    assert (manifests[0].root / record.files["ct"]).resolve().name == "ct.mha"


def test_validation_inputs_and_a_missing_source_are_said(release_2025: Path) -> None:
    write_patient(release_2025 / "Task2/AB", "2ABE011", ("ct", "mask"), "mha")
    found = find_synthrad(release_2025)
    said = "\n".join(found.problems)
    assert "1 patients have no ct (as validation inputs do): 1ABB090" in said
    assert "2ABE011: no cbct" in said
    assert "--task 1 or --task 2 takes one" in said
    assert len(found.scans) == 6


def test_regions_can_be_chosen(release_2025: Path) -> None:
    found = find_synthrad(release_2025, regions=("HN", "TH"))
    assert [scan.subject for scan in found.scans] == ["1HND001", "1THB002"]


def test_a_patient_who_is_there_twice_is_taken_once(release_2023: Path) -> None:
    write_patient(release_2023 / "mirror", "1BA001", ("mr", "ct", "mask"))
    found = find_synthrad(release_2023)
    assert len(found.scans) == 5
    assert any("3 files are there twice" in said for said in found.problems)


def test_an_overview_alone_is_no_data_set(tmp_path: Path) -> None:
    write_patient(tmp_path / "overview", "1BA001", ("mr",))
    assert recognise(tmp_path) is None


def write_mha(path: Path, air: int = 0, label: bool = False, shift: float = 0.0) -> None:
    """A ball of noise in air as compressed int16, turned about the long axis and off-centre."""
    scan = write_scan(path.with_suffix(".nii.gz"), air=air, label=label)
    voxels = np.asarray(nibabel.load(scan).dataobj)
    scan.unlink()
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(voxels.T))
    image.SetSpacing((1.0, 1.0, 3.0))
    image.SetOrigin((-231.5 + shift, 87.25, -412.0))
    angle = np.deg2rad(5)
    turn = [np.cos(angle), -np.sin(angle), 0, np.sin(angle), np.cos(angle), 0, 0, 0, 1]
    image.SetDirection(turn)
    SimpleITK.WriteImage(image, str(path), useCompression=True)


def test_mha_is_checked_and_prepared_where_it_lies(tmp_path: Path) -> None:
    folder = tmp_path / "synthRAD2025_Task1_Train" / "Task1" / "AB"
    for name in ("1ABA005", "1ABA006", "1ABA007", "1ABB001"):
        for image in ("mr", "ct", "mask"):
            air = -1024 if image == "ct" else 0
            write_mha(folder / name / f"{image}.mha", air, label=image == "mask")
    write_mha(tmp_path / "Val" / "1ABB090" / "mr.mha")
    import_synthrad(tmp_path, tmp_path / "out", seed=1, task="1")
    check_and_prepare(tmp_path / "out", *settings_of("synthrad2025"), "size=[12,12]")
    assert not list(tmp_path.rglob("*.nii.gz"))


def test_mha_of_one_patient_on_two_grids_is_an_error_of_the_check(tmp_path: Path) -> None:
    for image in ("mr", "ct", "mask"):
        write_mha(tmp_path / "1ABA005" / f"{image}.mha", shift=5.0 * (image == "ct"))
    import_synthrad(tmp_path, tmp_path / "out", seed=1)
    with pytest.raises(AssertionError):
        check(tmp_path / "out")


def next_config(said: str) -> PreparationConfig:
    """The configuration of the command that an import printed last."""
    words = shlex.split(said.splitlines()[-1])
    assert words[:4] == ["next:", "fedi2i", "data", "prepare"]
    return read_config(None, words[words.index("--set") + 1 :: 2])


@pytest.mark.parametrize(
    ("patients", "source", "high"),
    [
        ({"1BA001": "mr", "1PC001": "mr"}, "mr", 3000),
        ({"2BA001": "cbct"}, "cbct", 3000),
        ({"1ABA001": "mr", "1THB001": "mr"}, "mr", 3071),
        ({"2HNE001": "cbct"}, "cbct", 3071),
        ({"1BA001": "mr", "1HND001": "mr"}, "mr", 3071),
        ({"1ABA001": "mr", "2ABE001": "cbct"}, "mr", 3071),
    ],
)
def test_the_command_to_run_next_is_told_of_the_year_and_the_source(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    patients: dict[str, str],
    source: str,
    high: int,
) -> None:
    for name, image in patients.items():
        write_patient(tmp_path / "release", name, (image, "ct", "mask"), "mha")
    command = ["synthrad", "--source", str(tmp_path / "release"), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    config = next_config(capsys.readouterr().out)
    window = Scaling("window", -1024, high, "HU")
    assert (config.source, config.target, config.target_scaling) == (source, "ct", window)
    assert config.source_scaling == (window if source == "cbct" else Scaling())
