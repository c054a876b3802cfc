"""Every file of the folder is a reader, and a reader is a command by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from partitions import readers
from partitions.__main__ import main
from partitions.manifest import read_manifest
from partitions.readers import load_reader, reader_names

FILES = {path.stem for path in Path(readers.__file__).parent.glob("*.py")} - {"__init__"}

DROPPED_IN = """
from pathlib import Path

from partitions.manifest import SubjectRecord
from partitions.readers import Reader
from partitions.site_folders import TO_BE_DRAWN, write_site_folders


def _add_options(parser):
    parser.add_argument("--names", nargs="+")


def _bring_in(options):
    records = [
        SubjectRecord(name, "north", TO_BE_DRAWN, {"t1": "t1.nii", "t2": f"{name}.nii"})
        for name in options.names
    ]
    return write_site_folders(options.out, "dropped", records, options.seed)


READER = Reader("read nothing", _add_options, _bring_in, Path("data/dropped"), ("spacing=null",))
"""


def test_every_file_of_the_folder_is_a_reader() -> None:
    assert set(reader_names()) == FILES
    for name in reader_names():
        assert load_reader(name).help


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_reader_is_a_command_and_has_a_test(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: python -m partitions {name} ")
    assert "--out" in shown
    assert "--seed" in shown
    assert (Path(__file__).parent / f"test_{name}.py").is_file()


def test_a_file_dropped_into_the_folder_becomes_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "more_readers"
    folder.mkdir()
    (folder / "dropped_in.py").write_text(DROPPED_IN)
    # A second folder of the package, so that the test writes nothing into the first.
    monkeypatch.setattr(readers, "__path__", [*readers.__path__, str(folder)])
    out = tmp_path / "out"
    command = ["dropped_in", "--names", "a", "--out", str(out), "--seed", "4"]
    assert main(command) == 0
    manifest = read_manifest(out / "north")
    assert (manifest.dataset, manifest.split_seed) == ("dropped", 4)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"next: fedi2i data prepare --data {out} --set spacing=null"
