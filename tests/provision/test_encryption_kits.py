"""Kits with keys for encrypted averaging: who holds what, and who comes later."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from certificates import check_startup_signature
from encryption_keys import new_keys
from omegaconf import OmegaConf
from provisioned_project import SITES, Provisioned

from fedi2i.cli.program import main as fedi2i
from lightning_modules.privacy.encrypted_model import (
    EncryptedMean,
    decrypted_model,
    encrypted_model,
    layout_of,
)
from lightning_modules.privacy.encrypted_sums import EncryptionError, open_keys
from lightning_modules.sharing.tensor_file import read_model_state, write_encrypted_model
from provision import encryption
from provision.encryption import check_keys
from provision.kit_check import check_kit
from provision.provisioning import PROJECT_FILE, ProvisioningError, provision

SITE_KEYS, SERVER_KEYS = "client_context.tenseal", "server_context.tenseal"
MODEL = {"generator.w": np.array([0.25, -0.5], dtype=np.float32)}


def ask_for_keys(project_file: Path) -> None:
    project = OmegaConf.load(project_file)
    (ours,) = (b for b in project.builders if b.path == "provision.kit_builder.KitBuilder")
    ours.args.encryption = True
    OmegaConf.save(project, project_file)


@pytest.fixture(scope="module")
def encrypting(tmp_path_factory: pytest.TempPathFactory) -> Provisioned:
    """The project's own kits, with keys, and island's that came later. Do not edit."""
    pytest.importorskip("tenseal", exc_type=ImportError)
    folder = tmp_path_factory.mktemp("encrypting")
    file = Path(shutil.copy(PROJECT_FILE, folder / "project.yml"))
    ask_for_keys(file)
    kits = provision(file, folder / "kits")
    options = ["--project", str(file), "--workspace", str(folder / "kits")]
    assert fedi2i(["provision", "add-site", "island", *options]) == 0
    return Provisioned(file, folder / "kits", kits)


def key_file(kit: Path, name: str) -> bytes:
    return (kit / "startup" / name).read_bytes()


def encrypted_file(encrypting: Provisioned, path: Path) -> Path:
    """What a job's result holds: the mean of one model, by north and the server."""
    keys = {
        "site": open_keys(key_file(encrypting.kits / "north", SITE_KEYS)),
        "server": open_keys(key_file(encrypting.kits / "server", SERVER_KEYS)),
    }
    mean = EncryptedMean(layout_of(MODEL), keys["server"])
    mean.add(encrypted_model(MODEL, 3, 4, keys["site"]), 3)
    write_encrypted_model(path, mean.message(MODEL))
    return path


def test_every_site_holds_one_key_the_server_can_only_add_and_people_hold_none(
    encrypting: Provisioned,
) -> None:
    site = key_file(encrypting.kits / "north", SITE_KEYS)
    assert open_keys(site).has_secret_key()
    assert not open_keys(key_file(encrypting.kits / "server", SERVER_KEYS)).has_secret_key()
    for kit in encrypting.all_kits:
        held = {path.name for path in (kit / "startup").glob("*.tenseal")}
        if kit.name in SITES:
            assert held == {SITE_KEYS} and key_file(kit, SITE_KEYS) == site
        else:
            assert held == ({SERVER_KEYS} if kit.name == "server" else set())
        for name in held:
            path = kit / "startup" / name
            assert path.stat().st_mode & 0o077 == 0
            assert name in check_startup_signature(kit)
    kept = encrypting.workspace / "fedi2i" / "state" / "encryption.tenseal"
    assert kept.stat().st_mode & 0o077 == 0


def test_a_site_that_comes_later_reads_what_the_others_encrypt(
    encrypting: Provisioned, tmp_path: Path
) -> None:
    island = encrypting.workspace / "fedi2i" / "prod_01" / "island"
    out = tmp_path / "model.pt"
    path = encrypted_file(encrypting, tmp_path / "FL_global_model.encrypted")
    command = ["provision", "open-model", str(path), "--kit", str(island), "--out", str(out)]
    assert fedi2i(command) == 0
    opened = read_model_state(out, {"generator.w": (2,)})["generator.w"]
    torch.testing.assert_close(opened, torch.from_numpy(MODEL["generator.w"]))


def test_check_names_the_key_and_a_kit_without_one_is_none_the_worse(
    encrypting: Provisioned, provisioned: Provisioned
) -> None:
    sentence = "encryption: the kit has its key for encrypted averaging"
    for name in ("server", "north"):
        assert sentence in check_kit(encrypting.kits / name)[0]
    fine, wrong = check_kit(provisioned.kits / "north")
    assert not [text for text in fine + wrong if "encrypt" in text]
    assert not check_keys(encrypting.kits / "lead@north.example.org", "admin")


@pytest.mark.parametrize(
    ("name", "key", "words"),
    [
        ("server", SITE_KEYS, "belongs to another kind of participant"),
        ("lead@north.example.org", SITE_KEYS, "belongs to another kind of participant"),
        ("server", SERVER_KEYS, "with which this server could read every update"),
        ("north", SITE_KEYS, "the keys for encrypted averaging are damaged"),
    ],
)
def test_check_finds_whoever_holds_what_they_must_not(
    encrypting: Provisioned, tmp_path: Path, name: str, key: str, words: str
) -> None:
    kit = Path(shutil.copytree(encrypting.kits / name, tmp_path / name))
    secret = key_file(encrypting.kits / "north", SITE_KEYS)
    (kit / "startup" / key).write_bytes(b"?" if name == "north" else secret)
    _, wrong = check_kit(kit)
    assert [text for text in wrong if words in text]


def test_a_new_kit_with_a_key_that_the_others_lack_is_refused(
    provisioned: Provisioned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path(shutil.copy(provisioned.project_file, tmp_path / "project.yml"))
    ask_for_keys(file)
    options = ["--project", str(file), "--workspace", str(provisioned.workspace)]
    for command in (["add-site", "island"], ["renew", "north"]):
        assert fedi2i(["provision", *command, *options]) == 2
        assert "were made without; nobody could read" in capsys.readouterr().err


@pytest.mark.parametrize("kit", ["lead@north.example.org", "server"])
def test_whoever_has_no_site_s_kit_opens_no_model(
    encrypting: Provisioned, tmp_path: Path, kit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = encrypted_file(encrypting, tmp_path / "FL_global_model.encrypted")
    out = tmp_path / "model.pt"
    command = ["provision", "open-model", str(path), "--out", str(out)]
    assert fedi2i([*command, "--kit", str(encrypting.kits / kit)]) == 2
    assert "no kit of a site with a key" in capsys.readouterr().err
    assert not out.exists()


def test_a_model_of_another_federation_is_not_opened(
    encrypting: Provisioned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = new_keys()
    mean = EncryptedMean(layout_of(MODEL), keys.server)
    mean.add(encrypted_model(MODEL, 3, 4, keys.site), 3)
    path, out = tmp_path / "model.encrypted", tmp_path / "model.pt"
    write_encrypted_model(path, mean.message(MODEL))
    own = decrypted_model(mean.message(MODEL), keys.site)["generator.w"]
    np.testing.assert_allclose(own, MODEL["generator.w"], rtol=1e-6)
    command = ["provision", "open-model", str(path), "--out", str(out)]
    assert fedi2i([*command, "--kit", str(encrypting.kits / "north")]) == 2
    assert "another federation's key" in capsys.readouterr().err
    assert not out.exists()


@pytest.fixture(scope="module")
def renewed(encrypting: Provisioned, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Server's and sites' kits with a new key, of a copy of the project."""
    folder = tmp_path_factory.mktemp("renewed")
    workspace = Path(shutil.copytree(encrypting.workspace, folder / "kits"))
    options = ["--project", str(encrypting.project_file), "--workspace", str(workspace)]
    assert fedi2i(["provision", "new-key", *options]) == 0
    return workspace / "fedi2i" / "prod_02"


def test_a_new_key_is_in_the_kits_of_server_and_sites_under_their_own_certificates(
    encrypting: Provisioned, renewed: Path
) -> None:
    assert {kit.name for kit in renewed.iterdir()} == {"server", *SITES}
    for name in SITES:
        assert key_file(renewed / name, SITE_KEYS) == key_file(renewed / SITES[0], SITE_KEYS)
        assert key_file(renewed / name, SITE_KEYS) != key_file(encrypting.kits / name, SITE_KEYS)
        certificates = [key_file(kits / name, "client.crt") for kits in (renewed, encrypting.kits)]
        assert certificates[0] == certificates[1]
    kept = renewed.parent / "state" / "encryption.tenseal"
    assert kept.read_bytes() == key_file(renewed / "north", SITE_KEYS)
    assert kept.stat().st_mode & 0o077 == 0


def test_nobody_takes_what_the_old_key_has_encrypted_and_the_old_key_opens_nothing_new(
    encrypting: Provisioned, renewed: Path
) -> None:
    old, new = (
        open_keys(key_file(kits / "north", SITE_KEYS)) for kits in (encrypting.kits, renewed)
    )
    server = open_keys(key_file(renewed / "server", SERVER_KEYS))

    def mean(*keys: object) -> dict[str, np.ndarray]:
        found = EncryptedMean(layout_of(MODEL), server)
        for one in keys:
            found.add(encrypted_model(MODEL, 3, 4, one), 3)
        return found.message(MODEL)

    for keys in ((old,), (new, old), (new, new, old)):
        with pytest.raises(EncryptionError, match="another federation's key"):
            decrypted_model(mean(*keys), new)
    with pytest.raises(EncryptionError, match="another federation's key"):
        decrypted_model(mean(new, new), old)
    np.testing.assert_allclose(
        decrypted_model(mean(new, new), new)["generator.w"], MODEL["generator.w"], rtol=1e-6
    )


def test_where_no_new_kits_can_be_made_the_old_key_stays(
    encrypting: Provisioned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "kits" / "fedi2i" / "state"
    shutil.copytree(encrypting.workspace / "fedi2i" / "state", state)
    before = (state / "encryption.tenseal").read_bytes()

    def failing(*_: object) -> Path:
        raise ProvisioningError("no room")

    monkeypatch.setattr(encryption, "provision", failing)
    with pytest.raises(ProvisioningError, match="no room"):
        encryption.replace_key(encrypting.project_file, tmp_path / "kits")
    assert (state / "encryption.tenseal").read_bytes() == before


def killed_while_replacing(project_file: Path, kits: Path, finished: bool) -> None:
    """Change the key in a process that is killed, with or without new kits beside the old ones."""
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        return

    def killing(*_: object) -> Path:
        if finished:
            startup = kits / "fedi2i" / "prod_99" / "north" / "startup"
            startup.mkdir(parents=True)
            shutil.copy(kits / "fedi2i" / "state" / "encryption.tenseal", startup / SITE_KEYS)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    try:
        encryption.provision = killing  # type: ignore[assignment]
        encryption.replace_key(project_file, kits)
    finally:
        os._exit(1)


@pytest.mark.parametrize("finished", [False, True])
def test_a_change_of_the_key_that_was_killed_leaves_the_key_of_the_newest_kits(
    finished: bool, encrypting: Provisioned, tmp_path: Path
) -> None:
    workspace = Path(shutil.copytree(encrypting.workspace, tmp_path / "kits"))
    state = workspace / "fedi2i" / "state"
    old = (state / "encryption.tenseal").read_bytes()
    killed_while_replacing(encrypting.project_file, workspace, finished)
    encryption.refuse_kits_without_keys(encrypting.project_file, workspace)
    found = (state / "encryption.tenseal").read_bytes()
    newest = workspace / "fedi2i" / ("prod_99" if finished else "prod_01") / "north"
    if finished:
        assert found == key_file(newest, SITE_KEYS) != old
    else:
        assert found == old
    assert [path.name for path in state.glob("encryption.*")] == ["encryption.tenseal"]
    assert (state / "encryption.tenseal").stat().st_mode & 0o077 == 0


def test_a_project_without_keys_has_none_to_replace(
    provisioned: Provisioned, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--project", str(provisioned.project_file), "--workspace"]
    assert fedi2i(["provision", "new-key", *options, str(provisioned.workspace)]) == 2
    assert "there is no key to replace" in capsys.readouterr().err
