# SPDX-License-Identifier: Apache-2.0
"""Forged tokens, and malicious requests to the token endpoint."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey

from tests.hostile.tenants import Held, Tenant

Claims = dict[str, Any]


@pytest.fixture(scope="module")
def key(held: Held) -> ECKey:
    """Return the signing key of the server, as if it were stolen, to test the other checks of a token."""
    return ECKey.import_key(json.loads((held.server.root / "keys" / "token-key.json").read_text()))


@pytest.fixture
def claims(alice: Tenant) -> Claims:
    """Return the claims of a valid token of Alice."""
    return dict(json.loads(_unpadded(alice.token.split(".")[1])))


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _part(content: bytes | Mapping[str, Any] | list[Any] | str | int | None) -> str:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _signed(key: ECKey, claims: Claims, **header: Any) -> str:
    full = {"alg": "ES256", "typ": "at+jwt", "kid": key.kid} | header
    return jwt.encode({name: value for name, value in full.items() if value is not None}, claims, key)


def _ask(held: Held, token: str | bytes) -> requests.Response:
    value = b"Bearer " + (token if isinstance(token, bytes) else token.encode())
    return requests.get(f"{held.server.url}/api/v2/jobs", headers={"Authorization": value}, timeout=20)


def _refused(held: Held, token: str | bytes, tally: Counter[str]) -> None:
    answer = _ask(held, token)
    assert answer.status_code == 401, (token[:80], answer.text)
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
    assert answer.json()["type"] == "/problems/token"
    tally["hostile tokens"] += 1


def test_a_token_with_all_valid_claims_is_accepted(held: Held, key: ECKey, claims: Claims) -> None:
    # Without this, everything below could be refused for a reason of the test's own.
    assert _ask(held, _signed(key, claims | {"jti": "another"})).status_code == 200


@pytest.mark.parametrize("word", ["none", "None", "NONE", "nOnE", ""])
@pytest.mark.parametrize("signature", ["", "kept", "AA"])
def test_a_token_without_a_signature_is_refused(
    word: str, signature: str, held: Held, alice: Tenant, tally: Counter[str]
) -> None:
    header, payload, real = alice.token.split(".")
    changed = json.loads(_unpadded(header)) | {"alg": word}
    _refused(held, f"{_part(changed)}.{payload}.{real if signature == 'kept' else signature}", tally)


def test_a_token_signed_with_the_public_key_as_a_password_is_refused(
    held: Held, key: ECKey, claims: Claims, tally: Counter[str]
) -> None:
    public = key.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    as_json = json.dumps(key.as_dict(private=False)).encode()
    for secret in (
        public,
        public.strip(),
        as_json,
        key.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    ):
        for algorithm, digest in (("HS256", hashlib.sha256), ("HS512", hashlib.sha512)):
            signed = f"{_part({'alg': algorithm, 'typ': 'at+jwt', 'kid': key.kid})}.{_part(claims)}"
            signature = hmac.new(secret, signed.encode(), digest).digest()
            _refused(held, f"{signed}.{_part(signature)}", tally)


def test_a_token_signed_with_another_key_is_refused(
    held: Held, key: ECKey, claims: Claims, tally: Counter[str]
) -> None:
    other = ECKey.generate_key("P-256", {"kid": key.kid})
    _refused(held, _signed(other, claims), tally)
    # The key that the token brings along, or says where it is.
    own = other.as_dict(private=False)
    for trick in ({"jwk": own}, {"jku": f"{held.server.url}/keys"}, {"x5u": "http://127.0.0.1:1/"}, {"x5c": ["MAA="]}):
        unchecked = f"{_part({'alg': 'ES256', 'typ': 'at+jwt', 'kid': key.kid} | trick)}.{_part(claims)}"
        signature = other.private_key.sign(unchecked.encode(), _ecdsa())
        _refused(held, f"{unchecked}.{_part(_raw(signature))}", tally)


def _ecdsa() -> Any:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    return ECDSA(SHA256())


def _raw(signature: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    return b"".join(number.to_bytes(32, "big") for number in decode_dss_signature(signature))


@pytest.mark.parametrize(
    "kid", ["", "../../../../dev/null", "' OR 1=1 --", "/etc/passwd", "a\0b", 1, [], {}, None, "x" * 5000]
)
def test_a_token_that_names_another_key_is_refused(
    kid: Any, held: Held, key: ECKey, claims: Claims, tally: Counter[str]
) -> None:
    header = {"alg": "ES256", "typ": "at+jwt", "kid": kid}
    _refused(held, _by_hand(key, header, claims), tally)


def _by_hand(key: ECKey, header: Any, claims: Any) -> str:
    """Return a token with any header and claims, signed with the key of the server."""
    signed = f"{_part(header)}.{_part(claims)}"
    return f"{signed}.{_part(_raw(key.private_key.sign(signed.encode(), _ecdsa())))}"


_NOW = int(time.time())


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"exp": _NOW - 1}, id="expired"),
        pytest.param({"exp": None}, id="without-an-end"),
        pytest.param({"exp": str(_NOW + 1000)}, id="end-as-text"),
        pytest.param({"exp": True}, id="end-as-boolean"),
        pytest.param({"exp": [_NOW + 1000]}, id="end-as-list"),
        pytest.param({"exp": 0}, id="end-in-1970"),
        pytest.param({"nbf": _NOW + 3600}, id="not-yet"),
        pytest.param({"nbf": "soon"}, id="not-yet-as-text"),
        pytest.param({"iss": "elsewhere"}, id="another-issuer"),
        pytest.param({"iss": None}, id="no-issuer"),
        pytest.param({"iss": ["jobapi"]}, id="issuer-as-list"),
        pytest.param({"aud": "elsewhere"}, id="another-audience"),
        pytest.param({"aud": None}, id="no-audience"),
        pytest.param({"aud": {}}, id="audience-as-object"),
        pytest.param({"client_id": "nobody"}, id="another-client"),
        pytest.param({"client_id": None}, id="no-client"),
        pytest.param({"client_id": ["airflow"]}, id="client-as-list"),
        pytest.param({"client_id": {"$ne": ""}}, id="client-as-query"),
        pytest.param({"client_id": "' OR '1'='1"}, id="client-as-sql"),
        pytest.param({"client_id": "../airflow"}, id="client-as-path"),
        pytest.param({"client_id": "a" * 10_000}, id="long-client"),
    ],
)
def test_a_token_with_the_right_key_and_wrong_claims_is_refused(
    change: Claims, held: Held, key: ECKey, claims: Claims, tally: Counter[str]
) -> None:
    changed = {
        name: value for name, value in (claims | {"jti": uuid.uuid4().hex} | change).items() if value is not None
    }
    _refused(held, _by_hand(key, {"alg": "ES256", "typ": "at+jwt", "kid": key.kid}, changed), tally)


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "JWT"}, {"typ": None}, {"typ": 1}, {"typ": "application/at+jwt"}, {"alg": "ES384"}, {"alg": "RS256"}, {"alg": None}, {"alg": 1},
        {"alg": []}, {"alg": {}}, {"crit": ["x"]}, {"crit": 1}, {"crit": []}, {"b64": False, "crit": ["b64"]}, {"enc": "A128GCM"},
    ],
    ids=str,
)  # fmt: skip
def test_a_token_with_the_right_key_and_another_header_is_refused(
    header: dict[str, Any], held: Held, key: ECKey, claims: Claims, tally: Counter[str]
) -> None:
    full = {"alg": "ES256", "typ": "at+jwt", "kid": key.kid} | header
    kept = {name: value for name, value in full.items() if value is not None}
    answer = _ask(held, _by_hand(key, kept, claims | {"jti": uuid.uuid4().hex}))
    # RFC 9068, 4: both spellings of the type name the same; unknown parameters that are not critical are ignored.
    harmless = header in ({"typ": "application/at+jwt"}, {"enc": "A128GCM"}, {"crit": []})
    assert answer.status_code == 401 or (harmless and answer.status_code == 200)
    tally["hostile tokens"] += 1


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_token_with_one_bit_changed_or_cut_is_refused(
    part: int, held: Held, alice: Tenant, tally: Counter[str]
) -> None:
    parts = alice.token.split(".")
    raw = bytearray(_unpadded(parts[part]))
    for position in (0, len(raw) // 2, len(raw) - 1):
        changed = bytearray(raw)
        changed[position] ^= 1
        _refused(held, ".".join([*parts[:part], _part(bytes(changed)), *parts[part + 1 :]]), tally)
    for length in (0, 1, len(parts[part]) // 2, len(parts[part]) - 2):
        _refused(held, ".".join([*parts[:part], parts[part][:length], *parts[part + 1 :]]) or ".", tally)


@pytest.mark.parametrize("opened", [b"[" * 15_000, b'{"a":' * 4_000, b"[]", b"1", b"null", b'"a"', b"\xff\xfe", b""])
def test_a_token_whose_parts_are_not_objects_is_refused(
    opened: bytes, held: Held, key: ECKey, claims: Claims, tally: Counter[str]
) -> None:
    _refused(held, f"{_part(opened)}.{_part(claims)}.AA", tally)
    _refused(held, _by_hand(key, {"alg": "ES256", "typ": "at+jwt", "kid": key.kid}, opened), tally)
    _refused(held, f"{_part(opened)}.a.b.c.d", tally)


@settings(max_examples=150, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(
    token=st.text(
        alphabet=st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f\x85\xa0"), max_size=200
    )
)
def test_random_text_is_refused_as_a_token(held: Held, tally: Counter[str], token: str) -> None:
    answer = _ask(held, token.encode("latin-1"))
    assert answer.status_code == 401
    tally["hostile tokens"] += 1


# The token endpoint


@settings(max_examples=150, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(
    body=st.binary(max_size=200)
    | st.text(alphabet="grant_type=client_credentials&client_id=airflow&client_secret=%00%ff+[]", max_size=120).map(
        str.encode
    ),
    authorization=st.none()
    | st.binary(max_size=60).map(lambda raw: b"Basic " + base64.b64encode(raw))
    | st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=60).map(
        lambda text: f"Basic {text}".encode()
    ),
    method=st.sampled_from(["GET", "POST"]),
)
def test_no_request_makes_the_token_endpoint_fail(
    held: Held, tally: Counter[str], body: bytes, authorization: bytes | None, method: str
) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    with requests.Session() as session:
        request = requests.Request(method, f"{held.server.url}/oauth/token", headers=headers, data=body)
        prepared = session.prepare_request(request)
        if authorization is not None:
            prepared.headers["Authorization"] = authorization  # type: ignore[assignment]
        if method == "GET":
            prepared.url = f"{held.server.url}/oauth/token?{body.decode('latin-1')}".replace("\n", "").replace("\r", "")
        answer = session.send(prepared, timeout=20)
    assert answer.status_code in {400, 401}, (answer.status_code, answer.text)
    if answer.headers["Content-Type"].startswith("application/json"):  # otherwise it was no HTTP
        assert answer.json()["error"]
        assert answer.headers["Cache-Control"] == "no-store"
    tally["hostile questions for a token"] += 1


def test_a_secret_in_the_address_is_ignored(held: Held, alice: Tenant) -> None:
    query = {"grant_type": "client_credentials", "client_id": alice.client_id, "client_secret": alice.secret}
    answer = requests.get(f"{held.server.url}/oauth/token", params=query, timeout=20)
    assert answer.status_code == 401
    assert alice.secret not in answer.text


def test_an_unknown_client_and_a_wrong_secret_get_the_same_answer(held: Held, alice: Tenant) -> None:
    form = {"grant_type": "client_credentials"}
    url = f"{held.server.url}/oauth/token"
    wrong = requests.post(url, data=form, auth=(alice.client_id, "x"), timeout=20)
    unknown = requests.post(url, data=form, auth=("nobody", "x"), timeout=20)
    assert (wrong.status_code, wrong.text) == (unknown.status_code, unknown.text)
    assert wrong.status_code == 401


def test_a_client_cannot_log_in_as_another_with_its_own_secret(held: Held, alice: Tenant, mallory: Tenant) -> None:
    url, form = f"{held.server.url}/oauth/token", {"grant_type": "client_credentials"}
    both = form | {"client_id": alice.client_id, "client_secret": mallory.secret}
    assert requests.post(url, data=both, timeout=20).status_code == 401
    # Two identities in one request: whichever is taken, the token is not Alice's.
    answer = requests.post(
        url, data=form | {"client_id": alice.client_id}, auth=(mallory.client_id, mallory.secret), timeout=20
    )
    if answer.status_code == 200:
        claims = json.loads(_unpadded(answer.json()["access_token"].split(".")[1]))
        assert claims["client_id"] == claims["sub"] == mallory.client_id
