"""ADNI as its archive names NIfTI files: visits, corrections, other kinds of images."""

from __future__ import annotations

from pathlib import Path

import pytest
from miniature_scans import check, write_scan

from partitions.readers.adni import find_adni, import_adni

T1 = "MPR__GradWarp__B1_Correction__N3__Scaled"
FLAIR = "Axial_T2-FLAIR"


def write_image(root: Path, person: str, what: str, day: str, image: int, kind: str = "MR") -> Path:
    name = f"ADNI_{person}_{kind}_{what}_Br_20070319113623975_S13408_I{image}.nii"
    return write_scan(root / person / what / f"{day}_08_20_30.0" / "S13408" / name)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    root = tmp_path / "ADNI"
    for number, person in enumerate(("002_S_0295", "002_S_0413", "011_S_0002")):
        for visit, day in enumerate(("2006-04-18", "2007-04-20")):
            write_image(root, person, T1, day, 45108 + 10 * number + visit)
            write_image(root, person, FLAIR, day, 65108 + 10 * number + visit)
    write_image(root, "002_S_0295", "MPR____N3", "2006-04-18", 41000)
    write_image(root, "002_S_0295", "Axial_DTI", "2006-04-18", 41001)
    write_image(root, "011_S_0002", "AV45_Coreg,_Avg", "2007-04-20", 41002, "PT")
    return root


def test_the_first_three_digits_are_the_site_and_days_stay_out_of_names(
    archive: Path, tmp_path: Path
) -> None:
    manifests = import_adni(archive, tmp_path / "out", seed=1)
    assert {m.site: [(r.subject, r.patient) for r in m.subjects] for m in manifests} == {
        "002": [
            ("002_S_0295_v1", "002_S_0295"),
            ("002_S_0295_v2", "002_S_0295"),
            ("002_S_0413_v1", "002_S_0413"),
            ("002_S_0413_v2", "002_S_0413"),
        ],
        "011": [("011_S_0002_v1", "011_S_0002"), ("011_S_0002_v2", "011_S_0002")],
    }
    check(tmp_path / "out")


def test_the_last_correction_is_taken_and_what_is_left_out_is_counted(archive: Path) -> None:
    found = find_adni(archive)
    first = found.scans[0]
    assert first.files["t1"].name.endswith("_I45108.nii")
    assert set(first.files) == {"t1", "flair"}
    assert set(found.scans[-1].files) == {"t1", "flair", "pet_av45"}
    said = "\n".join(found.problems)
    assert "1 earlier corrections or repeats" in said
    assert "1 images are left out" in said and "Axial_DTI" in said


def test_pets_of_two_tracers_are_two_sequences(tmp_path: Path) -> None:
    root, person = tmp_path / "ADNI", "002_S_0295"
    for image, what in enumerate(
        ("ADNI2_FDG", "AV45_Coreg,_Avg", "AV1451_Coreg", "PIB_Coreg", "FBB_Coreg", "Coreg,_Avg")
    ):
        write_image(root, person, what, "2012-04-18", 300 + image, "PT")
    found = find_adni(root)
    (scan,) = found.scans
    assert {name: path.name.split("_I")[1] for name, path in scan.files.items()} == {
        "pet_fdg": "300.nii",
        "pet_av45": "301.nii",
        "pet_av1451": "302.nii",
        "pet_pib": "303.nii",
        "pet_fbb": "304.nii",
    }
    (said,) = found.problems
    assert "1 images are left out" in said and "PT_Coreg,_Avg" in said


def test_images_without_a_folder_of_their_day_are_no_pair(archive: Path, tmp_path: Path) -> None:
    """As in a folder to which all files of a download were moved."""
    before = find_adni(archive)
    flat = archive / "2024-05-01_download"
    for what, image in ((T1, 1001), (FLAIR, 1002)):
        name = f"ADNI_002_S_0500_MR_{what}_Br_20070319113623975_S13408_I{image}.nii"
        write_scan(flat / name)
    found = find_adni(archive)
    assert found.scans == before.scans
    (said,) = [one for one in found.problems if "folder of their day" in one]
    assert said.startswith("2 images are left out")
