"""A lab's own reader: only what the machine's list allows, and only the code that was read."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from miniature_scans import write_scan

from fedi2i.errors import ConfigError, DataError
from partitions import own_code
from partitions.__main__ import main
from partitions.manifest import read_manifest
from partitions.own_code import is_allowed, load_own, package_digest
from partitions.readers.own import import_own

DOTTED = "my_lab.readers:READER"
CODE = """
import pathlib

from my_lab.names import SITE
from partitions.manifest import SubjectRecord
from partitions.readers import Reader
from partitions.site_folders import TO_BE_DRAWN, path_from, write_site_folders

pathlib.Path({imported!r}).touch()


def _bring_in(options):
    records = [
        SubjectRecord(
            folder.name,
            SITE,
            TO_BE_DRAWN,
            {{p.name.split(".")[0]: path_from(options.out / SITE, p) for p in folder.iterdir()}},
        )
        for folder in sorted(options.scans.iterdir())
    ]
    return write_site_folders(options.out, "lab", records, options.seed)


def _add_options(parser):
    parser.add_argument("--scans", type=pathlib.Path, required=True)


READER = Reader("scans of my lab", _add_options, _bring_in)
NO_READER = 3
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that leaves a mark when it is imported; nothing is allowed yet."""
    root = tmp_path / "site-packages" / "my_lab"
    root.mkdir(parents=True)
    (root / "__init__.py").write_text("")
    (root / "names.py").write_text("SITE = 'lab1'\n")
    (root / "readers.py").write_text(CODE.format(imported=str(tmp_path / "imported")))
    monkeypatch.syspath_prepend(str(root.parent))
    monkeypatch.setenv("FEDI2I_OWN_CODE", str(tmp_path / "own-code.yaml"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    for name in ("PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE"):
        monkeypatch.setenv(name, "")
    for name in [n for n in sys.modules if n == "my_lab" or n.startswith("my_lab.")]:
        monkeypatch.delitem(sys.modules, name)
    return root


def allow(package: Path, dotted: str = DOTTED) -> str:
    digest = package_digest("my_lab")
    path = package.parents[1] / "own-code.yaml"
    path.write_text(yaml.safe_dump({dotted: digest}))
    path.chmod(0o644)
    return digest


def was_imported(package: Path) -> bool:
    return (package.parents[1] / "imported").exists()


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    for subject in ("a", "b", "c"):
        for sequence in ("t1", "t2"):
            write_scan(tmp_path / "my scans" / subject / f"{sequence}.nii.gz")
    return tmp_path / "my scans"


def test_of_a_package_that_a_stranger_names_nothing_is_read_unless_it_is_listed(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, read = allow(package), list[str]()
    monkeypatch.setattr(own_code, "package_digest", lambda name: read.append(name) or digest)
    for sent in (
        "torch.nn.Linear",
        "my_lab.readers:OTHER",
        "no_such_package.Net",
        "os.system",
        "a",
    ):
        assert not is_allowed(sent)
    assert read == []
    assert is_allowed(DOTTED)
    assert read == ["my_lab"]
    assert not was_imported(package)


def test_what_is_listed_is_allowed_only_as_it_was_read(package: Path) -> None:
    allow(package)
    assert is_allowed(DOTTED)
    (package / "names.py").write_text("SITE = 'other'\n")
    assert not is_allowed(DOTTED)


def test_an_allowed_reader_brings_scans_in_and_the_manifest_names_its_code(
    package: Path, scans: Path, tmp_path: Path
) -> None:
    digest = allow(package)
    out = tmp_path / "out"
    command = ["own", "--reader", DOTTED, "--out", str(out), "--seed", "5", "--"]
    assert main([*command, "--scans", str(scans)]) == 0
    manifest = read_manifest(out / "lab1")
    assert (manifest.dataset, manifest.split_seed, len(manifest.subjects)) == ("lab", 5, 3)
    assert manifest.origin is not None
    assert (manifest.origin.reader, manifest.origin.digest) == (DOTTED, digest)
    assert main(["check", str(out), "--workers", "1"]) == 0
    content = json.loads((out / "lab1/manifest.json").read_text())
    content["origin"]["digest"] = "0" * 64
    (out / "lab1/manifest.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="content differs from its recorded hash"):
        read_manifest(out / "lab1")


def test_without_a_list_nothing_is_imported_and_the_line_to_add_is_named(package: Path) -> None:
    digest = package_digest("my_lab")
    with pytest.raises(ConfigError, match=f"'{DOTTED}' is not on this machine's list") as refused:
        load_own(DOTTED)
    assert f"{DOTTED}: {digest}" in str(refused.value)
    allow(package, "my_lab.readers:OTHER")
    with pytest.raises(ConfigError, match=r"did you mean 'my_lab\.readers:OTHER'"):
        load_own(DOTTED)
    assert not was_imported(package)


@pytest.mark.parametrize("file", ["readers.py", "names.py", "data/table.csv"])
def test_code_that_has_changed_since_it_was_allowed_is_not_imported(
    package: Path, file: str
) -> None:
    before = allow(package)
    (package / file).parent.mkdir(exist_ok=True)
    with (package / file).open("a") as stream:
        stream.write("# changed\n")
    after = package_digest("my_lab")
    assert after != before
    with pytest.raises(ConfigError, match=f"is not the one .* then writes the digest {after}"):
        load_own(DOTTED)
    assert not was_imported(package)


def test_a_list_that_others_may_change_allows_nothing(package: Path) -> None:
    allow(package)
    (package.parents[1] / "own-code.yaml").chmod(0o664)
    with pytest.raises(ConfigError, match="others may change this list"):
        load_own(DOTTED)
    assert not was_imported(package)


def test_a_list_in_a_folder_where_others_may_put_another_one_allows_nothing(package: Path) -> None:
    allow(package)
    folder = package.parents[1]
    folder.chmod(0o777)
    with pytest.raises(ConfigError, match="others may change the folder of this list"):
        load_own(DOTTED)
    folder.chmod(0o755)
    (folder / "open").mkdir()
    (folder / "own-code.yaml").rename(folder / "open/own-code.yaml")
    (folder / "own-code.yaml").symlink_to(folder / "open/own-code.yaml")
    (folder / "open").chmod(0o775)
    with pytest.raises(ConfigError, match="open: others may change the folder of this list"):
        load_own(DOTTED)
    assert not was_imported(package)


def test_a_list_of_another_account_allows_nothing(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(package)
    path = package.parents[1] / "own-code.yaml"
    if os.getuid() == 0:
        os.chown(path, 12345, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(ConfigError, match="this list belongs to another account"):
        load_own(DOTTED)
    assert not was_imported(package)


def _compiled_without_a_check(source: Path, code: str) -> Path:
    """A compiled copy that tells Python not to look at its source (PEP 552)."""
    import marshal

    path = Path(importlib.util.cache_from_source(str(source)))
    path.parent.mkdir(exist_ok=True)
    head = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8)
    path.write_bytes(head + marshal.dumps(compile(code, str(source), "exec")))
    return path


def test_a_compiled_copy_that_nobody_has_read_does_not_run(package: Path) -> None:
    digest = allow(package)
    _compiled_without_a_check(package / "readers.py", "READER = 'never read'")
    _compiled_without_a_check(package / "names.py", "SITE = 'never read'")
    assert package_digest("my_lab") == digest
    reader, _ = load_own(DOTTED)
    assert reader.help == "scans of my lab"
    assert sys.modules["my_lab.names"].SITE == "lab1"
    assert was_imported(package)


@pytest.mark.parametrize("name", ["more.py", "more.pyc", "table.csv"])
def test_whatever_else_lies_among_compiled_copies_counts(package: Path, name: str) -> None:
    """``my_lab.__pycache__.more`` is a module that can be imported."""
    before = allow(package)
    (package / "__pycache__").mkdir(exist_ok=True)
    (package / "__pycache__" / name).write_bytes(b"1")
    assert package_digest("my_lab") != before


def test_a_package_below_a_folder_that_is_called_like_pythons_own_has_a_digest_of_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "__pycache__" / "other_lab"
    root.mkdir(parents=True)
    (root / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(root.parent))
    before = package_digest("other_lab")
    (root / "__init__.py").write_text("# changed\n")
    assert package_digest("other_lab") != before


def test_files_that_no_digest_covers_are_refused(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "__init__.py").write_text("READER = 1\n")
    (package / "more").symlink_to(elsewhere, target_is_directory=True)
    with pytest.raises(ConfigError, match="more: is a link to a folder, whose files no digest"):
        load_own("my_lab.more:READER")
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        archive.writestr("packed_lab/__init__.py", "READER = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path / "packed.zip"))
    with pytest.raises(ConfigError, match="'packed_lab' has no files to read; install it as a"):
        load_own("packed_lab:READER")


def test_what_is_no_reader_no_package_or_no_path_is_refused(package: Path, tmp_path: Path) -> None:
    allow(package, "my_lab.readers:NO_READER")
    with pytest.raises(ConfigError, match="NO_READER' is a int and no partitions"):
        import_own("my_lab.readers:NO_READER", [], tmp_path / "out", 1)
    with pytest.raises(ConfigError, match="no package 'nobody_s_lab' is installed"):
        load_own("nobody_s_lab.readers:READER")
    for text in ("my_lab.readers", "my_lab/readers.py:READER", "../x:READER"):
        with pytest.raises(ConfigError, match="is no dotted path; write it like"):
            import_own(text, [], tmp_path / "out", 1)


def test_its_own_options_are_checked_like_all_others(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    allow(package)
    with pytest.raises(SystemExit) as ended:
        main(["own", "--reader", DOTTED, "--out", str(tmp_path / "o"), "--", "--scan", "x"])
    assert ended.value.code == 2
    assert "unknown option '--scan'; did you mean '--scans'?" in capsys.readouterr().err
