from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from poc_processes import poc_command, processes_of, wait_for

from fedi2i.errors import ConfigError, DataError
from fedi2i.typed_config import read_yaml
from provision.__main__ import main
from provision.poc.console import AdminConsole, ConsoleError
from provision.poc.kits import PocConfig, check_port_free, prepare, write_localhost_project
from provision.poc.participants import Participants
from provision.poc.run import metrics_table
from provision.provisioning import PROJECT_FILE

EXPERIMENT = Path(__file__).resolve().parents[1] / "experiments" / "tiny.yaml"


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield int(listening.getsockname()[1])


def poc(*options: str) -> int:
    return main(["poc", "--experiment", str(EXPERIMENT), *options])


def test_a_port_in_use_is_one_sentence_before_anything_starts(
    taken_port: int, tiny_cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--dataset", f"tiny={tiny_cohort}", "--out", str(tmp_path / "poc"))
    assert poc(*options, "--port", str(taken_port)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"port {taken_port} is in use on this machine" in line and "--port" in line
    assert not (tmp_path / "poc").exists()


def test_a_free_port_is_accepted_and_an_impossible_one_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = int(listening.getsockname()[1])
    check_port_free(port)
    with pytest.raises(ConfigError, match="choose one from 1024"):
        check_port_free(80)


def test_missing_data_is_one_sentence_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--dataset", f"tiny={tmp_path}", "--out", str(tmp_path / "poc"))
    assert poc(*options, "--port", "18102") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / 'north'}: no manifest.json" in line and "make data" in line
    assert not (tmp_path / "poc").exists()


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path, tiny_cohort: Path) -> None:
    kept = tmp_path / "project.yml"
    kept.write_text("x")
    config = PocConfig(out=tmp_path, datasets={"tiny": tiny_cohort}, port=18102)
    with pytest.raises(ConfigError, match="holds other files"):
        prepare(config)
    assert kept.read_text() == "x"


def test_a_site_that_the_project_does_not_name_is_one_sentence(
    tmp_path: Path, tiny_cohort: Path
) -> None:
    config = PocConfig(
        out=tmp_path / "poc", datasets={"tiny": tiny_cohort}, sites=("nroth",), port=18102
    )
    with pytest.raises(ConfigError, match=r"no site 'nroth'; did you mean 'north'\?"):
        prepare(config)


def test_the_project_on_loopback_differs_in_the_server_s_address_storage_and_gpus_only(
    tmp_path: Path,
) -> None:
    gpus = "    org: north\n    capacity: {num_of_gpus: 2, mem_per_gpu_in_GiB: 24}\n"
    text = PROJECT_FILE.read_text().replace("    org: north\n", gpus, 1)
    (tmp_path / "gpus.yml").write_text(text)
    assert "capacity" in str(read_yaml(tmp_path / "gpus.yml"))
    config = PocConfig(tmp_path, {}, port=18102, project_file=tmp_path / "gpus.yml")
    write_localhost_project(config, tmp_path / "p.yml")
    real, local = read_yaml(PROJECT_FILE), read_yaml(tmp_path / "p.yml")
    server = local["participants"][0]
    assert server["default_host"] == "localhost" and server["fed_learn_port"] == 18102
    for key in ("default_host", "fed_learn_port", "storage"):
        server[key] = real["participants"][0][key]
    assert local == real


def test_the_time_after_which_a_silent_site_is_lost_can_be_chosen_for_this_machine(
    tmp_path: Path, tiny_cohort: Path
) -> None:
    config = PocConfig(
        tmp_path / "poc", {"tiny": tiny_cohort}, sites=("north",), port=18102, heartbeat_timeout=7
    )
    server = prepare(config) / "server" / "startup" / "fed_server.json"
    (found,) = json.loads(server.read_text())["servers"]
    assert found["heart_beat_timeout"] == 7


@pytest.fixture
def stubborn_kit(tmp_path: Path) -> Path:
    """A participant that ignores requests to end, and starts a process in a session of its own."""
    startup = tmp_path / "kits" / "server" / "startup"
    startup.mkdir(parents=True)
    child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    (startup / "sub_start.sh").write_text(
        f"setsid '{sys.executable}' -c '{child}' &\n"
        f"setsid '{sys.executable}' -c '{child}' &\n"
        "trap '' TERM\nsleep 600\n"
    )
    return tmp_path / "kits"


def test_whatever_a_participant_started_ends_with_it(
    stubborn_kit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provision.poc.participants._GRACE_SECONDS", 1.0)
    with Participants(stubborn_kit) as participants:
        participants.start("server")
        wait_for(lambda: len(participants.processes()) >= 4, 20)
        pids = [process.pid for process in participants.processes()]
    assert participants.processes() == []
    assert not [pid for pid in pids if psutil.pid_exists(pid) and _lives(pid)]


def _lives(pid: int) -> bool:
    return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)


def test_a_second_ctrl_c_does_not_stop_the_stopping(
    stubborn_kit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provision.poc.participants._GRACE_SECONDS", 1.0)
    participants = Participants(stubborn_kit)
    stop = participants.stop

    def stop_under_fire() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        stop()

    monkeypatch.setattr(participants, "stop", stop_under_fire)
    with pytest.raises(KeyboardInterrupt), participants:
        participants.start("server")
        raise KeyboardInterrupt
    assert participants.processes() == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_it_while_it_starts_leaves_nothing_running(
    tiny_cohort: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "poc"
    with subprocess.Popen(
        poc_command(out, tiny_cohort), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        wait_for(lambda: list(out.glob("kits/*/prod_00/server/console.txt")), 60)
        running.send_signal(number)
        output, _ = running.communicate(timeout=60)
    assert running.returncode == 130, output
    assert "stopped; nothing is left running" in output
    assert processes_of(out) == []


CONSOLE = """\
echo -n 'User Name: '; read user; echo "hello $user"; echo -n '> '
while read command job; do
  case $command in
    submit_job) if [ -d "$job" ]; then echo "Submitted job: 01234567-89ab-cdef-0123-456789abcdef"
                else echo "This action is not_authorized"; fi;;
    bye) exit;;
    hang) sleep 600;;
  esac
  echo -n '> '
done
"""


@pytest.fixture
def console(tmp_path: Path) -> AdminConsole:
    """A stand-in for the console program that speaks as it does."""
    startup = tmp_path / "lead@north.example.org" / "startup"
    startup.mkdir(parents=True)
    (startup / "fl_admin.sh").write_text(CONSOLE)
    return AdminConsole(startup.parent, tmp_path / "screen.txt", dict(os.environ))


def test_the_console_is_typed_to_and_its_screen_is_kept(
    console: AdminConsole, tmp_path: Path
) -> None:
    with console:
        assert console.submit_job(tmp_path) == "01234567-89ab-cdef-0123-456789abcdef"
    screen = (tmp_path / "screen.txt").read_text()
    assert "User Name: lead@north.example.org" in screen and f"> submit_job {tmp_path}" in screen


def test_a_refusal_at_the_console_is_told_in_the_console_s_words(
    console: AdminConsole, tmp_path: Path
) -> None:
    words = "nowhere was refused: This action is not_authorized"
    with pytest.raises(ConsoleError, match=words), console:
        console.submit_job(tmp_path / "nowhere")


def test_a_console_that_does_not_come_back_is_given_up(console: AdminConsole) -> None:
    with pytest.raises(ConsoleError, match="did not come back"), console:
        console.type("hang", seconds=1.0)
    assert not console._terminal.isalive()


def test_the_table_shows_every_site_and_the_mean(tmp_path: Path) -> None:
    rows = ["site,round,metric,value"]
    for site, psnr in (("north", 20.0), ("east", 21.0), ("all", 20.5)):
        rows += [f"{site},0,val/psnr,{psnr}", f"{site},0,val/ssim,0.5", f"{site},0,train/l1,9"]
    (tmp_path / "metrics.csv").write_text("\n".join([*rows, "north,1,val/psnr,22", ""]))
    table = metrics_table(tmp_path).splitlines()
    assert table[0].split()[-3:] == ["east", "north", "mean"]
    assert "21.00 / 0.500" in table[1] and "20.50 / 0.500" in table[1]
    assert table[2].split()[-1] == "-"


def test_without_metrics_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"metrics\.csv: missing"):
        metrics_table(tmp_path)


def test_help_needs_no_federation() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "provision", "--help"], capture_output=True, text=True, check=True
    )
    assert "add-site" in done.stdout


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (["north"], "write site=numbers"),
        (["north=a"], "write site=numbers"),
        (["north=0,1", "east=1"], "two sites cannot have the same GPU"),
        (["nort=0"], "'nort'"),
    ],
)
def test_gpus_that_cannot_be_given_out_are_one_sentence(
    texts: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [part for text in texts for part in ("--gpus", text)]
    assert main(["poc", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and sentence in line
