"""AES-GCM as MindSpore has it: records of a magic number, the tag, lengths, an initialisation vector and the cipher.

    0x7F3A5ED8 | tag[16] | length | 16 | iv[16] | n | n bytes

Numbers are u32, little-endian; `length` counts the bytes behind it; of the vector the first 12 bytes count.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from ...ir.errors import PlanishError

_MAGIC, _IV, _USED = 0x7F3A5ED8, 16, 12
_BLOCK = 1 << 28  # bytes of a record's content; MindSpore reads up to twice as many


def encrypt(pieces: Iterable[bytes | memoryview], out: BinaryIO, key: bytes) -> None:
    """Write the pieces as records. Raises `PlanishError` for a key of a wrong size, and where the package for it is not
    installed."""
    if len(key) not in (16, 24, 32):
        raise PlanishError(f"encryption: expected a key of 16, 24 or 32 bytes, got {len(key)}")
    for block in _blocks(pieces):
        vector = os.urandom(_IV)
        cipher, tag = _sealed(block, key, vector)
        head = struct.pack("<I", _MAGIC) + tag
        out.write(head + struct.pack("<II", 8 + _IV + len(cipher), _IV) + vector + struct.pack("<I", len(cipher)))
        out.write(cipher)


def _blocks(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """The same bytes in blocks of at most `_BLOCK`."""
    gathered = bytearray()
    for piece in pieces:
        gathered += piece
        while len(gathered) >= _BLOCK:
            yield bytes(gathered[:_BLOCK])
            del gathered[:_BLOCK]
    if gathered:
        yield bytes(gathered)


def _sealed(block: bytes, key: bytes, vector: bytes) -> tuple[bytes, bytes]:
    """Cipher and tag."""
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as e:
        raise PlanishError("encryption needs the package cryptography: pip install 'planish[mindspore]'") from e
    aes: Any = AESGCM(key)
    sealed: bytes = aes.encrypt(vector[:_USED], block, None)
    return sealed[:-16], sealed[-16:]


__all__ = ["encrypt"]
