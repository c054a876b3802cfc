"""What a study may learn of test patients passes the gates, and nothing beside it does."""

from __future__ import annotations

from typing import Any

import pytest
from nvflare.apis.dxo import DXO, DataKind, MetaKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable

from app_custom.gates.allowed_update import AllowedUpdate, UpdateNotAllowedError
from app_custom.gates.shared_metrics import BOUNDS, shared_metrics
from app_custom.gates.study_numbers import SharedStudies, study_fault, study_numbers
from app_custom.participant.site_configuration import SiteConfig
from app_custom.server.global_metrics import mean_rows
from fedi2i.errors import ConfigError
from fedi2i.typed_config import as_dict, check_values
from lightning_modules.evaluation.summaries import Summary

FOUND = study_numbers("test", {"psnr": Summary(12, 21.5, 1.25)})


def answer(**data: Any) -> Shareable:
    return DXO(DataKind.METRICS, data={**FOUND, **data}).to_shareable()


def checked(sent: Shareable) -> Shareable:
    return AllowedUpdate(["generator"]).process(sent, FLContext())


def test_number_mean_and_standard_deviation_pass() -> None:
    assert FOUND == {"test/psnr/patients": 12.0, "test/psnr/mean": 21.5, "test/psnr/sd": 1.25}
    assert shared_metrics(FOUND) == FOUND
    sent = answer()
    assert checked(sent) is sent


@pytest.mark.parametrize(
    "planted",
    [
        {"test/psnr/Doe_Jane": 20.0},
        {"test/psnr": 20.0},
        {"test/psnr/mean": "Doe_Jane"},
        {"test/psnr/mean": [20.0, 21.0, 22.0]},
        {"test/picture/mean": 0.5},
        {"test/psnr/sd": 1000.0},
    ],
)
def test_a_patient_s_row_or_a_number_that_cannot_be_is_stopped(planted: dict[str, Any]) -> None:
    with pytest.raises(UpdateNotAllowedError):
        checked(answer(**planted))


@pytest.mark.parametrize("patients", [1.0, 2.0, 3.5])
def test_numbers_of_too_few_patients_are_stopped(patients: float) -> None:
    with pytest.raises(UpdateNotAllowedError, match="test/psnr"):
        checked(answer(**{"test/psnr/patients": patients}))


def test_a_mean_without_the_number_of_its_patients_is_stopped() -> None:
    assert "not of how many patients" in study_fault({"test/psnr/mean": 21.0})
    with pytest.raises(UpdateNotAllowedError, match="not of how many patients"):
        checked(answer(**{"test_local/psnr/mean": 20.0}))


def test_test_patients_are_told_of_at_the_end_and_in_no_round() -> None:
    meta = {MetaKey.INITIAL_METRICS: dict(FOUND)}
    update = DXO(DataKind.WEIGHTS, data={}, meta=meta).to_shareable()
    with pytest.raises(UpdateNotAllowedError, match="test/psnr"):
        checked(update)


def test_the_server_makes_no_mean_over_sites_of_a_study_s_numbers() -> None:
    rows = [(site, 3, name, value) for site in ("a", "b") for name, value in FOUND.items()]
    assert mean_rows([*rows, ("a", 3, "val/psnr", 20.0)]) == [("all", 3, "val/psnr", 20.0)]


def test_only_metrics_that_are_shared_have_such_numbers() -> None:
    means = {name.split("/")[1] for name in BOUNDS if name.startswith("val/")}
    assert {name.split("/")[1] for name in BOUNDS if name.startswith("test/")} == means


def test_a_site_says_nothing_of_test_patients_unless_its_own_file_does() -> None:
    assert not SiteConfig().studies.share and SiteConfig().studies.folder is None
    assert "studies" not in as_dict(SiteConfig())  # files that were written before stay as they are
    with pytest.raises(ConfigError, match=r"studies\.folder names no folder"):
        SharedStudies(share=True)
    with pytest.raises(ConfigError, match="least_patients"):
        check_values(SharedStudies(folder="x", share=True, least_patients=2), "fedi2i.yaml")
