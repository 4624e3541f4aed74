"""Ed25519 signatures over statements in a DSSE envelope.

Reads and writes bytes only. The signature covers the raw payload under DSSE's pre-authentication
encoding (PAE); `open_envelope` verifies before anything parses the payload, and the bytes it
returns are the authority. A key id is a hint for people: trust comes from the key that the caller
gives. Keys are PEM files as `openssl genpkey -algorithm ed25519` makes them.

Protocol: https://github.com/secure-systems-lab/dsse/blob/master/protocol.md
Leaves out: certificates, transparency logs and other algorithms; cosign signs the same file so.
Not securesystemslib's: its `Envelope.verify` trusts key ids and its base64 reader takes several
spellings, so it would spare 18 lines here and add 3 MB to the base install, of 150 MB at most.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.files.foreign_json import parse_object, regular_file
from retainbench.harness.core.files.storage import canonical

PAYLOAD_TYPE = "application/vnd.in-toto+json"
ENVELOPE_KEYS = {"payload", "payloadType", "signatures"}
MOST_KEY = 64 << 10
"""Bytes of a key's file; an Ed25519 key has 119."""


class OpenedEnvelope(NamedTuple):
    """What an envelope, or a bare statement, carries."""

    payload: bytes
    signed: bool
    keyid: str | None
    """Of the key that was verified; None if no key was given."""


def pae(payload: bytes, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """Pre-authentication encoding: lengths are decimal counts of bytes.

    >>> pae(b"hello world", "http://example.com/HelloWorld")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def seal(payload: bytes, key: Ed25519PrivateKey) -> bytes:
    """A canonical envelope with one signature."""
    signature = {"keyid": keyid(key.public_key()), "sig": _encode(key.sign(pae(payload)))}
    envelope = {
        "payload": _encode(payload),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [signature],
    }
    return canonical(envelope).encode() + b"\n"


def open_envelope(data: bytes, where: str, key: Ed25519PublicKey | None = None) -> OpenedEnvelope:
    """The payload of an envelope, verified if a key is given; or the bytes of a bare statement.

    Raises:
        IntegrityError: not JSON, no signature at all or none by the key, or a key was given for an
            unsigned file.
    """
    try:
        outer = parse_object(data.decode(), where)
    except UnicodeDecodeError as error:
        raise IntegrityError(f"{where}: not UTF-8 at byte {error.start}") from error
    if not outer.keys() & ENVELOPE_KEYS:
        if key is not None:
            raise IntegrityError(f"{where}: is an unsigned statement, so no key can vouch for it")
        return OpenedEnvelope(data.removesuffix(b"\n"), signed=False, keyid=None)
    if outer.keys() != ENVELOPE_KEYS or outer["payloadType"] != PAYLOAD_TYPE:
        raise IntegrityError(f"{where}: not a DSSE envelope of type {PAYLOAD_TYPE}")
    payload = _decode(outer["payload"], where)
    try:
        signatures = [_decode(entry["sig"], where) for entry in outer["signatures"]]
    except (KeyError, TypeError) as error:
        raise IntegrityError(f"{where}: malformed signatures in the envelope") from error
    if not signatures:
        raise IntegrityError(f"{where}: an envelope without a signature")
    if key is None:
        return OpenedEnvelope(payload, signed=True, keyid=None)
    if not any(_valid(key, signature, payload) for signature in signatures):
        raise IntegrityError(f"{where}: no signature by the key {keyid(key)[:16]}...")
    return OpenedEnvelope(payload, signed=True, keyid=keyid(key))


def keyid(key: Ed25519PublicKey) -> str:
    """SHA-256 of the key's DER form, in hexadecimal."""
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()


def private_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key from an unencrypted PEM file."""
    pem = _pem(path)
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path}: cannot be read as an unencrypted PEM private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(
            f"{path}: not an Ed25519 key; openssl genpkey -algorithm ed25519 makes one"
        )
    return key


def public_key(path: Path) -> Ed25519PublicKey:
    """Read a public key from a PEM file."""
    pem = _pem(path)
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path}: cannot be read as a PEM public key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"{path}: not an Ed25519 public key")
    return key


def _pem(path: Path) -> bytes:
    """The bytes of a key; a pipe or a device would never end."""
    try:
        regular_file(path, MOST_KEY)
        return path.read_bytes()
    except (IntegrityError, OSError) as error:
        raise UsageError(f"--key {error}") from error


def _valid(key: Ed25519PublicKey, signature: bytes, payload: bytes) -> bool:
    try:
        key.verify(signature, pae(payload))
    except InvalidSignature:
        return False
    return True


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(text: Any, where: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise IntegrityError(f"{where}: malformed base64 in the envelope") from error
    if _encode(data) != text:
        raise IntegrityError(f"{where}: base64 in the envelope is not in its usual form")
    return data
