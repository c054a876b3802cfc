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
    assert set(found.scans[-1].files) == {"t1", "flair", "pet"}
    said = "\n".join(found.problems)
    assert "1 earlier corrections or repeats" in said
    assert "1 images are left out" in said and "Axial_DTI" in said
