"""The documents of a data protection officer are begun from settings, and invent nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fedi2i.cli.program import main
from fedi2i.files import write_csv
from jobs.governance.documents import DOCUMENTS, odds
from jobs.writing.federation import read_federated_experiment
from lightning_modules.configuration import experiment_values

DEMO = Path(__file__).parents[2] / "jobs" / "experiments" / "demo.yaml"
OLD_RUN = Path(__file__).parents[1] / "data" / "release_0_1_0" / "run"


def documents(source: Path, out: Path, *options: str) -> dict[str, str]:
    assert main(["governance", str(source), "--out", str(out), *options]) == 0
    return {name: (out / name).read_text() for name in DOCUMENTS}


def run_folder(root: Path, arms: list[str], title: str = "a run", **site: Any) -> Path:
    """A finished run of the demo's settings in which north spent some epsilon."""
    values = experiment_values(read_federated_experiment(DEMO).experiment)
    splits = {"train": 24, "val": 5, "test": 6}
    record = {
        "title": title,
        "computed": True,
        "experiment": {**values, "strategies": {}},
        "sites": [
            {"name": "north", "unseen": False, **splits, **site},
            {"name": "east", "unseen": False, **splits},
            {"name": "island", "unseen": True, **splits},
        ],
        "arms": [{"name": name} for name in arms],
    }
    (root / "run.json").write_text(json.dumps(record))
    rows = [(arms[-1], "north", n, "privacy/epsilon_total", 100.5 * n) for n in (1, 2)]
    write_csv(root / "curves.csv", ("arm", "site", "round", "metric", "value"), rows)
    return root


def test_settings_are_filled_in_and_every_open_place_is_numbered_and_listed(
    tmp_path: Path,
) -> None:
    texts = documents(DEMO, tmp_path, "--job", "fedavg_dp", "--set", "training.rounds=4")
    assessment = texts["impact-assessment.md"]
    assert "4 rounds of 150 steps" in assessment and "computes t2 images from t1" in assessment
    assert "noise\\_multiplier 0.01" in assessment
    assert "more than ten million: no protection to speak of" in assessment
    for text in texts.values():
        body, listed = text.split("## Open items\n")
        numbers = [int(number) for number in re.findall(r"\*\*\[(\d+): ", body)]
        assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) > 10
        assert len(listed.strip().splitlines()) == len(numbers)
        for site in ("north", "east", "south", "west", "island"):
            assert f"controller at site {site}" in text
        assert "state/<site>/used_data.jsonl" in text and "withdrawn-patients.json" in text
        assert "{{" not in text and "{%" not in text


def test_the_same_settings_give_the_same_documents_and_others_another_digest(
    tmp_path: Path,
) -> None:
    first, again = (documents(DEMO, tmp_path / name) for name in ("a", "b"))
    assert first == again
    other = documents(DEMO, tmp_path / "c", "--set", "training.rounds=4")
    digests = [re.findall(r"digest `(\w+)`", t["processing-record.md"]) for t in (first, other)]
    assert digests[0] != digests[1]


@pytest.mark.parametrize("job", ["fedavg_dp", "fedavg_patient_dp", "fedavg_secure", "fedavg"])
def test_what_leaves_is_named_as_the_mechanism_leaves_it(job: str, tmp_path: Path) -> None:
    """Under an epsilon a site states a number that is not its own, and its losses stay."""
    assessment = documents(DEMO, tmp_path, "--job", job)["impact-assessment.md"]
    accounted = job.endswith("dp")
    assert ("| a number of samples that the settings state, not the site's own" in assessment) == (
        accounted
    )
    assert ("| number of training slices; means of losses" in assessment) != accounted
    assert ("| running losses |" in assessment) != accounted


def test_a_job_without_a_mechanism_says_that_nothing_is_guaranteed(tmp_path: Path) -> None:
    assessment = documents(DEMO, tmp_path)["impact-assessment.md"]
    assert "no guarantee for FedAvg" in assessment
    assert "- FedAvg: no mechanism; updates are not bounded, noised or hidden" in assessment


@pytest.mark.parametrize(
    ("strategy", "receiver"), [("swarm", "another site, which averages"), ("cyclic", "the next")]
)
def test_who_receives_a_site_s_weights_follows_from_the_strategy(
    tmp_path: Path, strategy: str, receiver: str
) -> None:
    record = documents(DEMO, tmp_path, "--job", strategy)["processing-record.md"]
    (row,) = [line for line in record.splitlines() if "weights of generator and" in line]
    assert receiver in row


def test_two_sites_are_told_that_each_computes_the_other_s_model(tmp_path: Path) -> None:
    pair = tmp_path / "pair.yaml"
    pair.write_text("federation:\n  sites: [north, east]\n")
    assessment = documents(pair, tmp_path / "out")["impact-assessment.md"]
    assert "2 sites: each computes the other's model from the mean" in assessment


def test_a_finished_run_gives_patients_arms_and_what_was_really_spent(tmp_path: Path) -> None:
    run = run_folder(tmp_path, ["source", "centralised", "scaffold", "fedavg_dp"])
    assessment = documents(run, tmp_path / "out")["impact-assessment.md"]
    assert "| north | trains | 24, 5, 6 |" in assessment
    assert "| island | tests finished models |" in assessment
    assert "SCAFFOLD: weights of generator and discriminator, and control" in assessment
    lines = assessment.splitlines()
    assert "  - north had spent epsilon 201 in total when the run ended." in lines
    assert "- SCAFFOLD: no mechanism" in "\n".join(lines)
    assert [line for line in lines if line.startswith("- FedAvg, noised updates: epsilon for")]
    assert "centralised" not in assessment
    assert "The data of this run are computed and belong to nobody" in assessment


def test_what_stands_in_a_run_s_file_is_text_and_no_markup(tmp_path: Path) -> None:
    run = run_folder(tmp_path, ["fedavg"], title="a | <script>x</script>\n# b **[99: c]**")
    record = documents(run, tmp_path / "out")["processing-record.md"]
    assert "a \\| &lt;script&gt;x&lt;/script&gt; \\# b \\*\\*\\[99: c\\]\\*\\*" in record


def test_documents_that_somebody_may_have_filled_in_are_not_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    documents(DEMO, tmp_path)
    filled = tmp_path / "processing-record.md"
    filled.write_text("filled in")
    (tmp_path / "impact-assessment.md").unlink()
    assert main(["governance", str(DEMO), "--out", str(tmp_path)]) == 2
    assert "somebody may have filled it in" in capsys.readouterr().err
    assert filled.read_text() == "filled in" and len(list(tmp_path.iterdir())) == 1
    documents(DEMO, tmp_path, "--replace")


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        (OLD_RUN, ["--job", "fedavg"], "is a finished run, which --job and --set cannot change"),
        (DEMO.parent, [], "run.json: is no record of a run that this release can read"),
        (DEMO, ["--job", "fedavg_pd"], "did you mean 'fedavg_dp'?"),
        (DEMO.with_name("dmeo.yaml"), [], "dmeo.yaml"),
    ],
)
def test_bad_input_is_a_sentence_and_nothing_is_written(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    source: Path,
    options: list[str],
    said: str,
) -> None:
    out = tmp_path / "out"
    assert main(["governance", str(source), "--out", str(out), *options]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not out.exists()


def test_an_epsilon_is_told_as_the_factor_by_which_the_odds_may_change() -> None:
    assert odds(0.0) == "up to 1" and odds(1.0) == "up to 2.72" and odds(8.0) == "up to 2,980"
