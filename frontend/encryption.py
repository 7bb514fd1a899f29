"""Files that MindSpore encrypted: AES-GCM, AES-CBC and SM4-CBC, in records with a magic number each; and keys for them.

    AES-GCM  0x7F3A5ED8 | tag[16] | length | 16 | iv[16] | n | n bytes       MindSpore 2.x; of the iv 12 bytes count
             0x7F3A5ED8 | length | 16 | iv[16] | n | n bytes                 1.x: without the tag, not authenticated
    AES-CBC  0x7F3A5ED9 | length | 16 | iv[16] | n | n bytes                 padded (PKCS 7)
    SM4-CBC  0x7F3A5EDA | the same

Numbers are u32, little-endian; `length` counts the bytes behind it. A file is one record or more, its content what
they hold one behind the other. Keys never appear in messages, logs, caches or artifacts.
"""

from __future__ import annotations

import binascii
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..ir.errors import ModelError, PlanishError

_CIPHERS = {0x7F3A5ED8: "AES-GCM", 0x7F3A5ED9: "AES-CBC", 0x7F3A5EDA: "SM4-CBC"}
_TAG, _IV, _GCM_IV = 16, 16, 12
_KEY_SIZES = (16, 24, 32)
_LARGEST_KEY_FILE = 1024
VARIABLE = "PLANISH_KEY"
"""The environment variable that holds a key where no file is named."""


class _Record(NamedTuple):
    iv: bytes
    tag: bytes  # empty: none
    start: int
    end: int


def cipher_of(head: bytes | memoryview) -> str:
    """The cipher of a file that starts with `head`: "AES-GCM", "AES-CBC", "SM4-CBC", or "" for one that is plain (or
    encrypted by a function of the user's own)."""
    return _CIPHERS.get(int.from_bytes(head[:4], "little"), "") if len(head) >= 4 else ""


def decrypt(view: memoryview, key: bytes | None, label: str) -> bytes:
    """The content of an encrypted file. Raises `ModelError` for a missing or wrong key and for damaged records,
    `PlanishError` where the package for it is not installed. With CBC and the records of 1.x a wrong key may give
    garbage instead."""
    cipher = cipher_of(view)
    if key is None:
        raise ModelError(
            f"{label}: encrypted with {cipher}: expected a key, got none; put it in a file and give --key-file FILE, or"
            f" set {VARIABLE}"
        )
    expected = _KEY_SIZES if cipher != "SM4-CBC" else (16,)
    if len(key) not in expected:
        sizes = " or ".join(map(str, expected))
        raise ModelError(f"{label}: {cipher}: expected a key of {sizes} bytes, got one of {len(key)} bytes")
    parts = [_plain(cipher, key, record, view, label) for record in _records(view, cipher, label)]
    return parts[0] if len(parts) == 1 else b"".join(parts)


def wrong_key(label: str, cipher: str) -> ModelError:
    """What is said where decrypting fails, or gives no file of the format."""
    return ModelError(
        f"{label}: encrypted with {cipher}: the key does not fit, or the file is damaged; check the key"
        " (one written as 32 hexadecimal digits needs hex: in front)"
    )


def _records(view: memoryview, cipher: str, label: str) -> Iterator[_Record]:
    at = 0
    while at < len(view):
        if cipher_of(view[at : at + 4]) != cipher:
            raise ModelError(
                f"{label}: byte {at}: expected a record of {cipher}, got something else; the file is damaged"
            )
        record = None
        if cipher == "AES-GCM":
            record = _record(view, at + 4 + _TAG, bytes(view[at + 4 : at + 4 + _TAG]))
        record = record or _record(view, at + 4, b"")
        if record is None:
            raise ModelError(f"{label}: byte {at}: the record does not fit in the file; it is cut short or damaged")
        yield record
        at = record.end


def _record(view: memoryview, at: int, tag: bytes) -> _Record | None:
    """The record whose `length` is at `at`; None if the lengths do not fit each other and the file."""
    if at + 12 + _IV > len(view):
        return None
    length, iv = struct.unpack_from("<II", view, at)
    start = at + 12 + _IV
    (count,) = struct.unpack_from("<I", view, start - 4)
    if iv != _IV or length != 8 + _IV + count or start + count > len(view):
        return None
    return _Record(bytes(view[at + 8 : at + 8 + _IV]), tag, start, start + count)


def _plain(cipher: str, key: bytes, record: _Record, view: memoryview, label: str) -> bytes:
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives import padding
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    except ImportError as e:
        raise PlanishError(
            f"{label}: encrypted with {cipher}: the package cryptography is not installed;"
            ' pip install "planish[mindspore]"'
        ) from e
    algorithm: Any = algorithms.SM4(key) if cipher == "SM4-CBC" else algorithms.AES(key)
    data = view[record.start : record.end]
    try:
        if cipher == "AES-GCM":
            if record.tag:
                mode: Any = modes.GCM(record.iv[:_GCM_IV], record.tag)
            else:  # GCM without its tag is counting from 2
                mode = modes.CTR(record.iv[:_GCM_IV] + (2).to_bytes(4, "big"))
            decryptor = Cipher(algorithm, mode).decryptor()
            return decryptor.update(data) + decryptor.finalize()
        decryptor = Cipher(algorithm, modes.CBC(record.iv)).decryptor()
        unpadder = padding.PKCS7(128).unpadder()
        return unpadder.update(decryptor.update(data) + decryptor.finalize()) + unpadder.finalize()
    except (InvalidTag, ValueError) as e:
        raise wrong_key(label, cipher) from e


def find_key(file: Path | None) -> bytes | None:
    """The key in `file`, else in the environment variable PLANISH_KEY, else None. Raises `PlanishError` for a file that
    cannot be read and for what is no key.

    A key is 16, 24 or 32 bytes as they are (a line end behind them does not count), or its hexadecimal digits behind
    `hex:`; 48 or 64 hexadecimal digits are understood without `hex:`.
    """
    if file is None:
        text = os.environb.get(VARIABLE.encode())
        return _key(text, f"the environment variable {VARIABLE}") if text else None
    try:
        with file.open("rb") as opened:
            content = opened.read(_LARGEST_KEY_FILE)
    except (OSError, ValueError) as e:
        raise PlanishError(f"{file}: cannot read the key: {getattr(e, 'strerror', None) or e}") from e
    return _key(content, str(file))


def _key(content: bytes, where: str) -> bytes:
    if len(content) in _KEY_SIZES:
        return content
    text = content.rstrip(b"\r\n")
    if len(text) in _KEY_SIZES:
        return text
    digits = text.removeprefix(b"hex:").strip()
    if len(digits) in [2 * size for size in _KEY_SIZES]:
        try:
            return binascii.unhexlify(digits)
        except ValueError:
            pass
    raise PlanishError(
        f"{where}: expected a key of 16, 24 or 32 bytes, or hex: and 32, 48 or 64 hexadecimal digits, got"
        f" {len(text)} bytes"
    )
