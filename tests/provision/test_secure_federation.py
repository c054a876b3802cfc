"""Secure aggregation between provisioned sites over TLS, with keys signed by their kits.

Nightly. Faster: ``tests/app_custom/privacy/secure_sum`` has the same parts in one
process, with certificates of an authority of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from poc_processes import audited, free_port
from run_results import model_in
from simulator_runs import EXPERIMENT, export

from app_custom.participant.message_guard import REFUSED
from fedi2i.typed_config import merged, read_yaml
from provision.poc.federation import Federation, running_federation
from provision.poc.kits import PocConfig
from provision.poc.run import submit_by_command_line

pytestmark = [pytest.mark.nightly, pytest.mark.slow, pytest.mark.timeout(1800)]

SITES = ("north", "east", "south")
EXACT = {
    "mechanism": "secure_sum",
    "bits": 64,
    "fraction_bits": 32,
    "bound": 16.0,
    "slices_per_weight": 1,
}


@pytest.fixture(scope="module")
def federation(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    config = PocConfig(
        out=tmp_path_factory.mktemp("secure") / "poc",
        datasets={"tiny": tiny_cohort},
        sites=SITES,
        port=free_port(),
        torch_threads=1,
        heartbeat_timeout=30,
    )
    with running_federation(config) as running:
        yield running


def run_of(federation: Federation, folder: Path, **privacy: object) -> Path:
    """The server's folder of a run of one round."""
    folder.mkdir()
    values = {
        "federation": {"sites": list(SITES)},
        "experiment": {"training": {"rounds": 1, "precision": "fp32"}},
        "privacy": privacy,
    }
    OmegaConf.save(OmegaConf.create(merged(read_yaml(EXPERIMENT), values)), folder / "tiny.yaml")
    job = export(folder / "job", experiment=folder / "tiny.yaml")
    return submit_by_command_line(federation, job, folder / "results")


def test_the_model_over_tls_equals_plain_averaging_to_the_stated_precision(
    federation: Federation, tmp_path: Path
) -> None:
    plain = model_in(run_of(federation, tmp_path / "plain", mechanism="none"))
    run = run_of(federation, tmp_path / "masked", **EXACT)
    found = model_in(run)
    assert found.keys() == plain.keys()
    for key, value in plain.items():
        expected = value.numpy()
        most = 2.0**-33 + np.spacing(np.abs(expected))
        assert (np.abs(found[key].numpy().astype(np.float64) - expected) <= most).all(), key
    text = (run / "log.txt").read_text(encoding="utf-8")
    assert "keys of masks are agreed between east, north, south" in text
    for site in SITES:
        kit = federation.kits / site
        logs = "".join(path.read_text(encoding="utf-8") for path in kit.rglob("log.txt"))
        assert "joins the sum over east, north, south" in logs
        assert "not signed" not in logs
        # Private keys stay in the processes' memory: nothing of them is left on any disk.
        assert not list(kit.rglob("masks-*.json"))
        assert audited(federation, site, REFUSED) == []
    assert audited(federation, "server", REFUSED) == []
    classes = json.loads((federation.kits / "north" / "local" / "resources.json").read_text())
    assert "app_custom.privacy.secure_sum.mask_keys.MaskKeys" in classes["class_allow_list"]
