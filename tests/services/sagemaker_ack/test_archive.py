# SPDX-License-Identifier: Apache-2.0
"""Archives of models, also those that a job has made to do harm."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.sagemaker_ack.archive import ALWAYS_ALLOWED, Folder, unpack

WHAT = "The archive s3://b/model.tar.gz"


def entry(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> tuple[Any, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mtime = kind, link, len(content), 1_700_000_000
    return info, content


def archive(*entries: tuple[Any, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=form) as made:
        for info, content in entries:
            made.addfile(info, io.BytesIO(content))
    return out.getvalue()


def pieces(packed: bytes, size: int = 1000) -> Iterator[bytes]:
    return (packed[i : i + size] for i in range(0, len(packed), size))


def unpacked(packed: bytes, target: Path | None = None, size: int = 1000) -> dict[str, bytes]:
    found = unpack(pieces(packed, size), len(packed), target, WHAT)
    if target is None:
        return dict.fromkeys(found, b"")
    assert {path.name for path in target.iterdir()} == {each.number for each in found.values()}
    return {path: (target / each.number).read_bytes() for path, each in found.items()}


def test_files_come_out_as_they_went_in(tmp_path: Path) -> None:
    packed = archive(
        entry("./", kind=tarfile.DIRTYPE), entry("./a.txt", b"one"), entry("dir", kind=tarfile.DIRTYPE),
        entry("dir/b.bin", b"x" * 5_000), entry("dir/" + "n" * 150, b"long"), entry("empty"),
    )  # fmt: skip
    found = unpack(pieces(packed), len(packed), tmp_path, WHAT)
    assert {path: each.size for path, each in found.items()} == {
        "a.txt": 3, "dir/b.bin": 5_000, "dir/" + "n" * 150: 4, "empty": 0,
    }  # fmt: skip
    one = found["a.txt"]
    assert (one.sha256, one.head, one.modified) == (hashlib.sha256(b"one").hexdigest(), b"one", 1_700_000_000)
    with Folder(tmp_path).read(found["dir/b.bin"].number, 10) as (start, chunks):
        assert (start, b"".join(chunks)) == (10, b"x" * 4_990)


@given(st.dictionaries(st.from_regex(r"\A[a-z]{1,8}\Z"), st.binary(max_size=2_000), max_size=5), st.integers(1, 3_000))
def test_any_files_in_any_pieces(files: dict[str, bytes], size: int) -> None:
    packed = archive(*(entry(name, content) for name, content in files.items()))
    found = unpack(pieces(packed, size), len(packed), None, WHAT)
    assert {path: each.sha256 for path, each in found.items()} == {
        path: hashlib.sha256(content).hexdigest() for path, content in files.items()
    }


def test_links_inside_become_copies(tmp_path: Path) -> None:
    packed = archive(
        entry("latest", kind=tarfile.SYMTYPE, link="steps/2"), entry("steps/2", b"two"),
        entry("steps/again", kind=tarfile.SYMTYPE, link="../latest"),
        entry("hard", kind=tarfile.LNKTYPE, link="steps/2"),
    )  # fmt: skip
    found = unpacked(packed, tmp_path)
    assert found == {"latest": b"two", "steps/2": b"two", "steps/again": b"two", "hard": b"two"}


def test_links_to_folders_become_copies_of_their_files(tmp_path: Path) -> None:
    packed = archive(
        entry("latest", kind=tarfile.SYMTYPE, link="steps/2"), entry("steps", kind=tarfile.DIRTYPE),
        entry("steps/2/w.bin", b"two"), entry("steps/2/deep/x", b"x"),
        entry("steps/2/same", kind=tarfile.SYMTYPE, link="w.bin"),
        entry("best", kind=tarfile.SYMTYPE, link="latest"), entry("one", kind=tarfile.SYMTYPE, link="best/deep/x"),
        entry("none", kind=tarfile.DIRTYPE), entry("empty", kind=tarfile.SYMTYPE, link="none"),
    )  # fmt: skip
    inside = {"w.bin": b"two", "deep/x": b"x", "same": b"two"}
    packed_again = archive(
        entry("a/l", kind=tarfile.SYMTYPE, link="../b"), entry("b/l", kind=tarfile.SYMTYPE, link="../z"), entry("z/f")
    )
    assert set(unpacked(packed_again)) == {"z/f", "b/l/f", "a/l/l/f"}
    expected = {f"{folder}/{path}": each for folder in ("steps/2", "latest", "best") for path, each in inside.items()}
    assert unpacked(packed, tmp_path) == {**expected, "one": b"x"}


def test_a_bomb_of_links_to_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each level has twice the files of the one before."""
    monkeypatch.setattr("airflow_provider_jobapi.services.sagemaker_ack.archive.MOST_FILES", 1_000)
    links = (
        entry(f"f{level}/{side}", kind=tarfile.SYMTYPE, link=f"../f{level - 1}")
        for level in range(1, 60)
        for side in "ab"
    )
    with pytest.raises(BrokenContract, match="has more than 1,000 files"):
        unpacked(archive(entry("f0/a"), *links), tmp_path)
    for left in tmp_path.iterdir():
        left.unlink()
    many = (entry(f"l{i}", kind=tarfile.SYMTYPE, link="zero") for i in range(600))
    with pytest.raises(BrokenContract, match="has more than 1,000 files"):
        unpacked(archive(entry("zero/a"), entry("zero/b"), *many), tmp_path)


def test_a_header_that_is_damaged_is_no_end(tmp_path: Path) -> None:
    """gzip's checksum is right where the job itself wrote a damaged archive; tarfile ends there without an error."""
    whole = gzip.decompress(archive(entry("a", b"1"), entry("b", b"2"), entry("c", b"3"), form=tarfile.USTAR_FORMAT))
    for damaged in (
        whole[:1024] + b"x" * 512 + whole[1536:],
        whole[: 4 * 512] + b"\0" * 511 + b"x" + whole[5 * 512 :],
        whole[:3072] + bytes(1024) + whole[1024:2048],
    ):
        with pytest.raises(BrokenContract, match="is damaged"):
            unpacked(gzip.compress(damaged), tmp_path)
        for left in tmp_path.iterdir():
            left.unlink()


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([entry("../x", b"1")], "has the path '../x'"),
        ([entry("a/../../x", b"1")], "has the path 'a/../../x'"),
        ([entry("/etc/passwd", b"1")], "has the path '/etc/passwd'"),
        ([entry("a\nb", b"1")], r"has the path 'a\nb'"),
        ([entry("a\\b", b"1")], "has the path"),
        ([entry("../d", kind=tarfile.DIRTYPE)], "has the path '../d'"),
        ([entry("l", kind=tarfile.SYMTYPE, link="/etc/passwd")], "has the link 'l', which leads to no file in it"),
        ([entry("l", kind=tarfile.SYMTYPE, link="../../x")], "has the link 'l'"),
        ([entry("l", kind=tarfile.SYMTYPE, link="l")], "has the link 'l'"),
        ([entry("l", kind=tarfile.SYMTYPE, link="m"), entry("m", kind=tarfile.SYMTYPE, link="l")], "has the link"),
        ([entry("l", kind=tarfile.LNKTYPE, link="/etc/passwd")], "has the link 'l'"),
        ([entry("d", kind=tarfile.SYMTYPE, link=".."), entry("d/x", b"1")], "has 'd' as a file and as a folder"),
        ([entry("d", b"1"), entry("d/x/y", b"1")], "has 'd' as a file and as a folder"),
        ([entry("d/x", b"1"), entry("d", b"1")], "has 'd' as a file and as a folder"),
        ([entry("d/x", b"1"), entry("d/up", kind=tarfile.SYMTYPE, link="..")], "has the link 'd/up'"),
        ([entry("d/x", b"1"), entry("d/e/up", kind=tarfile.SYMTYPE, link="..")], "has the link 'd/e/up'"),
        ([entry("d/x", b"1"), entry("l", kind=tarfile.SYMTYPE, link="d/y")], "has the link 'l', which leads to no"),
        ([entry("a", kind=tarfile.SYMTYPE, link="b/c"), entry("b", kind=tarfile.SYMTYPE, link="a")], "has the link"),
        (
            [
                entry("x/a", kind=tarfile.SYMTYPE, link="../y"),
                entry("y/b", kind=tarfile.SYMTYPE, link="../x"),
                entry("x/f"),
                entry("y/f"),
            ],
            "has the link",
        ),
        ([entry("/".join(["d"] * 101), b"1")], "has a path of more than 100 folders"),
        ([entry("a", b"1"), entry("a", b"2")], "has 'a' twice"),
        ([entry("a", b"1"), entry("./a", b"2")], "has 'a' twice"),
        ([entry("fifo", kind=tarfile.FIFOTYPE)], "has 'fifo', which is neither a file nor a link"),
        ([entry("disk", kind=tarfile.BLKTYPE)], "has 'disk', which is neither"),
    ],
)
def test_what_is_refused(entries: list[Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(BrokenContract, match=re.escape(f"{WHAT} {words}")) as refused:
        unpacked(archive(*entries), tmp_path)
    assert str(refused.value).endswith("nothing was fetched.")


def test_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_jobapi.services.sagemaker_ack.archive.ALWAYS_ALLOWED", 2**20)
    packed = archive(entry("zeros", bytes(64 * 2**20)))
    assert len(packed) < 2**18
    with pytest.raises(BrokenContract, match=r"unpacks to more than .*, 200 times its size; nothing was fetched\."):
        unpacked(packed, tmp_path, 2**20)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 20 * 2**20
    assert ALWAYS_ALLOWED == 2**30


def test_a_bomb_of_holes(tmp_path: Path) -> None:
    info, content = entry("holes", b"0\n".ljust(512, b"\0"))
    size = str(2**40)
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "holes",
                        "GNU.sparse.realsize": size}  # fmt: skip
    with pytest.raises(BrokenContract, match="unpacks to more than"):
        unpacked(archive((info, content)), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_bomb_of_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_jobapi.services.sagemaker_ack.archive.ALWAYS_ALLOWED", 2**20)
    links = (entry(f"l{i}", kind=tarfile.SYMTYPE, link="a") for i in range(2_000))
    with pytest.raises(BrokenContract, match="unpacks to more than"):
        unpacked(archive(entry("a", bytes(2**19)), *links), tmp_path)


def test_a_header_that_does_not_fit_the_memory(tmp_path: Path) -> None:
    header = tarfile.TarInfo("huge")
    header.type, header.size = tarfile.XHDTYPE, 2**33
    packed = gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(10_000))
    with pytest.raises(BrokenContract, match="has a header of"):
        unpacked(packed, tmp_path)


def test_more_files_than_a_model_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_jobapi.services.sagemaker_ack.archive.MOST_FILES", 5)
    with pytest.raises(BrokenContract, match="has more than 5 files"):
        unpacked(archive(*(entry(f"f{i}") for i in range(6))), tmp_path)
    with pytest.raises(BrokenContract, match="has more than 10 entries"):
        unpacked(archive(*(entry(f"d{i}", kind=tarfile.DIRTYPE) for i in range(11))), tmp_path)


@pytest.mark.parametrize("cut", [10, 200, -1, -9])
def test_an_archive_that_was_cut(cut: int, tmp_path: Path) -> None:
    packed = archive(entry("a", bytes(range(256)) * 40))
    with pytest.raises(BrokenContract, match=r"is damaged|has only"):
        unpacked(packed[:cut], tmp_path)


@given(st.binary(max_size=400), st.integers(0, 300))
def test_any_damage_is_one_error(noise: bytes, at: int) -> None:
    whole = archive(entry("a", b"content" * 50), entry("b/c", b"more"))
    damaged = whole[:at] + noise + whole[at + len(noise) :]
    for packed in (noise, damaged, gzip.compress(noise)):
        try:
            unpack(pieces(packed), len(packed), None, WHAT)
        except BrokenContract:
            continue


def test_no_files_at_all() -> None:
    assert unpacked(archive()) == {}
    assert unpacked(archive(entry("./", kind=tarfile.DIRTYPE))) == {}


def test_absolute_links_of_the_job_into_its_model(tmp_path: Path) -> None:
    """Scripts make such ones, as to the last checkpoint; the archive has what is in /opt/ml/model."""
    packed = archive(
        entry("ckpt/w.bin", b"w"), entry("last", kind=tarfile.SYMTYPE, link="/opt/ml/model/ckpt/"),
        entry("best.bin", kind=tarfile.SYMTYPE, link="/opt/ml/model/ckpt/w.bin"),
    )  # fmt: skip
    assert unpacked(packed, tmp_path)["last/w.bin"] == b"w"
    for link in ("/opt/ml/models/ckpt", "/opt/ml/model/../input/w.bin", "/opt/ml/model", "/opt/ml/model//etc/passwd"):
        with pytest.raises(BrokenContract, match="has the link 'last', which leads to no file in it"):
            unpacked(archive(entry("last", kind=tarfile.SYMTYPE, link=link)))


def test_a_file_whose_name_is_that_of_a_folder() -> None:
    with pytest.raises(BrokenContract, match="has the path 'x/'"):
        unpacked(archive(entry("x/", b"1")))
