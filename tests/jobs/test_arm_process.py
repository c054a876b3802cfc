from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.running.arm_process import ArmFailedError, ArmProcess, run_process

WRITES = "import sys; print('loss 0.5'); open(sys.argv[1], 'a').write('x')"


@pytest.fixture
def process(tmp_path: Path) -> ArmProcess:
    """An arm that appends one letter to its product whenever it runs."""
    product = tmp_path / "product.txt"
    return ArmProcess(
        name="fedavg",
        command=(sys.executable, "-c", WRITES, str(product)),
        log=tmp_path / "logs" / "fedavg.log",
        produces=product,
        key="settings 1",
        show=("loss",),
    )


def times_run(process: ArmProcess) -> int:
    return len(process.produces.read_text(encoding="utf-8"))


def script(process: ArmProcess, code: str) -> ArmProcess:
    return replace(process, command=(sys.executable, "-c", code, str(process.produces)))


def test_an_unchanged_arm_is_not_run_again_and_keeps_its_time(
    process: ArmProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run_process(process, tmp_path)
    assert run_process(process, tmp_path) == first
    assert times_run(process) == 1
    assert "unchanged since it finished" in capsys.readouterr().out


def test_a_changed_key_runs_the_arm_again(process: ArmProcess, tmp_path: Path) -> None:
    run_process(process, tmp_path)
    run_process(replace(process, key="settings 2"), tmp_path)
    assert times_run(process) == 2
    run_process(process, tmp_path)  # and back: the product belongs to the other settings now
    assert times_run(process) == 3


def test_a_missing_product_runs_the_arm_again(process: ArmProcess, tmp_path: Path) -> None:
    run_process(process, tmp_path)
    process.produces.unlink()
    run_process(process, tmp_path)
    assert times_run(process) == 1


@pytest.mark.parametrize("record", ["", "{", "[]", "{}", '{"key": 1}', "[1]", "3"])
def test_a_damaged_record_runs_the_arm_again(
    record: str, process: ArmProcess, tmp_path: Path
) -> None:
    run_process(process, tmp_path)
    (tmp_path / "fedavg.json").write_text(record, encoding="utf-8")
    run_process(process, tmp_path)
    assert times_run(process) == 2


def test_the_record_holds_the_seconds_and_is_written_after_success(
    process: ArmProcess, tmp_path: Path
) -> None:
    seconds = run_process(process, tmp_path)
    record = json.loads((tmp_path / "fedavg.json").read_text(encoding="utf-8"))
    assert record["seconds"] == seconds
    assert 0 < seconds < 60


def test_a_second_command_waits_for_the_first_one_and_finds_the_arm_finished(
    process: ArmProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun, may_end = tmp_path / "begun", tmp_path / "may_end"
    held = script(
        process,
        f"import pathlib, time; pathlib.Path({str(begun)!r}).touch()\n"
        f"while not pathlib.Path({str(may_end)!r}).exists(): time.sleep(0.01)\n{WRITES}",
    )
    with ThreadPoolExecutor(2) as pool:
        try:
            first = pool.submit(run_process, held, tmp_path)
            wait_until(begun.exists)
            second = pool.submit(run_process, held, tmp_path)
            said: list[str] = []
            wait_until(lambda: _says_that_it_waits(said, capsys))
        finally:
            may_end.touch()
    assert first.result() == second.result()
    assert times_run(process) == 1


def _says_that_it_waits(said: list[str], capsys: pytest.CaptureFixture[str]) -> bool:
    said.append(capsys.readouterr().out)
    return "another command is running this arm" in "".join(said)


def wait_until(happened: Callable[[], bool]) -> None:
    """Ask again and again; fails after a time that only a hung command needs."""
    patience = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < patience
        time.sleep(0.01)


def test_a_lock_that_a_killed_command_has_left_holds_nobody_up(
    process: ArmProcess, tmp_path: Path
) -> None:
    (tmp_path / "fedavg.lock").touch()
    run_process(process, tmp_path)
    assert times_run(process) == 1


FAILURES = {
    "an error after the product": (WRITES + "; sys.exit(3)", "exit code 3"),
    "an error without product": ("raise SystemExit(1)", "exit code 1"),
    "success without product": ("print('all done')", "exit code 0"),
    "death by a signal": ("import os; os.kill(os.getpid(), 9)", "exit code -9"),
}


@pytest.mark.parametrize("what", FAILURES)
def test_a_failure_names_arm_and_log_and_leaves_no_record(
    what: str, process: ArmProcess, tmp_path: Path
) -> None:
    code, reason = FAILURES[what]
    with pytest.raises(ArmFailedError) as error:
        run_process(script(process, code), tmp_path)
    assert f"arm 'fedavg' failed ({reason}); see {process.log}" == str(error.value)
    assert not (tmp_path / "fedavg.json").exists()


def test_an_old_product_does_not_make_up_for_a_run_that_wrote_none(
    process: ArmProcess, tmp_path: Path
) -> None:
    """NVFlare's simulator ends with code 0 also when its job did not run."""
    run_process(process, tmp_path)
    silent = replace(script(process, "pass"), key="settings 2")
    with pytest.raises(ArmFailedError, match="exit code 0"):
        run_process(silent, tmp_path)
    assert not (tmp_path / "fedavg.json").exists()  # the old settings' record is gone too


def test_a_program_that_is_not_installed_is_said_in_a_sentence(
    process: ArmProcess, tmp_path: Path
) -> None:
    absent = replace(process, command=(str(tmp_path / "no-such-program"),))
    with pytest.raises(ArmFailedError, match=r"arm 'fedavg' could not be run .*no-such-program"):
        run_process(absent, tmp_path)


def test_everything_goes_to_the_log_and_chosen_lines_to_the_console(
    process: ArmProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = (
        "import sys; sys.stderr.write('warning\\n'); print('2025 - ROUND - [id=1]: loss 0.5');"
        "open(sys.argv[1], 'a').write('x')"
    )
    run_process(script(process, code), tmp_path)
    log = process.log.read_text(encoding="utf-8")
    assert "warning" in log
    assert "2025 - ROUND - [id=1]: loss 0.5" in log
    printed = capsys.readouterr().out.splitlines()
    assert "[fedavg] loss 0.5" in printed
    assert not any("warning" in line for line in printed if "$" not in line)


def test_the_command_is_shown_as_a_person_could_type_it(
    process: ArmProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_process(script(process, "open(__import__('sys').argv[1], 'w')"), tmp_path)
    shown = capsys.readouterr().out.splitlines()[0]
    assert shown.startswith(f"[fedavg] $ {Path(sys.executable).name} -c 'open(")


def test_a_log_of_bytes_that_are_no_text_does_not_end_the_run(
    process: ArmProcess, tmp_path: Path
) -> None:
    code = "import sys; sys.stdout.buffer.write(b'\\xff\\n'); open(sys.argv[1], 'w')"
    run_process(script(process, code), tmp_path)
    assert process.log.is_file()
