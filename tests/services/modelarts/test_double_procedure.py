# SPDX-License-Identifier: Apache-2.0
"""The v1 procedure of the API's documents ("Creating a Training Job Using the TensorFlow Framework") on the double.

Each request and answer is compared literally, except for times and the cursors derived from them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from tests.harness.modelarts.caller import Caller, document
from tests.harness.modelarts.double import ModelArts

BOOT_FILE = """
import argparse
import moxing as mox

parser = argparse.ArgumentParser()
parser.add_argument("--data_url")
parser.add_argument("--train_url")
args = parser.parse_args()
mox.file.copy_parallel(args.data_url, "data")
images = open("data/train-images-idx3-ubyte").read()
open("model.pb", "w").write("learnt from " + images)
import os
os.makedirs("model/1")
os.rename("model.pb", "model/1/saved_model.pb")
mox.file.copy_parallel("model", args.train_url)
# With the last line, the boot file has written the 23303 bytes of the documents' log.
print("." * (23303 - len("Done exporting!") - 2))
print("Done exporting!")
"""
TOKEN = "MIIZmgYJKoZIhvcNAQcCoIIZizCCGYcCAQExDTALBglghkgBZQMEAgEwgXXXXXX"
PATH = "/v1/{project_id}"
JOB = f"{PATH}/training-jobs/567524"
VERSION = f"{JOB}/versions/1108482"


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelArts]:
    with ModelArts(tmp_path_factory.mktemp("procedure"), pace=0.05) as started:
        started.put("/test-modelarts/mnist-tensorflow-code/train_mnist_tf.py", BOOT_FILE)
        started.put("/test-modelarts/dataset-mnist/train-images-idx3-ubyte", "images")
        started.put("/test-modelarts/mnist-model/output/.keep", "")
        yield started


def check_login(caller: Caller) -> None:
    answer = caller.login()
    assert answer.status_code == 201
    assert answer.headers["x-subject-token"].startswith(TOKEN)


def check_delete(caller: Caller) -> None:
    """Delete as the reference says; the procedure prints GET."""
    assert caller.no("GET", JOB) == (405, "2803")
    answer = caller.send("DELETE", JOB)
    assert (answer.status_code, answer.json()) == (200, document("delete"))
    assert caller.no("GET", VERSION) == (400, "2775")


def check_log(caller: Caller, begin: float) -> None:
    log = caller.ok("GET", f"{VERSION}/aom-log?log_file=job-jobtest-tf.0&lines=8&order=desc")
    for cursor in (log["start_line"], log["end_line"]):
        assert re.fullmatch(r"\d{19}", cursor)
        assert begin * 10**9 < int(cursor) < time.time_ns()
    assert int(log["start_line"]) < int(log["end_line"])
    assert log == document("log") | {"start_line": log["start_line"], "end_line": log["end_line"]}


def test_the_whole_procedure(double: ModelArts) -> None:
    begin = time.time()
    caller = Caller(double)

    check_login(caller)

    specs = caller.ok("GET", f"{PATH}/job/resource-specs?job_type=train")
    assert specs | {"specs": specs["specs"][-2:]} == document("specs")
    assert len(specs["specs"]) == specs["spec_total_count"]

    engines = caller.ok("GET", f"{PATH}/job/ai-engines?job_type=train")
    shown = document("engines")["engines"]
    assert [engine for engine in engines["engines"] if engine in shown] == shown
    assert engines["is_success"] is True

    answer = caller.send("POST", f"{PATH}/training-jobs", document("create_request"))
    assert answer.status_code == 200
    created = answer.json()
    assert int(begin) * 1000 <= created["create_time"] <= time.time() * 1000
    assert created["create_time"] % 1000 == 0
    assert created == document("create") | {"create_time": created["create_time"]}

    details = caller.wait(VERSION, 10)
    assert created["create_time"] <= details["start_time"] <= time.time() * 1000
    assert 0 <= details["duration"] <= (time.time() - begin) * 1000
    times = {name: details[name] for name in ("create_time", "start_time", "duration")}
    assert details == document("details") | times
    assert list(details.keys() ^ document("details").keys()) == []

    assert caller.ok("GET", f"{VERSION}/log/file-names") == document("log_files")

    check_log(caller, begin)

    assert double.objects("/test-modelarts/mnist-model/output/") == [".keep", "1/saved_model.pb"]
    assert double.get("/test-modelarts/mnist-model/output/1/saved_model.pb") == b"learnt from images"

    check_delete(caller)
