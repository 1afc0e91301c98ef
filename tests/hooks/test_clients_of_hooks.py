# SPDX-License-Identifier: Apache-2.0
"""Clients of Kubernetes and AWS, made of connections that are given and never read."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from airflow.sdk import Connection

from airflow_provider_jobapi.exceptions import ConnectionProblem
from airflow_provider_jobapi.hooks import clients
from airflow_provider_jobapi.hooks.clients import AwsOfHook, KubernetesOfHook, other_of
from airflow_provider_jobapi.services.sagemaker_ack.errors import error_of_aws, error_of_kubernetes
from tests.harness.tls import Authority


class _Cluster(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = json.dumps({"path": self.path, "token": self.headers.get("authorization", "")}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def cluster() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Cluster)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def kubernetes(url: str, user: Any = "t1", **more: Any) -> Connection:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": user} if isinstance(user, str) else user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    extra = json.dumps({"kube_config": json.dumps(config), **more})
    return Connection(conn_id="k", conn_type="kubernetes", extra=extra)


def asked(api: Any) -> dict[str, Any]:
    from kubernetes.client import CustomObjectsApi

    return dict(CustomObjectsApi(api).get_namespaced_custom_object("g", "v1", "n", "things", "one"))


def test_each_cluster_has_a_client_of_its_own(cluster: str) -> None:
    one, two = KubernetesOfHook(kubernetes(cluster), "x").api(), KubernetesOfHook(kubernetes(cluster, "t2"), "x").api()
    assert [asked(api)["token"] for api in (one, two, one)] == ["Bearer t1", "Bearer t2", "Bearer t1"]
    assert asked(one)["path"] == "/apis/g/v1/namespaces/n/things/one"


def test_the_client_of_an_event_loop(cluster: str) -> None:
    async def ask() -> dict[str, Any]:
        from kubernetes_asyncio.client import CustomObjectsApi

        async with KubernetesOfHook(kubernetes(cluster), "x").async_api() as api:
            return dict(await CustomObjectsApi(api).get_namespaced_custom_object("g", "v1", "n", "things", "one"))

    assert asyncio.run(ask()) == {"path": "/apis/g/v1/namespaces/n/things/one", "token": "Bearer t1"}


def test_an_event_loop_has_one_client_of_a_connection(cluster: str) -> None:
    async def use() -> tuple[set[int], set[int]]:
        async with AsyncExitStack() as stack:
            clusters = [KubernetesOfHook(kubernetes(cluster, user), "x") for user in ["t1"] * 20 + ["t2"]]
            clouds = [aws(endpoint_url=f"http://localhost:{port}") for port in [1] * 20 + [2]]
            apis = {id(await stack.enter_async_context(each.async_api())) for each in clusters}
            insecure = KubernetesOfHook(kubernetes(cluster, disable_verify_ssl=True), "x")
            apis.add(id(await stack.enter_async_context(insecure.async_api())))
            return apis, {id(await stack.enter_async_context(each.async_client("logs"))) for each in clouds}

    assert [len(each) for each in asyncio.run(use())] == [3, 2]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program that answers another token each time, as that of EKS does in a kubeconfig."""
    made = tmp_path / "token"
    version = "client.authentication.k8s.io/v1"
    made.write_text(f"""#!{sys.executable}
import json, pathlib
count = pathlib.Path({str(tmp_path / "count")!r})
number = int(count.read_text()) + 1 if count.exists() else 1
count.write_text(str(number))
status = {{"token": f"t{{number}}", "expirationTimestamp": "2020-01-01T00:00:00Z"}}
print(json.dumps({{"apiVersion": {version!r}, "kind": "ExecCredential", "status": status}}))
""")
    made.chmod(0o755)
    return made


def test_tokens_of_a_program_are_renewed(cluster: str, program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(program), "args": [], "env": []}}

    async def ask(api: Any) -> str:
        from kubernetes_asyncio.client import CustomObjectsApi

        found = await CustomObjectsApi(api).get_namespaced_custom_object("g", "v1", "n", "things", "one")
        return str(found["token"])

    async def use() -> list[str]:
        one, two = (KubernetesOfHook(kubernetes(cluster, user), "x") for _ in range(2))
        async with one.async_api() as api:
            tokens = [await ask(api), await ask(api)]
            monkeypatch.setattr(clients, "REJOIN_SECONDS", 0.0)
            async with two.async_api() as same:
                tokens.append(await ask(same))
            monkeypatch.setattr(clients, "RENEW_SECONDS", 0.0)
            async with asyncio.timeout(60):
                while (token := await ask(api)) == tokens[-1]:  # noqa: ASYNC110 -- the renewal sets no event
                    await asyncio.sleep(0.01)
            return [*tokens, token]

    seen = asyncio.run(use())
    assert seen[0] == seen[1] == "Bearer t1"
    assert seen[2] == "Bearer t2"
    assert int(seen[3].removeprefix("Bearer t")) >= 3


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize(
    ("more", "answers"),
    [
        ({}, False),
        ({"disable_verify_ssl": False}, False),
        ({"disable_verify_ssl": "false"}, False),
        ({"disable_verify_ssl": True}, True),
        ({"disable_verify_ssl": "True"}, True),
        ({"extra__kubernetes__disable_verify_ssl": True}, True),
    ],
)
def test_a_certificate_that_nobody_signed(more: dict[str, Any], answers: bool, tmp_path: Path) -> None:
    """Worker and triggerer treat it alike, and no other cluster of the process is concerned."""
    from kubernetes.client import Configuration

    server = ThreadingHTTPServer(("127.0.0.1", 0), _Cluster)
    server.socket = Authority(tmp_path).server_context().wrap_socket(server.socket, server_side=True)
    Thread(target=server.serve_forever, daemon=True).start()
    given = KubernetesOfHook(kubernetes(f"https://localhost:{server.server_address[1]}", **more), "x")

    async def ask() -> Any:
        from kubernetes_asyncio.client import CustomObjectsApi

        async with given.async_api() as api:
            return await CustomObjectsApi(api).get_namespaced_custom_object("g", "v1", "n", "things", "one")

    try:
        for use in (lambda: asked(given.api()), lambda: asyncio.run(ask())):
            if answers:
                assert use()["token"] == "Bearer t1"
            else:
                with pytest.raises(Exception, match="certificate verify failed") as refused:
                    use()
                said = error_of_kubernetes(refused.value, "read the job's object")
                assert isinstance(said, ConnectionProblem)
                assert str(said).startswith("The certificate of the cluster cannot be verified")
        assert Configuration.get_default_copy().verify_ssl
    finally:
        server.shutdown()
        server.server_close()


def test_the_namespace_is_the_connections() -> None:
    assert KubernetesOfHook(kubernetes("http://x", namespace="train"), "x").namespace == "train"
    assert KubernetesOfHook(kubernetes("http://x", extra__kubernetes__namespace="old"), "x").namespace == "old"
    assert KubernetesOfHook(None, "x").namespace is None


def test_a_wrong_kubeconfig_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    extra = json.dumps({"kube_config_path": "/nowhere/config"})
    wrong = KubernetesOfHook(Connection(conn_id="k", conn_type="kubernetes", extra=extra), "x")

    async def open_it() -> None:
        async with wrong.async_api():
            pass

    for use in (wrong.api, lambda: asyncio.run(open_it())):
        with pytest.raises(
            ConnectionProblem, match=r"^The connection to Kubernetes cannot be used \(ConfigException\):"
        ):
            use()


@pytest.mark.parametrize(
    ("connection", "words"),
    [
        (None, "No connection of the type kubernetes is named, and this machine is in no cluster"),
        (
            Connection(conn_id="k", conn_type="kubernetes", extra="{}"),
            "Connection k has none of in_cluster, kube_config_path, kube_config, and this machine is in no cluster",
        ),
    ],
)
def test_no_cluster_says_what_to_set(
    connection: Connection | None, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    monkeypatch.setattr("kubernetes_asyncio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    nowhere = KubernetesOfHook(connection, "x")

    async def open_it() -> None:
        async with nowhere.async_api():
            pass

    for use in (nowhere.api, lambda: asyncio.run(open_it())):
        with pytest.raises(ConnectionProblem, match=f"^{words}") as refused:
            use()
        assert "Name a connection with one of in_cluster, kube_config_path, kube_config." in str(refused.value)


def test_a_connection_without_a_type_is_taken() -> None:
    without = Connection(conn_id="mine", conn_type="", login="AKIDEXAMPLE", password="hidden-key")
    keys = AwsOfHook(other_of({"aws": without}, "aws"), "eu-west-1", "x", lambda _: None).keys()
    assert keys is not None
    assert keys.access_key == "AKIDEXAMPLE"


def aws(mask: Any = lambda _: None, **extra: Any) -> AwsOfHook:
    connection = Connection(
        conn_id="a", conn_type="aws", login="AKIDEXAMPLE", password="hidden-key", extra=json.dumps(extra)
    )
    return AwsOfHook(connection, "eu-west-1", "sagemaker", mask)


def test_the_keys_of_a_connection_are_masked() -> None:
    masked: list[str] = []
    keys = aws(masked.append, region_name="us-east-1").keys()
    assert keys is not None
    assert (keys.access_key, keys.secret_key, keys.token) == ("AKIDEXAMPLE", "hidden-key", None)
    assert masked == ["hidden-key"]
    assert "hidden" not in repr(keys)


def test_the_region_is_ours_and_the_endpoint_the_connections() -> None:
    given = aws(region_name="us-east-1", endpoint_url="http://localhost:1", verify=False)
    client = given.client("logs")
    assert (client.meta.region_name, client.meta.endpoint_url) == ("eu-west-1", "http://localhost:1")
    assert (given.endpoint("s3"), given.verify()) == ("http://localhost:1", False)
    assert (client.meta.config.connect_timeout, client.meta.config.read_timeout) == (5.0, 20.0)
    own = aws(endpoint_url="http://localhost:1", config_kwargs={"read_timeout": 7}).client("logs").meta.config
    assert (own.connect_timeout, own.read_timeout) == (5.0, 7)
    assert (aws().endpoint("s3"), aws().verify()) == ("", True)


def test_an_endpoint_whose_certificate_nobody_signed(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Cluster)
    server.socket = Authority(tmp_path).server_context().wrap_socket(server.socket, server_side=True)
    Thread(target=server.serve_forever, daemon=True).start()
    given = aws(endpoint_url=f"https://localhost:{server.server_address[1]}")

    async def ask() -> None:
        async with given.async_client("logs") as client:
            await client.describe_log_groups()

    try:
        for use in (lambda: given.client("logs").describe_log_groups(), lambda: asyncio.run(ask())):
            with pytest.raises(Exception, match=r"(?i)certificate.verify.failed") as refused:
                use()
            said = error_of_aws(refused.value, "read the log")
            assert isinstance(said, ConnectionProblem)
            assert str(said).startswith("The certificate of AWS's endpoint cannot be verified")
    finally:
        server.shutdown()
        server.server_close()


def test_the_aws_client_of_an_event_loop() -> None:
    async def address() -> tuple[str, str]:
        async with aws(endpoint_url="http://localhost:1").async_client("logs") as client:
            return client.meta.region_name, client.meta.endpoint_url

    assert asyncio.run(address()) == ("eu-west-1", "http://localhost:1")


def test_no_credentials_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    assert AwsOfHook(None, "eu-west-1", "sagemaker", lambda _: None).keys() is None
