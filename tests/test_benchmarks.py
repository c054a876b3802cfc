"""Benchmarks are run by hand; here each measures the smallest case and its figures are checked."""

from __future__ import annotations

import csv
import multiprocessing
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import aggregation
import conditional
import encryption
import federation_overhead
import gpu
import hostile_site
import many_subjects
import matching
import numpy as np
import preparation
import privacy
import privacy_quality
import process_memory
import pytest
import scale
import soak
import strategy_callback
import study_runner
import torch
import upsampling
import volumes
from simulator_runs import TWO_SITES
from three_contrasts import write_three_contrasts
from tiny_cohort import SITES, write_tiny_cohort

from jobs.writing.federation import read_federated_experiment
from lightning_modules.networks.configuration import UPSAMPLINGS
from lightning_modules.training.hardware import Hardware
from partitions.manifest import SPLITS, read_manifest
from partitions.preparation import (
    PreparationConfig,
    PreparedSite,
    open_prepared,
    prepare_site,
)

TINY_CASE = {"channels": [4, 8], "d": 4, "size": (32, 32), "batch": 1}
LOG = """2026-01-02 10:00:00,000 - INFO - Round 0 started.
2026-01-02 10:00:30,000 - INFO - Round 0 finished.
2026-01-02 10:00:31,000 - INFO - Round 1 started.
2026-01-02 10:00:33,500 - INFO - Round 1 finished.
2026-01-02 10:00:34,000 - INFO - Round 2 started.
2026-01-02 10:00:36,000 - INFO - Round 2 finished.
2026-01-02 10:00:36,500 - INFO - Round 3 started.
2026-01-02 10:00:40,000 - INFO - Round 3 finished.
"""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny federation's folder, for benchmarks that prepare it in their own way."""
    return write_tiny_cohort(tmp_path_factory.mktemp("cohort"), SITES)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_encrypted_averaging_is_timed_beside_plain_averaging_and_equals_it() -> None:
    rows = {row.what: row for row in encryption.encrypted_averaging(60_000)}
    sent = rows["from site to server"]
    assert (sent.plain, sent.unit) == (0.24, "MB")
    assert 30 < 1e6 * sent.encrypted / 60_000 < 36  # bytes for each value
    assert 0 < rows["a site encrypts"].encrypted < 60
    assert rows["largest difference of the means"].encrypted < 1e-6
    other = encryption.nvflare_way(60_000)
    assert other["from site to server, MB"] > 1.7 * sent.encrypted


@pytest.mark.parametrize("strategy", aggregation.MEASURED)
def test_every_server_rule_is_timed(strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregation, "CHANNELS", {1: (4, 8)})
    found = aggregation.measure(strategy, sites=4, millions=1)
    assert 0 < found["seconds"] < 60
    assert found["models"] >= 0


def test_the_plain_loop_takes_longer_for_more_steps(
    cohort: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(federation_overhead, "available_cores", lambda: 1)
    experiment = read_federated_experiment(TWO_SITES, {}).experiment
    few, many = (federation_overhead.plain_loop(experiment, cohort / "east", n) for n in (1, 60))
    assert 0 < few < many


@pytest.mark.parametrize("strategy", strategy_callback.STRATEGIES)
def test_the_callback_is_a_part_of_a_step(strategy: str) -> None:
    step, callback = strategy_callback.measure(TINY_CASE, strategy, steps=6)
    assert step > 0
    assert callback > 0


def test_a_hostile_site_spoils_the_mean_and_not_the_median(cohort: Path) -> None:
    curves = {
        name: hostile_site.run(cohort, name, hostile=True, rounds=1, steps=2)
        for name in ("FedAvg", "FedMedian")
    }
    assert curves["FedAvg"][0] == curves["FedMedian"][0], "before training"
    assert curves["FedAvg"][1] < curves["FedMedian"][1]


def test_a_chain_of_generators_that_change_nothing_is_measured_as_the_source_itself(
    tmp_path: Path,
) -> None:
    data = write_three_contrasts(tmp_path, (*SITES, "island"))
    source = conditional.untrained(data, seed=1, rounds=1, name="source")
    twice = conditional.everywhere(data, 1, 1, lambda pair: [torch.nn.Identity()] * 2)
    assert twice == pytest.approx(source)
    assert len({round(value, 3) for value in source.values()}) > 1
    trained = conditional.federated(data, seed=1, rounds=1, pseudo_source=1.0)
    without = conditional.federated(data, seed=1, rounds=1, pseudo_source=0.0)
    assert all(trained[pair] != without[pair] for pair in conditional.PAIRS)


def test_a_site_of_the_scale_benchmark_has_one_patient_of_every_split(
    cohort: Path, tmp_path: Path
) -> None:
    scale.few_patients(cohort / "north", tmp_path / "site-00", "site-00")
    manifest = read_manifest(tmp_path / "site-00", expected_site="site-00")
    assert sorted(subject.split for subject in manifest.subjects) == ["test", "train", "val"]
    for subject in manifest.subjects:
        assert all((tmp_path / "site-00" / file).is_file() for file in subject.files.values())


def test_time_and_bytes_per_round_leave_out_the_first_round_and_the_sites_sum(
    tmp_path: Path,
) -> None:
    assert scale._seconds(LOG) == pytest.approx(9.0 / 3)
    rows = [
        ("north", 0, "traffic/bytes_sent", 5e6),
        ("north", 1, "traffic/bytes_sent", 2e6),
        ("east", 1, "traffic/bytes_received", 1e6),
        ("all", 1, "traffic/bytes_sent", 3e6),
        ("north", 1, "val/psnr", 20.0),
    ]
    with (tmp_path / "metrics.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("site", "round", "metric", "value"), *rows])
    assert scale._megabytes(tmp_path / "metrics.csv") == 3.0


def test_the_study_runner_s_own_time_is_what_no_process_covers(tmp_path: Path) -> None:
    # Two processes beside each other, one inside another, and two seconds of nobody.
    assert study_runner.covered([(0.0, 4.0), (2.0, 6.0), (3.0, 5.0), (8.0, 9.0)]) == 7.0
    file = tmp_path / "seed-7" / "finished" / "fedavg.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"seconds": 40.0}')
    os.utime(file, (1000.0, 1000.0))
    assert study_runner.read(tmp_path) == [study_runner.Ran("seed-7", "fedavg", 960.0, 1000.0)]


def test_growth_is_the_slope_of_the_second_half() -> None:
    # 100 s for 50 rounds, so 2 s a round: after 50 s memory grows by 0.5 MiB a second.
    readings = [(float(s), 300.0 + 0.5 * max(0, s - 50), 40.0) for s in range(101)]
    words = soak._line("server", readings, rounds=50).split()
    assert words == ["server", "300", "300", "325", "1.000", "MiB", "40", "0.000"]


def test_memory_is_watched_process_by_process_under_the_site_s_name() -> None:
    child = "import time; block = bytearray(64 << 20); time.sleep(3)"
    start = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}, *sys.argv[1:]])"
    )
    peaks: dict[str, int] = {}
    with subprocess.Popen([sys.executable, "-c", start, "--client", "east"]) as process:
        process_memory.watch_memory(process, peaks)
    assert peaks["site east"] > 64 << 20


class TestGPU:
    """The benchmark that needs a GPU, as far as a machine without one can run it."""

    def test_without_a_gpu_it_says_so_and_writes_no_table(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert gpu.main(["--out", str(tmp_path / "gpu.md")]) == 0
        said = capsys.readouterr().out
        assert said == "torch finds no GPU on this machine, so there is nothing to measure\n"
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("model", gpu.MODELS)
    def test_the_cpu_beside_itself_is_equal(self, model: str) -> None:
        row = gpu.beside_the_cpu("training", model, "fp32", "cpu", steps=2)
        assert row.good
        assert "weights 0 of the way apart" in row.found

    def test_another_result_than_the_cpu_s_is_not_equal(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        weights = [{"w": torch.zeros(2)}, {"w": torch.tensor([3.0, 4.0])}]
        ends = iter([(*weights, 1.0), (weights[0], {"w": torch.tensor([3.0, 4.1])}, 1.0)])
        monkeypatch.setattr(gpu, "trained", lambda *_: next(ends))
        row = gpu.beside_the_cpu("training", "pix2pix with U-Net", "fp32", "cpu")
        assert not row.good
        assert "weights 0.02 of the way apart" in row.found

    @pytest.mark.parametrize("precision", gpu.LIGHTNING_NAMES)
    @pytest.mark.parametrize("network", gpu.NETWORKS)
    def test_a_step_of_every_network_is_timed(self, network: str, precision: str) -> None:
        cpu = torch.device("cpu")
        row = gpu.network_step("step", network, precision, cpu, side=32, batch=1, steps=2)
        assert row.seconds is not None
        assert row.seconds > 0

    def test_a_measurement_that_fails_and_one_that_comes_too_late_are_rows(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail() -> torch.nn.Module:
            monkeypatch.setattr(gpu.time, "monotonic", lambda: np.inf)
            raise torch.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(gpu, "MODELS", {})
        monkeypatch.setattr(gpu, "NETWORKS", {"U-Net": fail})
        rows = list(gpu.measurements(torch.device("cpu"), time.monotonic() + 60))
        assert [row.good for row in rows] == [False] * 3
        assert "CUDA out of memory" in rows[0].found
        assert {row.found for row in rows[1:]} == {"left out: the time is over"}
        written = gpu.table(rows).splitlines()
        assert written[2].startswith("| Measurement |")
        assert len(written) == 4 + len(rows)

    def test_seconds_per_round_leave_out_the_first_round(self) -> None:
        assert gpu.seconds_per_round(LOG) == pytest.approx(9.0 / 3)
        with pytest.raises(RuntimeError, match="finished no second round"):
            gpu.seconds_per_round(LOG.partition("\n")[0])

    @pytest.mark.slow
    @pytest.mark.nightly
    def test_rounds_are_measured_in_the_simulator(self) -> None:
        """Faster: seconds per round from a log, above; test_simulator.py runs and learns."""
        row = gpu.federated_rounds("rounds", time.monotonic() + 480, ("-t", "4"))
        assert row.good, row
        assert row.found.startswith("on cpu in ")


def _two_prepared(cohort: Path) -> dict[str, PreparedSite]:
    config = read_federated_experiment(TWO_SITES, {}).experiment.data.preparation
    return {
        name: prepare_site(
            read_manifest(cohort / name), config, cohort / name / "prepared", progress=False
        )
        for name in ("south", "east")
    }


CPU = Hardware("cpu", "32-true", 1)


def test_every_way_of_upsampling_is_measured_before_and_after_training(cohort: Path) -> None:
    experiment = read_federated_experiment(TWO_SITES, {}).experiment
    sites = list(_two_prepared(cohort).values())
    lines = upsampling.measure(experiment, sites, CPU, stretches=2, steps=2)
    assert [line.split()[:2] for line in lines[:-1]] == [
        [name, steps] for steps in ("0", "4") for name in UPSAMPLINGS
    ]
    assert lines[-1].startswith("targets")


def test_pairs_are_merged_in_every_way_and_a_second_call_trains_none_again(
    cohort: Path, tmp_path: Path
) -> None:
    experiment = matching.regression(read_federated_experiment(TWO_SITES, {}).experiment, None)
    sites, table = _two_prepared(cohort), tmp_path / "matching.csv"
    wanted = [(start, 1) for start in matching.STARTS]
    pairs = list(matching.measure(experiment, sites, CPU, 3, wanted, table))
    assert [pair.start for pair in pairs] == list(matching.STARTS)
    independent, common = pairs
    assert independent.moved_forward > 0.3
    assert common.moved_forward == common.moved_descent == 0.0
    assert common.plain == common.forward == common.descent
    assert list(matching.measure(experiment, sites, CPU, 3, wanted, table)) == []
    assert matching.read_pairs(table) == pairs
    found = matching.verdicts([*pairs, replace(independent, seed=2, forward=1.0, descent=0.5)])
    assert found[0].startswith("common, 3 steps, 1 pairs: ")
    assert "2 pairs" in found[1]


def test_a_step_by_patients_is_timed_beside_a_plain_one() -> None:
    case = {"size": (32, 32), "channels": [4, 8], "d": 4}
    plain, private = privacy.step_seconds(case, repeats=1, steps=2)
    assert plain > 0
    assert private > 0


@pytest.mark.parametrize("mechanism", privacy.MECHANISMS)
def test_every_mechanism_s_round_is_measured_beside_a_plain_one(
    mechanism: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(privacy, "_growth", lambda *_: 1.0)  # it starts processes of its own
    case = {"size": (32, 32), "channels": [4, 8], "d": 4}
    rows = {row.what: row for row in privacy.costs(mechanism, 10, 1, case)}
    assert all(row.plain >= 0 and row.private > 0 for row in rows.values())
    answer = rows["a site's answer"]
    assert answer.private / answer.plain == pytest.approx(
        {"secure_sum": 1.0, "encryption": 8.0}.get(mechanism, 1.0),
        # Ciphertexts are as large for a small network as for one that fills them.
        rel=10.0 if mechanism == "encryption" else 0.01,
    )


def test_the_quality_under_each_mechanism_is_a_row_that_is_not_measured_twice(
    cohort: Path, tmp_path: Path
) -> None:
    table = tmp_path / "quality.csv"
    asked: dict[str, Any] = {"rounds": 1, "steps": 2, "scopes": ["generator"]}
    runs = list(privacy_quality.quality(cohort, table, [101], **asked))
    assert {run.arm for run in runs} == set(privacy_quality.ARMS)
    assert len({run.psnr for run in runs}) == len(runs), "every arm trains another model"
    assert list(privacy_quality.quality(cohort, table, [101], **asked)) == []


def test_epsilon_stands_beside_the_quality_that_it_costs(cohort: Path) -> None:
    # Everybody is drawn, so that no test waits for the numerical accountant.
    rows = list(privacy_quality.price(cohort, steps=2, noises=[None, 1.0, 20.0], rate=1.0))
    (_, none, _), (_, some, _), (_, more_noise, _) = rows
    assert none == float("inf")
    assert some > more_noise > 0
    assert all(np.isfinite(quality) for _, _, quality in rows)


def test_many_subjects_are_different_copies_that_the_command_prepares(
    cohort: Path, tmp_path: Path
) -> None:
    written = many_subjects.lay_out(cohort, tmp_path, subjects=10, step=1)
    files = list(tmp_path.rglob("*.nii*"))
    assert written == sum(path.stat().st_size for path in files)
    sources = [path for path in files if path.name.startswith("t1")]
    assert len(sources) == len({path.read_bytes() for path in sources}) == 10
    cold = many_subjects.prepare(tmp_path, ["size=[32,32]", "spacing=1.5"], workers=2)
    prepared = [open_prepared(path.parent) for path in tmp_path.rglob("prepared.json")]
    counts = [len(one.split(name).subjects) for one in prepared for name in SPLITS]
    assert sum(counts) == 10
    assert cold.seconds > 0
    # Two processes that have imported MONAI, whatever they prepare.
    assert 200 < cold.mib < 4096


def test_preparation_is_measured_cold_and_cached_and_its_cache_trains(
    cohort: Path, tmp_path: Path
) -> None:
    config = PreparationConfig(size=(32, 32), spacing=1.5)
    found = preparation.measure([cohort / "east", cohort / "north"], config, tmp_path)
    assert found.subjects == 8
    assert 0 < found.cached < found.cold
    assert found.mib > 50
    assert sum(found.shares.values()) == pytest.approx(1)
    assert all(share > 0 for name, share in found.shares.items() if name != "bias field")
    cache, memory = preparation.training(found.folders, steps=3)
    assert cache > 0
    assert memory > 0


@pytest.mark.nightly
def test_the_memory_of_training_on_patches_is_the_patch_s_and_not_the_volume_s() -> None:
    """In processes of their own: what a process has freed it need not ask the system for again."""
    context = multiprocessing.get_context("spawn")
    found = []
    for side in (48, 192):
        case = ((64, side, side), (16, 16, 16), 10, (4, 8))
        with context.Pool(1) as pool:
            found.append(pool.apply(volumes.measure, case))
    small, large = found
    assert large.stored > 10 * small.stored > 0
    # Both domains of one large volume in float32 alone are 18 MiB.
    assert large.training < small.training + 8 * 2**20
    assert large.translating > large.stored / volumes.PATIENTS
    assert 0 < large.cut < large.step
