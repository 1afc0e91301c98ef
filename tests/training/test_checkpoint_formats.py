# SPDX-License-Identifier: Apache-2.0
"""A file that ends too early is told by its format; real files of numpy, pickle, zip, gzip, and small ones by hand."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile

import h5py
import numpy as np
import pytest

from airflow_provider_jobapi.training.checkpoint_formats import is_whole


def npy(shape: tuple[int, ...] = (10, 10)) -> bytes:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    size = 8
    for part in shape:
        size *= part
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\x01" * size


def archive() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for number in range(3):
            file.writestr(f"archive/data/{number}", b"x" * 1000)
    return content.getvalue()


def safetensors() -> bytes:
    header = json.dumps(
        {"__metadata__": {"format": "pt"}, "w": {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]}}
    )
    return struct.pack("<Q", len(header)) + header.encode() + b"\x02" * 32


def hdf5(version: int) -> bytes:
    body = b"\x05" * 400
    if version == 0:
        head = b"\x89HDF\r\n\x1a\n" + bytes([0, 0, 0, 0, 0, 8, 8, 0]) + struct.pack("<HHI", 4, 16, 0)
        whole = len(head) + 32 + len(body)
        return head + struct.pack("<QQQQ", 0, 2**64 - 1, whole, 2**64 - 1) + body
    head = b"\x89HDF\r\n\x1a\n" + bytes([version, 8, 8, 0])
    whole = len(head) + 36 + len(body)
    return head + struct.pack("<QQQQ", 0, 2**64 - 1, whole, 96) + b"\0" * 4 + body


def packed() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as file:
        file.addfile(tarfile.TarInfo("a"))
    return content.getvalue()


FILES = {
    "state.npy": npy(),
    "state.npz": archive(),
    "model.pt": archive(),
    "model.keras": archive(),
    "model.safetensors": safetensors(),
    "old.weights.h5": hdf5(0),
    "new.h5": hdf5(2),
    "state.pkl": pickle.dumps({"epoch": 3, "weights": list(range(1000))}),
    "old.pickle": pickle.dumps({"epoch": 3, "weights": list(range(1000))}, protocol=2),
    "trainer_state.json": json.dumps({"step": 5, "log": [1.5] * 50}).encode(),
    "state.npy.gz": gzip.compress(npy()),
    "ckpt-1.index": b"t" * 90 + struct.pack("<Q", 0xDB4775248B80FB57),
    "model.tar": packed(),
    "model.ubj": b"{" + b"i" * 50 + b"}",
}


@pytest.mark.parametrize("name", FILES)
def test_a_whole_file_is_whole_and_one_that_ends_too_early_is_not(name):
    content = FILES[name]
    assert is_whole(name, io.BytesIO(content), len(content)) is True
    ends = {0, 1, 7, 20, len(content) // 3, len(content) // 2, len(content) - 1}
    for end in {end for end in ends if end < 1024} if name.endswith(".tar") else ends:
        assert is_whole(name, io.BytesIO(content[:end]), end) is False, end


@pytest.mark.parametrize("name", ["weights", "state.txt", "ckpt.data-00000-of-00001", "model.bin", "__init__"])
def test_other_formats_do_not_say(name):
    assert is_whole(name, io.BytesIO(b"\x07" * 100), 100) is None


@pytest.mark.parametrize(("name", "whole"), [("model.pt", False), ("model.bin", False), ("_SUCCESS", None)])
def test_an_empty_file(name, whole):
    assert is_whole(name, io.BytesIO(), 0) is whole


def test_a_pickle_is_read_and_not_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("was-run").touch, ())

    content = pickle.dumps(Evil())
    assert is_whole("state.pkl", io.BytesIO(content), len(content)) is True
    assert not (tmp_path / "was-run").exists()


def test_a_pickle_with_arrays_between_its_opcodes_is_told_by_its_end():
    content = pickle.dumps([1, 2])[:-1] + b"\x00\x01" * 500 + b"."
    assert is_whole("model.joblib", io.BytesIO(content), len(content)) is True
    assert is_whole("model.joblib", io.BytesIO(content[:-1]), len(content) - 1) is False


@pytest.fixture(params=["earliest", "v108", "latest"])
def library_version(request):
    return request.param


@pytest.fixture(params=[0, 512, 8192])
def user_block(request):
    return request.param


def reads(path) -> bool:
    """Whether HDF5 itself reads a file, and all that was written into it."""
    try:
        with h5py.File(path, "r") as file:
            return np.array_equal(file["layers/a/kernel"][...], KERNEL) and np.array_equal(file["b"][...], KERNEL)
    except (OSError, KeyError, RuntimeError):
        return False


KERNEL = np.arange(20_000.0)


def test_a_file_of_hdf5_is_whole_when_it_is_closed(tmp_path, library_version, user_block):
    """HDF5 writes data at once, and what describes them at the end."""
    path, copy = tmp_path / "model.weights.h5", tmp_path / "copy.h5"
    seen = []

    def look() -> None:
        content = path.read_bytes()
        copy.write_bytes(content)
        seen.append((is_whole("model.weights.h5", io.BytesIO(content), len(content)), reads(copy)))

    with h5py.File(path, "w", libver=(library_version, "latest"), userblock_size=user_block) as file:
        look()
        file["layers/a/kernel"] = KERNEL
        look()
        file["b"] = KERNEL
        look()
    look()
    assert seen == [(False, False)] * 3 + [(True, True)]


def test_a_file_of_hdf5_that_stays_open_is_torn_between_its_flushes(tmp_path, library_version):
    path, copy = tmp_path / "model.h5", tmp_path / "copy.h5"
    with h5py.File(path, "w", libver=(library_version, "latest")) as file:
        for name in ("layers/a/kernel", "b", "c"):
            file[name] = KERNEL
            assert is_whole("model.h5", io.BytesIO(path.read_bytes()), path.stat().st_size) is False
            file.flush()
            said = is_whole("model.h5", io.BytesIO(path.read_bytes()), path.stat().st_size)
        copy.write_bytes(path.read_bytes())
        # HDF5 does not read a file of the newest version that was not closed.
        assert (said, reads(copy)) == ((False, False) if library_version == "latest" else (None, True))


@pytest.mark.parametrize("end", [0, 7, 100, 512, 520, 600, 5000])
def test_a_file_of_hdf5_that_ends_too_early_is_torn(tmp_path, library_version, user_block, end):
    path = tmp_path / "model.hdf5"
    with h5py.File(path, "w", libver=(library_version, "latest"), userblock_size=user_block) as file:
        file["a"] = KERNEL
    content = path.read_bytes()[:end]
    assert is_whole("model.hdf5", io.BytesIO(content), end) is False


def test_a_file_of_hdf5_that_another_program_made_longer_is_whole(tmp_path, library_version):
    path = tmp_path / "model.h5"
    with h5py.File(path, "w", libver=(library_version, "latest")) as file:
        file["layers/a/kernel"] = file["b"] = KERNEL
    content = path.read_bytes() + b"more"
    path.write_bytes(content)
    assert (is_whole("model.h5", io.BytesIO(content), len(content)), reads(path)) == (True, True)
