# SPDX-License-Identifier: Apache-2.0
"""Writes event files of TensorBoard as the libraries do, with the standard library of Python 3.8 and newer.

For tests, and for jobs, which get this file as ``event_writer.py``::

    import event_writer

    with event_writer.Writer("runs/a") as writer:
        writer.scalar("loss", 0.25, step=3)
"""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

SOURCE = Path(__file__)


def crc32c(data: bytes) -> int:
    """The checksum bit by bit, so that it has nothing in common with the reader's."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    """The checksum as TFRecord stores it."""
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def record(message: bytes) -> bytes:
    """The framing of a message."""
    length = struct.pack("<Q", len(message))
    return length + masked(length) + message + masked(message)


def varint(number: int) -> bytes:
    """A whole number of protobuf."""
    number &= 2**64 - 1
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number: int, content: bytes | float) -> bytes:
    """A field of protobuf: bytes, a whole number, or a double."""
    if isinstance(content, bytes):
        return varint(number << 3 | 2) + varint(len(content)) + content
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 1) + struct.pack("<d", content)


def simple(tag: str, value: float) -> bytes:
    """A Summary.Value as torch writes it."""
    return field(1, tag.encode()) + varint(2 << 3 | 5) + struct.pack("<f", value)


def event(*values: bytes, step: int = 0, wall_time: float = 1796028356.5) -> bytes:
    """An Event with the values of a summary."""
    number = field(2, step) if step else b""
    return field(1, wall_time) + number + field(5, b"".join(field(1, value) for value in values))


def header(wall_time: float = 1796028356.5) -> bytes:
    """The first record of every file."""
    return record(field(1, wall_time) + field(3, b"brain.Event:2"))


class Writer:
    """Writes one event file.

    :param folder: Its directory, which is made.
    :param number: A number that distinguishes it from the other files of the directory.
    """

    def __init__(self, folder: str | Path, number: int = 0) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.path = Path(folder, f"events.out.tfevents.{1796028356 + number}.host.{os.getpid()}.{number}")
        self._file = self.path.open("ab")
        self.write(header())

    def scalar(self, tag: str, value: float, step: int = 0, wall_time: float | None = None) -> None:
        """Write a point, whose bytes are in the file when this returns."""
        self.write(record(event(simple(tag, value), step=step, wall_time=wall_time or time.time())))

    def write(self, data: bytes) -> None:
        """Write any bytes."""
        self._file.write(data)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Writer:  # noqa: PYI034 -- Python 3.8 has no Self
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
