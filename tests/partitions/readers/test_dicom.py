"""A hospital's export becomes a site folder: series chosen by rule, names kept at the site."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from dicom_series import lps, random_hu, uid, write_series
from miniature_scans import check_withdrawn_stays_away

from fedi2i.errors import ConfigError, DataError
from partitions.__main__ import main
from partitions.dicom.choice import read_rule
from partitions.dicom.metadata import KEY_FILE, pseudonym
from partitions.manifest import SiteManifest, read_manifest
from partitions.readers.dicom import DicomImport, import_dicom

RULES = ("t1=SeriesDescription contains t1", "t2=SeriesDescription contains t2")


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Three patients with a T1 and a T2 each; the third one has no T2."""
    folder = tmp_path / "export of Müller"
    for number in range(3):
        for sequence in ("t1", "t2") if number < 2 else ("t1",):
            write_series(
                folder / f"Name {number}" / sequence,
                random_hu(10 * number + len(sequence)) + (sequence == "t2"),
                name=sequence,
                modality="MR",
                patient=f"P{number}",
                rescale=None,
                signed=True,
            )
    return folder


def bring_in(export: Path, *rules: str, **options: Any) -> SiteManifest:
    wanted = DicomImport(
        source=export,
        out=export.parent / "out",
        dataset="house",
        site="north",
        rules=tuple(map(read_rule, rules or RULES)),
        seed=3,
        **options,
    )
    (manifest,) = import_dicom(wanted)
    return manifest


def test_every_study_becomes_a_subject_with_the_voxels_where_they_were(export: Path) -> None:
    manifest = bring_in(export)
    assert read_manifest(manifest.root) == manifest
    assert sorted(sorted(record.files) for record in manifest.subjects) == [
        ["t1"], ["t1", "t2"], ["t1", "t2"]
    ]  # fmt: skip
    key = (manifest.root / KEY_FILE).read_text().strip()
    (first,) = [one for one in manifest.subjects if one.patient == pseudonym(key, "P0")]
    image = nibabel.load(manifest.root / first.files["t2"])
    np.testing.assert_array_equal(np.asarray(image.dataobj), random_hu(2) + 1)
    np.testing.assert_allclose(image.affine, np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps(), atol=1e-6)
    assert image.get_data_dtype() == np.int16
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)


def test_nothing_that_is_written_names_a_patient_a_day_or_a_hospital(export: Path) -> None:
    manifest = bring_in(export)
    written = [path for path in manifest.root.rglob("*") if path.is_file()]
    shown = "".join(str(path.relative_to(export.parent / "out")) for path in written)
    shown += (manifest.root / "manifest.json").read_text()
    for path in manifest.root.rglob("*.nii.gz"):
        image = nibabel.load(path)
        shown += str(image.header) + str(image.header.extensions)
    for secret in ("Secret", "P0", "P1", "1961", "2020", "Name", "Müller"):
        assert secret not in shown


def test_the_key_stays_in_the_site_folder_and_names_stay_the_same(export: Path) -> None:
    manifest = bring_in(export)
    key = manifest.root / KEY_FILE
    assert key.stat().st_mode & 0o777 == 0o600
    again = bring_in(export)
    assert again.content_hash() == manifest.content_hash()
    key.write_text("new")
    with pytest.raises(DataError, match="patient-key: is no key; put a copy of it back"):
        bring_in(export)


def test_metadata_are_those_of_the_list_and_differ_by_sequence_where_they_do(
    export: Path,
) -> None:
    for path in (export / "Name 0/t2").iterdir():
        _edit(path, EchoTime=90, ContrastBolusAgent="Gadolinium for Secret", PatientAge="093Y")
    for path in (export / "Name 0/t1").iterdir():
        _edit(path, PatientAge="093Y")
    (record,) = [one for one in bring_in(export).subjects if one.metadata.get("t2_echo_time")]
    assert record.metadata == {
        "age": "90+",
        "sex": "F",
        "modality": "MR",
        "manufacturer": "Maker",
        "body_part": "HEAD",
        "repetition_time": 2000.0,
        "slice_thickness": 5.0,
        "t1_echo_time": 20.0,
        "t2_echo_time": 90.0,
        "t2_contrast_agent": "yes",
        "patient_id": record.patient,
    }


def _edit(path: Path, **attributes: Any) -> None:
    from pydicom import dcmread

    dataset = dcmread(path)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)


def test_two_studies_of_a_patient_are_two_subjects_in_one_split(export: Path) -> None:
    for sequence in ("t1", "t2"):
        write_series(
            export / "later", name=sequence, modality="MR", patient="P0", study="S2", rescale=None,
            hu=random_hu(77) + (sequence == "t2"), signed=True,
        )  # fmt: skip
    manifest = bring_in(export)
    patients = [record.patient for record in manifest.subjects]
    (twice,) = {name for name in patients if patients.count(name) == 2}
    assert len({one.split for one in manifest.subjects if one.patient == twice}) == 1
    assert len({one.subject for one in manifest.subjects}) == 4


def test_a_study_in_which_a_rule_fits_two_series_is_left_out_and_both_are_listed(
    export: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_series(export / "again", name="t1 again", modality="MR", patient="P0", SeriesNumber=8)
    manifest = bring_in(export)
    assert len(manifest.subjects) == 2
    assert "Name 0/t1: 't1' fits 2 series: series 3 't1 of Secret': 12 slices" in caplog.text
    assert "; series 8 't1 again of Secret': 12 slices of 20 x 24 pixels" in caplog.text
    exact = bring_in(export, "t1=SeriesDescription contains t1 and SeriesNumber < 5", RULES[1])
    assert len(exact.subjects) == 3


def test_the_largest_series_is_taken_only_where_it_is_asked_for(export: Path) -> None:
    write_series(export / "few", random_hu()[..., :4], name="t1 few", modality="MR", patient="P2")
    assert len(bring_in(export).subjects) == 2
    largest = bring_in(export, largest=True)
    assert len(largest.subjects) == 3
    shapes = [nibabel.load(largest.root / one.files["t1"]).shape[2] for one in largest.subjects]
    assert shapes == [12, 12, 12]


@pytest.mark.parametrize("trap", ["gap", "truncated", "no name"])
def test_a_patient_who_cannot_be_read_is_named_and_the_others_go_on(
    export: Path, caplog: pytest.LogCaptureFixture, trap: str
) -> None:
    folder = export / "Name 1/t2"
    files = sorted(folder.iterdir())
    if trap == "gap":
        files[4].unlink()
    elif trap == "truncated":
        files[4].write_bytes(files[4].read_bytes()[:-50])
    else:
        for path in [*files, *(export / "Name 1/t1").iterdir()]:
            _edit(path, PatientID="")
    manifest = bring_in(export)
    assert len(manifest.subjects) == 2
    assert [record.levelno for record in caplog.records if "left out" in record.message]
    written = {path.parent.name for path in manifest.root.rglob("*.nii.gz")}
    assert written == {record.subject for record in manifest.subjects}


def test_scans_that_a_program_made_up_are_refused_unless_asked_for(
    export: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in (export / "Name 0/t2").iterdir():
        _edit(path, SyntheticData="YES")
    assert len(bring_in(export).subjects) == 2
    assert "made up by a program" in caplog.text
    assert len(bring_in(export, allow_synthetic=True).subjects) == 3


def test_without_a_usable_study_nothing_is_written(export: Path) -> None:
    with pytest.raises(DataError, match=r"no study can be used; the first: .* no series fits"):
        bring_in(export, "t1=SeriesDescription contains flair")
    assert not (export.parent / "out").exists()


def test_the_command_lists_the_series_until_a_rule_is_given(
    export: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    out = export.parent / "out"
    command = ["dicom", "--source", str(export), "--dataset", "house", "--site", "north"]
    command += ["--out", str(out)]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "say which series is which sequence" in said
    assert said.count("12 slices of 20 x 24 pixels") == 5
    with caplog.at_level(logging.WARNING):
        assert main([*command, "--series", RULES[0], "--series", RULES[1]]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("next: fedi2i data prepare")
    assert main(["check", "--voxels", str(out)]) == 0
    manifest = json.loads((out / "north/manifest.json").read_text())
    assert manifest["dataset"] == "house"


def test_inspect_counts_studies_and_names_the_command_that_lists_the_series(
    export: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (export / "notes.txt").write_text("no picture")
    assert main(["inspect", str(export)]) == 0
    said = capsys.readouterr().out
    assert "patients   3, in 3 subjects" in said
    assert "sequences  volume 1 3, volume 2 2" in said
    assert "files left out: 1 not DICOM" in said
    assert said.splitlines()[-1].startswith("next: fedi2i data dicom --source ")
    assert "P0" not in said


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("SeriesDescription contains t1", "begin with the sequence's name"),
        ("t1=SeriesDescripton contains t1", "did you mean 'SeriesDescription'"),
        ("t1=PatientName is Ann", "unknown value 'PatientName'"),
        ("t1=SeriesDescription like t1", "is no condition"),
    ],
)
def test_a_rule_that_cannot_be_read_is_explained(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read_rule(text)


def test_a_description_may_hold_the_word_and() -> None:
    rule = read_rule("ct=SeriesDescription contains Head and Neck and Modality is CT")
    assert [one.value for one in rule.conditions] == ["head and neck", "ct"]


def test_short_patient_ids_cannot_be_found_by_trying_them() -> None:
    one, other = pseudonym("00" * 32, "12"), pseudonym("11" * 32, "12")
    assert one != other
    assert len(one) == 12


def test_a_withdrawn_patients_scans_are_not_written_again(export: Path) -> None:
    check_withdrawn_stays_away(lambda: [bring_in(export)])


def test_a_cut_header_costs_one_file_and_the_import_goes_on(
    export: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (whole, *_) = (export / "Name 0/t1").iterdir()
    (export / "cut").write_bytes(whole.read_bytes()[:152])
    assert len(bring_in(export).subjects) == 3
    assert "1 DICOM with a damaged header" in caplog.text


def test_series_of_two_frames_of_reference_are_said_to_belong_to_no_common_place(
    export: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in (export / "Name 0/t2").iterdir():
        _edit(path, FrameOfReferenceUID=uid("the patient got up"))
    manifest = bring_in(export)
    (said,) = [one.message for one in caplog.records if "frames of reference" in one.message]
    (moved,) = [one for one in manifest.subjects if "frames_of_reference" in one.metadata]
    assert moved.metadata["frames_of_reference"] == "different"
    assert said.startswith(f"{moved.subject}: 't1' and 't2' have different frames of reference")


def test_a_stack_that_leans_within_the_limit_has_one_form_in_both_places_of_the_header(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leaning = lps()
    leaning[0, 2] = 0.09 * 1.25 / 11  # the last slice lies 0.09 pixels beside the first
    for number, name in enumerate(("t1", "t2")):
        write_series(
            tmp_path / "in" / name, random_hu(number), leaning, "MR", name, rescale=None,
            signed=True,
        )  # fmt: skip
    manifest = bring_in(tmp_path / "in")
    for path in manifest.root.rglob("*.nii.gz"):
        header = nibabel.load(path).header
        np.testing.assert_allclose(header.get_sform(), header.get_qform(), atol=1e-4)
        edges = np.linalg.norm(header.get_sform()[:3, :3], axis=0)
        axes = header.get_sform()[:3, :3] / edges
        np.testing.assert_allclose(edges, (1.25, 1.5, 2.5), atol=1e-4)
        np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-6)
    main(["check", str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert "read the headers of 1 subject" in said and "forms-differ" not in said


def test_numbers_of_a_header_that_are_not_finite_are_in_no_manifest(export: Path) -> None:
    from pydicom import config

    with config.disable_value_validation():
        for path in (export / "Name 0/t2").iterdir():
            _edit(path, FlipAngle="nan")
    manifest = bring_in(export)
    assert len(manifest.subjects) == 3
    assert "NaN" not in (manifest.root / "manifest.json").read_text()
