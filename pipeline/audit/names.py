"""What a lead is known by in the books: 18 bytes for its key and its content (pure)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from pipeline.lead import HASH_SIZE_BYTES, content_hash, content_hash_of, decode

__all__ = ["KEY_SIZE_BYTES", "NAME_SIZE_BYTES", "Names"]

#: 80 bits: that any two of 10 million keys have the same is as likely as 4e-11 (5e13 pairs in 2**80), and every wrong
#: verdict needs such a pair, or two contents under one key that agree in their 64 bits: 5e-13 if every id came twice.
KEY_SIZE_BYTES = 10
NAME_SIZE_BYTES = KEY_SIZE_BYTES + HASH_SIZE_BYTES

_CONTACT_SIZE_BYTES = 16


class Names:
    """Names of records, of rows, and of contacts. The name of a key is as long as `KEY_SIZE_BYTES`, and begins that of
    each lead with this key.

    Arguments:
        salt: at most 64 bytes; default: others in each run, so that nobody can prepare two keys with one name.
    """

    def __init__(self, salt: bytes | None = None) -> None:
        self._salt = os.urandom(16) if salt is None else salt

    def key(self, key: bytes | None) -> bytes:
        """Of the key of a record."""
        return blake2b(key or b"", digest_size=KEY_SIZE_BYTES, key=self._salt).digest()

    def record(self, key: bytes | None, value: bytes | None) -> bytes:
        """Of a record of `lead-captured` or `lead-accepted`, or of one that is kept in a dead letter."""
        try:
            content = content_hash(decode(value))
        except Exception:  # no lead, or one that makes the code fail: then the bytes themselves
            content = _raw(value or b"")
        return self.key(key) + content

    def row(self, row: Sequence[Any]) -> bytes:
        """Of a row of the CRM: tenant, message id, email, phone, name, company, source, campaign, fields as JSON."""
        tenant, message_id, *texts, fields = row
        try:
            content = content_hash_of(message_id, tenant, *texts, msgspec.json.decode(fields))
        except (ValueError, TypeError, RecursionError):
            content = _raw(str(fields).encode(errors="replace"))  # somebody wrote there what no lead has
        return self.row_key(row) + content

    def row_key(self, row: Sequence[Any]) -> bytes:
        """Of the key of the records of such a row."""
        return self.key(f"{row[0]}/{row[1]}".encode(errors="replace"))

    def contact(self, tenant: str, address: str) -> int:
        """Of a contact: a number below 2**128."""
        text = f"{len(tenant)}/{tenant}/{address}".encode(errors="replace")
        return int.from_bytes(blake2b(text, digest_size=_CONTACT_SIZE_BYTES, key=self._salt).digest())


def _raw(value: bytes) -> bytes:
    return blake2b(value, digest_size=HASH_SIZE_BYTES).digest()
