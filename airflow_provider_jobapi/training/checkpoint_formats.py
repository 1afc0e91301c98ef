# SPDX-License-Identifier: Apache-2.0
"""Tell by the format of a file whether it is whole: a writer that was killed leaves a file that ends too early.

Two equal looks at a folder do not say so: after a kill nothing in it changes any more. Each format here is one that
libraries write in place, without another name.

Standard library only, Python 2.7 and newer: the server, the supervisor of a job and the boot file of ModelArts use this
file, the last two without this package.
"""

from __future__ import division

import json
import re
import struct

_CHECKED = (".npz", ".keras", ".npy", ".h5", ".hdf5", ".safetensors", ".json", ".pkl", ".pickle", ".joblib", ".pt")
_CHECKED += (".pth", ".ckpt", ".index", ".zip", ".gz", ".tar", ".nemo", ".ubj", ".onnx", ".bin", ".msgpack")
"""Endings of files that are never empty."""

_LONGEST_JSON = 64 * 1024 * 1024
_LONGEST_PICKLE = 32 * 1024 * 1024
_LONGEST_GZIP = 256 * 1024 * 1024
_PIECE = 1024 * 1024
_TORCH_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_HDF5 = b"\x89HDF\r\n\x1a\n"
_TABLE_MAGIC = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
"""The last bytes of an index of TensorFlow."""


def is_whole(name, file, size):
    """Whether a file is whole, by its format; None for a format that does not say.

    Nothing is loaded: a pickle is read opcode by opcode, and not executed.

    :param file: The file, open for reading bytes.
    :param size: Its bytes.
    """
    low = name.lower()
    if not size:
        return False if low.endswith(_CHECKED) else None
    file.seek(0)
    head = file.read(4096)
    for begins, check in _BY_HEAD:
        if head.startswith(begins):
            return check(file, size, head)
        if size < len(begins) and begins.startswith(head):
            return False
    for ends, check in _BY_NAME:
        if low.endswith(ends):
            return check(file, size, head)
    return None


def _zip(file, size, head):
    """A zip archive, as torch.save, numpy.savez and Keras write it, has its directory at its end."""
    import zipfile

    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipfile, ValueError, EOFError, IOError, struct.error, NotImplementedError):
        return False
    return all(0 <= each.header_offset < size for each in archive.infolist())


def _hdf5(file, size, head):
    """HDF5 says at its beginning where it ends, and whether a writer has it open.

    Until the writer flushes or closes it, the place is that of an earlier flush, at first only some bytes after the
    beginning: HDF5 file format specification 4.0, "Superblock", fields "End of File Address" and "File Consistency
    Flags".
    """
    if len(head) < 24:
        return False
    version = _byte(head, 8)
    if version in (0, 1):
        width, flags, at = _byte(head, 13), _byte(head, 20), 24 if version == 0 else 28
    elif version in (2, 3):
        width, flags, at = _byte(head, 9), _byte(head, 11), 12
    else:
        return None
    at += 2 * width
    if width != 8 or len(head) < at + 8:
        return None if width != 8 else False
    end = struct.unpack("<Q", head[at : at + 8])[0]
    if not flags & 1:
        return 0 < end <= size
    # It is open, or was when its writer was killed. What was flushed can be read, but not of version 3.
    return None if end == size and version < 3 else False


def _hdf5_after_user_block(file, size, head):
    """HDF5 may begin after a block of another program's bytes: at byte 512, 1024, 2048 and so on."""
    begin = 512
    while begin < size:
        file.seek(begin)
        behind = file.read(len(_HDF5) + 64)
        if behind.startswith(_HDF5):
            return _hdf5(file, size, behind)
        begin *= 2
    return False


def _npy(file, size, head):
    wide = _byte(head, 6) >= 2
    begin = 12 if wide else 10
    if len(head) < begin:
        return False
    length = struct.unpack("<I" if wide else "<H", head[8:begin])[0]
    file.seek(begin)
    text = file.read(length).decode("latin-1")
    if len(text) < length:
        return False
    kind = re.search(r"'descr':\s*'[<>|=]([a-zA-Z])(\d+)'", text)
    shape = re.search(r"'shape':\s*\(([\d,\s]*)\)", text)
    if not kind or not shape or kind.group(1) == "O":
        return None
    count = int(kind.group(2)) * (4 if kind.group(1) == "U" else 1)
    for part in re.findall(r"\d+", shape.group(1)):
        count *= int(part)
    return size >= begin + length + count


def _safetensors(file, size, head):
    length = struct.unpack("<Q", head[:8])[0] if len(head) >= 8 else 0
    if not 2 <= length <= size - 8:
        return False
    file.seek(8)
    try:
        described = json.loads(file.read(length).decode("utf-8"))
        ends = [each["data_offsets"][1] for name, each in described.items() if name != "__metadata__"]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return False
    return size >= 8 + length + max(ends or [0])


def _json(file, size, head):
    if size > _LONGEST_JSON:
        return _tail(file, size, 64).rstrip()[-1:] in (b"}", b"]")
    file.seek(0)
    try:
        json.loads(file.read().decode("utf-8-sig"))
    except ValueError:
        return False
    return True


def _pickle(file, size, head):
    import pickletools

    if head.startswith(_TORCH_LEGACY):
        return None
    if size <= _LONGEST_PICKLE:
        file.seek(0)
        try:
            for _ in pickletools.genops(file):
                pass
        except (ValueError, struct.error) as error:
            # Arrays of joblib stand between the opcodes.
            if not re.search(r"opcode .* unknown", str(error)):
                return False
        except Exception:  # noqa: BLE001 -- what a damaged file makes of it is not documented
            return None
        else:
            return True
    return _tail(file, size, 1) == b"."


def _gzip(file, size, head):
    import gzip

    if size > _LONGEST_GZIP:
        return None
    file.seek(0)
    try:
        unpacked = gzip.GzipFile(fileobj=file, mode="rb")
        while unpacked.read(_PIECE):
            pass
    except (EOFError, IOError, struct.error, ValueError):
        return False
    return True


def _tar(file, size, head):
    return size % 512 == 0 and size >= 1024 and not _tail(file, size, 1024).strip(b"\0")


def _index(file, size, head):
    return _tail(file, size, 8) == _TABLE_MAGIC


def _ubjson(file, size, head):
    return head[:1] == b"{" and _tail(file, size, 1) == b"}"


def _wrong(file, size, head):
    return False


def _tail(file, size, count):
    file.seek(max(0, size - count))
    return file.read(count)


def _byte(data, at):
    return struct.unpack("B", data[at : at + 1])[0] if len(data) > at else 0


_BY_HEAD = (
    (b"PK\x03\x04", _zip),
    (b"PK\x05\x06", _zip),
    (_HDF5, _hdf5),
    (b"\x93NUMPY", _npy),
    (b"\x1f\x8b", _gzip),
)
_BY_NAME = (
    (".safetensors", _safetensors),
    (".json", _json),
    ((".pkl", ".pickle", ".joblib"), _pickle),
    (".index", _index),
    ((".tar", ".nemo"), _tar),
    (".ubj", _ubjson),
    ((".h5", ".hdf5"), _hdf5_after_user_block),
    # These formats begin with other bytes.
    ((".npz", ".keras", ".npy", ".gz"), _wrong),
)
