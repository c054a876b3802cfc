"""After everything that the other files of this folder did: refusals, patients' names, records."""

from __future__ import annotations

from pathlib import Path

import pytest
from federation_jobs import PARTICIPANTS
from planted_patients import LOSER, found_in, identifiers
from poc_processes import LEAD, MEMBER

from app_custom.participant.used_data import RECORD
from fedi2i.cli.program import main
from provision.poc.federation import Federation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


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
