# SPDX-License-Identifier: Apache-2.0
"""What an ended job left, over HTTP: the files of its model, those of its working directory."""

from __future__ import annotations

import hashlib
import uuid

import pytest

from tests.harness.server import Server, running
from tests.hostile.tenants import add_client

ONNX = """
import os, pathlib
place = pathlib.Path(os.environ["MODEL_DIR"])
(place / "model.onnx").write_bytes(b"\\x08\\x0e:7")
(place / "deep").mkdir()
for number in range(5):
    (place / "deep" / f"{number}.txt").write_text(str(number))
"""
NO_MODEL = """
import os, pathlib
pathlib.Path("out").mkdir()
pathlib.Path("out/model.pkl").write_bytes(b"0123456789")
pathlib.Path("a b?.txt").write_text("text")
os.symlink("/etc/passwd", "odd")
pathlib.Path(".cache").mkdir()
pathlib.Path(".cache/download").write_text("again")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("results") / "root") as started:
        yield started


@pytest.fixture(scope="module")
def onnx(server: Server) -> str:
    job_id = server.submit(ONNX)
    server.wait_for(job_id, "SUCCESSFUL")
    return job_id


@pytest.fixture(scope="module")
def bare(server: Server) -> str:
    job_id = server.submit(NO_MODEL, files={"data.csv": "1,2"})
    server.wait_for(job_id, "SUCCESSFUL")
    return job_id


def test_a_model_of_any_kind_and_its_bytes(server: Server, onnx: str):
    answer = server.request("GET", f"/api/v2/jobs/{onnx}/model").json()
    assert answer["job_id"] == onnx
    assert "next" not in answer
    model = answer["model"]
    assert {name: model[name] for name in ("kind", "root", "path")} == {
        "kind": "onnx",
        "root": "model",
        "path": "model",
    }
    assert [file["path"] for file in model["files"]] == [*(f"deep/{number}.txt" for number in range(5)), "model.onnx"]
    for file in model["files"]:
        got = server.request("GET", f"/api/v2/storage/objects/{file['key']}").content
        assert (len(got), hashlib.sha256(got).hexdigest()) == (file["size"], file["sha256"])
    listed = server.request("GET", f"/api/v2/storage/objects?prefix={model['prefix']}/").json()["objects"]
    assert [each["key"] for each in listed] == [file["key"] for file in model["files"]]


def test_a_model_in_pages(server: Server, onnx: str):
    whole = server.request("GET", f"/api/v2/jobs/{onnx}/model?kind=files").json()["model"]
    found, after = [], None
    while True:
        more = {} if after is None else {"after": after}
        page = server.request("GET", f"/api/v2/jobs/{onnx}/model", params={"limit": "4", **more}).json()
        assert page["model"] | {"files": []} == whole | {"files": []}
        found += page["model"]["files"]
        if (after := page["next"]) is None:
            break
    assert found == whole["files"]
    assert server.request("GET", f"/api/v2/jobs/{onnx}/model?limit=0").status_code == 422


def test_the_working_directory_of_a_job_without_a_model(server: Server, bare: str):
    status = server.status(bare)
    said = (
        "The job wrote no model. Its working directory has 2 files, 14 bytes: out/model.pkl (10 bytes), a b?.txt "
        "(4 bytes). The files stay for 7 days (--work-retention), and `jobapi model get --work "
    )
    assert status["message"].startswith(said)
    (line,) = [line for line in server.job_log(bare).splitlines() if "jobapi: " in line]
    assert f" jobapi: {said}{bare} DESTINATION` fetches them; " in line
    assert server.request("GET", f"/api/v2/jobs/{bare}/model").json() == {"job_id": bare, "model": None}
    answer = server.request("GET", f"/api/v2/jobs/{bare}/work").json()
    until = answer["work"].pop("until")
    assert answer == {
        "job_id": bare,
        "work": {
            "files": [{"path": "a b?.txt", "size": 4}, {"path": "out/model.pkl", "size": 10}],
            "count": 2,
            "size": 14,
            "leftOut": 1,
        },
        "next": None,
    }
    assert until[:10] > status["finishTime"][:10]
    one = server.request("GET", f"/api/v2/jobs/{bare}/work?limit=1").json()
    assert (one["work"]["files"], one["next"]) == ([{"path": "a b?.txt", "size": 4}], "a b?.txt")


def test_the_bytes_of_a_working_directory(server: Server, bare: str):
    base = f"/api/v2/jobs/{bare}/work"
    answer = server.request("GET", f"{base}/out/model.pkl")
    assert (answer.status_code, answer.content) == (200, b"0123456789")
    assert answer.headers["content-type"] == "application/octet-stream"
    part = server.request("GET", f"{base}/out/model.pkl", headers={"Range": "bytes=7-"})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"789", "bytes 7-9/10")
    assert server.request("GET", f"{base}/out/model.pkl", headers={"Range": "bytes=10-"}).status_code == 416
    assert server.request("GET", f"{base}/a%20b%3F.txt").text == "text"
    for path in ("none", "odd", "out", "../log", "..%2Flog", "%2Fetc%2Fpasswd", "out/../../exit.json", "a%00b"):
        answer = server.request("GET", f"{base}/{path}")
        assert answer.status_code == (422 if "%00" in path else 404), path


def test_the_working_directory_of_a_failed_job_stays_and_that_of_an_active_one_is_not_shown(server: Server, onnx: str):
    failed = server.submit("open('half.ckpt', 'w').write('x' * 9)\nraise SystemExit(3)", files={"data.csv": "1"})
    server.wait_for(failed, "FAILED")
    work = server.request("GET", f"/api/v2/jobs/{failed}/work").json()["work"]
    assert {"path": "half.ckpt", "size": 9} in work["files"]
    assert server.request("GET", f"/api/v2/jobs/{failed}/work/half.ckpt").text == "x" * 9
    assert server.request("GET", f"/api/v2/jobs/{onnx}/work").json() == {"job_id": onnx, "work": None, "next": None}
    active = server.submit("import time; time.sleep(600)")
    for path in ("work", "work/train.py", "model"):
        answer = server.request("GET", f"/api/v2/jobs/{active}/{path}")
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/job-active"), answer.text
    server.request("POST", f"/api/v2/jobs/{active}/stop")
    assert server.request("GET", f"/api/v2/jobs/{uuid.uuid4()}/work").status_code == 404
    assert server.request("DELETE", f"/api/v2/jobs/{failed}").status_code == 204
    assert server.request("GET", f"/api/v2/jobs/{failed}/work/half.ckpt").status_code == 410


def test_another_clients_results_are_not_shown(server: Server, bare: str, onnx: str):
    mallory = add_client(server, "mallory", "--trust-all-clients")
    for path in (f"{onnx}/model", f"{bare}/work", f"{bare}/work/out/model.pkl"):
        assert mallory.request("GET", f"/api/v2/jobs/{path}").status_code == 404
