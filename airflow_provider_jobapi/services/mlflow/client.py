# SPDX-License-Identifier: Apache-2.0
"""Send requests to an MLflow server: the REST API, and the files of runs that it keeps."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from airflow_provider_jobapi.exceptions import (
    BrokenContract,
    ConnectionProblem,
    InvalidJob,
    QuotaReached,
    ServiceUnavailable,
    TrainingError,
)
from airflow_provider_jobapi.services.answer import Answer, sentence
from airflow_provider_jobapi.services.files.sources import OnBytes, Source
from airflow_provider_jobapi.services.files.stores import StoredObject
from airflow_provider_jobapi.services.files.transfers import THREADS
from airflow_provider_jobapi.services.jobapi.errors import error_of_fault
from airflow_provider_jobapi.services.mlflow.connection import MlflowConnection
from airflow_provider_jobapi.services.retry import Retry

if TYPE_CHECKING:
    from requests import Response, Session

Result = TypeVar("Result")

CONNECT_TIMEOUT = 10.0
"""Seconds to open a connection."""

UPLOAD_TIMEOUT = 900.0
"""Seconds to wait for the answer to an upload, at the least: the server first writes the file into its own store."""

_API = "/api/2.0/mlflow"
_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"


class Refused(InvalidJob):
    """MLflow refuses a request.

    :ivar code: MLflow's word for it, such as ``RESOURCE_ALREADY_EXISTS``.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class MlflowClient:
    """Sends requests to one MLflow server, each once. Safe for threads.

    :param retry: How :meth:`lasting` repeats while the server is unavailable.
    """

    def __init__(self, connection: MlflowConnection, *, retry: Retry | None = None, log: Any = None) -> None:
        self.connection = connection
        self.retry = retry or Retry()
        self._log = log
        self._session: Session | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.connection.base_url!r})"

    def lasting(self, work: Callable[[], Result]) -> Result:
        """Do some work, again while the server is unavailable; it must be safe to repeat as a whole."""
        return self.retry.call(work, self._log)

    def get(self, path: str, what: str, **params: Any) -> dict[str, Any]:
        """Ask for something.

        :param path: Below ``/api/2.0/mlflow/``.
        :param what: What the request is about, for errors.
        :raises Refused: with MLflow's own words.
        """
        return self._content(self._send("GET", f"{_API}/{path}", what, params=params), what)

    def post(self, path: str, what: str, body: Mapping[str, Any], method: str = "POST") -> dict[str, Any]:
        """Change something; parameters and errors as for :meth:`get`."""
        return self._content(self._send(method, f"{_API}/{path}", what, json=body), what)

    def put_artifact(self, path: str, source: Source, on_bytes: OnBytes) -> None:
        """Upload a file into the artifacts that the server keeps.

        :param path: Below the server's place for artifacts.
        """
        with source.open(on_bytes) as body:
            # requests sends a file without bytes in chunks, which says nothing about its length.
            data = body if source.size else b""
            timeout = max(UPLOAD_TIMEOUT, self.connection.timeout)
            self._send("PUT", f"{_ARTIFACTS}/{quote(path, safe='/')}", source.name, timeout, data=data)

    def version(self) -> str:
        """The version of the server."""
        return sentence(self._send("GET", "/version", "its version").body.decode("utf-8", "replace"), 40)

    def _send(self, method: str, path: str, what: str, timeout: float | None = None, **more: Any) -> Answer:
        address = self.connection.base_url
        try:
            response = self._opened().request(
                method,
                f"{address}{path}",
                timeout=(min(CONNECT_TIMEOUT, self.connection.timeout), timeout or self.connection.timeout),
                allow_redirects=False,
                **more,
            )
        except OSError as error:
            raise error_of_fault(error, address) from None
        answer = _answer(response)
        if not 200 <= answer.status < 300:
            raise _error(answer, address, what, self.connection.password)
        return answer

    def _content(self, answer: Answer, what: str) -> dict[str, Any]:
        try:
            content = json.loads(answer.body)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise BrokenContract(
                f"{self.connection.base_url} does not answer as MLflow does for {what}; check the connection's host."
            )
        return content

    def _opened(self) -> Session:
        if self._session is None:
            from requests import Session
            from requests.adapters import HTTPAdapter

            connection, session = self.connection, Session()
            # A netrc file would replace the password, and REQUESTS_CA_BUNDLE the connection's own bundle.
            session.trust_env = False
            session.headers["User-Agent"] = "airflow-provider-jobapi"
            if authorization := connection.authorization:
                session.headers["Authorization"] = authorization
            session.verify = connection.roots() if connection.verify else False
            if proxy := connection.proxy_for(connection.base_url):
                session.proxies = {"http": proxy, "https": proxy}
            for scheme in ("http://", "https://"):
                session.mount(scheme, HTTPAdapter(pool_maxsize=THREADS))
            self._session = session
        return self._session


class ArtifactStore:
    """The artifacts that an MLflow server keeps, as a store for uploads.

    The server has no hashes and its listings are for people, so nothing that is there already is skipped.
    """

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def head(self, key: str) -> StoredObject | None:  # noqa: ARG002 -- the protocol's signature
        """Not known."""
        return None

    def put(self, key: str, source: Source, on_bytes: OnBytes) -> None:
        """Upload a file.

        :raises InvalidJob: for a name that MLflow does not allow.
        """
        try:
            self._client.put_artifact(key, source, on_bytes)
        except Refused as error:
            raise InvalidJob(
                f"MLflow does not take the file {source.name!r} of the model: {error} Fetch the model into a bucket "
                "that MLflow can read and register it there, or let the script write other names."
            ) from None

    def read(self, key: str, start: int) -> AbstractContextManager[tuple[int, Iterator[bytes]]]:
        """Not needed."""
        raise NotImplementedError

    def list_objects(self, prefix: str) -> Iterator[StoredObject]:  # noqa: ARG002 -- the protocol's signature
        """Nothing."""
        return iter(())


def _answer(response: Response) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, headers, response.content, datetime.now(UTC))


def _error(answer: Answer, address: str, what: str, secret: str) -> TrainingError:
    """The error for an answer that is not a success."""
    code, said = _problem(answer)
    if secret:
        said = said.replace(secret, "***")
    status = answer.status
    if status == 429 or status >= 500:
        message = f"MLflow at {address} cannot serve now ({status}). {said}".rstrip()
        return ServiceUnavailable(message, retry_after=answer.retry_after())
    if status in {413, 507}:
        return QuotaReached(f"MLflow at {address} does not take {what}: it is too large ({status}). {said}".rstrip())
    if status in {401, 403}:
        advice = "check the connection's login and password" if status == 401 else "check the user's permissions"
        return ConnectionProblem(f"MLflow at {address} refuses access to {what} ({status}); {advice}. {said}".rstrip())
    if code:
        return Refused(f"MLflow refuses {what}: {said or code}", code)
    if 300 <= status < 400 or status in {404, 405}:
        return ConnectionProblem(
            f"{address} does not answer as MLflow does ({status}); check the connection's host, and its path where "
            "MLflow has a --static-prefix."
        )
    return BrokenContract(f"Unexpected HTTP {status} from MLflow at {address} for {what}. {said}".rstrip())


def _problem(answer: Answer) -> tuple[str, str]:
    """Code and message of an error; the code is empty where the answer is not MLflow's."""
    try:
        content = json.loads(answer.body)
    except (ValueError, RecursionError):
        return "", _sentence(answer.body.decode("utf-8", "replace")) if b"<" not in answer.body else ""
    if not isinstance(content, dict):
        return "", ""
    code, said = content.get("error_code"), content.get("message")
    return code if isinstance(code, str) else "", _sentence(said) if isinstance(said, str) else ""


def _sentence(said: str) -> str:
    text = sentence(said, 300)
    return text if not text or text[-1] in ".!?…" else f"{text}."
