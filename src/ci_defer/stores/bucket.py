"""A bucket as a place for bundles: of Amazon S3, Google Cloud Storage or Azure Blob Storage.

obstore speaks to all three. Owns how objects are moved, and what an error of a service means: what
a service says is never shown as it is, because it may quote a signed address. Knows nothing of the
layout.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timezone
from itertools import chain, islice
from typing import TYPE_CHECKING, Literal

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotFoundError,
    PreconditionError,
    UnauthenticatedError,
)

from ci_defer.errors import CiDeferError, ConfigurationError
from ci_defer.stores.objects import NO_FEDERATION, Content, Entry, Missing
from ci_defer.stores.services import SERVICES, endpoint

if TYPE_CHECKING:
    from obstore import UpdateVersion

MB = 1024 * 1024
# Up to here an object is one request; above that it goes in parts, some of them at once.
SINGLE = 8 * MB
PART = 8 * MB
PARALLEL = 4

BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}")
STATUS = re.compile(r"Server returned non-2xx status code: (\d{3})")
CODE = re.compile(r"<Code>\s*(\w{1,60})\s*</Code>")
REGION = re.compile(r"<Region>\s*([\w-]{1,40})\s*</Region>")

NO_BUCKET = frozenset({"NoSuchBucket", "ContainerNotFound"})
WRONG_REGION = frozenset(
    {
        "PermanentRedirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
    }
)
NOT_ACCEPTED = frozenset(
    {
        *("AuthenticationFailed", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch"),
        # Of the service that gives credentials for the token of a workflow run.
        *("InvalidIdentityToken", "IDPRejectedClaim"),
    }
)
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
# Of a shared access signature of Azure, which answers 403 AuthenticationFailed.
SAS_EXPIRED = "Signature not valid in the specified time frame"
# Where a machine of a cloud is asked for credentials of its own when there are no others; and what
# the Azure CLI without a session looks like.
NO_CREDENTIALS = (
    *("169.254.169.254", "metadata.google.internal", "metadata/identity", "169.254.170.2"),
    "get-access-token",
)
# What obstore says of a request without an answer, and what to do, in the order of looking.
CHECK_ENDPOINT = "Run the job again; if it stays so, check {}."
TRANSPORT = {
    "InvalidCertificate": (
        "the certificate of its server is not trusted",
        "Set SSL_CERT_FILE to the certificates of your authority.",
    ),
    "InvalidContentType": ("its server does not speak TLS", "Check {}."),
    "dns error": ("the name of its server cannot be resolved", CHECK_ENDPOINT),
    "ConnectionRefused": ("its server refuses the connection", CHECK_ENDPOINT),
    "TimedOut": ("no answer came in time", ""),
    "ConnectionReset": ("the connection was reset", ""),
}
READING = frozenset({"list", "read"})
HTTP_UNAUTHORIZED, HTTP_FORBIDDEN = 401, 403
HTTP_NOT_IMPLEMENTED, HTTP_INSUFFICIENT_STORAGE = 501, 507


class BucketError(CiDeferError):
    """The service could not be reached, or failed."""


class Bucket:
    """The objects below a prefix of a bucket. `uri` is `s3://bucket/prefix`, `gs://…` or `az://…`.

    Raises ConfigurationError when the URI names no bucket, or when nothing in `environ` says how to
    reach it.
    """

    def __init__(self, uri: str, environ: Mapping[str, str]) -> None:
        scheme, _, rest = uri.partition("://")
        bucket, _, path = rest.partition("/")
        parts = [part for part in path.split("/") if part]
        if not BUCKET.fullmatch(bucket) or {".", ".."} & {*parts}:
            raise ConfigurationError(
                f"state: {uri} names no bucket.", f"Write it as {scheme}://bucket/prefix."
            )
        self.location = f"{scheme}://{'/'.join([bucket, *parts])}"
        self._bucket = bucket
        self._service = SERVICES[scheme]
        server, variable = endpoint(scheme, environ)
        self._to_check = f"the setting state and {variable}" if variable else "the setting state"
        self._name = f"The server {server}" if server else self._service.name
        try:
            self._store = self._service.open(bucket, "/".join(parts), environ)
        except BaseError as error:
            raise ConfigurationError(
                f"{self.location} cannot be opened: {_first_line(error)}", self._service.login
            ) from None

    def folders(self, folder: str) -> list[str]:
        with self._explained("list"):
            found = obstore.list_with_delimiter(self._store, folder)["common_prefixes"]
        return [name.rstrip("/").rpartition("/")[2] for name in found]

    def entries(self, folder: str) -> Iterator[Entry]:
        with self._explained("list"):
            for page in obstore.list(self._store, folder):
                for item in page:
                    yield Entry(item["path"], item["last_modified"].astimezone(timezone.utc))

    def read(self, name: str, limit: int) -> Content:
        with self._explained("read", name):
            found = obstore.get(self._store, name)
            if found.meta["size"] <= limit:
                data = bytes(found.bytes())
            else:
                data = bytes(next(iter(found.stream(min_chunk_size=limit + 1))))[: limit + 1]
        version = {key: found.meta[key] for key in ("e_tag", "version") if found.meta[key]}
        return Content(data, json.dumps(version))

    def chunks(self, name: str) -> Iterator[bytes]:
        with self._explained("read", name):
            found = obstore.get(self._store, name)
            size = found.meta["size"]
            if size <= SINGLE:
                yield from (bytes(block) for block in found.stream(min_chunk_size=MB))
                return
            with ThreadPoolExecutor(PARALLEL) as pool:
                starts = iter(range(0, size, PART))

                def part(start: int) -> bytes:
                    end = min(start + PART, size)
                    return bytes(obstore.get_range(self._store, name, start=start, end=end))

                waiting = [pool.submit(part, start) for start in islice(starts, PARALLEL)]
                while waiting:
                    yield waiting.pop(0).result()
                    waiting += [pool.submit(part, start) for start in islice(starts, 1)]

    def save(self, name: str, chunks: Iterable[bytes]) -> None:
        with self._explained("write", name):
            first, rest = _first(chunks, SINGLE)
            if rest is None:
                obstore.put(self._store, name, first, use_multipart=False)
            else:
                self._save_parts(name, chain([first], rest))

    def _save_parts(self, name: str, chunks: Iterable[bytes]) -> None:
        size = 0

        def counted() -> Iterator[bytes]:
            nonlocal size
            for chunk in chunks:
                size += len(chunk)
                yield chunk

        try:
            obstore.put(self._store, name, counted(), chunk_size=PART, max_concurrency=PARALLEL)
        except (BaseError, FileNotFoundError):
            # The answer to the last request may have been lost: sent again, it is refused, and
            # the object is there and whole.
            if not self._has(name, size):
                raise

    def replace(self, name: str, data: bytes, old: Content | None) -> bool:
        mode: Literal["create"] | UpdateVersion = "create"
        if old is not None:
            mode = json.loads(old.version)
        with self._explained("write", name):
            try:
                obstore.put(self._store, name, data, mode=mode)
            except (AlreadyExistsError, PreconditionError):
                # It may be our own write that is there: the first answer was lost, and the
                # request was sent again.
                return self._holds(name, data)
            except BaseError as error:
                if self._holds(name, data):
                    return True
                # A server that speaks like S3 and has no conditional writes.
                if _code(error) != "NotImplemented" and _status(error) != HTTP_NOT_IMPLEMENTED:
                    raise
                obstore.put(self._store, name, data)
        return True

    def delete(self, names: Sequence[str]) -> None:
        with self._explained("delete"):
            # One at a time: the order counts, and a name that is gone must not stop the others.
            for name in names:
                with suppress(FileNotFoundError):
                    obstore.delete(self._store, name)

    def _holds(self, name: str, data: bytes) -> bool:
        try:
            return self.read(name, len(data)).data == data
        except Missing:
            return False

    def _has(self, name: str, size: int) -> bool:
        with suppress(BaseError, FileNotFoundError):
            return obstore.head(self._store, name)["size"] == size
        return False

    @contextmanager
    def _explained(self, doing: str, name: str = "") -> Iterator[None]:
        """Turn an error of obstore into one for people."""
        what = f"{self.location}/{name}" if name else self.location
        try:
            yield
        except (NotFoundError, FileNotFoundError) as error:
            if doing == "read" and _code(error) not in NO_BUCKET:
                raise Missing(name) from None
            raise self._explain(error, doing, what) from None
        except BaseError as error:
            raise self._explain(error, doing, what) from None

    def _explain(self, error: Exception, doing: str, what: str) -> CiDeferError:
        service, text = self._service, str(error)
        status, code = _status(error), _code(error)
        said = " ".join(filter(None, (str(status or ""), code))) or "no reason"
        region = REGION.search(text)
        # The first that holds. All of them are for the user to mend.
        cases = (
            (
                code in NO_BUCKET,
                f"There is no bucket {self._bucket} that {self._name} knows ({said}).",
                "Create it, or correct the setting state.",
            ),
            (
                NO_FEDERATION in text,
                f"There are no credentials for {what}: {NO_FEDERATION}.",
                (
                    "Check the inputs of google-github-actions/auth, the condition of its pool, "
                    "the role iam.workloadIdentityUser, and `permissions: id-token: write`."
                ),
            ),
            (
                any(sign in text for sign in NO_CREDENTIALS),
                (
                    f"There are no credentials for {what} that work: the environment holds none, "
                    "and this machine has none of its own."
                ),
                service.login,
            ),
            (
                code in WRONG_REGION or "redirect without LOCATION" in text,
                (
                    f"{self._name} does not find {what} in this region. "
                    f"It is in {region[1] if region else 'another one'}."
                ),
                "Set AWS_REGION to the region of the bucket (aws s3api get-bucket-location).",
            ),
            (
                code in EXPIRED or SAS_EXPIRED in text,
                f"The credentials for {what} have expired ({said}).",
                f"{service.login} Do it closer to this step, or ask for a longer session.",
            ),
            (
                code in NOT_ACCEPTED
                or status == HTTP_UNAUTHORIZED
                or isinstance(error, UnauthenticatedError),
                f"{self._name} does not accept the credentials for {what} ({said}).",
                service.login,
            ),
            (
                "AssumeRoleWithWebIdentity" in text,
                f"There are no credentials for {what}: the role may not be taken ({said}).",
                (
                    "Check the inputs of aws-actions/configure-aws-credentials, the trust policy "
                    "of the role, and `permissions: id-token: write`."
                ),
            ),
            (
                status == HTTP_FORBIDDEN,
                f"{self._name} does not allow to {doing} {what} ({said}).",
                service.rights,
            ),
        )
        for holds, message, hint in cases:
            if holds:
                return ConfigurationError(message, hint)
        return BucketError(
            f"{self._name} cannot {doing} {what}: {said if status else _transport(text)[0]}.",
            self._what_to_do(status, text, doing),
        )

    def _what_to_do(self, status: int | None, text: str, doing: str) -> str:
        untouched = "" if doing in READING else "What the store held before is untouched. "
        if status == HTTP_INSUFFICIENT_STORAGE:
            return f"{untouched}Make room there."
        if status is None and (cure := _transport(text)[1]):
            return untouched + cure.format(self._to_check)
        return f"{untouched}Run the job again."


def _first(chunks: Iterable[bytes], size: int) -> tuple[bytes, Iterator[bytes] | None]:
    """All of the blocks when they have no more than `size` bytes; else some, and the others."""
    rest = iter(chunks)
    first = bytearray()
    for chunk in rest:
        first += chunk
        if len(first) > size:
            return bytes(first), rest
    return bytes(first), None


def _status(error: Exception) -> int | None:
    match = STATUS.search(str(error))
    return int(match[1]) if match else None


def _code(error: Exception) -> str:
    match = CODE.search(str(error))
    return match[1] if match else ""


def _transport(text: str) -> tuple[str, str]:
    """Why no answer came, from what obstore says of its own client, and a cure, if any."""
    for sign, found in TRANSPORT.items():
        if sign in text:
            return found
    return "the connection broke", ""


def _first_line(error: Exception) -> str:
    """What obstore says of the configuration, in one line."""
    line = str(error).partition("\n")[0].removeprefix("Generic ")
    return line[:300]
