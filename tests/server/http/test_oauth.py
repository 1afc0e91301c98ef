# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import hmac
import json
import socket
import stat
import time

import pytest
import requests
from authlib.integrations.requests_client import OAuth2Session
from joserfc import jwt
from joserfc.jwk import ECKey

from tests.harness.server import Server, poll, running

GRANT = {"grant_type": "client_credentials"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("oauth") / "root") as started:
        yield started


def raw_authorization(server: Server, value: bytes) -> str:
    """The answer to a GET whose Authorization header no HTTP library would send."""
    head = b"GET /oauth/token?grant_type=client_credentials HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head + b"Authorization: " + value + b"\r\n\r\n")
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


@pytest.mark.parametrize("way", ["get", "post", "form"])
def test_all_three_ways_to_ask_for_a_token_work(server: Server, way):
    secret = {"client_id": server.client_id, "client_secret": server.secret}
    answer = {
        "get": lambda: requests.get(server.token_url, params=GRANT, auth=(server.client_id, server.secret), timeout=30),
        "post": lambda: requests.post(server.token_url, data=GRANT, auth=(server.client_id, server.secret), timeout=30),
        "form": lambda: requests.post(server.token_url, data=GRANT | secret, timeout=30),
    }[way]()
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    token = answer.json()
    assert set(token) == {"access_token", "token_type", "expires_in"}
    assert (token["token_type"], token["expires_in"]) == ("Bearer", 3600)
    seen = requests.get(
        f"{server.url}/api/v2/jobs", headers={"Authorization": f"Bearer {token['access_token']}"}, timeout=30
    )
    assert seen.status_code == 200


def test_the_client_of_authlib_gets_a_token(server: Server):
    session = OAuth2Session(server.client_id, server.secret, token_endpoint=server.token_url)
    session.fetch_token(grant_type="client_credentials")
    assert session.get(f"{server.url}/api/v2/jobs", timeout=30).status_code == 200


def test_an_unknown_client_and_a_wrong_secret_get_the_same_answer_in_every_way(server: Server):
    unknown = requests.post(server.token_url, data=GRANT, auth=("nobody", "x"), timeout=30)
    wrong = requests.post(server.token_url, data=GRANT, auth=(server.client_id, "x"), timeout=30)
    form = requests.post(server.token_url, data=GRANT | {"client_id": "nobody", "client_secret": "x"}, timeout=30)
    for answer in (unknown, wrong, form):
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic ")
        assert answer.json() == {
            "error": "invalid_client",
            "error_description": "Unknown client or wrong secret: check the login and the password of the connection.",
        }


def test_a_secret_in_the_query_is_ignored(server: Server):
    secret = {"client_id": server.client_id, "client_secret": server.secret}
    assert requests.get(server.token_url, params=GRANT | secret, timeout=30).status_code == 401


@pytest.mark.parametrize("fields", [{}, {"grant_type": "password"}, {"grant_type": "authorization_code"}])
def test_an_unsupported_grant_is_refused(server: Server, fields):
    answer = requests.post(server.token_url, data=fields, auth=(server.client_id, server.secret), timeout=30)
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")


@pytest.mark.parametrize(
    "value",
    [
        b"Basic",
        b"Basic !!!",
        b"Basic " + base64.b64encode(b"\xff\xfe:\xff"),
        b"Basic " + base64.b64encode(b"airflow"),
        b"Basic \xe4\xf6",
        b"Digest x",
        b"",
    ],
)
def test_an_unreadable_authorization_header_is_refused(server: Server, value):
    assert raw_authorization(server, value).startswith("HTTP/1.1 401 ")


def test_a_body_that_is_not_a_form_is_refused(server: Server):
    for body in (b"\xff\xfe", b"&".join([b"a=1"] * 1000), b'{"grant_type": "client_credentials"}'):
        answer = requests.post(server.token_url, data=body, auth=(server.client_id, server.secret), timeout=30)
        assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")


def test_a_request_without_a_token_is_answered_with_the_address_of_the_token_endpoint(server: Server):
    for header in ({}, {"Authorization": "Basic eDp5"}, {"Authorization": "Bearer "}):
        answer = requests.get(f"{server.url}/api/v2/storage", headers=header, timeout=30)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"] == 'Bearer realm="jobapi"'
        assert "/oauth/token" in answer.json()["detail"]


def claims_and_key(server: Server):
    key = ECKey.import_key(json.loads((server.root / "keys" / "token-key.json").read_text()))
    decoded = jwt.decode(server.token(), key, algorithms=["ES256"])
    return decoded.header, decoded.claims, key


def ask(server: Server, token: str) -> requests.Response:
    return requests.get(f"{server.url}/api/v2/jobs", headers={"Authorization": f"Bearer {token}"}, timeout=30)


def test_a_token_follows_rfc_9068(server: Server):
    header, claims, key = claims_and_key(server)
    assert header == {"alg": "ES256", "typ": "at+jwt", "kid": key.kid}
    assert claims["sub"] == claims["client_id"] == "airflow"
    assert claims["exp"] - claims["iat"] == 3600
    assert ask(server, jwt.encode(header, claims, key)).status_code == 200


@pytest.mark.parametrize(
    ("header", "claims"),
    [
        ({"typ": "JWT"}, {}),
        ({"kid": "another"}, {}),
        ({"kid": None}, {}),
        ({}, {"aud": "another"}),
        ({}, {"aud": None}),
        ({}, {"iss": "another"}),
        ({}, {"exp": None}),
        ({}, {"exp": "tomorrow"}),
        ({}, {"exp": 1_000}),
        ({}, {"client_id": None}),
        ({}, {"client_id": 7}),
        ({}, {"client_id": "nobody"}),
    ],
)
def test_a_token_for_something_else_is_refused(server: Server, header, claims):
    first, second, key = claims_and_key(server)
    header = {name: value for name, value in (first | header).items() if value is not None}
    claims = {name: value for name, value in (second | claims).items() if value is not None}
    answer = ask(server, jwt.encode(header, claims, key))
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def signed_by_hand(header: dict, claims: dict, secret: bytes) -> str:
    """A token as an attacker makes it, who no library keeps from using a public key as a secret."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    signature = hmac.new(secret, b".".join(parts), "sha256").digest()
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


def test_a_token_that_another_key_signed_is_refused(server: Server):
    header, claims, key = claims_and_key(server)
    stranger = ECKey.generate_key("P-256", private=True)
    by_public_key = signed_by_hand(header | {"alg": "HS256"}, claims, key.as_pem(private=False))
    for token in (
        jwt.encode(header, claims, stranger),
        by_public_key,
        signed_by_hand(header | {"alg": "none"}, claims, b"").rpartition(".")[0] + ".",
        "x",
        "a.b.c",
        server.token()[:-4],
    ):
        assert ask(server, token).status_code == 401


def test_a_remembered_token_is_refused_after_it_expires(tmp_path):
    with running(tmp_path / "root", "--token-lifetime", "6s") as server:
        token = server.token()
        assert ask(server, token).status_code == 200
        poll(lambda: ask(server, token).status_code == 401, 30, "the token to expire")
        assert ask(server, token).json()["detail"] == "The token has expired; get a new one at /oauth/token."
        assert ask(server, server.token()).status_code == 200


def test_a_token_outlives_the_server(tmp_path):
    with running(tmp_path / "root") as server:
        token = server.token()
        server.kill()
        server.restart()
        assert ask(server, token).status_code == 200


def test_the_key_is_private_and_no_secret_is_written_to_the_disk_but_to_its_file(server: Server):
    key = server.root / "keys" / "token-key.json"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    files = [path for path in server.root.rglob("*") if path.is_file()]
    assert files
    for path in files:
        its_file = path == server.root / "connection-airflow.sh"
        assert (server.secret.encode() in path.read_bytes()) == its_file, path
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_tokens_are_made_quickly(server: Server):
    # SAP's clients get a token for every call; 100 must not take long.
    begin = time.monotonic()
    for _ in range(100):
        server.token()
    assert time.monotonic() - begin < 30


def test_no_secret_and_no_token_reaches_the_servers_log(server: Server):
    token = server.token()
    ask(server, token)
    assert server.secret not in server.log()
    assert token not in server.log()
