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
from typing import TYPE_CHECKING

import obstore
from google.auth.exceptions import GoogleAuthError
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotFoundError,
    PreconditionError,
)

from ci_defer.errors import CiDeferError, ConfigurationError
from ci_defer.stores.objects import Content, Entry, Missing
from ci_defer.stores.services import SERVICES

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
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
# Where a machine of a cloud asks for credentials of its own when nobody gave it any.
METADATA_SERVICES = ("169.254.169.254", "metadata.google.internal", "metadata/identity")
HTTP_UNAUTHORIZED, HTTP_FORBIDDEN, HTTP_NOT_FOUND, HTTP_NOT_IMPLEMENTED = 401, 403, 404, 501


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
        try:
            self._store = self._service.open(bucket, "/".join(parts), environ)
        except (BaseError, GoogleAuthError) as error:
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
        return Content(data, json.dumps([found.meta["e_tag"], found.meta["version"]]))

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
                obstore.put(
                    self._store,
                    name,
                    chain([first], rest),
                    chunk_size=PART,
                    max_concurrency=PARALLEL,
                )

    def replace(self, name: str, data: bytes, old: Content | None) -> bool:
        with self._explained("write", name):
            try:
                if old is None:
                    obstore.put(self._store, name, data, mode="create")
                else:
                    e_tag, version = json.loads(old.version)
                    known: UpdateVersion = {"e_tag": e_tag, "version": version}
                    obstore.put(self._store, name, data, mode=known)
            except (AlreadyExistsError, PreconditionError):
                return False
            except BaseError as error:
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

    @contextmanager
    def _explained(self, doing: str, name: str = "") -> Iterator[None]:
        """Turn an error of obstore into one for people."""
        what = f"{self.location}/{name}" if name else self.location
        try:
            yield
        except (NotFoundError, FileNotFoundError) as error:
            if _code(error) not in NO_BUCKET and name:
                raise Missing(name) from None
            raise self._explain(error, doing, what) from None
        except BaseError as error:
            raise self._explain(error, doing, what) from None

    def _explain(self, error: Exception, doing: str, what: str) -> CiDeferError:
        status, code = _status(error), _code(error)
        said = " ".join(filter(None, (str(status or ""), code)))
        service = self._service.name
        if code in NO_BUCKET or (status == HTTP_NOT_FOUND and not code):
            return ConfigurationError(
                f"There is no bucket {self._bucket} that {service} knows ({said}).",
                "Create it, or correct the setting state.",
            )
        if any(place in str(error) for place in METADATA_SERVICES):
            return ConfigurationError(
                f"There are no credentials for {what}: the environment holds none, and this "
                "machine has none of its own.",
                self._service.login,
            )
        if code in WRONG_REGION or "redirect without LOCATION" in str(error):
            region = REGION.search(str(error))
            where = f"It is in {region[1]}." if region else "It is in another region."
            return ConfigurationError(
                f"{service} does not find {what} in this region ({said}). {where}",
                "Set AWS_REGION to the region of the bucket.",
            )
        if code in EXPIRED:
            return ConfigurationError(
                f"The credentials for {what} have expired ({said}).",
                f"{self._service.login} Do it closer to this step, or ask for a longer session.",
            )
        if status in (HTTP_UNAUTHORIZED, HTTP_FORBIDDEN):
            return ConfigurationError(
                f"{service} does not allow to {doing} {what} ({said}).",
                f"{self._service.rights} {self._service.login}",
            )
        return BucketError(
            f"{service} cannot {doing} {what}: {said or _first_line(error)}",
            "What the store held before is untouched. Run the job again.",
        )


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


def _first_line(error: Exception) -> str:
    """What went wrong, without the parts that may hold what a request was signed with."""
    line = str(error).partition("\n")[0]
    return re.sub(r"\?\S*", "?…", line)[:300]
