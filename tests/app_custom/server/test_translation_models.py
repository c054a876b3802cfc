"""What the server writes for ``translate`` at the end of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey
from nvflare.app_common.abstract.model import make_model_learnable
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare_fakes import Engine, server_runner

from app_custom.participant.site_configuration import FILE_NAME
from app_custom.server.best_model import BestModel
from app_custom.server.global_metrics import GlobalMetrics
from app_custom.server.translation_models import TranslationModels
from fedi2i.metric_files import SOURCE, SOURCE_SPREAD
from fedi2i.typed_config import read_yaml
from lightning_modules.configuration import experiment_from, experiment_values
from lightning_modules.networks.building import build_networks
from lightning_modules.privacy.encrypted_model import LAYOUT
from lightning_modules.translation.model_file import build_network, read_model

TINY = read_yaml(Path(__file__).parents[2] / "experiments" / "tiny.yaml")["experiment"]
ROUNDS = 4
EXPERIMENT = experiment_from({**TINY, "training": {"rounds": ROUNDS}}, "test")
ROWS = [("north", ROUNDS, "val/psnr", 20.0), ("all", ROUNDS, "val/psnr", 21.0)]


class Server:
    """A server's process around the widget.

    Args:
        root: its workspace; another one there goes on with the same run.
        left_out: prefixes of keys that the sites keep to themselves.
    """

    def __init__(self, root: Path, aborted: bool = False, left_out: tuple[str, ...] = ()) -> None:
        (root / "local").mkdir(exist_ok=True)
        (root / "local" / FILE_NAME).write_text(f"state: {root}/kept\n", encoding="utf-8")
        self.app = root / "app"
        self.app.mkdir(exist_ok=True)
        self._left_out = left_out
        metrics = GlobalMetrics()
        metrics.rows = list(ROWS)
        selector = BestModel("val/psnr", "global_metrics", "final_evaluation")
        selector.best_round = 2
        self.engine = Engine(root, components={"global_metrics": metrics, "best_model": selector})
        self._props = {
            FLContextKey.APP_ROOT: str(self.app),
            FLContextKey.RUNNER: server_runner(aborted=aborted),
            FLContextKey.JOB_META: {"submitter_name": "lead"},
        }
        self.widget = TranslationModels(
            experiment_values(EXPERIMENT), "tiny-0123", {"mechanism": "none"}, "best_model"
        )

    def after_round(self, rounds: int) -> None:
        model = make_model_learnable({k: v.numpy() for k, v in self.state(rounds).items()}, {})
        self._event(
            AppEventType.ROUND_DONE,
            **{AppConstants.CURRENT_ROUND: rounds - 1, AppConstants.GLOBAL_MODEL: model},
        )

    def end(self) -> None:
        self._event(EventType.ABOUT_TO_END_RUN)

    def save(self, name: str, rounds: int) -> None:
        torch.save({"model": self.state(rounds)}, self.app / name)

    def state(self, seed: int) -> dict[str, torch.Tensor]:
        drawn = build_networks(EXPERIMENT.model, seed).state_dict()
        return {k: v for k, v in drawn.items() if not k.startswith(self._left_out or ("?",))}

    def _event(self, event_type: str, **props: Any) -> None:
        ctx = self.engine.new_context()
        for name, value in (self._props | props).items():
            ctx.set_prop(name, value, private=True, sticky=False)
        self.widget.handle_event(event_type, ctx)


def test_the_final_and_the_best_model_are_written_with_the_last_three_rounds(
    tmp_path: Path,
) -> None:
    first = Server(tmp_path)
    for rounds in (1, 2, 3):
        first.after_round(rounds)
    # The process dies; another one goes on with the last round.
    server = Server(tmp_path)
    server.after_round(4)
    server.save("FL_global_model.pt", 4)
    server.save("best_FL_global_model.pt", 2)
    server.end()
    assert server.engine.panics() == []
    final = read_model(server.app / "FL_global_model.safetensors")
    best = read_model(server.app / "best_FL_global_model.safetensors")
    assert list(final.earlier) == [2, 3, 4]
    assert (final.card.training.rounds, best.card.training.rounds) == (4, 2)
    assert final.card.training.results == {"val/psnr": 21.0} and not best.card.training.results
    source = torch.rand(1, 1, 32, 32)
    networks = build_networks(EXPERIMENT.model, 4)["generator"].eval()
    with torch.inference_mode():
        expected = networks(source)
        assert torch.equal(build_network(final.card, final.weights)(source), expected)
        assert torch.equal(build_network(final.card, final.earlier[4])(source), expected)
        assert not torch.equal(build_network(best.card, best.weights)(source), expected)
    assert list((tmp_path / "kept").rglob("*.pt")) == []


@pytest.mark.parametrize("describing", [("north",), ("north", "east")])
def test_the_file_knows_the_source_scans_of_two_sites_that_describe_theirs_and_not_of_one(
    tmp_path: Path, describing: tuple[str, ...]
) -> None:
    server = Server(tmp_path)
    metrics = server.engine.get_component("global_metrics")
    for site in describing:
        said = dict.fromkeys(SOURCE, 0.25) | {SOURCE_SPREAD: 0.01}
        metrics.rows += [(site, ROUNDS, name, value) for name, value in said.items()]
    server.save("FL_global_model.pt", 4)
    server.end()
    found = read_model(server.app / "FL_global_model.safetensors").card.intensities
    assert (found is not None) == (len(describing) == 2)
    if found is not None:
        # A step at a quarter of the scale, between the sixteenth bin and the next.
        assert found.by_sites and found.spread == 0.01 and sum(found.shares[15:17]) > 0.999


def test_no_discriminator_is_in_the_file(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.save("FL_global_model.pt", 4)
    server.end()
    weights = read_model(server.app / "FL_global_model.safetensors").weights
    generator = build_networks(EXPERIMENT.model, 4)["generator"].state_dict()
    assert weights.keys() == generator.keys()


@pytest.mark.parametrize("aborted", [True, False])
def test_an_aborted_run_writes_none_and_keeps_what_it_needs_to_go_on(
    tmp_path: Path, aborted: bool
) -> None:
    server = Server(tmp_path, aborted)
    for rounds in (1, 2):
        server.after_round(rounds)
    server.save("FL_global_model.pt", 2)
    server.end()
    assert (server.app / "FL_global_model.safetensors").is_file() != aborted
    # Of four rounds the last three are wanted, so that the first one is never kept.
    names = [path.name for path in (tmp_path / "kept").rglob("*.pt")]
    assert names == (["translator-2.pt"] if aborted else [])


def test_a_translator_of_which_sites_keep_parts_is_no_global_model(tmp_path: Path) -> None:
    server = Server(tmp_path, left_out=("generator.unet.model.0.",))
    server.after_round(1)
    server.save("FL_global_model.pt", 1)
    server.end()
    assert server.engine.panics() == []
    assert list(tmp_path.rglob("*.safetensors")) == []


def test_an_encrypted_model_is_not_read(tmp_path: Path) -> None:
    server = Server(tmp_path)
    message = {LAYOUT: np.zeros(3, dtype=np.uint8)}
    model = make_model_learnable(message, {})
    server._event(
        AppEventType.ROUND_DONE,
        **{AppConstants.CURRENT_ROUND: 0, AppConstants.GLOBAL_MODEL: model},
    )
    server.end()
    assert list(tmp_path.rglob("*.safetensors")) == []
