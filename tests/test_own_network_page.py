"""``docs/howto/bring-your-own-network.md`` is followed as it stands."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fedi2i.cli.program import main

REPOSITORY = Path(__file__).resolve().parents[1]
LAB = REPOSITORY / "tests" / "lab_package"
PAGE = (REPOSITORY / "docs/howto/bring-your-own-network.md").read_text(encoding="utf-8")
EXPERIMENTS = re.findall(r"```yaml\n# (\w+\.yaml)\n(.*?)```", PAGE, re.DOTALL)
Allow = Callable[[str], None]
SHOWN = {"mine": "MyGenerator", "attention": "AttentionUnet", "swin": "SwinUNETR"}


def test_the_class_of_the_page_is_the_one_that_is_tested() -> None:
    shown = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    files = ("nets.py", "modules.py")
    assert shown == [(LAB / "my_lab" / name).read_text(encoding="utf-8") for name in files]


@pytest.mark.parametrize(
    "name",
    [
        "mine",
        pytest.param("attention", marks=pytest.mark.nightly),
        pytest.param("swin", marks=pytest.mark.nightly),
    ],
)
def test_its_commands_print_the_figures_of_its_table(
    allow_own: Allow,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of ``mine``; the other two go the same way and trace for seconds."""
    if name == "swin":
        pytest.importorskip("einops", reason="SwinUNETR needs einops; pip install einops")
    monkeypatch.chdir(tmp_path)
    for file, content in EXPERIMENTS:
        Path(file).write_text(content)
    (row,) = [line for line in PAGE.splitlines() if re.match(rf"\| `?{SHOWN[name]}`? \|", line)]
    _, _, parameters, megabytes, matched, statistics, _ = (cell.strip() for cell in row.split("|"))
    (path,) = re.findall(r"path: ([\w.]+)", dict(EXPERIMENTS)[f"{name}.yaml"])
    assert f"fedi2i provision allow {path}" in PAGE
    assert main(["provision", "allow", path]) == 0
    assert main(["channels", "--experiment", f"{name}.yaml"]) == 0
    printed = capsys.readouterr().out
    assert f"{parameters} parameters, {megabytes} MB per update" in printed
    assert f"generator: {matched.replace(',', '')} hidden channels can be matched" in printed
    assert "memory: training takes about" in printed
    count = statistics.partition(":")[0]
    assert (f"; {count} layers keep running statistics" in printed) == (count != "0")


def test_the_commands_for_a_module_print_what_the_page_shows(
    tmp_path: Path,
    allow_own: Allow,  # for the package alone: the page's own command allows the class
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("module.yaml").write_text(dict(EXPERIMENTS)["module.yaml"])
    (commands,) = re.findall(r"```\n(fedi2i provision allow my_lab.modules.*?)```", PAGE, re.DOTALL)
    (shown,) = re.findall(r"begins with\n\n```\n(.*?)```", PAGE, re.DOTALL)
    for line in commands.splitlines():
        assert main(line.split()[1:]) == 0
    assert shown in capsys.readouterr().out
    assert (tmp_path / "my_jobs" / "module" / "meta.json").is_file()


def test_a_job_of_it_is_written(allow_own: Allow, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(dict(EXPERIMENTS)["mine.yaml"])
    out = tmp_path / "job"
    export = ["jobs", "export", "fedavg", "--experiment", str(file), "--out", str(out)]
    assert main(export) == 2
    allow_own("my_lab.nets.MyGenerator")
    assert main(export) == 0
    assert (out / "meta.json").is_file()
