# SPDX-License-Identifier: Apache-2.0
"""Malicious job files, and names that try to be paths, on a real server that runs no job."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections import Counter
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostile.tenants import Held, Tenant

_JOB = 'job: {{name: a, execution: {{command: "true", {0}}}}}'
_BILLION_LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{this}: &{this} [{','.join([f'*{last}'] * 9)}]\n" for last, this in zip("abcdefgh", "bcdefghi", strict=True)
)

REFUSED = {
    "billion-laughs": _BILLION_LAUGHS + "job: *i",
    "anchor": "job: &x {name: a, execution: {command: 'true'}}",
    "alias-of-itself": "job: &x\n  name: *x",
    "merged-alias": "a: &x {name: a}\njob:\n  <<: *x",
    "tag-python": "job: !!python/object/apply:os.system ['id']",
    "tag-python-name": "job: {name: !!python/name:os.system '', execution: {command: 'true'}}",
    "tag-own": "job: {name: !x a, execution: {command: 'true'}}",
    "tag-str": "job: {name: !!str a, execution: {command: 'true'}}",
    "tag-binary": "job: {name: a, execution: {command: !!binary aGVsbG8=}}",
    "tag-set": "job: !!set {name, execution}",
    "tag-omap": "!!omap [job: 1]",
    "twice-in-yaml": "job: {name: a, name: b, execution: {command: 'true'}}",
    "twice-in-json": '{"job": {"name": "a", "name": "b", "execution": {"command": "true"}}}',
    "twice-quoted": "job: {name: a, 'name': b, execution: {command: 'true'}}",
    "twice-an-env": "job: {name: a, env: [{name: A, value: 1}, {name: A, value: 2}], execution: {command: 'true'}}",
    "two-documents": "job: {name: a, execution: {command: 'true'}}\n---\njob: {name: b, execution: {command: 'true'}}",
    "deep-yaml": "[" * 20_000,
    "deep-block": "- " * 20_000,
    "deep-keys": "? " * 20_000,
    "deep-json": '{"a":' * 20_000,
    "hexadecimal-bomb": _JOB.format("completionTime: 0x" + "f" * 5_000),
    "hexadecimal-memory": _JOB.format("resources: {memory: 0x" + "f" * 5_000 + "}"),
    "binary-memory": _JOB.format("resources: {memory: 0b" + "1" * 20_000 + "}"),
    "octal-memory": _JOB.format("resources: {memory: 0" + "7" * 9_000 + "}"),
    "decimal-bomb": _JOB.format("resources: {memory: 1" + "0" * 5_000 + "}"),
    "sexagesimal-bomb": _JOB.format("resources: {memory: " + ":".join(["1"] * 20_000) + "}"),
    "sexagesimal-float": _JOB.format("resources: {memory: " + ":".join(["1"] * 400) + ".5}"),
    "json-number-bomb": '{"job": {"name": "a", "execution": {"command": "true", "resources": {"memory": 1'
    + "0" * 5_000
    + "}}}}",
    "infinity": '{"job": {"name": "a", "execution": {"command": "true", "resources": {"memory": 1e999}}}}',
    "not-a-number": '{"job": {"name": "a", "execution": {"command": "true", "resources": {"cpus": NaN}}}}',
    "boolean": _JOB.format("resources: {cpus: true}"),
    "a-float": _JOB.format("resources: {cpus: 1.5}"),
    "memory-as-text": _JOB.format("resources: {memory: '2048'}"),
    "negative-gpus": _JOB.format("resources: {gpus: -1}"),
    "unknown-field": _JOB.format("privileged: true"),
    "surrogate-in-a-key": '{"job": {"name": "a", "\\ud800": 1, "execution": {"command": "true"}}}',
    "surrogate-in-a-command": '{"job": {"name": "a", "execution": {"command": "\\ud800"}}}',
    "surrogate-in-a-value": '{"job": {"name":"a","env":[{"name":"A","value":"\\udfff"}],"execution":{"command":"true"}}}',
    "surrogate-in-the-image": '{"job": {"name": "a", "execution": {"command": "true", "image": "\\ud800"}}}',
    "NUL-in-the-command": '{"job": {"name": "a", "execution": {"command": "tr\\u0000ue"}}}',
    "NUL-in-the-image": '{"job": {"name": "a", "execution": {"command": "true", "image": "a\\u0000"}}}',
    "number-as-a-key": "{1: 2}",
    "null-as-a-key": "{null: 2}",
    "list-as-a-key": "{[1]: 2}",
    "map-as-a-key": "{? {a: b} : 2}",
    "a-list": "[1, 2]",
    "a-text": "job",
    "nothing": "",
    "NUL": "\0",
    "not-utf-8": b"\xff\xfe",
    "utf-16": "job: {name: a}".encode("utf-16"),
    "another-yaml": "%YAML 9.9\n---\njob: a",
    "equals": "job: {name: =, execution: {command: 'true'}}",
}


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in REFUSED.items()])
def test_a_malformed_job_file_is_refused_in_one_sentence(body: str | bytes, alice: Tenant, tally: Counter[str]) -> None:
    started = time.monotonic()
    answer = alice.request(
        "POST", f"/api/v2/jobs/{uuid.uuid4()}", data=body.encode() if isinstance(body, str) else body
    )
    assert answer.status_code == 422, answer.text[:500]
    assert time.monotonic() - started < 30
    problem = answer.json()
    assert problem["type"] == "/problems/invalid-job"
    assert problem["detail"].endswith(".")
    assert len(problem["detail"]) < 600
    tally["hostile job files"] += 1


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" + b"a," * 2_000_000 + b"]", id="a-long-list"),
        pytest.param(b"- a\n" * 1_500_000, id="many-lines"),
        pytest.param(b"#" * 7_000_000, id="a-long-comment"),
        pytest.param(b"'" + b"\n" * 7_000_000 + b"'", id="an-empty-text-of-seven-million-lines"),
        pytest.param(b"{" + b"a" * 7_000_000 + b": 1}", id="a-long-key"),
        pytest.param(b'{"' + b"a" * 7_000_000 + b'": 1}', id="a-long-key-in-json"),
        pytest.param(b'{"job": [' + b"[]," * 2_500_000 + b"1]}", id="many-lists-in-json"),
        pytest.param(
            b'{"job": {"name": "' + b"a" * 7_000_000 + b'", "execution": {"command": "true"}}}', id="a-long-name"
        ),
    ],
)
def test_the_largest_job_files_cost_little(body: bytes, held: Held, alice: Tenant, tally: Counter[str]) -> None:
    process = psutil.Process(held.server.process.pid)
    before, started = process.cpu_times().user, time.monotonic()
    answer = alice.request("POST", f"/api/v2/jobs/{uuid.uuid4()}", data=body)
    assert answer.status_code in {413, 422}
    assert len(answer.content) < 2_000
    assert time.monotonic() - started < 30
    assert process.cpu_times().user - before < 10
    assert process.memory_info().rss < 600 * 2**20
    tally["hostile job files"] += 1


@settings(max_examples=150, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.text(alphabet="job:{}[]-?!&*|>%@`'\",#\n \t~=<0x1e.", max_size=200).map(str.encode),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(
                    st.sampled_from(
                        ["job", "name", "env", "execution", "command", "inputs", "resources", "path", "value"]
                    )
                    | st.text(max_size=5),
                    inner,
                    max_size=5,
                )
            ),
            max_leaves=20,
        ).map(lambda value: json.dumps({"job": value}).encode(errors="surrogatepass")),
    )
)
def test_no_job_file_makes_the_server_fail(alice: Tenant, tally: Counter[str], body: bytes) -> None:
    answer = alice.request("POST", f"/api/v2/jobs/{uuid.uuid4()}", data=body)
    assert answer.status_code == 422, (body, answer.text)
    tally["hostile job files"] += 1


CLIMBING = [
    "../x", "../../../../etc/passwd", "a/../../x", "..", ".", "./a", "a/./b", "a//b", "/etc/passwd", "//a", "a/", "a\\..\\b",
    "\\\\host\\share", "a\nb", "a\rb", "a\0b", "a\x7f", "\x1b[2J", "a" * 1025, "a/" + "b" * 256, "é" * 600,
]  # fmt: skip


@pytest.mark.parametrize("path", CLIMBING, ids=[repr(path)[:30] for path in CLIMBING])
def test_a_key_cannot_be_used_as_a_path(path: str, held: Held, alice: Tenant, tally: Counter[str]) -> None:
    before = _tree(held.server.root)
    place = f"/api/v2/storage/objects/{quote(path, safe='')}"
    for method in ("PUT", "GET", "HEAD", "DELETE"):
        answer = alice.request(method, place, data=b"x" if method == "PUT" else None)
        assert answer.status_code == 422, (method, path, answer.status_code)
        tally["hostile names"] += 1
    # As it stands: a server that tidies a path before it routes it would let it out of the objects.
    answer = alice.request("PUT", f"/api/v2/storage/objects/{quote(path, safe='/.')}", data=b"x")
    assert answer.status_code in {404, 405, 422}
    assert _tree(held.server.root) == before


@pytest.mark.parametrize("path", CLIMBING, ids=[repr(path)[:30] for path in CLIMBING])
def test_an_input_cannot_be_a_path_outside_of_the_work_folder(path: str, alice: Tenant, tally: Counter[str]) -> None:
    job = {"name": "a", "execution": {"command": "true"}, "inputs": [{"path": path, "size": 1, "sha256": "0" * 64}]}
    answer = alice.request("POST", f"/api/v2/jobs/{uuid.uuid4()}", data=json.dumps({"job": job}))
    assert answer.status_code == 422
    assert answer.json()["field"] in {"job.inputs[0].path", "job.inputs[0]"}
    tally["hostile names"] += 1


@pytest.mark.parametrize(
    "name", ["", *CLIMBING, ".hidden", "-rf", "a b", "a/b", "$(id)", "`id`", "a;b", "a\n", "名", "a" * 101]
)
def test_a_job_name_cannot_be_used_as_a_path(name: str, held: Held, alice: Tenant, tally: Counter[str]) -> None:
    before = _tree(held.server.root)
    body = json.dumps({"job": {"name": name, "execution": {"command": "true"}}})
    answer = alice.request("POST", f"/api/v2/jobs/{uuid.uuid4()}", data=body)
    assert (answer.status_code, answer.json()["field"]) == (422, "job.name")
    assert _tree(held.server.root) == before
    tally["hostile names"] += 1


@pytest.mark.parametrize(
    "job_id",
    [
        "..",
        "../x",
        "../../clients",
        ".",
        "a",
        "{id}\n",
        "{id}/..",
        "{ID}",
        "{id}\0",
        "{{{id}}}",
        "urn:uuid:{id}",
        "{hex}",
        "０" * 36,
    ],
)
@pytest.mark.parametrize("rest", ["", "/logs", "/model", "/stop"])
def test_a_job_id_cannot_be_used_as_a_path(
    job_id: str, rest: str, held: Held, alice: Tenant, tally: Counter[str]
) -> None:
    real = uuid.uuid4()
    before = _tree(held.server.root)
    given = job_id.format(id=real, ID=str(real).upper(), hex=real.hex)
    for method in ("POST", "DELETE") if rest in {"", "/stop"} else ("GET",):
        answer = alice.request(method, f"/api/v2/jobs/{quote(given, safe='')}{rest}", data=b"job: 1")
        assert answer.status_code in {404, 405, 422}, (method, answer.text)
        tally["hostile names"] += 1
    assert _tree(held.server.root) == before


@pytest.mark.parametrize("name", ["", "A=B", "A B", "A\nB", "A\0", "1A", "名", "$(id)", "A" * 201, "A-\n"])
def test_the_name_of_a_variable_cannot_define_several(name: str, alice: Tenant, tally: Counter[str]) -> None:
    job = {"name": "a", "env": [{"name": name, "value": "x"}], "execution": {"command": "true"}}
    answer = alice.request("POST", f"/api/v2/jobs/{uuid.uuid4()}", data=json.dumps({"job": job}))
    assert (answer.status_code, answer.json()["field"]) == (422, "job.env[0].name")
    tally["hostile names"] += 1


def _tree(root: Path) -> set[str]:
    """Return all files below a root directory, except the temporary files of its database."""
    found = {os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names}  # noqa: PTH118
    return {path for path in found if "jobapi.sqlite" not in path}
