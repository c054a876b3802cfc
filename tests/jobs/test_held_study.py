"""A study's folder belongs to one command at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fedi2i.errors import ConfigError
from jobs.running.studies.holding import held

_HOLDS = """
import sys
from pathlib import Path
from jobs.running.studies.holding import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_command_is_refused_until_the_first_one_is_gone_even_by_a_kill(
    tmp_path: Path,
) -> None:
    out = tmp_path / "study"
    command = [sys.executable, "-c", _HOLDS, str(out)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None and first.stdout.readline() == "held\n"
        refused = pytest.raises(ConfigError, match="study: another 'fedi2i study' is running it")
        with refused, held(out):
            pass
        first.kill()
        first.wait()
        with held(out):
            assert out.is_dir()


def test_a_refused_study_leaves_no_folder_behind_and_a_begun_one_stays(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a refusal"), held(tmp_path / "refused"):
        raise ConfigError("a refusal")
    assert not (tmp_path / "refused").exists()
    with held(tmp_path / "begun"):
        (tmp_path / "begun" / "study.json").write_text("{}")
    assert (tmp_path / "begun" / "study.json").is_file()
