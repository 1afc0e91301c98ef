# SPDX-License-Identifier: Apache-2.0
"""Event files of real writers, and every form that a scalar, a tensor and a damaged record can have."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.server.run.supervisor import tfrecord
from airflow_provider_jobapi.server.run.supervisor.scalars import Curves
from airflow_provider_jobapi.server.run.supervisor.tfrecord import CorruptRecord, Event, RecordReader, single
from airflow_provider_jobapi.training.logs import parse_records
from airflow_provider_jobapi.training.metrics.helper import read_helper
from tests.harness.event_writer import event, field, masked, record, simple, varint

DATA = Path(__file__).parent / "data" / "event_files"


def curves_of(folder: Path, place: Path) -> dict[str, list[tuple[float | None, float]]]:
    """The curves of all event files below a folder: name, then steps and values."""
    curves = Curves(place, [str(folder)], 10**7, pytest.fail)
    curves.look()
    curves.finish()
    found: dict[str, list[tuple[float | None, float]]] = {}
    for line in parse_records((place / "scalars").read_bytes()):
        ((measured, begin, end),) = read_helper(line.text)
        assert (begin, end) == (0, len(line.text))
        for name, value in measured.values.items():
            found.setdefault(name, []).append((measured.step, value))
    return found


def test_tensorboardx(tmp_path):
    found = curves_of(DATA / "tensorboardX", tmp_path)
    assert found.pop("Loss/train") == [(0, 1.0), (1, 0.5), (2, 0.33333334), (3, 0.25), (4, 0.2)]
    assert found.pop("val_acc") == [(0, 0.0), (1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]
    assert math.isnan(found.pop("nan")[0][1])
    assert found == {
        "both/a/both": [(3, 1.0)],
        "both/b/both": [(3, 2.0)],
        "1796027832.761615/hparam/acc": [(0, 0.9)],
    }


def test_the_writer_of_tensorboard_itself(tmp_path):
    assert curves_of(DATA / "tensorboard", tmp_path) == {"m/loss": [(0, 0.0), (1, 0.1), (2, 0.2)]}


def test_keras_has_a_run_for_the_training_and_one_for_the_validation(tmp_path):
    found = curves_of(DATA / "keras", tmp_path)
    assert [value for _, value in found["train/epoch_loss"]] == pytest.approx(
        [1.3359736204147339, 1.0793172121047974, 0.8841237425804138, 0.7355265617370605]
    )
    assert [value for _, value in found["validation/epoch_loss"]] == pytest.approx(
        [5.280366897583008, 4.6230998039245605, 4.083555221557617, 3.638362169265747]
    )
    assert [step for step, _ in found["train/epoch_loss"]] == [0, 1, 2, 3]
    assert set(found) == {
        *(f"train/{name}" for name in ("epoch_loss", "epoch_mae", "epoch_learning_rate")),
        *(f"validation/{name}" for name in ("epoch_loss", "epoch_mae")),
        *(f"validation/evaluation_{name}_vs_iterations" for name in ("loss", "mae")),
    }


def test_tensorflow_2_and_1(tmp_path):
    assert curves_of(DATA / "tensorflow2", tmp_path) == {"loss": [(0, 1.0), (1, 0.5), (2, 0.25)]}
    (tmp_path / "scalars").unlink()
    assert curves_of(DATA / "tensorflow1", tmp_path) == {
        "loss": [(1, 1.0), (2, 0.5), (3, 0.33333334)],
        "a/rate": [(1, 2.0), (2, 1.0), (3, 0.6666667)],
    }


def test_torch_writes_in_its_old_and_its_new_style(tmp_path):
    found = curves_of(DATA / "torch", tmp_path)
    steps = range(20)
    assert found["Loss/train"] == [(step, pytest.approx(1 / (step + 1))) for step in steps]
    assert found["Loss/val"] == [(step, pytest.approx(2 / (step + 1))) for step in steps]
    assert found["precise"] == [(step, 0.1 * step) for step in steps]
    assert found["both_a/both"] == [(step, step) for step in steps]
    assert set(found) == {"Loss/train", "Loss/val", "precise", "both_a/both", "both_b/both"}


def test_lightning(tmp_path):
    found = curves_of(DATA / "lightning", tmp_path)
    assert set(found) == {"train_loss_step", "train_loss_epoch", "val_loss", "epoch"}
    assert [step for step, _ in found["train_loss_step"]] == list(range(1, 24, 2))
    assert found["val_loss"] == [(7, 0.08698663), (15, 0.0909757), (23, 0.07526193)]


def test_the_trainer_of_transformers(tmp_path):
    found = curves_of(DATA / "transformers", tmp_path)
    assert found["train/loss"] == [(2, 0.6924), (4, 0.6936), (6, 0.6936), (8, 0.6924), (10, 0.6932), (12, 0.6931)]
    assert [step for step, _ in found["eval/loss"]] == [4, 8, 12]
    assert [step for step, _ in found["train/epoch"]] == [2, 4, 4, 6, 8, 8, 10, 12, 12, 12]


def read(message: bytes, reader: RecordReader | None = None) -> Event | None:
    return (reader or RecordReader()).read(message, masked(message))


def test_the_checksum_is_that_of_the_rfc():
    """RFC 3720, B.4, and masked as TFRecord does."""
    for data, crc in ((b"\0" * 32, 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (b"123456789", 0xE3069283)):
        assert tfrecord.checksum(data) == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
        assert struct.pack("<I", tfrecord.checksum(data)) == masked(data)


@pytest.mark.parametrize("number", [0.1, 1 / 3, 1e-30, 3.4e38, 16777217.0, 0.30000001192092896])
def test_a_float_has_as_few_digits_as_it_needs(number):
    raw = struct.pack("<f", number)
    assert struct.pack("<f", single(raw)) == raw
    assert len(repr(single(raw))) <= len("3.3999999e+38")


def test_a_point_has_tag_value_step_and_time():
    assert read(event(simple("loss", 0.25), step=7, wall_time=12.5)) == Event(12.5, 7, [("loss", 0.25)])
    assert read(event(simple("loss", 0.25), simple("acc", 1), step=-1)).step == -1
    assert read(event(simple("loss", 0.25))).step is None
    assert read(event(simple("", 0.25))) is None
    assert read(field(1, 1.0) + field(3, b"brain.Event:2")) is None


SCALARS = field(9, field(1, field(1, b"scalars")))


def tensor(dtype: int, *content: bytes, shape: bytes | None = b"") -> bytes:
    return field(1, dtype) + (b"" if shape is None else field(2, shape)) + b"".join(content)


def value_of(tensor: bytes, metadata: bytes = SCALARS) -> float | None:
    found = read(event(field(1, b"t") + field(8, tensor) + metadata))
    return found and found.values[0][1]


DIMENSION = field(2, field(1, 1))


@pytest.mark.parametrize(
    ("given", "value"),
    [
        (tensor(1, field(4, struct.pack("<f", 0.1))), 0.1),
        (tensor(1, varint(5 << 3 | 5) + struct.pack("<f", 0.1)), 0.1),
        (tensor(1, field(5, struct.pack("<f", 0.1))), 0.1),
        (tensor(2, field(4, struct.pack("<d", 0.1))), 0.1),
        (tensor(2, field(6, 0.1)), 0.1),
        (tensor(2, field(6, struct.pack("<d", 0.1))), 0.1),
        (tensor(3, field(7, -5)), -5),
        (tensor(3, field(7, varint(-5))), -5),
        (tensor(9, field(10, 2**40)), 2**40),
        (tensor(9, field(4, struct.pack("<q", -3))), -3),
        (tensor(23, field(17, 2**63)), 2**63),
        (tensor(19, field(13, 0x3800)), 0.5),
        (tensor(14, field(13, 0x3F00)), 0.5),
        (tensor(14, field(4, b"\x00\x3f")), 0.5),
        (tensor(1, field(4, struct.pack("<f", 2)), shape=DIMENSION * 2), 2),
        (tensor(1, field(4, struct.pack("<f", 2)), shape=None), 2),
        (tensor(1), 0),
    ],
)
def test_tensors_of_one_number(given, value):
    assert value_of(given) == value


@pytest.mark.parametrize(
    "given",
    [
        tensor(1, field(4, struct.pack("<ff", 1, 2)), shape=field(2, field(1, 2))),
        tensor(1, field(4, struct.pack("<ff", 1, 2))),
        tensor(1, field(5, struct.pack("<ff", 1, 2))),
        tensor(1, field(4, b""), shape=field(2, field(1, 0))),
        tensor(1, field(4, struct.pack("<f", 1)), shape=field(2, b"")),
        tensor(7, field(8, b"text")),
        tensor(3, field(7, varint(1) + varint(2))),
        tensor(99, field(4, b"1234")),
        b"",
    ],
)
def test_other_tensors_are_no_points(given):
    assert value_of(given) is None


@pytest.mark.parametrize("plugin", [b"text", b"images", b"hparams", b"histograms"])
def test_tensors_of_other_plugins_are_no_points(plugin):
    assert value_of(tensor(1, field(4, struct.pack("<f", 1))), field(9, field(1, field(1, plugin)))) is None


def test_a_tensor_is_a_scalar_by_its_data_class_or_by_what_was_said_before():
    half = tensor(1, field(4, struct.pack("<f", 0.5)))
    assert value_of(half, field(9, field(4, 1))) == 0.5
    assert value_of(half, field(9, field(4, 2))) is None
    assert value_of(half, b"") is None
    reader = RecordReader()
    for metadata in (SCALARS, b""):
        assert read(event(field(1, b"t") + field(8, half) + metadata), reader).values == [("t", 0.5)]
    assert read(event(field(1, b"other") + field(8, half)), reader) is None


@given(st.binary(max_size=300), st.booleans())
def test_any_message_is_read_or_is_corrupt(message, right):
    try:
        found = RecordReader().read(message, masked(message) if right else b"1234")
    except CorruptRecord:
        return
    assert found is None or found.values


@given(st.integers(0, 200), st.integers(1, 255))
def test_no_point_comes_from_a_damaged_message(at, flipped):
    message = event(simple("loss", 0.25), step=7)
    damaged = bytearray(message)
    damaged[at % len(message)] ^= flipped
    try:
        assert RecordReader().read(bytes(damaged), masked(message)) is None
    except CorruptRecord:
        pass


def test_a_damaged_length_is_corrupt():
    with pytest.raises(CorruptRecord):
        tfrecord.message_size(b"\x01" + record(b"abc")[1:12])
    assert tfrecord.message_size(record(b"abc")[:12]) == 3


def test_a_record_of_very_many_values_is_read_in_part():
    found = read(event(*[simple("a", 1)] * (tfrecord.MOST_VALUES + 9)))
    assert len(found.values) == tfrecord.MOST_VALUES


def test_the_names_are_json():
    assert json.loads(json.dumps(read(event(simple('"\\\n', 1))).values)) == [['"\\\n', 1.0]]
