"""Keys between sites: each is proved by the certificate of its site, for this job and this list."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from masked_federation import Authority

from app_custom.privacy.secure_sum.signed_keys import (
    announcement,
    checked_keys,
    kit_authority,
    kit_identity,
)
from lightning_modules.privacy.pairwise_masks import MaskError, new_private_key, public_key

SITES = ["east", "north", "south"]
JOB = "9d0c4a5e-job"


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sites of one authority, one whose time is over, and one of another authority."""
    folder, authority = tmp_path_factory.mktemp("signed"), Authority()
    for site in SITES:
        authority.kit(folder / site, site)
    authority.kit(folder / "expired" / "south", "south", days=-1)
    Authority().kit(folder / "foreign" / "south", "south")
    return folder


@pytest.fixture(scope="module")
def root(kits: Path) -> x509.Certificate:
    return kit_authority(kits / "east")


@pytest.fixture(scope="module")
def keys() -> dict[str, bytes]:
    return {site: public_key(new_private_key()) for site in SITES}


@pytest.fixture
def said(kits: Path, keys: dict[str, bytes]) -> dict[str, dict[str, Any]]:
    return {
        site: announcement(JOB, site, keys[site], SITES, kit_identity(kits / site))
        for site in SITES
    }


Said = dict[str, dict[str, Any]]


def test_all_keys_are_taken_where_everything_is_in_order(
    said: Said, keys: dict[str, bytes], root: x509.Certificate
) -> None:
    assert checked_keys(said, JOB, SITES, root) == keys


def signed_by(kit: str, name: str = "south", job: str = JOB, **changes: Any) -> Any:
    """Replaces south's announcement by one that another kit has signed."""

    def change(said: Said, kits: Path) -> None:
        arguments = {"public": said["south"]["public_key"], "sites": SITES, **changes}
        said["south"] = announcement(
            job, name, arguments["public"], arguments["sites"], kit_identity(kits / kit)
        )

    return change


def set_to(field: str, value: Any) -> Any:
    """Changes one field of south's announcement."""

    def change(said: Said, kits: Path) -> None:
        said["south"] = {**said["south"], field: value}

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (signed_by("north"), "its certificate is of 'north'"),
        (signed_by("foreign/south"), "not of this project's authority"),
        (signed_by("expired/south"), "its certificate is not valid today"),
        (signed_by("south", job="another-job"), "not of this key, job and site"),
        (signed_by("south", name="north"), "not of this key, job and site"),
        (
            signed_by("south", sites=["east", "south", "zoo"]),
            "it was made for the sites east, south, zoo",
        ),
        (set_to("public_key", bytes(range(32))), "not of this key, job and site"),
        (set_to("signature", b"x" * 256), "not of this key, job and site"),
        (set_to("signature", b""), "it is not signed"),
        (set_to("certificate", b""), "it is not signed"),
        (set_to("certificate", b"-----BEGIN"), "its certificate cannot be read"),
        (set_to("public_key", b"short"), "has not 32 bytes"),
        (set_to("public_key", "text"), "has not 32 bytes"),
        (set_to("sites", "east"), "no list of names"),
        (set_to("more", 1), "no announcement of a key"),
    ],
)
def test_a_key_that_is_not_proved_is_refused_and_its_site_is_named(
    said: Said, kits: Path, root: x509.Certificate, change: Callable[[Said, Path], None], words: str
) -> None:
    change(said, kits)
    with pytest.raises(MaskError, match=f"the key of site 'south' is refused: .*{words}"):
        checked_keys(said, JOB, SITES, root)


def test_a_signature_of_another_sites_key_under_the_right_certificate_is_refused(
    said: Said, root: x509.Certificate, kits: Path
) -> None:
    forged = announcement(
        JOB, "south", said["south"]["public_key"], SITES, kit_identity(kits / "north")
    )
    said["south"] = {**said["south"], "signature": forged["signature"]}
    with pytest.raises(MaskError, match="'south' is refused: its signature is not of this key"):
        checked_keys(said, JOB, SITES, root)


def test_a_missing_and_an_additional_site_are_refused(said: Said, root: x509.Certificate) -> None:
    for keep in (["east", "north"], []):
        with pytest.raises(MaskError, match="east, north, south are invited"):
            checked_keys({site: said[site] for site in keep}, JOB, SITES, root)
    with pytest.raises(MaskError, match="are invited"):
        checked_keys({**said, "zoo": said["east"]}, JOB, SITES, root)


def test_two_sites_with_one_key_are_refused(kits: Path, root: x509.Certificate) -> None:
    key = public_key(new_private_key())
    said = {site: announcement(JOB, site, key, SITES, kit_identity(kits / site)) for site in SITES}
    with pytest.raises(MaskError, match="two sites are said to have the same key"):
        checked_keys(said, JOB, SITES, root)


def test_unsigned_keys_are_taken_where_nobody_has_certificates(keys: dict[str, bytes]) -> None:
    said = {site: announcement(JOB, site, keys[site], SITES, None) for site in SITES}
    assert checked_keys(said, JOB, SITES, None) == keys


@pytest.mark.parametrize("missing", ["client.key", "client.crt", "rootCA.pem"])
def test_a_kit_that_cannot_sign_is_refused(kits: Path, tmp_path: Path, missing: str) -> None:
    for file in (kits / "east").iterdir():
        if file.name != missing:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(MaskError, match="cannot be read"):
        kit_authority(tmp_path)
        kit_identity(tmp_path)
