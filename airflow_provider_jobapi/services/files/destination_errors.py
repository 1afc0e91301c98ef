# SPDX-License-Identifier: Apache-2.0
"""The errors of a model's destination, and of a data file's source: one sentence that names the cause.

The libraries of object stores (s3fs on botocore, gcsfs, adlfs, obstore) raise errors of their own, some below an
``OSError`` whose text says little. None of them is imported here: they are recognised by the code of the store's
answer and by the names of their classes.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_jobapi.exceptions import (
    ConnectionProblem,
    InvalidJob,
    QuotaReached,
    ServiceUnavailable,
    TrainingError,
)

FASTER = {errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.ESTALE}
"""What a file system answers where another attempt has just renamed or removed the same directory."""

_QUOTA = {
    "QuotaExceeded", "StorageQuotaExceeded", "BucketQuotaExceeded", "XMinioAdminBucketQuotaExceeded",
    "XMinioStorageFull", "InsufficientStorage", "InsufficientQuota", "NotEnoughSpace", "507",
}  # fmt: skip
_KEYS = {
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "TokenRefreshRequired",
    "InvalidSecurity", "NotSignedUp", "CredentialsNotSupported", "AuthFailure", "UnrecognizedClientException",
    "InvalidClientTokenId", "AuthenticationFailed", "401",
}  # fmt: skip
_DENIED = {"AccessDenied", "AllAccessDisabled", "AccountProblem", "AuthorizationFailure", "Forbidden", "403"}
_BUCKET = {"NoSuchBucket", "ContainerNotFound"}
_REGION = {
    "AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException",
    "301", "307",
}  # fmt: skip
_BUSY = {"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "OperationAborted", "500", "502", "503"}
_NO_KEYS = {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError", "CredentialRetrievalError"}
_UNREACHABLE = {
    "EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError", "HTTPClientError",
    "ProxyConnectionError", "ClientConnectorError", "ClientConnectorDNSError", "ServerDisconnectedError",
    "ServerTimeoutError", "ClientOSError", "gaierror", "ConnectionError", "ConnectionRefusedError",
    "ConnectionResetError", "TimeoutError", "ServiceRequestError", "TransportError",
}  # fmt: skip
_LIBRARIES = {
    "botocore", "aiobotocore", "boto3", "s3fs", "obstore", "gcsfs", "google", "azure", "adlfs", "aiohttp", "urllib3",
    "requests", "fsspec", "upath", "paramiko",
}  # fmt: skip


@contextmanager
def translated_errors(place: object, conn_id: str | None = None, *, lenient: bool = False) -> Iterator[None]:
    """Turn an error at the destination into an error of the provider.

    :param place: The destination, for the message.
    :param conn_id: The Airflow connection that the destination names.
    :param lenient: Leave errors as they are that mean that another attempt was faster.
    """
    try:
        yield
    except TrainingError:
        raise
    except Exception as error:
        if lenient and isinstance(error, OSError) and error.errno in FASTER:
            raise
        known = error_at(place, error, conn_id)
        if known is None:
            raise
        raise known from None


def error_at(place: object, error: BaseException, conn_id: str | None = None) -> TrainingError | None:
    """The error of the provider for one at the destination; None where it does not come from the destination."""
    causes = _causes(error)
    codes = {code for cause in causes if (code := code_of(cause))}
    numbers = {cause.errno for cause in causes if isinstance(cause, OSError)}
    if codes & _QUOTA or numbers & {errno.ENOSPC, errno.EDQUOT}:
        return QuotaReached(f"There is no space left for {place}; free some and try again.")
    names = {kind.__name__ for cause in causes for kind in type(cause).__mro__}
    return _of_the_connection(place, codes, names, conn_id) or _of_the_place(place, error, causes, codes, names)


def _of_the_connection(place: object, codes: set[str], names: set[str], conn_id: str | None) -> TrainingError | None:
    keys = f"the keys of the connection {conn_id!r}" if conn_id else "the keys that this worker uses without one"
    if "AirflowNotFoundException" in names:
        return ConnectionProblem(
            f"There is no connection {conn_id!r}, which {place} names; create it, or correct the path."
        )
    if found := codes & _KEYS:
        return ConnectionProblem(
            f"The storage of {place} refuses {keys} ({min(found)}); check its login (the access key) and its password "
            "(the secret key)."
        )
    if found := codes & _DENIED:
        return ConnectionProblem(
            f"The storage of {place} denies access with {keys} ({min(found)}); check the keys, and their rights on the "
            "bucket."
        )
    if found := codes & _REGION:
        return ConnectionProblem(
            f"The bucket of {place} is in another region ({min(found)}); check the connection's region_name and "
            "endpoint_url."
        )
    if names & _NO_KEYS:
        return ConnectionProblem(
            f"There are no keys for the storage of {place}; name a connection in the destination, such as "
            "s3://connection@bucket/models."
        )
    return None


def _of_the_place(
    place: object, error: BaseException, causes: list[BaseException], codes: set[str], names: set[str]
) -> TrainingError | None:
    if codes & _BUCKET or any(_says_no_bucket(cause) for cause in causes):
        return InvalidJob(
            f"The bucket of {place} does not exist; create it, or correct the destination.", field="destination"
        )
    if names & {"SSLError", "SSLCertVerificationError", "ClientConnectorCertificateError"}:
        return ConnectionProblem(
            f"The certificate of the storage of {place} is not trusted, or it does not speak TLS; check the "
            "connection's endpoint_url and verify."
        )
    # obstore says so in its text alone.
    if codes & _BUSY or names & _UNREACHABLE or any("error sending request" in str(cause) for cause in causes):
        how = f" ({min(codes)})" if codes else ""
        return ServiceUnavailable(
            f"The storage of {place} cannot be reached now{how}; if this lasts, check the connection's endpoint_url."
        )
    if isinstance(error, OSError) or _foreign(error):
        return InvalidJob(f"{place} cannot be written: {_words(error, codes)}; check destination.", field="destination")
    return None


def code_of(error: BaseException) -> str | None:
    """The code of an object store's answer, such as ``NoSuchBucket``; None where the error has none."""
    answer = getattr(error, "response", None)
    if isinstance(answer, dict) and isinstance(answer.get("Error"), dict):
        code = answer["Error"].get("Code")
        return str(code) if code else None
    for name in ("error_code", "code"):
        code = getattr(error, name, None)
        if isinstance(code, str | int) and not isinstance(code, bool) and code:
            return str(code)
    found = re.search(r"<Code>(\w{1,60})</Code>", str(error))
    return found[1] if found else None


def _says_no_bucket(error: BaseException) -> bool:
    return "specified bucket does not exist" in str(error).lower()


def _foreign(error: BaseException) -> bool:
    """Whether an error comes from a library of object stores, or says that one is missing."""
    text = str(error)
    if isinstance(error, ImportError | ValueError) and ("filesystem" in text.lower() or "install" in text.lower()):
        return True
    return type(error).__module__.partition(".")[0].lstrip("_") in _LIBRARIES


def _words(error: BaseException, codes: set[str]) -> str:
    text = (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split())[:300].rstrip(" .")
    text = type(error).__name__ if text in {"", "None", "[Errno None] None"} else text
    return f"{text} ({min(codes)})" if codes and min(codes) not in text else text


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    left: list[BaseException | None] = [error]
    while left and len(found) < 20:
        each = left.pop(0)
        if each is not None and each not in found:
            found.append(each)
            left += [each.__cause__, each.__context__]
    return found
