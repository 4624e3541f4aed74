"""Ed25519 signatures over statements in a DSSE envelope.

Reads and writes bytes only. Envelopes and their encoding are securesystemslib's. The signature
covers the raw payload; `open_envelope` verifies before anything parses the payload, and the bytes
it returns are the authority. A key id is a hint for people, so signatures are tried whatever id
they name (`Envelope.verify` trusts it): trust comes from the key that the caller gives. Keys are
PEM files as `openssl genpkey -algorithm ed25519` makes them.

Protocol: https://github.com/secure-systems-lab/dsse/blob/master/protocol.md
Leaves out: certificates, transparency logs and other algorithms; cosign signs the same file so.
"""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, SSlibKey

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


def seal(payload: bytes, key: Ed25519PrivateKey) -> bytes:
    """A canonical envelope with one signature."""
    public = key.public_key()
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    envelope.sign(CryptoSigner(key, SSlibKey.from_crypto(public, keyid(public))))
    return canonical(envelope.to_dict()).encode() + b"\n"


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
    envelope = _envelope(outer, where)
    if not envelope.signatures:
        raise IntegrityError(f"{where}: an envelope without a signature")
    if key is None:
        return OpenedEnvelope(envelope.payload, signed=True, keyid=None)
    if not any(_valid(key, one.signature, envelope) for one in envelope.signatures.values()):
        raise IntegrityError(f"{where}: no signature by the key {keyid(key)[:16]}...")
    return OpenedEnvelope(envelope.payload, signed=True, keyid=keyid(key))


def _envelope(outer: dict[str, Any], where: str) -> Envelope:
    """The envelope, which must be written in the only way that gives these bytes."""
    try:
        envelope = Envelope.from_dict(copy.deepcopy(outer))  # which it empties
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"{where}: a malformed DSSE envelope") from error
    if envelope.payload_type != PAYLOAD_TYPE:
        raise IntegrityError(f"{where}: not a DSSE envelope of type {PAYLOAD_TYPE}")
    if envelope.to_dict() != outer:
        raise IntegrityError(f"{where}: unknown keys or unusual base64 in the DSSE envelope")
    return envelope


def keyid(key: Ed25519PublicKey) -> str:
    """SHA-256 of the key's DER form, in hexadecimal."""
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()


def private_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key from an unencrypted PEM file."""
    try:
        key = serialization.load_pem_private_key(_pem(path), password=None)
    except (IntegrityError, OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path}: cannot be read as an unencrypted PEM private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(
            f"{path}: not an Ed25519 key; openssl genpkey -algorithm ed25519 makes one"
        )
    return key


def public_key(path: Path) -> Ed25519PublicKey:
    """Read a public key from a PEM file."""
    try:
        key = serialization.load_pem_public_key(_pem(path))
    except (IntegrityError, OSError, ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path}: cannot be read as a PEM public key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"{path}: not an Ed25519 public key")
    return key


def _pem(path: Path) -> bytes:
    """The bytes of a key; a pipe or a device would never end."""
    regular_file(path, MOST_KEY)
    return path.read_bytes()


def _valid(key: Ed25519PublicKey, signature: str, envelope: Envelope) -> bool:
    try:
        key.verify(bytes.fromhex(signature), envelope.pae())
    except InvalidSignature:
        return False
    return True
