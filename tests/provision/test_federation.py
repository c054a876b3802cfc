"""One federation of real processes over TLS: what is allowed, what is refused, what faults do.

Server, north and east run once for all tests of this file; a test leaves them running. The times
after which a silent site is lost, a round is over or a cable is joined again are seconds here. The
files ``test_poc*.py`` hold the same statements one by one, with the times of a hospital.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import stand_in_gpus
from certificates import expire_certificate, sign_again, tls_answer
from cuttable_link import CuttableLink
from lead_console import Lead
from planted_patients import LOSER, LOST, found_in, identifiers, plant
from poc_processes import (
    LEAD,
    MEMBER,
    audited,
    crash,
    devices,
    free_port,
    processes_of,
    processes_of_job,
    round_started,
    server_log,
    start_again,
    wait_for,
)
from run_results import check_equal, check_learnt
from simulator_runs import export

from app_custom.gates.site_policy import NOISES, SPENDS
from app_custom.participant.used_data import RECORD
from app_custom.privacy.update_filters import LEDGER
from fedi2i.cli.program import main
from fedi2i.epsilon import EPSILON_TOTAL
from fedi2i.metric_files import FILE_NAME, SAMPLES, read_metrics
from lightning_modules.privacy.accountant import Release, epsilon
from provision.add_participants import add_site
from provision.poc.command_line import COMPLETED, JobError
from provision.poc.console import AdminConsole, ConsoleError
from provision.poc.federation import (
    Federation,
    is_listening,
    last_words,
    running_federation,
    wait_until_registered,
)
from provision.poc.kits import PocConfig, map_data
from provision.poc.run import submit_by_command_line, submit_by_console
from provision.provisioning import provision
from provision.startup_folder import startup_is_genuine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

HEARTBEAT_SECONDS = 30
CUT_SECONDS = 6
ROUND_SECONDS = 25
ROUNDS = 3
TWO_SITES = ("--sites", "north,east")
PARTICIPANTS = ("server", "north", "east")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> PocConfig:
    """North has two of the machine's three GPUs, east none; patients have names and numbers."""
    return PocConfig(
        out=tmp_path_factory.mktemp("federation") / "poc",
        datasets=plant(tmp_path_factory.mktemp("hospitals")),
        sites=("north", "east"),
        port=free_port(),
        torch_threads=1,
        gpus={"north": (1, 2)},
        heartbeat_timeout=HEARTBEAT_SECONDS,
    )


@pytest.fixture(scope="module")
def federation(config: PocConfig) -> Iterator[Federation]:
    """Server, north and east, running."""
    with pytest.MonkeyPatch.context() as patch:
        stand_in_gpus.install(config.out.parent / "bin", patch, number=3, gib=16)
        with running_federation(config) as running:
            yield running
    assert processes_of(config.out) == []


@pytest.fixture(scope="module")
def lead(federation: Federation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lead]:
    """The lead's console, open until the server is killed."""
    with Lead(federation, tmp_path_factory.mktemp("lead") / "screen.txt") as console:
        yield console


@pytest.fixture
def small_job(tmp_path: Path) -> Path:
    return export(tmp_path / "fedavg", *TWO_SITES, "--rounds", "1", "--steps", "2")


# Who may do what.


def test_a_member_may_not_submit_and_reads_why(
    federation: Federation, small_job: Path, tmp_path: Path
) -> None:
    with pytest.raises(JobError, match=f"user '{MEMBER}' is not authorized for 'submit_job'"):
        federation.user(MEMBER).submit(small_job)
    kit = federation.kits / MEMBER
    console = AdminConsole(kit, tmp_path / "screen.txt", federation.participants.environment)
    with pytest.raises(ConsoleError, match="not authorized"), console:
        console.submit_job(small_job)
    refusals = audited(federation, "server", f"[U:{MEMBER}][A:authorization.refused]submit_job")
    assert len(refusals) == 2  # by command line, and in the console


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


def test_nobody_commands_a_site_past_the_server(federation: Federation) -> None:
    """NVFlare passes such a message on, and the site would have printed the file."""
    secret = federation.kits / "north" / "local" / "fedi2i.yaml"
    (answer,) = sends_directly(federation, ("admin", "x", "north", f"cat {secret}"))
    assert not answer.startswith("ANSWER ok") and "datasets" not in answer
    assert refused_of(federation, MEMBER, "'admin/x'")
    assert audited(federation, "north", "[A:sys.shell]") == []


def test_a_disabled_site_is_out_until_it_is_enabled_again(
    federation: Federation, lead: Lead, tmp_path: Path
) -> None:
    assert "not authorized" in lead.type("disable_client east")  # which is not north's to operate
    east = federation.kits / "east"
    kit = federation.kits / "project.admin@fedi2i.example.org"
    with AdminConsole(kit, tmp_path / "screen", federation.participants.environment) as admin:
        assert '"rejoin_allowed": false' in admin.type("disable_client east")
        wait_for(lambda: "Failed to send heartbeat" in last_words(east, 10**6), 30)  # it goes on
        assert "| east " not in admin.type("check_status server")
        admin.type("enable_client east")
        wait_for(lambda: "| east " in admin.type("check_status server"), 60)


# Who is let in.


def test_a_changed_startup_file_keeps_a_site_from_starting(
    federation: Federation, tmp_path: Path
) -> None:
    kit = Path(shutil.copytree(federation.kits / "west", tmp_path / "west"))
    path = kit / "startup" / "fed_client.json"
    path.write_text(path.read_text() + "\n")
    done = subprocess.run(
        ["bash", str(kit / "startup" / "sub_start.sh"), "--once"],
        env={**os.environ, **federation.participants.environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert "The following files are not secure content" in done.stdout
    assert "fed_client.json" in done.stdout


@pytest.fixture
def provisioned_elsewhere(federation: Federation, tmp_path: Path) -> Path:
    """South's kit for the same server, made by somebody else."""
    workspace = federation.kits.parents[1]
    return provision(workspace.parent / "localhost_project.yml", tmp_path / "kits") / "south"


def test_a_site_of_another_authority_is_not_accepted(
    federation: Federation, provisioned_elsewhere: Path
) -> None:
    shutil.copytree(provisioned_elsewhere, federation.kits / "south", dirs_exist_ok=True)
    federation.participants.start("south")
    south = federation.kits / "south"
    wait_for(lambda: "certificate" in last_words(south, 10**6).lower(), 60)
    assert "Successfully registered" not in last_words(south, 10**6)
    assert "New client south" not in (federation.kits / "server" / "log.txt").read_text()
    crash(south)


@pytest.fixture(scope="module")
def expired_west(federation: Federation) -> Path:
    """West's kit, genuine but for a certificate that was valid until yesterday."""
    west = federation.kits / "west"
    expire_certificate(west, federation.kits.parent / "state")
    assert startup_is_genuine(west / "startup")
    return west


def test_a_site_whose_certificate_has_expired_says_so_and_does_not_start(
    federation: Federation, expired_west: Path
) -> None:
    federation.participants.start("west")
    wait_for(lambda: "west" in federation.participants.ended(), 60)
    said = last_words(expired_west, 10**6)
    assert "error: " in said and "this machine's clock says otherwise" in said
    assert "New client west" not in (federation.kits / "server" / "log.txt").read_text()


@pytest.mark.parametrize(("site", "refused"), [("west", True), ("east", False)])
def test_the_server_refuses_an_expired_certificate_whatever_the_site_checks(
    federation: Federation, expired_west: Path, site: str, refused: bool
) -> None:
    answer = tls_answer(federation.kits / site)
    assert answer.startswith("HTTP/1.1 ") is not refused, answer


# Which jobs are refused.

STRANGER = "nvflare.app_common.logging.job_log_streamer.JobLogStreamer"
CONFIGS = {
    "server": "app_server/config/config_fed_server.json",
    "north": "app_site/config/config_fed_client.json",
}
REFUSED_BY = tuple(CONFIGS)


def add_class(job: Path, who: str) -> None:
    """Name a class that no participant's list holds."""
    path = job / CONFIGS[who]
    config = json.loads(path.read_text())
    config["components"].append({"id": "stranger", "path": STRANGER, "args": {}})
    path.write_text(json.dumps(config))


def add_code(job: Path, who: str) -> None:
    """Bring a module that the participant would import."""
    code = job / CONFIGS[who].split("/")[0] / "custom" / "innocent.py"
    code.parent.mkdir()
    code.write_text("print('x')\n")


@pytest.fixture(scope="module")
def refusals(lead: Lead, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    """What the lead reads of jobs that were refused when they were sent out, all at once."""
    jobs = {}
    for fault in (add_class, add_code):
        for who in REFUSED_BY:
            folder = tmp_path_factory.mktemp("refused") / "fedavg"
            job = export(folder, *TWO_SITES, "--rounds", "1", "--steps", "2")
            fault(job, who)
            jobs[fault.__name__, who] = lead.submit(job)
    for job_id in jobs.values():
        assert lead.wait_for_end(job_id, 60) == "FINISHED:FAILED_TO_RUN"
    return {key: "; ".join(lead.meta(job_id)["job_deploy_detail"]) for key, job_id in jobs.items()}


@pytest.mark.parametrize("who", REFUSED_BY)
def test_a_class_off_the_allow_list_is_refused_by_name_and_audited(
    federation: Federation, refusals: dict[tuple[str, str], str], who: str
) -> None:
    reason = refusals["add_class", who]
    assert f"{who}: " in reason
    assert f"not on this participant's class_allow_list: {STRANGER}" in reason
    assert audited(federation, who, STRANGER)


@pytest.mark.parametrize("who", REFUSED_BY)
def test_a_job_that_carries_code_is_refused_and_audited_and_no_site_keeps_the_code(
    federation: Federation, refusals: dict[tuple[str, str], str], who: str
) -> None:
    assert "BYOC not permitted" in refusals["add_code", who]
    assert audited(federation, who, f"[U:{LEAD}][A:authorization.refused]byoc")
    for site in ("north", "east"):
        assert not list((federation.kits / site).rglob("innocent.py"))


def test_a_site_whose_privacy_policy_is_lost_while_it_runs_takes_no_job(
    federation: Federation, lead: Lead, small_job: Path
) -> None:
    policy = federation.kits / "north" / "local" / "privacy.json"
    content = policy.read_bytes()
    policy.unlink()
    try:
        job_id = lead.submit(small_job)
        assert lead.wait_for_end(job_id, 60) == "FINISHED:FAILED_TO_RUN"
    finally:
        policy.write_bytes(content)
    with pytest.raises(JobError, match=r"this site's privacy\.json would limit nothing"):
        federation.user(LEAD).check_completed(job_id)


# What stays at a site.


@pytest.fixture(scope="module")
def lost_scans(lead: Lead, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A job on a data set of which one site has lost its scans; it has ended."""
    sizes = ("--rounds", "1", "--steps", "2", "--dataset", LOST)
    folder = tmp_path_factory.mktemp("lost") / "fedavg"
    job_id = lead.submit(export(folder, *TWO_SITES, *sizes))
    assert lead.wait_for_end(job_id) != COMPLETED
    return job_id


def test_a_failure_that_names_patients_and_files_is_read_at_the_site_alone(
    federation: Federation, lead: Lead, lost_scans: str
) -> None:
    result = lead.download(lost_scans)
    assert f"site '{LOSER}' could not do its task" in (result / "log.txt").read_text()
    name, _, _, ward = identifiers(LOSER)
    said = (federation.kits / LOSER / lost_scans / "log.txt").read_text()
    assert f"{ward}/{name}_0" in said
    assert found_in(result, federation.kits / "server" / lost_scans, site=LOSER) == set()


# Sites that come and go.


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


@pytest.fixture(scope="module")
def diminished(
    federation: Federation,
    config: PocConfig,
    lead: Lead,
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    """A job that has lost two of three sites: east is back at once, island stays away."""
    add_island(federation, config)
    sizes = ("--rounds", "2", "--steps", "60", "--min-sites", "1")
    folder = tmp_path_factory.mktemp("diminished") / "fedavg"
    job_id = lead.submit(export(folder, "--sites", "north,east,island", *sizes))
    round_started(federation, job_id, 0)
    crash(federation.kits / "east")
    start_again(federation, "east")
    round_started(federation, job_id, 1)
    wait_for(lambda: len(island_s_ledger(federation)) == 3, 60)
    crash(federation.kits / "island")
    return job_id


def test_a_site_that_joins_later_takes_part_and_one_that_crashed_and_is_back_is_named(
    federation: Federation, diminished: str
) -> None:
    log = server_log(federation, diminished)
    assert "Client east is deemed disconnected" in log
    assert "round 0: no usable update from east\n" in log


# Jobs beside each other. One job stands still all the time, as a process of it does not go on.


def stop_at_east(federation: Federation, job_id: str) -> None:
    """East's process of a job does not go on from here."""
    round_started(federation, job_id, 0)
    for process in processes_of_job(federation.kits / "east", job_id):
        process.send_signal(signal.SIGSTOP)


def claiming(folder: Path, gpus: int, *options: str) -> Path:
    """A job that asks for GPUs of north."""
    sizes = ("--rounds", "2", "--steps", "60", "--gpus", f"north={gpus}")
    return export(folder / str(gpus) / "fedavg", *TWO_SITES, *sizes, *options)


@pytest.fixture(scope="module")
def stalled(federation: Federation, lead: Lead, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A job on one of north's GPUs; it waits for east."""
    job_id = lead.submit(claiming(tmp_path_factory.mktemp("stalled"), 1))
    stop_at_east(federation, job_id)
    return job_id


@pytest.fixture(scope="module")
def waiting(lead: Lead, stalled: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A job that asks for both GPUs of north while one is taken."""
    timeout = ("--round-timeout", str(ROUND_SECONDS))
    return lead.submit(claiming(tmp_path_factory.mktemp("waiting"), 2, *timeout))


def test_a_job_gets_the_gpus_that_it_asks_for_and_another_waits_until_they_are_free(
    federation: Federation, lead: Lead, stalled: str, waiting: str
) -> None:
    assert devices(federation, "north", stalled) == "1"
    assert devices(federation, "east", stalled) == ""
    why = "waiting for 2 GPU(s): 1 of 2 are free"
    wait_for(lambda: why in str(lead.meta(waiting).get("schedule_history")), 60)
    assert lead.status(waiting) == "SUBMITTED"


def test_a_member_neither_ends_a_job_nor_reads_sessions_nor_changes_an_outcome(
    federation: Federation, lead: Lead, stalled: str
) -> None:
    """NVFlare does all of it for any authenticated participant."""
    listener = "server_parent_listener"
    answers = sends_directly(
        federation,
        (listener, "get_clients", "server", {"job": stalled}),
        (listener, "update_run_status", "server", {"job": stalled, "execution_error": True}),
        ("server_command", "abort", f"server.{stalled}", {}),  # travels as a stream
    )
    assert not any(answer.startswith("ANSWER ok") for answer in answers)
    for topic in ("get_clients", "update_run_status", "abort"):
        assert [line for line in refused_of(federation, MEMBER) if f"/{topic}'" in line]
    assert lead.status(stalled) == "RUNNING"


def test_a_claim_that_no_site_can_ever_meet_is_not_started_and_says_why(
    federation: Federation, lead: Lead, tmp_path: Path
) -> None:
    too_many = lead.submit(claiming(tmp_path, 3))
    why = "north: the job asks for 3 GPU(s), this site has 2"
    wait_for(lambda: why in str(lead.meta(too_many).get("schedule_history")), 60)
    assert processes_of_job(federation.kits / "north", too_many) == []
    lead.type(f"abort_job {too_many}")


@pytest.fixture
def strict_north(federation: Federation) -> Iterator[Path]:
    """North keeps discriminators; the job of every test is told otherwise."""
    path = federation.kits / "north" / "local" / "privacy.json"
    before = path.read_text()
    path.write_text(before.replace('"discriminator",', ""))
    yield federation.kits / "north"
    path.write_text(before)


def test_what_a_site_keeps_stays_there_although_the_job_asks_and_filters_nothing(
    federation: Federation, lead: Lead, small_job: Path, strict_north: Path, stalled: str
) -> None:
    config = small_job / "app_site" / "config" / "config_fed_client.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "task_result_filters": []}))
    job_id = lead.submit(small_job)
    assert lead.wait_for_end(job_id) != COMPLETED
    log = (strict_north / job_id / "log.txt").read_text()
    assert "parameter 'discriminator." in log and "is outside the sharing scope" in log
    result = lead.download(job_id)
    said = (result / "log.txt").read_text()
    assert "site 'north' could not do its task 'train'" in said
    assert not (result / "app_server" / "FL_global_model.pt").exists()
    assert lead.status(stalled) == "RUNNING"  # a job that fails disturbs no other


def test_a_site_that_crashes_and_stays_away_is_lost_when_it_is_silent_and_the_rest_goes_on(
    lead: Lead, diminished: str
) -> None:
    # The run is complete; NVFlare misses the report of a site that no longer knows of the job.
    assert lead.wait_for_end(diminished) == "FINISHED:ABNORMAL"
    run_folder = lead.download(diminished)
    assert (run_folder / "app_server" / "FL_global_model.pt").is_file()
    log = (run_folder / "log.txt").read_text()
    assert "Client island is deemed disconnected" in log
    assert "round 1: no usable update from east, island\n" in log
    assert "run complete; models are in" in log


def test_a_site_s_own_policy_noises_its_updates_in_a_job_that_asks_for_no_privacy(
    federation: Federation, lead: Lead, diminished: str
) -> None:
    """Island took part in one round, and crashed in the next one, which is spent all the same."""
    rows = read_metrics(lead.download(diminished) / FILE_NAME)
    stated = {row[0]: row[3] for row in rows if row[1:3] == (0, SAMPLES)}
    assert stated["island"] == 1 < stated["north"]
    spent = {(row[0], row[1]): row[3] for row in rows if row[2] == EPSILON_TOTAL}
    one_round = epsilon([Release(4.0, 2.0, count=2)], 1e-5)
    assert spent["island", 0] == pytest.approx(one_round, rel=1e-3)
    assert {site for site, _ in spent} == {"island", "all"}
    lines = island_s_ledger(federation)
    assert [line["state"] for line in lines] == ["begun", "released", "begun"]
    assert not any(line.get("simulated") for line in lines)


def test_a_budget_that_is_spent_over_a_job_and_a_crash_refuses_the_next_which_goes_on(
    federation: Federation, lead: Lead, diminished: str, tmp_path: Path
) -> None:
    start_again(federation, "island")
    sizes = ("--rounds", "1", "--steps", "2", "--min-sites", "1")
    job_id = lead.submit(export(tmp_path / "fedavg", "--sites", "north,island", *sizes))
    assert lead.wait_for_end(job_id) == COMPLETED
    run_folder = lead.download(job_id)
    said = (run_folder / "log.txt").read_text()
    assert "site 'island' could not do its task 'train'" in said
    assert "its privacy budget is spent, so it takes no further part" in said
    assert (run_folder / "app_server" / "FL_global_model.pt").is_file()
    assert "the budget is epsilon" in (federation.kits / "island" / job_id / "log.txt").read_text()
    crash(federation.kits / "island")


@pytest.fixture(scope="module")
def aborted(federation: Federation, lead: Lead, stalled: str, waiting: str) -> str:
    """The job that stood still, aborted from the console; now the one that waited can start."""
    assert all(processes_of_job(federation.kits / name, stalled) for name in PARTICIPANTS)
    lead.type(f"abort_job {stalled}")
    return stalled


def test_an_aborted_job_leaves_no_process_and_its_gpus_to_the_job_that_waits(
    federation: Federation, lead: Lead, aborted: str, waiting: str
) -> None:
    assert lead.wait_for_end(aborted) == "FINISHED:ABORTED"
    kits = [federation.kits / name for name in PARTICIPANTS]
    wait_for(lambda: not any(processes_of_job(kit, aborted) for kit in kits), 60)
    assert devices(federation, "north", waiting) == "1,2"


@pytest.fixture(scope="module")
def unanswered(federation: Federation, lead: Lead, aborted: str, waiting: str) -> str:
    """The job that waited: now it runs, and east does not answer."""
    stop_at_east(federation, waiting)
    return waiting


# A run that goes on.


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FedAvgM, as the server keeps its momentum from round to round."""
    folder = tmp_path_factory.mktemp("jobs") / "fedavgm"
    sizes = ("--rounds", str(ROUNDS), "--steps", "60")
    return export(folder, *TWO_SITES, *sizes, strategy="fedavgm")


@pytest.fixture(scope="module")
def undisturbed(
    federation: Federation, job: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The server's folder of a run in which nothing happened, as ``make poc`` submits it."""
    return submit_by_command_line(federation, job, tmp_path_factory.mktemp("undisturbed"))


def test_a_job_learns_beside_one_that_waits_and_sends_curves_and_no_pictures(
    unanswered: str, undisturbed: Path
) -> None:
    check_learnt(undisturbed, ROUNDS)


def test_a_site_that_never_answers_ends_the_job_when_the_round_s_time_is_over(
    federation: Federation, lead: Lead, unanswered: str
) -> None:
    assert lead.wait_for_end(unanswered) != COMPLETED
    log = (lead.download(unanswered) / "log.txt").read_text()
    assert "1 site(s) answered, at least 2 are needed; missing: east" in log
    wait_for(lambda: not processes_of_job(federation.kits / "east", unanswered), 60)


@pytest.fixture
def link(config: PocConfig) -> Iterator[CuttableLink]:
    """A link to the server that can be cut."""
    link = CuttableLink(config.port)
    yield link
    link.close()


def start_east_behind(federation: Federation, link: CuttableLink, clock: Path) -> None:
    """Start east again: it reaches the server over a link, and its clock is a day ahead."""
    east = federation.kits / "east"
    crash(east)
    path = east / "startup" / "fed_client.json"
    config = json.loads(path.read_text())
    config["servers"][0]["service"]["target"] = f"localhost:{link.port}"
    path.write_text(json.dumps(config))
    sign_again(east, federation.kits.parent / "state")
    # Python runs a module of this name before anything else, in every process of the site.
    (clock / "sitecustomize.py").write_text(
        "import time\nright, right_ns = time.time, time.time_ns\n"
        "time.time = lambda: right() + 86400\n"
        "time.time_ns = lambda: right_ns() + 86400 * 10**9\n"
    )
    environment = federation.participants.environment
    before = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join([str(clock), *([before] if before else [])])
    start_again(federation, "east")
    environment.pop("PYTHONPATH")
    environment.update({"PYTHONPATH": before} if before else {})


def jobs_at_server(federation: Federation) -> set[str]:
    """The ids of the jobs that the server has folders of."""
    return {path.parent.name for path in (federation.kits / "server").glob("*-*-*-*-*/log.txt")}


def test_a_run_outlives_a_killed_server_a_wrong_clock_and_a_cut_network_to_the_same_weights(
    federation: Federation,
    config: PocConfig,
    job: Path,
    undisturbed: Path,
    link: CuttableLink,
    tmp_path: Path,
) -> None:
    broken = round_started(federation, federation.user(LEAD).submit(job), 1)
    crash(federation.kits / "server")
    start_again(federation, "server")
    wait_for(lambda: is_listening(config.port), 60)
    start_east_behind(federation, link, tmp_path)
    # North gives up what the server knows nothing of.
    wait_for(lambda: not processes_of_job(federation.kits / "north", broken), 120)

    screen, before = tmp_path / "screen.txt", jobs_at_server(federation)
    with ThreadPoolExecutor(1) as thread:
        result = thread.submit(submit_by_console, federation, job, screen)
        wait_for(lambda: jobs_at_server(federation) - before, 120)
        (job_id,) = jobs_at_server(federation) - before
        round_started(federation, job_id, 2)
        link.cut()
        time.sleep(CUT_SECONDS)
        link.join()
        run_folder = result.result()

    check_learnt(run_folder, ROUNDS)
    log = (run_folder / "log.txt").read_text()
    assert f"continuing an interrupted run after 1 of {ROUNDS} finished rounds" in log
    assert "Round 0 started" not in log
    check_equal(run_folder, undisturbed)
    written = (federation.kits / "east" / job_id / "log.txt").read_text()[: len("2026-01-31")]
    ahead = datetime.date.fromisoformat(written) - datetime.datetime.now().date()
    assert ahead == datetime.timedelta(days=1)
    shown = screen.read_text()
    assert f"User Name: {LEAD}" in shown and f"> submit_job {job}" in shown
    assert f"Submitted job: {job_id}" in shown and COMPLETED in shown


def test_nothing_that_server_sites_and_people_sent_was_refused_in_all_of_this(
    federation: Federation,
) -> None:
    """Whatever the table forgets would show here: jobs, faults, returns and consoles."""
    trails = [federation.kits / who / "audit.log" for who in PARTICIPANTS]
    trails += (federation.kits / "server").glob("*-*-*-*-*/audit.log")
    lines = [line for trail in trails for line in trail.read_text().splitlines()]
    refused = [line for line in lines if "[A:message_guard.refused]" in line]
    assert [line for line in refused if f"[U:{MEMBER}]" not in line] == []
    for who in PARTICIPANTS:
        log = (federation.kits / who / "log.txt").read_text()
        how = "senders by their certificates" if who == "server" else "senders by origin"
        assert f"messages are checked by allowed_messages.csv, {how}" in log


@pytest.mark.parametrize("site", ["north", "east"])
def test_no_identifier_of_a_patient_was_found_outside_its_site_in_all_of_this(
    federation: Federation, lost_scans: str, undisturbed: Path, site: str
) -> None:
    """Kits, logs, audit trails, the server's storage, downloads, bundles and consoles' screens."""
    own = federation.kits / site
    everything = {federation.kits.parents[2], undisturbed}
    found = found_in(*everything, site=site)
    assert {path for path in found if not path.is_relative_to(own)} == set()
    said = {"log.txt"} if site == LOSER else set()
    assert {path.name for path in found} >= said  # the search finds what is there


def test_a_site_s_record_of_used_data_names_the_jobs_and_nobody(
    federation: Federation, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    north = federation.kits / "north"
    record = north / "state" / "north" / RECORD
    assert record.is_file() and found_in(record.parent, site="north") == set()
    patient = f"{identifiers('north')[1]}-0"
    assert main(["data", "withdraw", patient, "--kit", str(north), "--dataset", "tiny"]) == 2
    shown = capsys.readouterr().out
    assert f"used by: job {undisturbed.parent.name} of {LEAD}" in shown
    assert "stays: " in shown and "a log that names the patient" in shown
