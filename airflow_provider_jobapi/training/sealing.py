# SPDX-License-Identifier: Apache-2.0
"""Encrypt secrets for a place that others can read, so that any one of several keys opens them.

The content is encrypted with AES-256-GCM under a random key. That key is encrypted once for each of the given keys. So
the seal is opened also after all given keys but one were changed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

_VERSION = b"airflow-provider-jobapi seal 1"
_NONCE, _SALT, _KEY = 12, 16, 32
"""Bytes of AES-GCM's nonce, of a salt, of a key."""
_PAD = 256
"""The content is padded to a multiple of these bytes, so that its length says little."""
_SCRYPT_COST = 2**14
"""scrypt's N: 16 MiB and about 50 ms for each guess at a password."""


@dataclass(frozen=True, slots=True)
class SealKey:
    """A key that opens a seal.

    :ivar kind: Where it is from; a key is only tried on what was sealed for its kind.
    :ivar secret: The key, or a password.
    :ivar random: Whether it is a random key, which needs no protection against guessing.
    """

    kind: str
    secret: bytes = field(repr=False)
    random: bool = False

    def derive(self, salt: bytes) -> bytes:
        """Return the AES key: by HKDF-SHA-256 from a random key, by scrypt from a password."""
        if self.random:
            return hmac.digest(hmac.digest(salt, self.secret, "sha256"), _VERSION + b"\x01", "sha256")
        return hashlib.scrypt(self.secret, salt=salt, n=_SCRYPT_COST, r=8, p=1, dklen=_KEY)


def seal(values: Iterable[str], keys: Sequence[SealKey]) -> str:
    """Encrypt texts.

    :param keys: Each opens the seal. Without one nothing does.
    """
    content = json.dumps(sorted(set(values))).encode()
    content += b" " * (-len(content) % _PAD)
    inner = secrets.token_bytes(_KEY)
    slots = []
    for key in keys:
        salt = secrets.token_bytes(_SALT)
        slots.append({"kind": key.kind, "salt": _text(salt), "key": _text(_encrypt(key.derive(salt), inner))})
    sealed = {"slots": slots, "content": _text(_encrypt(inner, content))}
    return _text(json.dumps(sealed, separators=(",", ":")).encode())


def unseal(sealed: str, keys: Iterable[SealKey]) -> tuple[str, ...] | None:
    """Decrypt texts; None where none of the keys opens the seal, or it is damaged."""
    try:
        read = json.loads(_bytes(sealed))
        slots = [(slot["kind"], _bytes(slot["salt"]), _bytes(slot["key"])) for slot in read["slots"]]
        content = _bytes(read["content"])
    except (ValueError, TypeError, KeyError):
        return None
    for key in keys:
        for kind, salt, wrapped in slots:
            inner = _decrypt(key.derive(salt), wrapped) if kind == key.kind else None
            values = None if inner is None else _decrypt(inner, content)
            if values is not None:
                return tuple(json.loads(values))
    return None


def _encrypt(key: bytes, content: bytes) -> bytes:
    nonce = secrets.token_bytes(_NONCE)
    return nonce + bytes(_cipher(key).encrypt(nonce, content, _VERSION))


def _decrypt(key: bytes, content: bytes) -> bytes | None:
    from cryptography.exceptions import InvalidTag

    try:
        return bytes(_cipher(key).decrypt(content[:_NONCE], content[_NONCE:], _VERSION))
    except (InvalidTag, ValueError):
        return None


def _cipher(key: bytes) -> Any:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


def _text(content: bytes) -> str:
    return urlsafe_b64encode(content).decode()


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text)
