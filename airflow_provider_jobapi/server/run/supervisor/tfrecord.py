# SPDX-License-Identifier: Apache-2.0
"""Read scalars from the records of TensorBoard's event files.

A part of the supervisor: standard library only, Python 3.8 and newer, and no I/O. A record is an Event message in the
framing of TFRecord: its length, the length's checksum, the message, the message's checksum. A scalar is the
``simple_value`` of TensorFlow 1, torch and tensorboardX, or the tensor of TensorFlow 2. Everything else in a record is
skipped without being looked at, whatever its size.
"""

from __future__ import annotations

import struct
from typing import Iterator, NamedTuple  # noqa: UP035 -- Python 3.8 has the others only as annotations

HEADER_BYTES = 12
FOOTER_BYTES = 4

MOST_VALUES = 5_000
"""Values of one record that are looked at."""

_MOST_TAGS = 1_000
"""Tags of one file of which it is remembered that they are scalars."""

_MASK = 0xA282EAD8
_DOUBLE, _SINGLE, _HALF, _LONG = struct.Struct("<d"), struct.Struct("<f"), struct.Struct("<e"), struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")

_VARINT, _EIGHT_BYTES, _TEXT, _FOUR_BYTES = 0, 1, 2, 5
"""The types on the wire of protobuf."""

_SCALAR_CLASS = 1
_SCALAR_PLUGIN = b"scalars"
_BFLOAT16 = 14
_OF_CONTENT = {1: "<f", 2: "<d", 3: "<i", 4: "<B", 5: "<h", 6: "<b", 9: "<q", 17: "<H", 19: "<e", 22: "<I", 23: "<Q"}
"""The form of a tensor's bytes by its data type."""


class CorruptRecord(ValueError):
    """The bytes are no record of an event file."""


class Event(NamedTuple):
    """The scalars of one record.

    :ivar time: Seconds since 1970, as the job wrote them.
    :ivar step: None where the record has none, or step 0, which is the same in it.
    :ivar values: Tags and values.
    """

    time: float
    step: int | None
    values: list[tuple[str, float]]


def _table() -> list[int]:
    table = []
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)  # noqa: PLW2901
        table.append(number)
    return table


_TABLE = _table()


def checksum(data: bytes) -> int:
    """The masked CRC-32C of TFRecord."""
    crc, table = 0xFFFFFFFF, _TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return (crc >> 15 | crc << 17 & 0xFFFFFFFF) + _MASK & 0xFFFFFFFF


def message_size(header: bytes) -> int:
    """The bytes of the message after a header.

    :raises CorruptRecord: when it is none.
    """
    if _CHECKSUM.unpack_from(header, 8)[0] != checksum(header[:8]):
        raise CorruptRecord("a record's length is damaged")
    return int(_LONG.unpack_from(header)[0])


def record_size(data: bytes, at: int) -> int:
    """The bytes of the record that begins there, if its length is not damaged."""
    return HEADER_BYTES + int(_LONG.unpack_from(data, at)[0]) + FOOTER_BYTES


class RecordReader:
    """Reads the messages of one event file, in their order."""

    def __init__(self) -> None:
        self._scalars: set[bytes] = set()
        """The tags of tensors that are scalars; TensorFlow need not say so again in each record."""

    def read(self, message: bytes, footer: bytes) -> Event | None:
        """The scalars of a message; None where it has none.

        The checksum takes most of the time, so it is compared only where something is taken from the message.

        :raises CorruptRecord: when it is damaged or no Event.
        """
        try:
            event = self._event(message)
        except (CorruptRecord, IndexError, struct.error):
            raise CorruptRecord("a record is damaged") from None
        if event is not None and _CHECKSUM.unpack(footer)[0] != checksum(message):
            raise CorruptRecord("a record is damaged")
        return event

    def _event(self, message: bytes) -> Event | None:
        values: list[tuple[str, float]] = []
        time, step = 0.0, 0
        for number, kind, value, end in _fields(message, 0, len(message)):
            if number == 5 and kind == _TEXT:
                values += self._summary(message, value, end)
            elif number == 1 and kind == _EIGHT_BYTES:
                time = _DOUBLE.unpack_from(message, value)[0]
            elif number == 2 and kind == _VARINT:
                step = value - 2**64 if value >= 2**63 else value
        return Event(time, step or None, values) if values else None

    def _summary(self, data: bytes, at: int, end: int) -> Iterator[tuple[str, float]]:
        left = MOST_VALUES
        for number, kind, value, after in _fields(data, at, end):
            if number == 1 and kind == _TEXT:
                found = self._value(data, value, after)
                if found is not None:
                    yield found
                left -= 1
                if not left:
                    return

    def _value(self, data: bytes, at: int, end: int) -> tuple[str, float] | None:
        tag, read, tensor = b"", None, None
        for number, kind, value, after in _fields(data, at, end):
            if number == 1 and kind == _TEXT:
                tag = data[value:after]
            elif number == 2 and kind == _FOUR_BYTES:
                read = single(data[value:after])
            elif number == 8 and kind == _TEXT:
                tensor = value, after
            elif number == 9 and kind == _TEXT and len(self._scalars) < _MOST_TAGS and _is_scalar(data, value, after):
                self._scalars.add(tag)
        if read is None and tensor is not None and tag in self._scalars:
            read = _of_tensor(data, *tensor)
        return None if read is None or not tag else (tag.decode("utf-8", "replace"), read)


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields of a message: number, type, value or where it begins, and where it ends."""
    while at < end:
        key, at = _varint(data, at)
        kind, value = key & 7, at
        if kind == _VARINT:
            value, at = _varint(data, at)
        elif kind == _TEXT:
            size, value = _varint(data, at)
            at = value + size
        elif kind in {_EIGHT_BYTES, _FOUR_BYTES}:
            at += 8 if kind == _EIGHT_BYTES else 4
        else:
            raise CorruptRecord
        if at > end:
            raise CorruptRecord
        yield key >> 3, kind, value, at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    byte = data[at]
    if byte < 0x80:
        return byte, at + 1
    value, shift = byte & 0x7F, 7
    while shift < 64:
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 2**64 - 1, at + 1
        shift += 7
    raise CorruptRecord


def single(raw: bytes) -> float:
    """A float of four bytes with as few digits as it needs: 0.1 rather than 0.10000000149011612."""
    exact = float(_SINGLE.unpack(raw)[0])
    for form in ("%.7g", "%.8g"):
        short = float(form % exact)
        try:
            if _SINGLE.pack(short) == raw:
                return short
        except OverflowError:
            pass
    return exact


def _is_scalar(data: bytes, at: int, end: int) -> bool:
    """Whether a value's metadata say that it is a scalar."""
    for number, kind, value, after in _fields(data, at, end):
        if number == 4 and kind == _VARINT and value == _SCALAR_CLASS:
            return True
        if number == 1 and kind == _TEXT:
            for inner, its_kind, begin, stop in _fields(data, value, after):
                if inner == 1 and its_kind == _TEXT and data[begin:stop] == _SCALAR_PLUGIN:
                    return True
    return False


def _of_tensor(data: bytes, at: int, end: int) -> float | None:
    """The number in a tensor of one number; None for any other."""
    dtype, read = 0, None
    for number, kind, value, after in _fields(data, at, end):
        if number == 1 and kind == _VARINT:
            dtype = value
        elif number == 2 and kind == _TEXT:
            if not _is_of_one(data, value, after):
                return None
        elif number >= 4:
            read = number, kind, value, after
    if read is None:
        return 0.0 if dtype in _OF_CONTENT else None
    number, kind, value, after = read
    if number == 4 and kind == _TEXT:
        return _of_content(dtype, data[value:after])
    return _of_list(dtype, number, kind, data[value:after], value)


def _is_of_one(data: bytes, at: int, end: int) -> bool:
    """Whether a tensor's shape has no dimension of more or less than one."""
    for number, kind, value, after in _fields(data, at, end):
        if number == 2 and kind == _TEXT:
            sizes = [size for inner, its_kind, size, _ in _fields(data, value, after) if (inner, its_kind) == (1, 0)]
            if sizes[-1:] != [1]:
                return False
    return True


def _of_content(dtype: int, raw: bytes) -> float | None:
    if dtype == _BFLOAT16 and len(raw) == 2:
        return single(b"\0\0" + raw)
    form = _OF_CONTENT.get(dtype)
    if form is None or len(raw) != struct.calcsize(form):
        return None
    return single(raw) if form == "<f" else float(struct.unpack(form, raw)[0])


def _of_list(dtype: int, number: int, kind: int, raw: bytes, value: int) -> float | None:
    """The number in the list that a tensor has for its data type; a list may be packed."""
    if number in {5, 6}:
        whole = len(raw) == (4 if number == 5 else 8)
        return _of_content(1 if number == 5 else 2, raw) if whole else None
    if number not in {7, 10, 11, 13, 16, 17}:
        return None
    if kind == _TEXT:
        value, after = _varint(raw, 0)
        if after != len(raw):
            return None
    if number == 13:
        return _of_content(dtype, struct.pack("<H", value & 0xFFFF))
    return float(value - 2**64 if number in {7, 10} and value >= 2**63 else value)
