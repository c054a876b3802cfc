"""What the tests of the one federation share beside its fixtures: times, jobs, questions."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from poc_processes import MEMBER, audited, processes_of_job, round_started
from simulator_runs import export

from app_custom.gates.site_policy import NOISES, SPENDS
from app_custom.privacy.update_filters import LEDGER
from lightning_modules.privacy.accountant import Release, epsilon
from provision.add_participants import add_site
from provision.poc.federation import Federation, wait_until_registered
from provision.poc.kits import PocConfig, map_data

HEARTBEAT_SECONDS = 30
CUT_SECONDS = 6
ROUND_SECONDS = 25
ROUNDS = 3
TWO_SITES = ("--sites", "north,east")
PARTICIPANTS = ("server", "north", "east")


def sends_directly(federation: Federation, *messages: tuple[str, str, str, object]) -> list[str]:
    """What a member is answered who sends NVFlare's messages with a program of their own."""
    done = subprocess.run(
        [
            sys.executable,
            str(Path(__file__).with_name("direct_command.py")),
            MEMBER,
            str(federation.kits / MEMBER),
        ],
        input=json.dumps(messages),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    answers = [line for line in done.stdout.splitlines() if line.startswith("ANSWER")]
    assert len(answers) == len(messages), done.stdout + done.stderr
    return answers


def refused_of(federation: Federation, user: str, text: str = "") -> list[str]:
    """What the server's guard has refused to somebody."""
    return audited(federation, "server", f"[U:{user}][A:message_guard.refused]{text}")


PRIVACY_ROUNDS = 2
PRIVATE: dict[str, object] = {
    "clipping": {"generator": 0.1, "discriminator": 0.1},
    "noise_multiplier": 4.0,
    "delta": 1e-5,
    # What the rounds need of two networks, whose sites are replaced; half a round is left over.
    "epsilon": epsilon([Release(4.0, 2.0, count=2 * PRIVACY_ROUNDS + 1)], 1e-5),
}


def add_island(federation: Federation, config: PocConfig) -> None:
    """One more site, while all others run; its own policy has differential privacy."""
    workspace = federation.kits.parents[1]
    kit = add_site(workspace.parent / "localhost_project.yml", workspace, "island", "island")
    shutil.move(kit, federation.kits / "island")
    map_data(federation.kits / "island", "island", config)
    path = federation.kits / "island" / "local" / "privacy.json"
    policy = json.loads(path.read_text())
    for scope in policy["scopes"]:
        scope["task_data_filters"].insert(0, {"path": SPENDS, "args": PRIVATE})
        scope["task_result_filters"].insert(0, {"path": NOISES, "args": {}})
    path.write_text(json.dumps(policy))
    federation.participants.start("island")
    wait_until_registered(federation.participants, federation.kits, ["island"])


def island_s_ledger(federation: Federation) -> list[dict[str, object]]:
    """The lines of island's privacy ledger."""
    (ledger,) = (federation.kits / "island").rglob(LEDGER)
    return [json.loads(line) for line in ledger.read_text().splitlines()]


def stop_at_east(federation: Federation, job_id: str) -> None:
    """East's process of a job does not go on from here."""
    round_started(federation, job_id, 0)
    for process in processes_of_job(federation.kits / "east", job_id):
        process.send_signal(signal.SIGSTOP)


def claiming(folder: Path, gpus: int, *options: str) -> Path:
    """A job that asks for GPUs of north."""
    sizes = ("--rounds", "2", "--steps", "60", "--gpus", f"north={gpus}")
    return export(folder / str(gpus) / "fedavg", *TWO_SITES, *sizes, *options)
