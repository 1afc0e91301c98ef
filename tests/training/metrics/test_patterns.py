# SPDX-License-Identifier: Apache-2.0
"""What is recognised in log lines without a definition, and what is not."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.training.metrics.helper import read_helper, readable
from airflow_provider_jobapi.training.metrics.line_metrics import Measured
from airflow_provider_jobapi.training.metrics.patterns import LinePatterns

BOLD = "\x1b[1m100/100\x1b[0m \x1b[32m━━━━━━━━━━━━━━━━━━━━\x1b[0m\x1b[37m\x1b[0m \x1b[1m2s\x1b[0m 1ms/step"


@pytest.mark.parametrize(
    ("lines", "values", "step"),
    [
        (["loss: 0.25 - accuracy: 0.9 - val_loss: 0.5"], {"loss": 0.25, "accuracy": 0.9, "val_loss": 0.5}, None),
        (["Epoch 3/10", f"{BOLD} - accuracy: 0.87 - loss: 0.43 "], {"accuracy": 0.87, "loss": 0.43}, 3),
        (["Epoch 3/10", " 45/100 [====>....] - ETA: 2s - loss: 0.25"], {"loss": 0.25}, 2.45),
        (["Epoch 1/2", "1875/1875 - 2s - loss: 4.3e-01 - lr: 1.0000e-03"], {"loss": 0.43, "lr": 0.001}, 1),
        (["Epoch 2/2", "     17/Unknown 2s 30ms/step - loss: 0.25"], {"loss": 0.25}, 1),
        (["Epoch 2/5 - loss: 0.5"], {"loss": 0.5}, 2),
        (["Epoch 3: 100%|██████| loss=0.2, v_num=0"], {"loss": 0.2}, 4),
        (["Epoch 3:  45%|███  | 18/40 [00:01<00:01, 30.1it/s, v_num=0, train_loss=0.2]"], {"train_loss": 0.2}, 3.45),
        ([" 45%|███  | 45/100 [00:01<00:01, 30.00it/s, loss=0.25]"], {"loss": 0.25}, 45),
        (["epoch=3 step=120 loss=.5 acc=5e-1"], {"loss": 0.5, "acc": 0.5}, 120),
        (["epoch=3, loss=1."], {"loss": 1.0}, 3),
        (["2026-11-21 12:00:00 INFO global_step=7 (reward=-1.5; kl=+2)"], {"reward": -1.5, "kl": 2.0}, 7),
        (["loss=inf grad=-Infinity"], {"loss": math.inf, "grad": -math.inf}, None),
        (["val_loss: 0.5"], {"val_loss": 0.5}, None),
        (["step=3"], {}, 3),
        (["step=nan loss=1"], {"loss": 1.0}, None),
        (["step=1e300 loss=1"], {"loss": 1.0}, None),
        (["loss=1,acc=0.5,"], {"loss": 1.0, "acc": 0.5}, None),
        (["loss: 0.25, acc: 0.9"], {"loss": 0.25, "acc": 0.9}, None),
        (["Epoch [3/10], Loss: 0.4"], {"Loss": 0.4}, 3),
        (["Epoch [3/10], Step [25/100], Loss: 0.4, lr: 1e-3"], {"Loss": 0.4, "lr": 0.001}, 2.25),
        (["Epoch: 3, Loss: 0.4"], {"Loss": 0.4}, 3),
        (["iteration: 30, reward: 2"], {"reward": 2.0}, 30),
        (["2026-11-21 12:00:00,123 - INFO - loss: 0.5, kl: 2"], {"loss": 0.5, "kl": 2.0}, None),
        (["Epoch 2/5 - loss: 0.5, mae: 3"], {"loss": 0.5, "mae": 3.0}, 2),
    ],
)
def test_usual_lines_are_understood(lines, values, step):
    patterns = LinePatterns()
    read = [patterns.read(line) for line in lines][-1]
    assert read.values == values
    assert read.step == (None if step is None else pytest.approx(step))


def test_what_keras_evaluates_after_the_training_is_not_the_trainings():
    patterns = LinePatterns()
    lines = ["Epoch 1/2", "9/9 - loss: 3", "9/9 - loss: 3 - val_loss: 4", "Epoch 2/2", "2/9 - loss: 2", "9/9 - loss: 1"]
    assert [name for line in lines for name in patterns.read(line).values] == ["loss"] * 2 + ["val_loss"] + ["loss"] * 2
    assert patterns.read("1/9 - loss: 7").values == {"evaluate_loss": 7.0}
    assert patterns.read("9/9 - loss: 8").values == {"evaluate_loss": 8.0}
    assert patterns.read("10/10 - loss: 9") == Measured({"evaluate_loss": 9.0}, 2.0)
    patterns.read("Epoch 1/2")
    assert patterns.read("1/9 - loss: 7").values == {"loss": 7.0}
    assert LinePatterns().read("10/10 - loss: 9").values == {"loss": 9.0}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "pid: 33",
        "Total params: 101,770",
        "Epoch 3: val_loss improved from inf to 0.2, saving model to m.keras",
        "python3 train.py --learning_rate=0.1 --epochs=3",
        "GET https://example.com/?a=1&b=2",
        "device=cuda:0 file=1.txt host=10.0.0.1 when=12:30 size=3MB version=1.2.3 share=95%",
        "f(x)=3 a==3 a<=3 'a'=3",
        "loss=0.2.3 loss=0x10 loss=1_000 loss=--3 loss=nano",
        "lr = 0.25",
        "time: 12:30 - name: x",
        "loss=1,234.5",
        "loss: 1,234.5",
        "loss: 1,234.5, x: y",
        "losses: 1, 2, 3",
        "pid: 33, uid: 1000, port: 8080",
        "2026-11-21 12:00:00 - INFO - pid: 33, port: 8080",
        "Sat, 21 Nov 2026, 12: 30, at: 7",
        "/tmp/loss: 3, x: 1",
        "Saved /tmp/epoch: 3, loss, in 12:30, took: 7",
    ],
)
def test_what_is_no_metric_is_left_alone(line):
    assert LinePatterns().read(line).values == {}


@given(st.text(max_size=300))
def test_no_text_breaks_the_reading(text):
    read = LinePatterns().read(text)
    assert all(isinstance(value, float) for value in read.values.values())
    assert isinstance(readable(text), str)


def test_the_helpers_line_is_read_wherever_it_stands():
    line = '{"jobapi_metrics": 1, "step": 2.5, "metrics": {"loss": 0.25, "x": "NaN"}}'
    for before, after in (("", ""), (" 3/10 [==>] ", ""), ("", " tail")):
        ((read, begin, end),) = read_helper(f"{before}{line}{after}")
        assert (read.values["loss"], math.isnan(read.values["x"]), read.step) == (0.25, True, 2.5)
        assert (begin, end) == (len(before), len(before) + len(line))
        assert readable(f"{before}{line}{after}") == f"{before}step 2.5: loss=0.25 x=nan{after}"


@pytest.mark.parametrize(
    "line",
    [
        '{"jobapi_metrics": 2, "step": 1, "metrics": {"loss": 1}}',
        '{"jobapi_metrics": 1, "step": 1, "metrics": [1]}',
        '{"jobapi_metrics": 1, "step": 1, "metrics": {"loss": 1…',
        '{"jobapi_metrics": 1' + ', "a": [' * 5_000,
        '{"jobapi_metrics": 1, "metrics": {"loss": ' + "1" * 10_000 + "}}",
        '{"jobapi_metrics": [1]}',
        '{"metrics": {"loss": 1}}',
        '{"jobapi_metrics": true, "metrics": {"loss": 1}}',
        '{"jobapi_metrics": 1, "metrics": {"": 1}}',
        '{"jobapi_metrics": 1, "metrics": {}}',
    ],
)
def test_what_the_helper_cannot_have_written_is_a_line_like_others(line):
    assert read_helper(line) == []
    assert readable(line) == line


def test_every_helper_object_of_a_line_is_read_whatever_stands_between():
    one, two = ('{"jobapi_metrics": 1, "step": 3, "metrics": {"?": 1}}'.replace("?", name) for name in "ab")
    cut = one[:-9]
    for line, said in (
        (one + two, "step 3: a=1step 3: b=1"),
        (f"x {one} {cut}{two}!", f"x step 3: a=1 {cut}step 3: b=1!"),
        (f"{cut} {one}", f"{cut} step 3: a=1"),
    ):
        assert readable(line) == said
        assert [name for read, _, _ in read_helper(line) for name in read.values] == re.findall(r"(\w)=1", said)


def test_a_large_step_is_shown_to_its_last_digit():
    line = '{"jobapi_metrics": 1, "step": %s, "metrics": {"a": 1}}'
    assert [readable(line % step) for step in ("123456789", "0.123456789")] == [
        "step 123456789: a=1",
        "step 0.12345679: a=1",
    ]


def test_a_name_of_the_helper_is_fit_for_a_log():
    line = r'{"jobapi_metrics": 1, "metrics": {"a\nb\ud800": 1, "' + "n" * 200 + '": 2}}'
    assert list(read_helper(line)[0][0].values) == ["a\ufffdb\ufffd", "n" * 100]


def test_values_of_the_helper_that_are_no_numbers_are_left_out():
    values = '{"a": true, "b": null, "c": "x", "d": [1], "e": 1e999, "f": -1' + "0" * 400 + ', "g": 2}'
    ((read, _, _),) = read_helper('{"jobapi_metrics": 1, "step": true, "metrics": ' + values + "}")
    assert read == Measured({"e": math.inf, "f": -math.inf, "g": 2.0}, None)
