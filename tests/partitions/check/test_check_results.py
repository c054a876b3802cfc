"""What ``check`` writes: lines, JSON, and a page."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import nibabel
import pytest

from partitions.__main__ import main
from partitions.check.catalogue import RULES
from partitions.check.finding import SEVERITIES
from partitions.check.inspection import Plan, inspect
from partitions.check.results import MOST_LINES, as_page, console_text
from partitions.manifest import SiteManifest, write_manifest

MakeSite = Callable[..., SiteManifest]


class Page(HTMLParser):
    """Everything a page refers to, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def damage(site: SiteManifest, subjects: int) -> None:
    for record in site.subjects[:subjects]:
        path = site.root / record.files["t2"]
        path.write_bytes(path.read_bytes()[:-9000])


def test_the_json_file_has_every_finding_with_subject_file_remedy_severity_and_exit_code(
    make_site: MakeSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = make_site()
    damage(site, 2)
    out = tmp_path / "new" / "check.json"
    assert main(["check", str(site.root), "--json", str(out)]) == 2
    content = json.loads(out.read_text())
    assert content["exit_code"] == 2
    assert content["counts"] == {"error": 2, "warning": 0, "note": 10}
    (first, second) = [one for one in content["findings"] if one["severity"] == "error"]
    assert (first["rule"], first["subject"], first["exit_code"]) == ("truncated", "A0", 2)
    assert first["file"] == str(site.root / "A0/t2.nii.gz")
    assert first["remedy"] == RULES["truncated"].remedy
    assert second["subject"] == "A1"
    assert {one["exit_code"] for one in content["findings"][2:]} == {0}
    said = capsys.readouterr()
    assert said.err.startswith("error: 2 findings would stop the preparation, listed above; the")
    assert len(said.err.splitlines()) == 1
    assert f"error    A/A1 truncated: {site.root}/A1/t2.nii.gz: damaged" in said.out
    assert "to do: copy it again from its source" in said.out
    assert "read the headers of 4 subjects: 2 errors, 0 warnings, 10 notes" in said.out


def test_the_console_lists_some_findings_of_a_rule_and_counts_the_rest(
    make_site: MakeSite,
) -> None:
    site = make_site(("test",) * (MOST_LINES + 3))
    damage(site, MOST_LINES + 3)
    lines = console_text(inspect([site.root], Plan(), lambda results, _: results)).splitlines()
    assert sum(line.startswith("error ") for line in lines) == MOST_LINES
    assert any("... and 3 more of truncated" in line for line in lines)
    (note,) = [line for line in lines if line.startswith("note")]
    assert f"(and {3 * (MOST_LINES + 3) - (MOST_LINES + 3) - 1} files more)" in note


def test_the_page_shows_findings_and_pictures_and_refers_to_nothing_else(
    make_site: MakeSite, tmp_path: Path
) -> None:
    site = make_site(lesion=True)
    damage(site, 1)
    out = tmp_path / "page.html"
    assert main(["check", str(site.root), "--page", str(out), "--workers", "1"]) == 2
    page = Page()
    page.feed(out.read_text())
    # Two images of each of four subjects, but for the damaged one.
    assert page.tags.count("img") == 7
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert "url(" not in out.read_text()
    assert "the file ends too early" in page.text
    assert RULES["truncated"].remedy in page.text
    assert "exit code 2" in page.text


def test_a_scan_that_is_a_link_in_circles_is_missing_and_the_others_are_looked_at(
    make_site: MakeSite, capsys: pytest.CaptureFixture[str]
) -> None:
    site = make_site()
    path = site.root / site.subjects[0].files["t2"]
    path.unlink()
    path.symlink_to(path.name)
    assert main(["check", str(site.root), "--voxels", "--workers", "1"]) == 2
    shown = capsys.readouterr().err
    assert f"{path}: no such file, but subject '{site.subjects[0].subject}' needs it" in shown


def test_names_on_the_page_are_text_and_no_markup(make_site: MakeSite) -> None:
    site = make_site(("test",))
    evil = replace(site.subjects[0], subject="<script>alert(1)</script>")
    write_manifest(replace(site, subjects=(evil,)))
    found = inspect([site.root], Plan(voxels=True, pictures=True), lambda results, _: results)
    page = Page()
    page.feed(as_page(found))
    assert "script" not in page.tags
    assert "<script>alert(1)</script>" in page.text


def test_a_page_has_pictures_of_a_limited_number_of_subjects_those_with_findings_first(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("partitions.check.inspection.MOST_PICTURES", 2)
    site = make_site(("test",) * 4)
    last = site.root / site.subjects[-1].files["t2"]
    scan = nibabel.load(last)
    nibabel.Nifti1Image(scan.get_fdata()[..., None], scan.affine).to_filename(last)
    scan.header.set_xyzt_units("micron")
    scan.to_filename(last)
    for record in site.subjects[:-1]:
        for name in ("t1", "t2", "mask"):
            path = site.root / f"{record.subject}/{name}.nii.gz"
            image = nibabel.load(path)
            image.header.set_xyzt_units("mm")
            nibabel.Nifti1Image(image.get_fdata(), image.affine, image.header).to_filename(path)
    found = inspect([site.root], Plan(pictures=True), lambda results, _: results)
    assert len(found.pictures) == 2
    assert found.pictures[0].subject == site.subjects[-1].subject


def test_a_process_that_is_killed_loses_only_what_it_had_not_read(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site()

    def killed(work: object, tasks: list[object], workers: int) -> object:
        from partitions.processes import side_by_side

        yield work(tasks[0])  # type: ignore[operator]
        yield from side_by_side(signal.raise_signal, [signal.SIGKILL] * 2, workers=2)

    monkeypatch.setattr("partitions.check.inspection.side_by_side", killed)
    plan = Plan(voxels=True, workers=2)
    damage(site, 1)
    found = inspect([site.root], plan, lambda results, _: results)
    errors = {one.rule: one for one in found.findings if one.severity == "error"}
    assert set(errors) == {"truncated", "process-killed"}
    assert "memory" in errors["process-killed"].sentence
    assert "3 of 4 subjects were not read" in errors["process-killed"].sentence


def test_a_site_that_left_the_data_set_is_named_by_check(
    make_site: MakeSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_site()
    gone = make_site(name="B", shift=100)
    (gone.root / "manifest.json").rename(gone.root / "withdrawn-manifest.json")
    assert main(["check", str(tmp_path / "data")]) == 0
    said = capsys.readouterr().out
    assert (
        f"note     withdrawn-site: {gone.root}: holds a site that the last import did not" in said
    )
    assert not any(line.startswith("B ") for line in said.splitlines())


def test_rules_have_names_severities_and_remedies() -> None:
    for name, rule in RULES.items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)
        assert rule.severity in SEVERITIES
        assert rule.remedy
        assert not rule.sentence.endswith(".")
        assert os.linesep not in rule.sentence
