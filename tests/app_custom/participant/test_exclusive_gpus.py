from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import stand_in_gpus
from nvflare.apis.fl_context import FLContext

from app_custom.participant.exclusive_gpus import ExclusiveGPUs

CTX = FLContext()


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExclusiveGPUs:
    """A site with two GPUs of 16 GiB."""
    stand_in_gpus.install(tmp_path / "bin", monkeypatch, number=2, gib=16)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")  # recorded, so that the test's end restores it
    monkeypatch.setenv("FEDI2I_PROCESS_OF_A_JOB", "")
    monkeypatch.delenv("FEDI2I_PROCESS_OF_A_JOB")
    return ExclusiveGPUs(num_of_gpus=2, mem_per_gpu_in_GiB=16)


def asked(number: int, memory: float = 0.0) -> dict[str, float]:
    return {"num_of_gpus": number, "mem_per_gpu_in_GiB": memory}


def start(gpus: ExclusiveGPUs, spec: dict[str, float]) -> dict[int, float]:
    """What the site does when a job is scheduled and starts."""
    enough, token = gpus.check_resources(spec, CTX)
    assert enough, token
    return gpus.allocate_resources(spec, token, CTX)


@pytest.mark.parametrize("memory", [0.0, 4.0])
def test_two_jobs_never_get_the_same_gpu_whatever_memory_they_ask_for(
    gpus: ExclusiveGPUs, memory: float
) -> None:
    assert list(start(gpus, asked(1, memory))) == [0]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    assert list(start(gpus, asked(1, memory))) == [1]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
    assert gpus.check_resources(asked(1, memory), CTX)[0] is False


def test_a_job_that_asks_for_nothing_sees_no_gpu_of_the_job_before_it(gpus: ExclusiveGPUs) -> None:
    start(gpus, asked(2))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert start(gpus, {}) == {}
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_freed_gpus_are_given_out_again(gpus: ExclusiveGPUs) -> None:
    first = start(gpus, asked(2))
    gpus.free_resources(first, "", CTX)
    assert list(start(gpus, asked(2))) == [0, 1]


def test_a_reservation_that_is_cancelled_holds_nothing(gpus: ExclusiveGPUs) -> None:
    enough, token = gpus.check_resources(asked(2), CTX)
    assert enough
    gpus.cancel_resources(asked(2), token, CTX)
    assert list(start(gpus, asked(2))) == [0, 1]


@pytest.mark.parametrize("number", [-1, "all", 0.5])
def test_a_number_of_gpus_that_cannot_be_gets_none(gpus: ExclusiveGPUs, number: Any) -> None:
    assert gpus.check_resources(asked(number), CTX)[0] is False
    assert list(start(gpus, asked(2))) == [0, 1]


def test_the_reason_says_whether_waiting_helps(gpus: ExclusiveGPUs) -> None:
    start(gpus, asked(1))
    assert gpus.check_resources(asked(2), CTX) == (False, "waiting for 2 GPU(s): 1 of 2 are free")
    assert gpus.check_resources(asked(3), CTX) == (
        False,
        "the job asks for 3 GPU(s), this site has 2",
    )
    assert gpus.check_resources(asked(1, 40), CTX) == (
        False,
        "the job asks for 1 GPU(s) with 40 GiB, this site has 0",
    )


def test_a_site_without_gpus_needs_no_driver_and_refuses_a_claim(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    none = ExclusiveGPUs(num_of_gpus=0, mem_per_gpu_in_GiB=0)
    assert none.check_resources(asked(1), CTX) == (
        False,
        "the job asks for 1 GPU(s), this site has 0",
    )
    assert none.check_resources({}, CTX)[0]


def test_more_gpus_than_the_machine_has_keep_the_site_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_gpus.install(tmp_path / "bin", monkeypatch, number=1, gib=16)
    with pytest.raises(ValueError, match="exceeds available GPUs: 1"):
        ExclusiveGPUs(num_of_gpus=2, mem_per_gpu_in_GiB=16)


def test_the_process_of_a_job_that_sees_fewer_gpus_can_still_read_the_site_s_settings(
    gpus: ExclusiveGPUs,
) -> None:
    start(gpus, asked(1))
    ExclusiveGPUs(num_of_gpus=2, mem_per_gpu_in_GiB=16)
    start(gpus, {})
    ExclusiveGPUs(num_of_gpus=2, mem_per_gpu_in_GiB=16)
