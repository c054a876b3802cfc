"""The ledger: what was begun is spent for ever; an older ledger spends nothing."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fedi2i.errors import ConfigError, DataError
from lightning_modules.privacy.accountant import Release, epsilon
from lightning_modules.privacy.ledger import Budget, BudgetSpentError, Event, Ledger

NOISE = Release(5.0, sensitivity=2.0)
BUDGET = Budget(epsilon=4.0, delta=1e-5)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "state" / "ledger.jsonl", tmp_path / "anchors" / "ledger.json")


def _event(round_number: int, job: str = "first") -> Event:
    return Event(job, round_number, "update", (NOISE,), {"generator": 1.4}, data="ab" * 32)


def _spend_all(ledger: Ledger, job: str = "first") -> int:
    """Rounds until the budget is spent."""
    for number in range(100):
        try:
            ledger.spend(_event(number, job), BUDGET)
        except BudgetSpentError:
            return number
    raise AssertionError("nothing ever refuses")


def test_every_round_adds_its_epsilon_and_the_total_is_the_accountant_s(ledger: Ledger) -> None:
    spent = [ledger.spend(_event(number), BUDGET) for number in range(3)]
    assert [s.sequence for s in spent] == [0, 1, 2]
    assert spent[2].epsilon_total == pytest.approx(epsilon([NOISE] * 3, 1e-5))
    assert spent[2].epsilon_round == pytest.approx(epsilon([NOISE], 1e-5))
    assert ledger.epsilon(1e-5) == spent[2].epsilon_total


def test_a_budget_runs_out_over_two_jobs_and_a_restart(tmp_path: Path) -> None:
    most = next(n for n in range(1, 100) if epsilon([NOISE] * n, 1e-5) > BUDGET.epsilon) - 1
    paths = tmp_path / "ledger.jsonl", tmp_path / "anchor.json"
    for number in range(2):
        Ledger(*paths).spend(_event(number, "first"), BUDGET)
    assert most > 2
    assert _spend_all(Ledger(*paths), "second") == most - 2
    lines = (tmp_path / "ledger.jsonl").read_bytes()
    with pytest.raises(BudgetSpentError, match="budget is epsilon 4 at delta 1e-05"):
        Ledger(*paths).spend(_event(0, "third"), BUDGET)
    assert (tmp_path / "ledger.jsonl").read_bytes() == lines


def test_a_round_that_never_left_the_site_is_spent_all_the_same(ledger: Ledger) -> None:
    first = ledger.spend(_event(0), BUDGET)
    ledger.spend(_event(1), BUDGET)
    before = ledger.epsilon(1e-5)
    ledger.released(first.sequence)
    assert ledger.epsilon(1e-5) == before
    assert [line["state"] for line in ledger.events()] == ["begun", "begun", "released"]


def test_only_what_was_begun_can_be_released(ledger: Ledger) -> None:
    ledger.spend(_event(0), BUDGET)
    with pytest.raises(DataError, match="no event 1 was begun"):
        ledger.released(1)


CRASH = """
import os, signal, sys
from pathlib import Path
from lightning_modules.privacy import ledger as module
from lightning_modules.privacy.accountant import Release
folder, moment = Path(sys.argv[1]), sys.argv[2]
def killed(*args):
    os.kill(os.getpid(), signal.SIGKILL)
book = module.Ledger(folder / "ledger.jsonl", folder / "anchor.json")
budget = module.Budget(4.0, 1e-5)
def event(n):
    return module.Event("job", n, "update", (Release(5.0, 2.0),))
book.spend(event(0), budget)
if moment == "anchor":
    module.write_text = killed
if moment == "half":
    whole = os.pwrite
    os.pwrite = lambda handle, line, end: (whole(handle, line[:40], end), killed())
book.spend(event(1), budget)
killed()
"""


@pytest.mark.parametrize("moment", ["half", "anchor", "after"])
def test_a_process_killed_while_it_spends_has_spent(tmp_path: Path, moment: str) -> None:
    done = subprocess.run([sys.executable, "-c", CRASH, str(tmp_path), moment], check=False)
    assert done.returncode == -signal.SIGKILL
    book = Ledger(tmp_path / "ledger.jsonl", tmp_path / "anchor.json")
    book.spend(_event(2), BUDGET)
    assert book.epsilon(1e-5) == pytest.approx(epsilon([NOISE] * 3, 1e-5))


def _spend_ten(folder: Path, job: str) -> None:
    book = Ledger(folder / "ledger.jsonl", folder / "anchor.json")
    for number in range(10):
        book.spend(_event(number, job), Budget(1e4, 1e-5))


def test_two_processes_at_once_lose_no_line(tmp_path: Path) -> None:
    workers = [
        multiprocessing.get_context("fork").Process(target=_spend_ten, args=(tmp_path, job))
        for job in ("first", "second")
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    lines = Ledger(tmp_path / "ledger.jsonl", tmp_path / "anchor.json").events()
    assert sorted((line["job"], line["round_number"]) for line in lines) == [
        (job, number) for job in ("first", "second") for number in range(10)
    ]


def _older_copy(ledger: Path, anchor: Path, earlier: bytes) -> None:
    ledger.write_bytes(earlier)


def _one_line_changed(ledger: Path, anchor: Path, earlier: bytes) -> None:
    text = ledger.read_text()
    ledger.write_text(text.replace('"noise_multiplier": 5.0', '"noise_multiplier": 9.0', 1))


def _middle_line_removed(ledger: Path, anchor: Path, earlier: bytes) -> None:
    lines = ledger.read_text().splitlines(keepends=True)
    ledger.write_text("".join([lines[0], *lines[2:]]))


def _rewritten_whole(ledger: Path, anchor: Path, earlier: bytes) -> None:
    ledger.unlink()
    fresh = Ledger(ledger, anchor.with_name("another.json"))
    for number in range(3):
        fresh.spend(_event(number, "another"), BUDGET)


def _cut(ledger: Path, anchor: Path, earlier: bytes) -> None:
    ledger.write_bytes(ledger.read_bytes()[:-20])


def _no_ledger(ledger: Path, anchor: Path, earlier: bytes) -> None:
    ledger.unlink()


def _no_anchor(ledger: Path, anchor: Path, earlier: bytes) -> None:
    anchor.unlink()


def _no_json(ledger: Path, anchor: Path, earlier: bytes) -> None:
    ledger.write_bytes(b"ledger\n" + ledger.read_bytes())


def _bad_anchor(ledger: Path, anchor: Path, earlier: bytes) -> None:
    anchor.write_text(json.dumps({"lines": "all"}))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (_older_copy, "older than its anchor"),
        (_one_line_changed, "line 1 is damaged or was changed"),
        (_middle_line_removed, "line 2 is damaged or was changed"),
        (_rewritten_whole, "older than its anchor"),
        (_cut, "older than its anchor"),
        (_no_ledger, "missing, and its anchor"),
        (_no_anchor, "missing, so that nobody can tell"),
        (_no_json, "line 1 is damaged or was changed"),
        (_bad_anchor, "damaged; put the anchor back"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_ledger_that_is_not_the_newest_closes_the_site(
    tmp_path: Path, harm: object, words: str
) -> None:
    path, anchor = tmp_path / "ledger.jsonl", tmp_path / "anchor.json"
    book = Ledger(path, anchor)
    book.spend(_event(0), BUDGET)
    earlier = path.read_bytes()
    book.spend(_event(1), BUDGET)
    book.spend(_event(2), BUDGET)
    harm(path, anchor, earlier)  # type: ignore[operator]
    left = path.read_bytes() if path.exists() else None
    with pytest.raises(DataError, match=words):
        Ledger(path, anchor).spend(_event(3), BUDGET)
    assert (path.read_bytes() if path.exists() else None) == left


def test_the_ledger_and_its_anchor_together_may_be_moved(tmp_path: Path) -> None:
    book = Ledger(tmp_path / "a" / "ledger.jsonl", tmp_path / "a" / "anchor.json")
    book.spend(_event(0), BUDGET)
    shutil.move(tmp_path / "a", tmp_path / "b")
    moved = Ledger(tmp_path / "b" / "ledger.jsonl", tmp_path / "b" / "anchor.json")
    assert moved.spend(_event(1), BUDGET).sequence == 1


@pytest.mark.parametrize(
    ("most", "delta", "words"),
    [(0.0, 1e-5, "epsilon is 0.0"), (float("inf"), 1e-5, "epsilon is inf"), (1.0, 0.0, "delta is")],
)
def test_a_budget_that_bounds_nothing_is_refused(most: float, delta: float, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Budget(most, delta)
