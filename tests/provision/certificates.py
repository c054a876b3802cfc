"""Certificates and signatures checked with ``cryptography`` alone, not with NVFlare's own code."""

from __future__ import annotations

import base64
import datetime
import json
import socket
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from provision.startup_folder import sign_startup


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def own_certificate(kit: Path) -> x509.Certificate:
    server = kit / "startup" / "server.crt"
    return certificate(server if server.exists() else kit / "startup" / "client.crt")


def root(kit: Path) -> x509.Certificate:
    return certificate(kit / "startup" / "rootCA.pem")


def attribute(found: x509.Certificate, oid: x509.ObjectIdentifier) -> str:
    return str(found.subject.get_attributes_for_oid(oid)[0].value)


def key_fits(kit: Path) -> bool:
    path = next((kit / "startup").glob("*.key"))
    key = load_pem_private_key(path.read_bytes(), password=None)
    return key.public_key() == own_certificate(kit).public_key()


def check_startup_signature(kit: Path) -> set[str]:
    """Verify every entry of ``startup/signature.json``; returns the names it covers."""
    startup = kit / "startup"
    key = root(kit).public_key()
    assert isinstance(key, RSAPublicKey)
    signatures = json.loads((startup / "signature.json").read_text())
    for name, signature in signatures.items():
        key.verify(
            base64.b64decode(signature),
            (startup / name).read_bytes(),
            padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.MAX_LENGTH),
            hashes.SHA256(),
        )
    return set(signatures)


def expire_certificate(kit: Path, state: Path) -> None:
    """Give a kit a certificate of the project's own authority that was valid until yesterday.

    Args:
        kit: the kit of a site or a person.
        state: the project's folder with its root key.
    """
    root_key = root_key_in(state)
    now = datetime.datetime.now(datetime.UTC)
    valid = own_certificate(kit)
    expired = (
        x509.CertificateBuilder(extensions=list(valid.extensions))
        .subject_name(valid.subject)
        .issuer_name(valid.issuer)
        .public_key(valid.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=30))
        .not_valid_after(now - datetime.timedelta(days=1))
        .sign(root_key, hashes.SHA256())
    )
    path = kit / "startup" / "client.crt"
    path.write_bytes(expired.public_bytes(Encoding.PEM))
    sign_again(kit, state)


def root_key_in(state: Path) -> RSAPrivateKey:
    """The project's root key, from the folder that provisioning keeps it in."""
    text = json.loads((state / "cert.json").read_text())["root_pri_key"]
    key = load_pem_private_key(text.encode(), password=None)
    assert isinstance(key, RSAPrivateKey)
    return key


def sign_again(kit: Path, state: Path) -> None:
    """Sign a kit whose startup folder was changed, as the project admin could."""
    (kit / "startup" / "signature.json").unlink()
    sign_startup(kit / "startup", root_key_in(state))


def made_up_server(folder: Path) -> tuple[Path, Path]:
    """Certificate and key of a server for localhost that no authority of a project knows."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "server")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "server.crt").write_bytes(made.public_bytes(Encoding.PEM))
    (folder / "server.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return folder / "server.crt", folder / "server.key"


def tls_answer(kit: Path) -> str:
    """The server's answer to a request with a kit's certificate; empty where it hangs up."""
    startup = kit / "startup"
    context = ssl.create_default_context(cafile=str(startup / "rootCA.pem"))
    context.load_cert_chain(startup / "client.crt", startup / "client.key")
    target = json.loads((startup / "fed_client.json").read_text())["servers"][0]["service"]
    host, port = target["target"].rsplit(":", 1)
    try:
        with (
            socket.create_connection((host, int(port)), timeout=20) as plain,
            context.wrap_socket(plain, server_hostname=host) as connection,
        ):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return connection.recv(100).decode()
    except (ssl.SSLError, ConnectionError):
        return ""
