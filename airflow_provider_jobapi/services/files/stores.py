# SPDX-License-Identifier: Apache-2.0
"""The interface of object stores that keep the files of jobs, and S3.

The storage of a jobAPI is in ``services/jobapi/http_store.py``. Every store knows the SHA-256 of its objects, so that
nothing is uploaded twice; in S3 it is in the object's metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from airflow_provider_jobapi.exceptions import BrokenContract, ConnectionProblem, QuotaReached, ServiceUnavailable
from airflow_provider_jobapi.services.files.sources import CHUNK, OnBytes, Source

if TYPE_CHECKING:
    from obstore.store import S3Store as ObstoreS3

PART = 8 * 1024 * 1024
"""Bytes, at the least, of one part of a large upload to S3; four parts of a file are uploaded at a time."""

REFRESH = timedelta(minutes=5)
"""Time for which keys that expire are used. boto3 renews them 10 minutes before their end at the latest."""

_PARTS = 10_000 - 100
"""Parts of an object, at the most; the limit of S3 is 10,000."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object of a store.

    :ivar size: In bytes.
    :ivar sha256: In hex; None where only a ``head`` returns it.
    :ivar modified: Unix time of the last write, in a listing; 0 where it is not known.
    """

    key: str
    size: int
    sha256: str | None
    modified: float = 0.0


class ObjectStore(Protocol):
    """Keeps files under keys such as ``jobs/train-1234/train.py``. Safe for threads.

    Every method raises :class:`ServiceUnavailable` for what may work later.
    """

    def head(self, key: str) -> StoredObject | None:
        """Return the object of a key, with its SHA-256 where it is known; None where there is none."""

    def put(self, key: str, source: Source, on_bytes: OnBytes) -> None:
        """Upload a file; readers see all of it or nothing.

        :param on_bytes: Called with the bytes that were sent.
        """

    def read(self, key: str, start: int) -> AbstractContextManager[tuple[int, Iterator[bytes]]]:
        """Open an object; returns the offset at which the bytes begin, and the bytes.

        :param start: The offset to begin at; a store without ranges begins at 0.
        """

    def list_objects(self, prefix: str) -> Iterator[StoredObject]:
        """List the objects whose key begins with ``prefix``, without the empty objects that stand for folders."""


@runtime_checkable
class StreamingStore(ObjectStore, Protocol):
    """A store that takes and sends many small objects by one request."""

    def put_all(self, sources: Mapping[str, Source], on_bytes: OnBytes) -> bool:
        """Upload files by one request; readers see all of them or none.

        :param sources: By their keys.
        :return: False where the store refused the request as a whole: then upload each file by itself, which works or
            names what is wrong with it.
        """

    def read_all(self, sizes: Mapping[str, int]) -> dict[str, bytes]:
        """Read objects by one request.

        :param sizes: The expected bytes by key. Objects of another size, and those after them, are left out.
        """


def endpoint_url(endpoint: str) -> str:
    """The URL of an S3 endpoint that may be a bare host name, as SAP's service gave it; that means TLS."""
    return (endpoint if "://" in endpoint else f"https://{endpoint}").rstrip("/")


@dataclass(frozen=True, slots=True)
class S3Access:
    """The bucket of an S3 server, and the credentials for it.

    :ivar url: The endpoint; empty for AWS.
    :ivar access_key: Empty for the credentials of the environment or the machine.
    :ivar roots: PEM text of authorities to trust besides the public ones.
    :ivar timeout: Seconds without a byte after which a request fails.
    :ivar unsigned: Whether requests are signed without their bodies, as Huawei's OBS requires.
    :ivar refresh: Returns access key, secret key and session token as they are now, for keys that expire; it is asked
        every :data:`REFRESH`.
    :ivar keys_from: Where bucket and keys come from, for error messages.
    :ivar advice: What to do where they are refused, for error messages.
    """

    url: str
    bucket: str
    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    region: str = "us-east-1"
    verify: bool = True
    roots: bytes | None = None
    proxy: str | None = field(default=None, repr=False)
    timeout: float = 30.0
    unsigned: bool = False
    refresh: Callable[[], tuple[str, str, str | None]] | None = field(default=None, repr=False)
    keys_from: str = "the service"
    advice: str = "contact the service's operator"


class S3Store:
    """A bucket of an S3 server."""

    def __init__(self, access: S3Access) -> None:
        self._access = access
        self._store = obstore_of(access)

    def head(self, key: str) -> StoredObject | None:
        """Return the object of a key; its SHA-256 is in the metadata that ``put`` writes."""
        import obstore

        with self._errors(key):
            try:
                found = obstore.get(self._store, key, options={"head": True})
            except FileNotFoundError:
                return None
            return StoredObject(key, found.meta["size"], _metadata(found.attributes))

    def put(self, key: str, source: Source, on_bytes: OnBytes) -> None:
        """Upload a file, in parts where it is large."""
        import obstore

        attributes: Any = {"Content-Type": "application/octet-stream", "sha256": source.sha256}
        with self._errors(key), source.open(on_bytes) as file:
            if source.size <= PART:
                obstore.put(self._store, key, file.read(), attributes=attributes, use_multipart=False)
                return
            part = max(PART, -(-source.size // _PARTS))
            obstore.put(self._store, key, iter(file), attributes=attributes, chunk_size=part, max_concurrency=4)

    def copy(self, key: str, target: str) -> None:
        """Copy an object inside the bucket; its bytes do not pass through this machine."""
        import obstore

        with self._errors(key):
            obstore.copy(self._store, key, target)

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; one that is not there is no error."""
        import obstore

        if keys:
            with self._errors(keys[0]), suppress(FileNotFoundError):
                obstore.delete(self._store, list(keys))

    @contextmanager
    def read(self, key: str, start: int) -> Iterator[tuple[int, Iterator[bytes]]]:  # noqa: ARG002 -- see below
        """Open an object, always at 0: obstore resumes by itself, and some servers have no ranges."""
        import obstore

        with self._errors(key):
            try:
                found = obstore.get(self._store, key)
            except FileNotFoundError:
                raise BrokenContract(f"The storage has no {key}, which the service names.") from None
            yield 0, (bytes(chunk) for chunk in found.stream(min_chunk_size=CHUNK))

    def list_objects(self, prefix: str) -> Iterator[StoredObject]:
        """List the objects whose key begins with ``prefix``; S3 lists no hashes."""
        with self._errors(prefix):
            yield from list_below(self._store, prefix)

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        from obstore import exceptions

        place = f"{self._access.url or 's3:/'}/{self._access.bucket}"
        try:
            yield
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
            raise ConnectionProblem(
                f"The storage {place} denies access to {key} with the keys from {self._access.keys_from}"
                f"{_code(error)}; {self._access.advice}."
            ) from None
        except (exceptions.BaseError, FileNotFoundError) as error:
            if "path segment" in str(error).lower():
                raise BrokenContract(
                    f"The storage {place} has an object below {key} whose key is not a path: a part of it is empty, "
                    "'.' or '..'; remove that object."
                ) from None
            raise _s3_error(error, self._access, place, key) from None


def list_below(store: ObstoreS3, prefix: str) -> Iterator[StoredObject]:
    """List the objects of a bucket whose key begins with ``prefix``, without those that stand for folders.

    Consoles of object stores make a folder as an empty object whose key ends in ``/``. obstore lists it without the
    ``/``, under a key that no object has.
    """
    import obstore

    for page in obstore.list(store, prefix=prefix or None):
        for each in page:
            if each["path"].startswith(prefix) and (each["size"] or _exists(store, each["path"])):
                yield StoredObject(each["path"], each["size"], None, each["last_modified"].timestamp())


def _exists(store: ObstoreS3, key: str) -> bool:
    import obstore

    try:
        obstore.head(store, key)
    except FileNotFoundError:
        return False
    return True


def obstore_of(access: S3Access) -> ObstoreS3:
    from obstore.store import S3Store as Store

    options = _client_options(access)
    config: dict[str, Any] = {"region": access.region, "unsigned_payload": access.unsigned}
    if access.url:
        config["endpoint"] = access.url

    def keys() -> dict[str, Any]:
        key, secret, token = access.access_key, access.secret_key, access.session_token
        expires = None
        if access.refresh is not None:
            (key, secret, token), expires = access.refresh(), datetime.now(UTC) + REFRESH
        pair = {"access_key_id": key, "secret_access_key": secret, "expires_at": expires}
        return pair | ({"token": token} if token else {})

    def make() -> ObstoreS3:
        return Store(
            access.bucket,
            config=config,  # type: ignore[arg-type, unused-ignore]
            client_options=options,  # type: ignore[arg-type]
            # Keys go in as a callable: AWS_* variables of the worker have no say then.
            credential_provider=keys if access.access_key else None,  # type: ignore[arg-type, unused-ignore]
            retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=60)},
        )

    try:
        try:
            return make()
        except ValueError as error:
            _for_an_older_obstore(options, error)
            return make()
    except ConnectionProblem:
        raise
    except Exception as error:
        raise BrokenContract(f"The service's storage cannot be used: {access.url} is not an S3 endpoint.") from error


def _client_options(access: S3Access) -> dict[str, Any]:
    options: dict[str, Any] = {
        "allow_http": access.url.startswith("http://"),
        "allow_invalid_certificates": not access.verify,
        "connect_timeout": timedelta(seconds=10),
        "read_timeout": timedelta(seconds=access.timeout),
        # The whole of a request may take long, a large file does; silence is what the timeout above is for.
        "timeout": timedelta(hours=12),
    }
    if access.proxy:
        options["proxy_url"] = access.proxy
    if access.roots:
        options["root_certificate"] = access.roots
    return options


def _for_an_older_obstore(options: dict[str, Any], error: ValueError) -> None:
    """Remove the options that obstore before 0.10 does not have; the constraints of older Airflow versions pin it."""
    if "Invalid key" not in str(error):
        raise error
    if "root_certificate" in options:
        raise ConnectionProblem(
            "The installed obstore has no option for a CA bundle; upgrade it, or add the authority to the system's."
        )
    if options.pop("read_timeout", None):
        options["timeout"] = timedelta(hours=1)


def _s3_error(error: Exception, access: S3Access, place: str, key: str) -> Exception:
    text = str(error)
    if "NoSuchBucket" in text:
        return ConnectionProblem(f"The storage has no bucket {place}{_code(error)}; {access.advice}.")
    if "InvalidAccessKeyId" in text or "SignatureDoesNotMatch" in text:
        return ConnectionProblem(
            f"The storage {place} refuses the keys from {access.keys_from}{_code(error)}; {access.advice}."
        )
    if "AuthorizationHeaderMalformed" in text or "redirect without LOCATION" in text:
        return ConnectionProblem(
            f"The storage {place} is not in region {access.region!r}{_code(error)}; {access.advice}."
        )
    if "certificate" in text.lower():
        return ConnectionProblem(
            f"The certificate of the storage {place} is not trusted; set the connection's ca_bundle to the authority "
            "that signed it."
        )
    if "507 " in text or "QuotaExceeded" in text or "EntityTooLarge" in text:
        return QuotaReached(f"The storage {place} has no space left for {key}{_code(error)}.")
    return ServiceUnavailable(f"The storage {place} cannot serve {key} now{_code(error)}.")


def _code(error: Exception) -> str:
    """The error code of S3, found in the text of an obstore error."""
    import re

    found = re.search(r"<Code>(\w{1,60})</Code>", str(error)) or re.search(r"message: \"([\w ]{1,60})\"", str(error))
    return f" ({found[1]})" if found else ""


def _metadata(attributes: Any) -> str | None:
    value = next((text for name, text in dict(attributes).items() if str(name).lower() == "sha256"), None)
    return value if isinstance(value, str) and len(value) == 64 else None
