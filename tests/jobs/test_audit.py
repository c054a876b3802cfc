"""The leakage audit end to end on the tiny cohort, and what it refuses."""

from __future__ import annotations

import csv
import json
import shutil
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fedi2i.cli.program import main
from fedi2i.errors import ConfigError
from fedi2i.typed_config import merged, read_yaml
from jobs.running.audit import plan as plans
from jobs.running.audit.findings import CSV_FILE, JSON_FILE, PICTURES_FILE, PRIVATE
from jobs.running.audit.people import halves, middle_of, people, splits_of
from jobs.running.audit.plan import AuditPlan, Sizes, make_plan, mechanism_from, read_run
from jobs.running.audit.run import PIECES, prepared_sites, run_audit
from jobs.running.audit.training import acts_in_training, single_steps, updates
from lightning_modules.configuration import experiment_from
from partitions.manifest import read_manifest, write_manifest

TINY = Path(__file__).parents[1] / "experiments" / "tiny.yaml"
SIZES = Sizes(
    models=4,
    slices=2,
    protected_slices=1,
    larger=1,
    draws=1,
    permutations=30,
    iterations=2,
)
NOISE = "update_noise:noise_multiplier=0.05"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sites of the tiny cohort."""
    folder = tmp_path_factory.mktemp("audit") / "data"
    for site in ("north", "east", "south"):
        shutil.copytree(tiny_cohort / site, folder / site)
    return folder


@pytest.fixture(scope="module")
def plan(data: Path) -> AuditPlan:
    values = merged(read_yaml(TINY)["experiment"], {"training": {"rounds": 1, "steps": 2}})
    experiment = experiment_from(values, "test")
    sites = prepared_sites(data, experiment)
    made = make_plan((experiment, [mechanism_from(NOISE)]), sites, "north", False, "Tiny audit")
    return replace(made, sizes=SIZES)


@pytest.fixture(scope="module")
def audited(plan: AuditPlan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished audit."""
    out = tmp_path_factory.mktemp("audited")
    run_audit(plan, out, at_once=1)
    return out


def test_the_linear_attack_reads_the_job_of_one_slice_and_fails_on_noised_updates(
    audited: Path,
) -> None:
    findings = json.loads((audited / JSON_FILE).read_text())
    none, noised = (entry["inversion"]["linear"] for entry in findings["mechanisms"])
    assert none["worst"] >= 0.99
    assert findings["strong_enough"] is True
    assert none["guess"] < 0.75
    assert noised["everywhere"] < 0.9


def test_the_findings_name_every_mechanism_its_epsilon_its_price_and_its_leak(
    audited: Path,
) -> None:
    findings = json.loads((audited / JSON_FILE).read_text())
    none, noised = findings["mechanisms"]
    assert (none["label"], none["epsilon"]) == ("no mechanism", None)
    assert noised["label"] == "noised updates, noise multiplier 0.05"
    assert noised["epsilon"] > 100
    assert noised["quality"]["psnr"] < none["quality"]["psnr"]
    attacks = [row["attack"] for row in none["membership"]["attacks"]]
    assert attacks == [
        *("reconstruction", "predictability", "reference"),
        *("discriminator", "reference_discriminator"),
    ]
    # Eight non-member trials say nothing of 1 % false alarms.
    assert {row["few_alarms"]["at"] for row in none["membership"]["attacks"]} == {0.0}
    updates_seen = [row["update"] for row in none["inversion"]["matching"]]
    assert updates_seen == ["one slice", "one slice", "one step", "a round"]
    assert none["linking"]["sites"] == 3


def test_nobody_but_the_site_sees_pictures_and_no_table_names_a_patient(
    audited: Path, plan: AuditPlan
) -> None:
    private = audited / PRIVATE
    for folder in (private, private / PIECES):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = [path for path in private.rglob("*") if path.is_file()]
    assert private / PICTURES_FILE in files
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    names = [person.name for person in people(plan.site)]
    assert len(names) == 4
    for path in (audited / JSON_FILE, audited / CSV_FILE):
        text = path.read_text()
        assert not [name for name in names if name in text]
    with np.load(private / PICTURES_FILE) as pictures:
        assert not [key for key in pictures.files for name in names if name in key]
        assert "0/one slice/known/1/target/rebuilt" in pictures.files


def test_the_table_holds_a_number_a_row(audited: Path) -> None:
    with (audited / CSV_FILE).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) > 50
    assert all(np.isfinite(float(row["value"])) for row in rows)
    assert {row["mechanism"] for row in rows} == {
        "no mechanism",
        "noised updates, noise multiplier 0.05",
    }


def test_an_audit_goes_on_with_what_is_finished_and_gives_the_same_again(
    audited: Path, plan: AuditPlan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(audited, tmp_path / "again")
    pieces = sorted((tmp_path / "again" / PRIVATE / PIECES).iterdir())
    damaged, missing = pieces[0], pieces[-1]
    damaged.write_bytes(damaged.read_bytes()[:100])
    missing.unlink()
    capsys.readouterr()
    run_audit(plan, tmp_path / "again", at_once=1)
    said = capsys.readouterr().out
    assert f"{len(pieces) - 2} of {len(pieces)} pieces are there already" in said
    assert f"[{len(pieces)}/{len(pieces)}]" in said
    first, second = (
        json.loads((folder / JSON_FILE).read_text()) for folder in (audited, tmp_path / "again")
    )
    for findings in (first, second):
        del findings["created"], findings["cpu_seconds"]
    assert first == second


def test_partners_divide_the_patients_and_a_patient_is_in_one_half(plan: AuditPlan) -> None:
    both = halves("north", 9, 0, 1)
    assert (both.sum(axis=0) == 1).all()
    assert both.sum(axis=1).tolist() == [4, 5]
    assert (halves("north", 9, 1, 1) != both).any()
    everybody = people(plan.site)
    chosen = splits_of(plan.site, list(everybody[:2]))
    kept = {subject.subject for split in chosen for subject in split.subjects}
    assert kept == {scan.subject for person in everybody[:2] for _, scan in person.scans}


def test_scans_of_one_person_are_one_member(data: Path, plan: AuditPlan, tmp_path: Path) -> None:
    site = shutil.copytree(data / "east", tmp_path / "east")
    manifest = read_manifest(site)
    subjects = tuple(
        replace(
            record, metadata={**record.metadata, "patient_id": f"p{number // 2}"}, split="train"
        )
        for number, record in enumerate(manifest.subjects)
    )
    write_manifest(replace(manifest, subjects=subjects))
    (prepared,) = prepared_sites(site, plan.experiment)
    assert [len(person.scans) for person in people(prepared)] == [2, 2]


def test_the_job_of_one_slice_sends_the_gradient_of_that_slice(plan: AuditPlan) -> None:
    (person, *_) = people(plan.site)
    split = middle_of(plan.site, person)
    assert sum(subject.stop - subject.start for subject in split.subjects) == 1
    experiment = single_steps(plan.experiment, 1)
    privacy = plan.mechanisms[0].privacy
    ((received, sent),) = updates(experiment, privacy, [split], "one", rounds=1)
    ((_, again),) = updates(experiment, privacy, [split], "another", rounds=1)
    assert any((sent[key] != received[key]).any() for key in sent)
    assert all(torch.equal(sent[key], again[key]) for key in sent)


def test_patient_level_privacy_is_audited_by_training_with_it(plan: AuditPlan) -> None:
    mechanism = mechanism_from("patient_noise:noise_multiplier=2")
    assert mechanism.label == "patient-level DP, noise multiplier 2"
    assert acts_in_training(mechanism.privacy)
    splits = splits_of(plan.site, list(people(plan.site)[:2]))
    none = plan.mechanisms[0].privacy
    ((_, with_noise),) = updates(plan.experiment, mechanism.privacy, splits, "x", rounds=1)
    ((received, without),) = updates(plan.experiment, none, splits, "x", rounds=1)
    key = next(key for key in without if key.startswith("generator"))
    assert not torch.equal(with_noise[key], without[key])
    assert not torch.equal(with_noise[key], received[key])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("secure_sum", "cannot repeat what 'secure_sum' does"),
        ("update_nose", "did you mean 'update_noise'"),
        ("update_noise:sigma", "write name:key=value"),
        ("update_noise:noise_multiplier=0", "noise_multiplier is 0"),
        ("none:epsilon=1", "privacy.epsilon belongs to"),
    ],
)
def test_mechanisms_that_cannot_be_audited_are_refused(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        mechanism_from(text)


def test_runs_and_sites_that_cannot_be_audited_are_refused(
    plan: AuditPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"experiment\.yaml: missing"):
        read_run(tmp_path, {})
    settings = (plan.experiment, plan.mechanisms)
    with pytest.raises(ConfigError, match="did you mean 'north'"):
        make_plan(settings, plan.sites, "nort", False, "")
    monkeypatch.setattr(plans, "FEWEST_PEOPLE", 5)
    with pytest.raises(ConfigError, match="has 4 patients with both images"):
        make_plan(settings, plan.sites, "north", False, "")


def test_a_mistake_in_the_command_line_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    code = main(["audit", str(TINY), "--data", str(tmp_path / "none"), "--out", str(out)])
    assert code == 2
    assert "no such data folder" in capsys.readouterr().err
    assert not out.exists()


def test_the_page_shows_numbers_and_the_private_page_pictures(
    audited: Path, plan: AuditPlan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(audited, tmp_path / "page")
    assert main(["report", str(folder)]) == 0
    assert "linear attack" in capsys.readouterr().out
    page = (folder / "audit.html").read_text()
    assert page.count("data:image") == 1  # the figure
    assert 'href="site-only/pictures.html"' in page
    assert "What is not protected" in page
    private = folder / PRIVATE / "pictures.html"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    pictures = private.read_text()
    assert pictures.count("data:image/png") > 20
    assert "do not send, copy or publish" in pictures
    for text in (page, pictures):
        assert not [person.name for person in people(plan.site) if person.name in text]


def test_an_audit_too_weak_to_reassure_says_so(audited: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(audited, tmp_path / "weak")
    shutil.rmtree(folder / PRIVATE)
    findings = json.loads((folder / JSON_FILE).read_text())
    findings["strong_enough"] = False
    (folder / JSON_FILE).write_text(json.dumps(findings))
    assert main(["report", str(folder)]) == 0
    page = (folder / "audit.html").read_text()
    assert "Too weak to reassure anybody" in page
    assert "pictures.html" not in page
    (folder / JSON_FILE).write_text("{}")
    assert main(["report", str(folder)]) == 2
