"""The command line: what it says, exit codes, and that a second run is quick."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from fedi2i.errors import DataError
from fedi2i.typed_config import record_from
from partitions.__main__ import main
from partitions.commands.manifests import COMPUTED, found_settings
from partitions.commands.prepare import read_config
from partitions.computed.ct.tasks import TASKS
from partitions.manifest import UNKNOWN_VOXEL_SIZE, SiteManifest, SubjectRecord, write_manifest
from partitions.preparation import PreparationConfig

MakeSite = Callable[..., SiteManifest]
SETTINGS = ["--set", "spacing=null", "--set", "size=[40,30]"]


@pytest.mark.slow
def test_prepare_makes_every_site_once_and_names_what_is_up_to_date(
    make_site: MakeSite, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make_site(name="A")
    make_site(name="B", splits=("train", "test"))
    command = ["prepare", "--data", str(tmp_path / "data"), *SETTINGS]
    assert main(command) == 0
    said = capfd.readouterr().out
    assert "A: prepared: train 2 (16 slices), val 1 (8 slices), test 1 (8 slices)" in said
    assert "B: prepared: train 1 (8 slices), val 0 (0 slices), test 1 (8 slices)" in said
    assert len(list((tmp_path / "data/A/prepared").rglob("prepared.json"))) == 1
    assert main(command) == 0
    said = capfd.readouterr().out
    assert "A: up to date" in said
    assert "B: up to date" in said


@pytest.mark.slow
def test_a_site_that_fails_is_named_and_the_others_are_prepared(
    make_site: MakeSite, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make_site(name="A")
    bad = make_site(name="B")
    (bad.root / "B0/t1.nii.gz").write_bytes(b"damaged")
    cache = tmp_path / "caches"
    command = ["prepare", "--data", str(tmp_path / "data"), "--cache", str(cache), *SETTINGS]
    assert main(command) == 2
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert "B0/t1.nii.gz: damaged" in errors[0]
    assert len(list((cache / "A").rglob("prepared.json"))) == 1
    assert not list((cache / "B").rglob("prepared.json"))


def test_a_killed_process_does_not_hide_what_was_found_at_another_site(
    make_site: MakeSite,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_site(name="A")
    make_site(name="B")

    def killed(*_: object) -> Iterator[DataError]:
        yield DataError("A: bad scan")
        raise DataError("a process was ended from outside, probably because memory ran out")

    monkeypatch.setattr("partitions.commands.prepare.side_by_side", killed)
    assert main(["prepare", "--data", str(tmp_path / "data"), *SETTINGS]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "memory ran out" in first
    assert second == "error: A: bad scan"


def test_settings_of_the_command_line_win_over_the_file(
    make_site: MakeSite, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    site = make_site(splits=("train",))
    (tmp_path / "p.yaml").write_text("spacing: null\nsize: [4, 4]\n")
    command = ["prepare", "--data", str(site.root), "--config", str(tmp_path / "p.yaml")]
    assert main([*command, "--set", "size=[40,30]"]) == 0
    assert main(command) == 2
    assert "fall outside slices of 4 x 4" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["sise=[4,4]"], "unknown key 'sise'; did you mean 'size'?"),
        (["size"], "write KEY=VALUE"),
        (["size=abc"], "key 'size'"),
        (["percentiles=[99,1]"], "must rise"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused(
    make_site: MakeSite, capsys: pytest.CaptureFixture[str], settings: list[str], sentence: str
) -> None:
    site = make_site(splits=("train",))
    flags = [part for setting in settings for part in ("--set", setting)]
    assert main(["prepare", "--data", str(site.root), *flags]) == 2
    assert sentence in capsys.readouterr().err


def test_check_prints_the_counts_and_the_same_hash_in_any_order(
    make_site: MakeSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = make_site(name="A"), make_site(name="B", splits=("train", "test"), shift=100)
    assert main(["check", str(one.root), str(two.root)]) == 0
    first = capsys.readouterr().out
    rows = [line.split() for line in first.splitlines()]
    assert rows[0] == ["site", "train", "val", "test", "all", "scans", "hash"]
    assert rows[1][:6] == ["A", "2", "1", "1", "4", "acquired"]
    assert rows[2][:6] == ["B", "1", "0", "1", "2", "acquired"]
    assert rows[3] == ["all", "3", "1", "2", "6"]
    assert main(["check", str(two.root), str(one.root)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == first.splitlines()[-1]


def test_a_number_that_two_sites_use_is_two_people_but_their_scans_must_differ(
    make_site: MakeSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = make_site(name="A"), make_site(name="B", shift=100)
    alike = replace(two.subjects[0], subject="A0")
    write_manifest(replace(two, subjects=(alike, *two.subjects[1:])))
    assert main(["check", str(tmp_path / "data")]) == 0
    shutil.copy(one.root / "A0/t1.nii.gz", two.root / "B0/t1.nii.gz")
    assert main(["check", str(tmp_path / "data")]) == 2
    said = capsys.readouterr().err
    assert "B/B0/t1.nii.gz: has the same bytes as" in said
    assert "A/A0/t1.nii.gz" in said


def test_check_finds_a_file_that_is_gone_and_a_site_that_appears_twice(
    make_site: MakeSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = make_site(name="A")
    shutil.copytree(site.root, tmp_path / "data" / "copy")
    assert main(["check", str(tmp_path / "data")]) == 2
    assert "site 'A' is also in" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "data" / "copy")
    (site.root / "A2/t2.nii.gz").unlink()
    assert main(["check", str(tmp_path / "data")]) == 2
    assert "A2/t2.nii.gz: no such file, but subject 'A2' needs it" in capsys.readouterr().err


def test_check_refuses_two_data_sets_at_once(
    make_site: MakeSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_site(name="A")
    write_manifest(replace(make_site(name="B", shift=100), dataset="other"))
    assert main(["check", str(tmp_path / "data")]) == 2
    assert "check one data set at a time" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["check"], ["prepare", "--data"]])
def test_a_folder_without_manifests_or_no_folder_is_one_sentence_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert main([*command, str(tmp_path / "gone")]) == 2
    assert main([*command, str(tmp_path)]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("gone: no such data folder; correct the path")
    assert "no manifest.json in it or below" in second


def test_csv_imports_and_says_how_to_go_on(
    make_site: MakeSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_site(splits=("train",) * 3).root
    table = root / "t.csv"
    rows = [f"A{n},North,A{n}/t1.nii.gz,A{n}/t2.nii.gz" for n in range(3)]
    table.write_text("\n".join(["subject,site,t1,t2", *rows]))
    out = tmp_path / "house"
    assert main(["csv", "--table", str(table), "--out", str(out), "--dataset", "house"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[2].split()[:6] == ["North", "1", "1", "1", "3", "acquired"]
    assert said[-1] == f"next: fedi2i data prepare --data {out}"


def test_lgg_imports_a_folder_in_its_layout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "TCGA_EZ_0001_19990101"
    folder = tmp_path / "kaggle_3m" / name
    folder.mkdir(parents=True)
    image = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(image).save(folder / f"{name}_1.tif")
    Image.fromarray(image[..., 0]).save(folder / f"{name}_1_mask.tif")
    assert main(["lgg", "--source", str(folder.parent), "--out", str(tmp_path / "lgg")]) == 0
    assert "EZ    1      0    0     1" in capsys.readouterr().out
    assert (tmp_path / "lgg/EZ/manifest.json").is_file()


def test_a_full_disk_during_an_import_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "out/x")

    monkeypatch.setattr("partitions.readers.lgg.import_lgg", full)
    assert main(["lgg", "--source", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: out/x: No space left on device; check room")


def test_the_module_runs_as_a_program_from_another_folder(tmp_path: Path) -> None:
    repository = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-m", "partitions", "check", "gone"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "error: gone: no such data folder; correct the path\n"


def test_demo_writes_the_computed_cohort_it_was_asked_for(
    tmp_path: Path,
    make_site: MakeSite,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[Path, int, str, str]] = []

    def write(out: Path, seed: int, size: str, task: str) -> tuple[SiteManifest, ...]:
        asked.append((out, seed, size, task))
        return (replace(make_site(), computed=True),)

    monkeypatch.setattr("partitions.computed.cohort.write_cohort", write)
    command = ["demo", "--out", str(tmp_path / "d"), "--size", "smoke", "--seed", "5"]
    assert main(command) == 0
    assert asked == [(tmp_path / "d", 5, "smoke", "mr")]
    assert capsys.readouterr().out.splitlines()[2].split()[5] == "computed"
    for task, dataset in COMPUTED.items():
        assert TASKS[task].dataset == dataset
        assert main(["demo", "--task", task]) == 0
        assert asked[-1] == (Path("data") / dataset, 2026, "demo", task)
    assert len(COMPUTED) == len(TASKS)


EXPERIMENTS_OF_COMPUTED = {
    ("mr", "demo"): "demo",
    ("mr", "smoke"): "smoke",
    ("mr-ct", "demo"): "mr_ct",
    ("mr-ct", "smoke"): "mr_ct_smoke",
    ("cbct-ct", "demo"): "cbct_ct",
    ("cbct-ct", "smoke"): "cbct_ct_smoke",
    ("ldct", "demo"): "ldct_computed",
    ("ldct", "smoke"): "ldct_computed_smoke",
}


@pytest.mark.parametrize(("task", "size"), EXPERIMENTS_OF_COMPUTED)
def test_a_computed_cohort_says_the_preparation_of_its_experiment_file(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    task: str,
    size: str,
) -> None:
    assert {task for task, _ in EXPERIMENTS_OF_COMPUTED} == set(COMPUTED)
    monkeypatch.setattr("partitions.computed.cohort.write_cohort", lambda *_, **__: ())
    assert main(["demo", "--task", task, "--size", size, "--out", str(tmp_path)]) == 0
    words = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert words[:6] == ["next:", "fedi2i", "data", "prepare", "--data", str(tmp_path)]
    name = EXPERIMENTS_OF_COMPUTED[task, size]
    file = Path(__file__).parents[3] / "jobs" / "experiments" / f"{name}.yaml"
    said = yaml.safe_load(file.read_text()).get("experiment", {}).get("data", {})
    assert words[6::2] == ["--set"] * len(words[7::2])
    assert read_config(None, words[7::2]) == record_from(
        PreparationConfig, said.get("preparation", {}), name
    )


@pytest.mark.parametrize(
    ("sequences", "source", "target", "in_hu"),
    [
        (("t1", "t2", "flair"), "t1", "t2", ()),
        (("flair", "dwi"), "flair", "dwi", ()),
        (("ct", "mr"), "mr", "ct", ("target",)),
        (("ct", "cbct", "t1"), "cbct", "ct", ("source", "target")),
    ],
)
def test_scans_of_any_name_get_a_command_that_preparation_accepts(
    tmp_path: Path, sequences: tuple[str, ...], source: str, target: str, in_hu: tuple[str, ...]
) -> None:
    files = {name: f"{name}.nii.gz" for name in sequences}
    fewer = {name: files[name] for name in sequences[:2]}
    records = (SubjectRecord("a", "S", "train", files), SubjectRecord("b", "S", "train", fewer))
    assert "spacing=null" not in found_settings([SiteManifest("own", "S", records, tmp_path)])
    flat = (*records, SubjectRecord("c", "S", "test", files, metadata=dict(UNKNOWN_VOXEL_SIZE)))
    config = read_config(None, found_settings([SiteManifest("own", "S", flat, tmp_path)]))
    assert config.spacing is None
    assert (config.source, config.target) == (source, target)
    for domain in ("source", "target"):
        assert config.scaling(domain).unit == ("HU" if domain in in_hu else "")
