# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse

import pytest

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.training.arguments import argument_list


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--epochs", 5, "-v", True], ["--epochs", 5, "-v", True]),
        (("a", "b"), ["a", "b"]),
        ({}, []),
        ({"lr": 0.1, "Batch_Size": 8, "dry-run": "x y"}, ["--lr=0.1", "--Batch_Size=8", "--dry-run=x y"]),
        ({"--lr": -1, "-n": 2, "-v": None, "-lr": 3}, ["--lr=-1", "-n", "2", "-v", "-lr", "3"]),
        ({"resume": None, "amp": True, "no-shuffle": True, "debug": False}, ["--resume", "--amp", "--no-shuffle"]),
        ({"layers": [64, 32], "one": ["a"], "none": []}, ["--layers", "64", "32", "--one=a"]),
        (
            {"tag": [["a"], ["b"]], "pair": [["a", 1], ["b", 2]]},
            ["--tag=a", "--tag=b", *["--pair", "a", "1", "--pair", "b", "2"]],
        ),
        ({"tag": ["a", ["b", "c"]], "-x": [["a"], ["b"]]}, ["--tag=a", "--tag", "b", "c", "-x", "a", "-x", "b"]),
        (["data.csv", {"lr": 0.1}, "last"], ["data.csv", "--lr=0.1", "last"]),
        ({"name": "resnet", "value": 0.1}, ["--name=resnet", "--value=0.1"]),
        ([{"name": "lr", "value": 0.1}, {"name": "V", "value": None}], ["--lr=0.1", "--V"]),
        ({"empty": "", "text": "True"}, ["--empty=", "--text=True"]),
    ],
)
def test_arguments_in_each_of_their_forms(given, words):
    assert argument_list(given) == words


def test_a_parser_reads_them_back():
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("-n", type=int)
    parser.add_argument("--Rate", type=float)
    parser.add_argument("--amp", action="store_true")
    parser.add_argument("--shuffle", action=argparse.BooleanOptionalAction)
    parser.add_argument("--layers", nargs="+", type=int)
    parser.add_argument("--tag", action="append")
    options = {"-n": 3, "Rate": -0.5, "amp": True, "no-shuffle": None, "layers": [64, 32], "tag": [["-a"], ["b c"]]}
    read = parser.parse_args([str(word) for word in argument_list(["rows.csv", options])])
    assert vars(read) == {
        "data": "rows.csv",
        "n": 3,
        "Rate": -0.5,
        "amp": True,
        "shuffle": False,
        "layers": [64, 32],
        "tag": ["-a", "b c"],
    }


@pytest.mark.parametrize("name", ["", "-", "--", "---x", "a b", "a=b", "=", 5, None, "a\n"])
def test_a_name_that_is_no_option(name):
    with pytest.raises(InvalidJob, match=r"^arguments has the name") as caught:
        argument_list({name: 1})
    assert caught.value.field == "arguments"


@pytest.mark.parametrize(
    "value", [{"a": "s3cr3t"}, b"s3cr3t", object(), [None], [[["s3cr3t"]]], ["a", {"b": "s3cr3t"}]]
)
def test_a_value_that_is_no_text(value):
    with pytest.raises(InvalidJob, match=r"^arguments\['x'\] has a .*; write an object as JSON text") as caught:
        argument_list({"x": value})
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("given", ["--epochs 5", b"x", 5, None])
def test_what_is_no_list_is_left_to_the_check_of_the_job(given):
    assert argument_list(given) is given
