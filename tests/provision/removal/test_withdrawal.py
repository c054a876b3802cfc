"""A patient is withdrawn at a site: theirs goes, nothing of others' does, and the rest is said."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import nibabel
import numpy as np
import pytest
from tiny_cohort import write_tiny_cohort

from app_custom.participant.used_data import Use, UsedData
from fedi2i.cli.program import main
from jobs.writing.workspace import prepare_workspace
from partitions.manifest import PATIENT_ID, SubjectRecord, read_manifest, write_manifest
from partitions.preparation import PreparationConfig, PreparedSite, prepare_site
from partitions.preparation.cache_folders import hold
from partitions.site_folders import TO_BE_DRAWN, write_site_folders

CONFIG = PreparationConfig(size=(32, 32), spacing=None)
ANNA, BELA, VERA = "Doe_Anna", "Doe_Bela", "Doe_Vera"
SESSIONS = ("north-000", "north-001")
JOBS = {"11111111-aaaa": "fedavg-1-0", "22222222-bbbb": "ditto-2-0"}


class Hospital:
    """North: Anna was scanned twice, Bela is a patient to train on, Vera one to validate on."""

    def __init__(self, root: Path) -> None:
        self.data = write_tiny_cohort(root / "data", ("north", "east"))
        self.folder = self.data / "north"
        manifest = read_manifest(self.folder)
        owners = (ANNA, ANNA, VERA, BELA)
        splits = ("train", "train", "val", "train")
        subjects = tuple(
            replace(record, split=split, metadata={**record.metadata, PATIENT_ID: owner})
            for record, owner, split in zip(manifest.subjects, owners, splits, strict=True)
        )
        write_manifest(replace(manifest, subjects=subjects))
        self.kit = prepare_workspace(root / "ws", {"tiny": self.data})
        self.state = root / "ws_state" / "north"
        self.prepared = self.prepare()

    def prepare(self) -> PreparedSite:
        return prepare_site(
            read_manifest(self.folder), CONFIG, self.folder / "prepared", progress=False
        )

    def train(self, job: str, prepared: PreparedSite | None = None, **facts: bool) -> Path:
        """A job opens the data and keeps a state; returns the state's folder."""
        run = JOBS[job]
        told = {"pictures": False, "accounted": False, **facts}
        found = prepared or self.prepared
        use = Use(job, run, "lead@east/east", "tiny", found.content_hash, **told)
        UsedData(self.state).note(use, found)
        (self.state / run).mkdir(exist_ok=True)
        (self.state / run / "after-round-00002.pt").write_bytes(bytes(100))
        return self.state / run

    def withdraw(self, patient: str, *options: str) -> int:
        kit = ("--kit", str(self.kit), "--site", "north")
        return main(["data", "withdraw", patient, *kit, *options])

    def bytes(self) -> dict[Path, str]:
        """Every file of both hospitals by its digest."""
        roots = (self.data, self.kit.parent / "ws_state")
        files = (path for root in roots for path in root.rglob("*") if path.is_file())
        return {path: sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path)


def slices_by_patient(prepared: PreparedSite) -> dict[str, bytes]:
    found = {}
    for name in ("train", "val", "test"):
        split = prepared.split(name)
        for subject in split.subjects:
            part = slice(subject.start, subject.stop)
            arrays = (split.source[part], split.target[part], split.mask[part])
            found[subject.subject] = b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)
    return found


def test_cache_state_and_rows_of_the_patient_go_and_no_byte_of_another_s(
    hospital: Hospital,
) -> None:
    state = hospital.train("11111111-aaaa")
    before, others = hospital.bytes(), slices_by_patient(hospital.prepared)
    assert hospital.withdraw(ANNA, "--yes") == 0
    assert not state.exists() and not hospital.prepared.folder.exists()
    assert [record.patient for record in read_manifest(hospital.folder).subjects] == [VERA, BELA]
    changed = {path for path, digest in hospital.bytes().items() if before.get(path) != digest}
    assert {path.name for path in changed} == {"manifest.json", "withdrawn-patients.json"}
    scans = [p for p in before if p.suffix == ".gz"]
    assert len(scans) == 24 and all(path.is_file() for path in scans)
    # The next job prepares the others again: to the same slices.
    again = slices_by_patient(hospital.prepare())
    assert again == {name: others[name] for name in others if name not in SESSIONS}


def test_the_scans_inside_the_site_folder_go_when_asked_and_only_the_patient_s(
    hospital: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = hospital.folder / "north-000" / "mask.nii.gz"
    manifest = read_manifest(hospital.folder)
    subjects = [
        replace(record, mask="north-003/../north-000/mask.nii.gz")
        if record.subject == "north-003"
        else record
        for record in manifest.subjects
    ]
    write_manifest(replace(manifest, subjects=tuple(subjects)))
    assert hospital.withdraw(ANNA, "--scans", "--yes") == 0
    left = {path.relative_to(hospital.folder).parts[0] for path in hospital.folder.rglob("*.gz")}
    assert left == {"north-000", "north-002", "north-003"}
    assert list((hospital.folder / "north-000").iterdir()) == [shared]
    assert not (hospital.folder / "north-001").exists()
    assert f"stays: {shared}, a scan outside the site folder, or one that others" in (
        capsys.readouterr().out
    )


def test_it_is_shown_first_and_nothing_goes_without_yes(
    hospital: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    state = hospital.train("11111111-aaaa")
    before = hospital.bytes()
    assert hospital.withdraw(ANNA, "--dry-run") == 0
    shown, error = capsys.readouterr()
    assert f"goes: {hospital.prepared.folder}" in shown and f"goes: {state}" in shown
    assert "goes: north-000, north-001 from" in shown and error == ""
    assert hospital.withdraw(ANNA) == 2
    assert "nothing was removed yet; give --yes" in capsys.readouterr().err
    assert hospital.bytes() == before


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("Doe_Ana", "did you mean 'Doe_Anna'?"),
        ("north-001", "has 'north-001' as a scan of patient 'Doe_Anna'"),
    ],
)
def test_an_unknown_patient_is_a_sentence_with_the_nearest_name(
    hospital: Hospital, capsys: pytest.CaptureFixture[str], asked: str, said: str
) -> None:
    before = hospital.bytes()
    assert hospital.withdraw(asked, "--yes") == 2
    assert said in capsys.readouterr().err
    assert hospital.bytes() == before


def test_the_jobs_that_used_the_patient_are_named_and_what_cannot_be_undone(
    hospital: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = hospital.train("11111111-aaaa", pictures=True)
    log = hospital.kit / "11111111-aaaa" / "log.txt"
    log.parent.mkdir()
    log.write_text("north-000 is fine\nsubject 'north-002' has a warning\n")
    (log.parent / "personal_model.pt").write_bytes(b"weights")
    assert hospital.withdraw(VERA, "--yes") == 0
    shown = capsys.readouterr().out
    assert "used by: job 11111111-aaaa of lead@east/east, run fedavg-1-0, on 2" in shown
    assert ", as val\n" in shown and "sent means of metrics over validation patients" in shown
    assert "pictures of a validation patient were sent" in shown
    assert f"stays: {log}, a log that names the patient" in shown
    assert "trained with the patient" not in shown and kept.is_dir()  # she trained nothing
    hospital.train("22222222-bbbb", hospital.prepare(), accounted=True)
    assert hospital.withdraw(BELA, "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "2 job(s) (11111111-aaaa, 22222222-bbbb) trained with the patient" in shown
    assert "no noise of differential privacy covered them" in shown  # not all of them
    assert "personal_model.pt, a model of a run that trained" in shown


def test_studies_on_data_with_the_patient_are_named_and_others_are_not(
    hospital: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    hospital.train("11111111-aaaa")
    own, hashes = hospital.kit / "local" / "fedi2i.yaml", (hospital.prepared.content_hash, "other")
    for number, found in enumerate(hashes):
        folder = hospital.kit / "studies" / "north" / f"study-{number}"
        folder.mkdir(parents=True)
        written = {"design": {"manifests": {"north": found}}}
        (folder / "study.json").write_text(json.dumps(written), encoding="utf-8")
    text = own.read_text(encoding="utf-8")
    where = f"studies:\n  folder: {hospital.kit}/studies/{{site}}\n"
    own.write_text(f"{text}{where}", encoding="utf-8")
    assert hospital.withdraw(VERA, "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "study-0, rows, pictures and models of a study on data that" in shown
    assert "study-1" not in shown


def test_a_withdrawal_again_is_harmless_and_finishes_what_an_interruption_left(
    hospital: Hospital, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = hospital.train("11111111-aaaa")
    with monkeypatch.context() as broken:

        def out_of_power(*_: object) -> None:
            raise KeyboardInterrupt

        broken.setattr("partitions.preparation.cache_folders.shutil.rmtree", out_of_power)
        assert hospital.withdraw(ANNA, "--yes") == 130
    # Half of it is done: the manifest has forgotten her, slices lie under another name.
    assert not hospital.prepared.folder.exists() and state.is_dir()
    assert list((hospital.folder / "prepared").glob(".removing-*/train/source.npy"))
    capsys.readouterr()
    assert hospital.withdraw(ANNA, "--yes") == 0
    shown = capsys.readouterr().out
    assert "was withdrawn on 2" in shown and "used by: job 11111111-aaaa" in shown
    assert not state.exists() and not list(hospital.folder.rglob("source.npy"))
    done = hospital.bytes()
    assert hospital.withdraw(ANNA, "--yes") == 0
    assert hospital.bytes() == done


def test_nothing_changes_while_a_job_uses_the_slices(
    hospital: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    before = hospital.bytes()
    with (
        hold(hospital.prepared.folder),
        hold(hospital.prepared.folder),
    ):  # jobs do beside each other
        assert hospital.withdraw(ANNA, "--scans", "--yes") == 2
        assert "a job is using it" in capsys.readouterr().err
        assert hospital.bytes() == before
    assert hospital.withdraw(ANNA, "--yes") == 0


def test_a_later_import_leaves_the_patient_out_and_nobody_changes_split(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = [
        SubjectRecord(f"s{n}", "north", TO_BE_DRAWN, {"t1": f"s{n}.nii"}, metadata={PATIENT_ID: n})
        for n in range(12)
    ]
    (manifest,) = write_site_folders(tmp_path, "tiny", records, seed=1)
    assert main(["data", "withdraw", "7", "--data", str(manifest.root), "--yes"]) == 0
    (again,) = write_site_folders(tmp_path, "tiny", records, seed=1)
    kept = [record for record in manifest.subjects if record.patient != "7"]
    assert len(kept) == 11 and list(again.subjects) == kept
    assert "1 scan(s) of withdrawn patients are left out" in caplog.text
    listed = (manifest.root / "withdrawn-patients.json").read_text()
    assert len(json.loads(listed)["withdrawn"]) == 1 and '"7"' not in listed


def test_rows_of_tables_go_and_all_other_bytes_stay(hospital: Hospital, tmp_path: Path) -> None:
    table = tmp_path / "participants.tsv"
    rows = [
        "participant_id\tage\tnote",
        "Doe_Anna\t41\t",
        'Doe_Annabel\t41\t"a\t"',
        "Doe_Bela\t\t é",
    ]
    table.write_bytes("\r\n".join(rows).encode("cp1252"))
    results = tmp_path / "results.csv"
    results.write_text("arm,site,subject,value\nx,north,north-001,1\nx,east,north-001,1\n")
    results.chmod(0o640)
    assert hospital.withdraw(ANNA, "--yes", "--table", str(table), "--table", str(results)) == 0
    assert table.read_bytes() == "\r\n".join([rows[0], *rows[2:]]).encode("cp1252")
    assert results.read_text() == "arm,site,subject,value\nx,east,north-001,1\n"
    assert results.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("name,age\nAnna,41\n", "no column says whose row it is"),
        ('subject,note\nnorth-000,"two\nlines"\n', "cells of several lines"),
    ],
)
def test_a_table_that_cannot_be_cut_is_refused_before_anything_goes(
    hospital: Hospital, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, said: str
) -> None:
    table = tmp_path / "table.csv"
    table.write_text(content)
    before = hospital.bytes()
    assert hospital.withdraw(ANNA, "--yes", "--table", str(table)) == 2
    assert said in capsys.readouterr().err
    assert hospital.bytes() == before and table.read_text() == content


def test_where_two_data_sets_know_the_name_a_person_says_which_is_meant(
    hospital: Hospital, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other" / "north" / "scan.nii.gz"
    other.parent.mkdir(parents=True)
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 4, 4), np.float32), np.eye(4)), other)
    record = SubjectRecord("x", "north", TO_BE_DRAWN, {"t1": "scan.nii.gz"})
    write_site_folders(tmp_path / "other", "ct", [replace(record, metadata={PATIENT_ID: ANNA})], 1)
    prepare_workspace(hospital.kit, {"tiny": hospital.data, "ct": tmp_path / "other"})
    assert hospital.withdraw(ANNA, "--yes") == 2
    assert (
        "'tiny', 'ct' each have a 'Doe_Anna'; say which with --dataset" in capsys.readouterr().err
    )
    assert hospital.withdraw(ANNA, "--dataset", "ct", "--yes") == 0
    assert ANNA in {record.patient for record in read_manifest(hospital.folder).subjects}
    assert main(["data", "withdraw", ANNA, "--kit", str(hospital.kit)]) == 2
    assert "several sites; say which with --site" in capsys.readouterr().err
