"""Encrypted averaging with NVFlare's own contexts and messages: sites, server, files."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from encryption_keys import Keys, install, new_keys, signed_startup
from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.model import make_model_learnable
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare.app_common.ccwf.swarm_client_ctl import SwarmClientController
from nvflare.fuel.sec.audit import AuditService
from nvflare_fakes import Engine, task_router, train_answer, with_peer

from app_custom.aggregation.aggregator import Aggregator
from app_custom.checkpoints.checkpoint import FinishedRounds, RoundFiles
from app_custom.executor import session_opening, site_session
from app_custom.executor.translation_executor import TranslationExecutor
from app_custom.gates.allowed_update import AllowedUpdate
from app_custom.nvflare_files import GLOBAL_MODEL
from app_custom.privacy.encryption.aggregator import EncryptedAggregator
from app_custom.privacy.encryption.filters import Decrypt, Encrypt, check_encryption, encrypts
from app_custom.server.model_files import EncryptedModelFiles
from app_custom.server.outgoing_model import StrategyModelGenerator
from fedi2i.errors import ConfigError
from lightning_modules.combining.updates import Weights
from lightning_modules.configuration import experiment_from, experiment_values
from lightning_modules.privacy.encrypted_model import is_encrypted
from lightning_modules.privacy.encrypted_sums import EncryptionError
from lightning_modules.sharing.shared_networks import SharedNetworks
from lightning_modules.strategies.catalogue import STRATEGIES
from lightning_modules.strategies.interface import YES

SAMPLES = {"east": 291, "north": 565, "south": 190}
MODEL = experiment_values(
    experiment_from(
        {
            "model": {
                "generator": {"channels": [4, 8]},
                "discriminator": {"channels": 4, "layers": 1},
            }
        },
        "test",
    )
)["model"]
SETTINGS = {"training": {"rounds": 2}}
RUN = "fedavg_he-0123456789ab"


@pytest.fixture(scope="module")
def keys() -> Keys:
    return new_keys()


@pytest.fixture(scope="module")
def startup(keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The keys of server and sites, as if in one signed folder: this is one process."""
    return signed_startup(
        tmp_path_factory.mktemp("kit") / "startup",
        {
            "client_context.tenseal": keys.site_file,
            "server_context.tenseal": keys.server_file,
        },
    )


@pytest.fixture
def with_keys(startup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, startup)


def networks() -> SharedNetworks:
    return SharedNetworks(MODEL, "generator+discriminator", 1, (), (32, 32))


def trained(received: Weights, site: str, round_number: int) -> Weights:
    """What a site makes of the model it received: some fixed function of it."""
    rng = np.random.default_rng([SAMPLES[site], round_number])
    return {
        key: np.asarray(received[key] + 0.1 * rng.normal(size=received[key].shape), np.float32)
        for key in sorted(received)
    }


class Site:
    """A site's chains of filters."""

    def __init__(self, name: str) -> None:
        self.engine = Engine(name=name)

    def context(self) -> FLContext:
        ctx = self.engine.new_context()
        meta = {"job_clients": [{"name": site} for site in SAMPLES]}
        ctx.set_prop(FLContextKey.JOB_META, meta, private=True, sticky=True)
        return ctx

    def decrypted(self, message: Shareable) -> Weights:
        received = from_shareable(Decrypt().process(message, self.context())).data
        assert isinstance(received, dict)
        return received

    def encrypted(self, answer: Shareable) -> Shareable:
        return Encrypt().process(answer, self.context())


class Server:
    """The server's parts of a job."""

    def __init__(self, aggregator: Aggregator) -> None:
        self.aggregator = aggregator
        parts = {"persistor": SimpleNamespace(model=networks()), "aggregator": aggregator}
        self.engine = Engine(sites=tuple(SAMPLES), components=parts)
        self.weights: Weights = {k: v.numpy() for k, v in networks().state_dict().items()}
        self.aggregator.handle_event(EventType.START_RUN, self.engine.new_context())

    def start(self, round_number: int) -> Shareable:
        """Begin a round; returns what goes out."""
        ctx = self.engine.new_context()
        model = make_model_learnable(self.weights, {})
        ctx.set_prop(AppConstants.CURRENT_ROUND, round_number, private=True, sticky=True)
        ctx.set_prop(AppConstants.GLOBAL_MODEL, model, private=True, sticky=True)
        self.aggregator.handle_event(AppEventType.ROUND_STARTED, ctx)
        return StrategyModelGenerator("aggregator").learnable_to_shareable(model, ctx)

    def accept(self, site: str, answer: Shareable) -> bool:
        return self.aggregator.accept(answer, with_peer(self.engine.new_context(), site))

    def end(self) -> None:
        combined = self.aggregator.aggregate(self.engine.new_context())
        self.weights = from_shareable(combined).data


def plain_rounds(rounds: int) -> Weights:
    server = Server(Aggregator({"name": "fedavg"}, 3))
    for number in range(rounds):
        received = from_shareable(server.start(number)).data
        for site, samples in SAMPLES.items():
            answer = train_answer(trained(received, site, number), samples, number)
            assert server.accept(site, answer)
        server.end()
    return server.weights


def answer_of(name: str, message: Shareable, number: int) -> Shareable:
    """A site's whole way: decrypt, train, encrypt."""
    site = Site(name)
    made = train_answer(trained(site.decrypted(message), name, number), SAMPLES[name], number)
    sealed = site.encrypted(made)
    sealed.add_cookie(AppConstants.CONTRIBUTION_ROUND, number)
    return sealed


def new_server(strategy: str = "fedavg") -> Server:
    return Server(EncryptedAggregator({"name": strategy}, 3))


@pytest.mark.usefixtures("with_keys")
def test_two_rounds_end_with_plain_fedavg_s_model_to_the_rounding_of_float32() -> None:
    """Over TLS: ``tests/provision/test_encrypted_federation.py``."""
    server = new_server()
    for number in range(2):
        message = server.start(number)
        for site in SAMPLES:
            assert server.accept(site, answer_of(site, message, number))
        server.end()
    assert server.engine.panics() == []
    assert is_encrypted(server.weights)
    assert {value.dtype for value in server.weights.values()} == {np.dtype(np.uint8)}
    found, expected = Site("east").decrypted(server.start(2)), plain_rounds(2)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=3e-7, atol=3e-8)


@pytest.mark.usefixtures("with_keys")
def test_the_accepted_rounds_reach_the_sites_beside_the_encrypted_model() -> None:
    server = new_server()
    message = server.start(0)
    for site in SAMPLES:
        assert server.accept(site, answer_of(site, message, 0))
    server.end()
    sent = Decrypt().process(server.start(1), Site("east").context())
    assert from_shareable(sent).meta["accepted_rounds"] == dict.fromkeys(SAMPLES, 0)


@pytest.mark.usefixtures("with_keys")
def test_a_plain_update_is_refused_and_its_site_named_in_the_audit_trail(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    AuditService.initialize(str(tmp_path / "audit.log"))
    try:
        server = new_server()
        received = from_shareable(server.start(0)).data
        assert not server.accept("east", train_answer(received, 291, 0))
        assert "update of site 'east' refused: it is not encrypted" in caplog.text
        assert "[U:east][A:update.refused]" in (tmp_path / "audit.log").read_text()
    finally:
        AuditService.close()


@pytest.mark.usefixtures("with_keys")
def test_with_too_few_encrypted_updates_the_job_ends_as_always() -> None:
    server = new_server()
    message = server.start(0)
    assert server.accept("east", answer_of("east", message, 0))
    assert not server.accept("east", answer_of("east", message, 0))  # once is enough
    server.aggregator.aggregate(server.engine.new_context())
    (reason,) = server.engine.panics()
    assert "1 site(s) answered, at least 3 are needed; missing: north, south" in reason


@pytest.mark.parametrize(
    "strategy", sorted(n for n, s in STRATEGIES.items() if s.mechanisms.encryption != YES)
)
def test_a_strategy_that_needs_more_than_a_sum_is_refused_before_anything_runs(
    strategy: str,
) -> None:
    reason = STRATEGIES[strategy].mechanisms.encryption
    assert reason not in ("", "not yet")
    with pytest.raises(ConfigError, match=r"cannot average what is encrypted|at a server") as said:
        EncryptedAggregator({"name": strategy}, 3)
    assert reason in str(said.value) or strategy == "cyclic"


def test_every_strategy_that_admits_it_takes_the_plain_mean_and_sends_no_further_arrays() -> None:
    admitted = [s for s in STRATEGIES.values() if s.mechanisms.encryption == YES]
    assert {"fedavg", "fedprox"} <= {strategy.name for strategy in admitted}
    for strategy in admitted:
        assert strategy.server is not None and strategy.server.is_mean
        assert strategy.site.extras == ()


# What leaves a site.


@pytest.mark.usefixtures("with_keys")
def test_no_array_leaves_a_site_readable_and_no_name_of_one_is_lost() -> None:
    weights = {key: value.numpy() for key, value in networks().state_dict().items()}
    sealed = Site("east").encrypted(train_answer(weights, 291))
    sent = from_shareable(sealed).data
    assert set(sent) == {"encrypted/generator", "encrypted/discriminator", "encrypted/layout"}
    wire = b"".join(array.tobytes() for array in sent.values())
    for value in weights.values():
        assert value.size < 4 or value.tobytes() not in wire
        weighted = (value.astype(np.float64) * 291).tobytes()
        assert value.size < 4 or weighted not in wire


@pytest.mark.usefixtures("with_keys")
def test_metrics_and_bare_return_codes_pass_and_other_kinds_do_not() -> None:
    site = Site("east")
    metrics = DXO(DataKind.METRICS, data={"val/psnr": 20.0}).to_shareable()
    assert site.encrypted(metrics) is metrics
    failed = make_reply(ReturnCode.EXECUTION_EXCEPTION)
    assert site.encrypted(failed) is failed
    failed_with_arrays = train_answer({"generator.w": np.full(3, 0.5, np.float32)})
    failed_with_arrays.set_return_code(ReturnCode.EXECUTION_EXCEPTION)
    assert is_encrypted(from_shareable(site.encrypted(failed_with_arrays)).data)
    difference = train_answer({"generator.w": np.ones(3, np.float32)}, kind=DataKind.WEIGHT_DIFF)
    with pytest.raises(EncryptionError, match="WEIGHT_DIFF"):
        site.encrypted(difference)


@pytest.mark.usefixtures("with_keys")
def test_a_diverged_model_does_not_leave() -> None:
    answer = train_answer({"generator.w": np.full(3, 5e6, np.float32)}, 565)
    with pytest.raises(EncryptionError, match="training has diverged"):
        Site("east").encrypted(answer)


# What refuses before a round is trained.


def refusal(executor: TranslationExecutor, *filters: Any, decrypts: bool = True) -> str:
    """What a site's log says when a job with these filters gives it the first task."""
    ctx = Site("east").context()
    ctx.set_prop(FLContextKey.RUNNER, runner(*filters, decrypts=decrypts), private=True)
    task = DXO(DataKind.WEIGHTS, data={"generator.w": np.zeros(3, np.float32)}).to_shareable()
    task.set_header(AppConstants.CURRENT_ROUND, 0)
    answer = executor.execute("train", task, ctx, Signal())
    return str(answer.get_return_code())


def runner(*filters: Any, decrypts: bool = True) -> SimpleNamespace:
    """The attributes of NVFlare's ``ClientRunner`` that matter here."""
    return SimpleNamespace(
        task_result_filters={"train/out": list(filters), "validate/out": list(filters)},
        task_data_filters={"train/in": [Decrypt()] if decrypts else []},
        task_router=task_router(TranslationExecutor(SETTINGS, RUN)),
    )


@pytest.fixture
def no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: object) -> None:
        raise AssertionError("the site opened its data")

    monkeypatch.setattr(session_opening, "open_session", opened)


@pytest.mark.usefixtures("no_session")
@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "startup/client_context.tenseal: missing, so nothing can be encrypted"),
        ({"client_context.tenseal": "server"}, "without the secret key"),
        ({"client_context.tenseal": "unsigned"}, "not as the project's authority signed it"),
    ],
)
def test_a_site_whose_kit_has_no_key_says_so_and_does_not_train(
    files: dict[str, str],
    words: str,
    keys: Keys,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    kind = files.get("client_context.tenseal")
    content = {"client_context.tenseal": keys.server_file} if kind else {}
    folder = signed_startup(tmp_path / "startup", content)
    if kind == "unsigned":
        (folder / "client_context.tenseal").write_bytes(keys.site_file)
    install(monkeypatch, folder)
    executor = TranslationExecutor(SETTINGS, RUN)
    assert refusal(executor, Encrypt()) == ReturnCode.EXECUTION_EXCEPTION
    assert f"site 'east' cannot do 'train': startup/client_context.tenseal: {words}" in (
        caplog.text
    ) or (kind is None and words in caplog.text)
    assert "Traceback" not in caplog.text


@pytest.mark.usefixtures("no_session", "with_keys")
def test_a_site_without_tenseal_says_what_to_install_and_does_not_train(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "tenseal", None)
    executor = TranslationExecutor(SETTINGS, RUN)
    assert refusal(executor, Encrypt()) == ReturnCode.EXECUTION_EXCEPTION
    assert "needs the package tenseal: pip install 'fedi2i[he]'" in caplog.text


@pytest.mark.usefixtures("no_session", "with_keys")
@pytest.mark.parametrize(
    ("filters", "decrypts"), [((Encrypt(),), False), ((Encrypt(), Decrypt()), True)]
)
def test_a_job_that_encrypts_by_half_is_refused(
    filters: tuple[Any, ...], decrypts: bool, caplog: pytest.LogCaptureFixture
) -> None:
    executor = TranslationExecutor(SETTINGS, RUN)
    assert refusal(executor, *filters, decrypts=decrypts) == ReturnCode.EXECUTION_EXCEPTION
    assert "the job encrypts by half" in caplog.text


@pytest.mark.usefixtures("no_session", "with_keys")
def test_a_site_refuses_to_encrypt_for_a_strategy_that_must_see_single_updates(
    caplog: pytest.LogCaptureFixture,
) -> None:
    executor = TranslationExecutor({**SETTINGS, "strategy": {"name": "fedma"}}, RUN)
    assert refusal(executor, Encrypt()) == ReturnCode.EXECUTION_EXCEPTION
    assert "strategy 'FedMA' cannot average what is encrypted: it matches" in caplog.text


def test_what_counts_as_encrypted_is_the_last_filter_of_what_is_trained() -> None:
    """A site with ``plain_updates: false`` asks this; see ``test_job_admission.py``."""
    for filters, expected in (
        ([], False),
        ([Encrypt()], True),
        ([AllowedUpdate(["generator"]), Encrypt()], True),
        ([Encrypt(), AllowedUpdate(["generator"])], False),
    ):
        ctx = Site("east").context()
        ctx.set_prop(FLContextKey.RUNNER, runner(*filters), private=True)
        assert encrypts(ctx) is expected


def test_beside_another_executor_nothing_counts_as_encrypted() -> None:
    """A job's other tasks pass other filters, and NVFlare's swarm sends models past them all."""
    ours, swarm = TranslationExecutor(SETTINGS, RUN), SwarmClientController()
    for executors, expected in (((ours,), True), ((ours, swarm), False), ((), False)):
        ctx = Site("east").context()
        found = runner(Encrypt())
        found.task_router = task_router(*executors)
        ctx.set_prop(FLContextKey.RUNNER, found, private=True)
        assert encrypts(ctx) is expected


def test_a_job_without_encryption_is_none_of_its_business() -> None:
    ctx = Site("east").context()
    ctx.set_prop(FLContextKey.RUNNER, runner(decrypts=False), private=True)
    check_encryption(ctx, STRATEGIES["fedma"])
    assert not encrypts(ctx)


@pytest.mark.parametrize(
    ("job_id", "words"),
    [
        ("simulate_job", "takes its keys from a startup kit, and the simulator has none"),
        ("0a1b", r"startup/server_context\.tenseal: missing"),
    ],
)
def test_a_server_without_a_key_ends_the_job_before_the_first_round(
    job_id: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    install(monkeypatch, signed_startup(tmp_path / "startup", {}))
    monkeypatch.setattr("nvflare_fakes.JOB", job_id)
    (reason,) = new_server().engine.panics()
    assert words.replace("\\", "") in reason and reason.startswith("server: ")


def test_a_server_that_could_read_the_updates_does_not_run_the_job(
    keys: Keys, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = {"server_context.tenseal": keys.site_file}
    install(monkeypatch, signed_startup(tmp_path / "startup", files))
    (reason,) = new_server().engine.panics()
    assert "holds the sites' secret key" in reason


# Files.


@pytest.mark.usefixtures("with_keys")
def test_the_server_s_files_and_its_finished_rounds_hold_ciphertext_alone(tmp_path: Path) -> None:
    server = new_server()
    message = server.start(0)
    for site in SAMPLES:
        server.accept(site, answer_of(site, message, 0))
    server.end()
    persistor = EncryptedModelFiles(networks())
    ctx = server.engine.new_context()
    ctx.set_prop(FLContextKey.APP_ROOT, str(tmp_path), private=True, sticky=True)
    persistor.handle_event(EventType.START_RUN, ctx)
    first = persistor.load_model(ctx)
    persistor.save(first, ctx)
    assert list(tmp_path.iterdir()) == []  # the seeded model is no result
    model = make_model_learnable(server.weights, {})
    ctx.set_prop(AppConstants.GLOBAL_MODEL, model, private=True, sticky=True)
    persistor.save(model, ctx)
    persistor.handle_event(AppEventType.GLOBAL_BEST_MODEL_AVAILABLE, ctx)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "FL_global_model.encrypted",
        "best_FL_global_model.encrypted",
    ]
    files = RoundFiles(tmp_path / "state")
    files.save(FinishedRounds(1, server.weights, server.weights, 1, []))
    kept = files.load()
    assert kept is not None
    # A server that was started again goes on with what it could not read either.
    server.weights = kept.weights
    expected = plain_rounds(1)
    for key, value in Site("north").decrypted(server.start(1)).items():
        np.testing.assert_allclose(value, expected[key], rtol=3e-7, atol=3e-8)


@pytest.mark.usefixtures("with_keys")
def test_every_site_writes_the_final_model_that_the_server_cannot_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    session = object.__new__(site_session.SiteSession)
    session._run_folder = tmp_path
    session._kept = None
    monkeypatch.setattr(session, "validate", lambda *_: {"val/psnr": 20.0}, raising=False)
    monkeypatch.setattr(session, "keep_personal_model", lambda *_: None, raising=False)
    monkeypatch.setattr(session_opening, "open_session", lambda *_: session)
    task = DXO(DataKind.WEIGHTS, data={"generator.w": np.arange(3, dtype=np.float32)})
    for filters, written in (([], False), ([Encrypt()], True)):
        ctx = Site("east").context()
        ctx.set_prop(FLContextKey.RUNNER, runner(*filters, decrypts=bool(filters)), private=True)
        answer = TranslationExecutor(SETTINGS, RUN).execute(
            "validate", task.to_shareable(), ctx, Signal()
        )
        assert from_shareable(answer).data == {"val/psnr": 20.0}
        assert (tmp_path / GLOBAL_MODEL).is_file() is written
    model = torch.load(tmp_path / GLOBAL_MODEL, weights_only=True)["model"]
    assert model["generator.w"].tolist() == [0, 1, 2]
