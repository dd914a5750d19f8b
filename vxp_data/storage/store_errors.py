"""What object stores' own errors mean: a plain OSError, or a failure that may pass."""

from __future__ import annotations

import errno
from typing import Final

_MAY_PASS_HTTP: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_BROKEN_CONNECTION: Final = frozenset({
    "aiohttp.client_exceptions.ClientError",
    "botocore.exceptions.ConnectionError",
    "botocore.exceptions.FlexibleChecksumError",
    "botocore.exceptions.HTTPClientError",
    "botocore.exceptions.IncompleteReadError",
    "botocore.parsers.ResponseParserError",
    "requests.exceptions.ConnectionError",
    "requests.exceptions.Timeout",
    "requests.exceptions.ChunkedEncodingError",
    "urllib3.exceptions.HTTPError",
})  # fmt: skip
_NO_CREDENTIALS: Final = frozenset({
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "DefaultCredentialsError",
    "RefreshError",
})  # fmt: skip


class StoreFailedError(OSError):
    """A store failed at every attempt, in a way that may pass: try again later."""


def plain_error(uri: str, error: Exception) -> OSError | None:
    """Convert a store's own error to a plain OSError; None where trying again may help."""
    status = _http_status(error)
    if isinstance(error, FileNotFoundError) or status == 404:
        return FileNotFoundError(errno.ENOENT, _missing_words(error), uri)
    if status in (401, 403) or isinstance(error, PermissionError) or _lacks_credentials(error):
        return PermissionError(errno.EACCES, f"no permission: {words_of(error)}", uri)
    if status == 412:
        return OSError(errno.ESTALE, "it changed while it was read", uri)
    if status in _MAY_PASS_HTTP or _is_broken_connection(error):
        return None
    return OSError(errno.EIO, words_of(error), uri)


def _http_status(error: BaseException | None) -> int | None:
    """Find the HTTP status in a store's own error or in what it was raised from."""
    while error is not None:
        answer = getattr(error, "response", None)  # botocore
        if isinstance(answer, dict):
            status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
            return int(status) if status else None
        code = getattr(error, "code", None)  # gcsfs
        if isinstance(code, int) or (isinstance(code, str) and code.isdigit()):
            return int(code)
        if str(error).startswith("Forbidden: "):  # gcsfs, without its code
            return 403
        error = error.__cause__
    return None


def _is_broken_connection(error: Exception) -> bool:
    """Whether an answer did not come, or not whole. Libraries have classes of their own."""
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    families = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}
    return not families.isdisjoint(_BROKEN_CONNECTION)


def _lacks_credentials(error: Exception) -> bool:
    return type(error).__name__ in _NO_CREDENTIALS


def _missing_words(error: BaseException | None) -> str:
    while error is not None:
        answer = getattr(error, "response", None)
        if isinstance(answer, dict) and answer.get("Error", {}).get("Code") == "NoSuchBucket":
            return "no such bucket"
        error = error.__cause__
    return "no such object"


def words_of(error: BaseException) -> str:
    """Return an error's own words, on one line."""
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(words).split())[:300]
