"""A federation over TLS with one hostile site, whose own Python attacks all others.

Nightly. Faster tests of the same statements: ``test_hostile_participants.py`` with real cells over
TLS, and ``tests/app_custom/participant/test_message_guard.py`` with NVFlare's own agent.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from poc_processes import audited, free_port, processes_of
from run_results import check_learnt
from simulator_runs import export

from provision.poc.federation import running_federation, wait_until_registered
from provision.poc.kits import PocConfig, map_data
from provision.poc.run import metric_values, submit_by_command_line

pytestmark = [pytest.mark.nightly, pytest.mark.slow, pytest.mark.timeout(900)]

HOSTILE = Path(__file__).with_name("altered_python")
SITES = ("east", "north", "south")
ROUNDS = 2


def test_a_site_that_attacks_everybody_changes_nothing_but_the_audit_trail(
    tiny_cohort: Path, tmp_path: Path
) -> None:
    """Faster: ``test_hostile_participants.py`` and ``test_message_guard.py``."""
    config = PocConfig(
        out=tmp_path / "poc",
        datasets={"tiny": tiny_cohort},
        sites=("east", "south"),
        port=free_port(),
        torch_threads=1,
    )
    options = ("--sites", ",".join(SITES), "--rounds", str(ROUNDS), "--steps", "40")
    job = export(tmp_path / "fedmedian", *options, strategy="fedmedian")
    with running_federation(config) as federation:
        map_data(federation.kits / "north", "north", config)
        environment = federation.participants.environment
        paths = [str(HOSTILE), *filter(None, [environment.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        environment["COMPROMISED_SITE"] = "north"
        federation.participants.start("north")
        environment.pop("COMPROMISED_SITE")
        environment["PYTHONPATH"] = os.pathsep.join(paths[1:])
        wait_until_registered(federation.participants, federation.kits, ["north"])
        run_folder = submit_by_command_line(federation, job, tmp_path / "results")
        attacked = (federation.kits / "north" / "console.txt").read_text()
    assert processes_of(config.out) == []

    for name in ("east", "south", "west", "north"):
        assert f"ANSWERED AS {name}: unauthenticated" in attacked
    # The job has completed and learnt, from each site's own answers under its own name.
    check_learnt(run_folder, ROUNDS)
    values = metric_values(run_folder)
    assert {site for site, _, name in values if name == "val/psnr"} == {"all", *SITES}
    # All of it is written down, and nobody else is blamed.
    in_job = (run_folder / "audit.log").read_text()
    for name in ("east", "south", "west"):
        assert f"'submit_update' from site 'north' speaks in the name of '{name}'" in in_job
    assert "'submit_update' from site 'north' answers a task that was never given to it" in in_job
    for event in ("_fatal_system_error", "_global_best_model_available"):
        assert f"'fed.event' from site 'north' raises the event '{event}'" in in_job
    at_server = audited(federation, "server", "[A:message_guard.refused]")
    for what in ("server_command/abort", "client_command/abort", "fed.event", "__do_task__"):
        assert [line for line in at_server if what in line], what
    lines = [*at_server, *(line for line in in_job.splitlines() if "message_guard.refused" in line)]
    assert [line for line in lines if "[U:north]" not in line] == []
