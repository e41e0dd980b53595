"""The Altimate DataPilot registry: the latest artifacts of an integration, for editors and for CI.

Speaks as the registry's own clients do. It keeps no commits: what is there is the latest. Owns the
steps of an upload and of a download, and what to do when one of them fails. The key goes to the
registry only; files are at presigned addresses, which are secrets too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec

from ci_defer.account import Account
from ci_defer.bundle import MANIFEST, MAX_SIZE, Bundle, unpack
from ci_defer.errors import CiDeferError, NotJson, StateNotFound, WebError
from ci_defer.log import Log
from ci_defer.web import Service, Web, header_value, is_safe

# In the order in which the registry's own client uploads them; the names are its file types.
FILES = (MANIFEST, "catalog.json", "run_results.json", "sources.json", "semantic_manifest.json")
# A gateway may answer with a page of its own, and a download may break off, with status 200.
DOWNLOADS = 3


class RegistryError(WebError):
    """The registry refused, or could not answer."""


class _Integration(msgspec.Struct, frozen=True):
    id: int
    name: str = ""


class _Address(msgspec.Struct, frozen=True):
    """Where a file is or goes to: a presigned URL, so a secret."""

    url: str
    dbt_core_integration_file_id: int


class Registry:
    """The integration of `account`. It holds one state, and nobody knows of which commit."""

    # What is downloaded was made with another target, of another commit.
    is_comparable = False

    def __init__(self, account: Account, web: Web, log: Log) -> None:
        self._account = account
        self._web = web
        self._log = log
        self._integration: str | int | None = None

    @property
    def location(self) -> str:
        return f"Altimate registry, integration {self._account.integration}"

    def put(self, bundle: Bundle) -> str:
        """Upload the files of a bundle, and let the registry read them. Raises CiDeferError."""
        found = {name: bundle.directory / name for name in FILES}
        return self.upload({name: path for name, path in found.items() if path.is_file()})

    def upload(self, files: Mapping[str, Path]) -> str:
        """Upload files by name, and let the registry read them. Raises CiDeferError."""
        with self._step("check the key"):
            self._get("/dbt/v3/validate-credentials")
            self._get("/dbt/v1/validate-permissions")
        integration = self._find_integration()
        done: list[str] = []
        for name in FILES:
            if name in files:
                with self._step(f"upload {name}", done):
                    self._upload(integration, name, files[name])
                done.append(name)
                self._log.info(f"Uploaded {name}.")
        with self._step("start the ingestion", done):
            body = {
                "dbt_core_integration_id": integration,
                "dbt_core_integration_environment_type": self._account.environment,
            }
            # Not tried again when no answer comes: it may have started, and it costs credits.
            self._post("/dbt/v1/start_dbt_ingestion", body, is_repeatable=False)
        return self.location

    def get(self, to: Path, *, project_name: str) -> Bundle:
        """Download the latest manifest into the empty directory `to`, and check it.

        Raises StateNotFound when nothing was uploaded yet, InvalidBundle when it is of another
        project or of another schema.
        """
        integration = self._find_integration()
        with self._step("download the manifest"):
            for attempt in range(DOWNLOADS):
                self._web.download(
                    lambda: self._address_of_manifest(integration),
                    to / MANIFEST,
                    name="the manifest",
                    limit=MAX_SIZE,
                )
                try:
                    return unpack(to, project_name=project_name)
                except NotJson as error:
                    self._log.info(f"The manifest of the registry is damaged: {error.message}")
                    if attempt == DOWNLOADS - 1:
                        raise
        raise AssertionError("the last attempt returns or raises")

    def _address_of_manifest(self, integration: str | int) -> str:
        parameters = {"artifact_type": "manifest", "dbt_core_integration_id": integration}
        try:
            return self._address("/dbt/v1/fetch_artifact_url", parameters).url
        except WebError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            raise StateNotFound(
                f"{self.location} holds no manifest yet.",
                "Run `ci-defer onboard` with state: altimate on the base branch, or set "
                "if-no-state to full or skip.",
            ) from None

    def _upload(self, integration: str | int, name: str, file: Path) -> None:
        latest: list[int] = []

        def address() -> str:
            found = self._address(
                "/dbt/v1/signed_url",
                {
                    "dbt_core_integration_id": integration,
                    "dbt_core_integration_environment_type": self._account.environment,
                    "file_type": Path(name).stem,
                },
            )
            latest.append(found.dbt_core_integration_file_id)
            return found.url

        self._web.upload(address, file, name=name)
        self._post("/dbt/v1/verify_upload", {"dbt_core_integration_file_id": latest[-1]})

    def _find_integration(self) -> str | int:
        """The id: as it was given, or a number when the registry was asked for a name."""
        wanted = self._account.integration
        if wanted.isdigit():
            return wanted
        if self._integration is None:
            with self._step("find the integration"):
                listed = self._get("/dbt/v1/project_integrations/")
                known = _convert(listed, list[_Integration])
                found = next((item for item in known if item.name == wanted), None)
                if found is None:
                    names = ", ".join(repr(item.name) for item in known[:20]) or "none at all"
                    raise RegistryError(
                        f"there is no integration {wanted!r}, but {names}.",
                        "Set altimate-integration to one of these names, or to an id.",
                        status=HTTPStatus.NOT_FOUND,
                    )
                self._integration = found.id
        return self._integration

    def _address(self, path: str, parameters: Mapping[str, str | int]) -> _Address:
        found: _Address = _convert(self._get(path, parameters), _Address)
        if not is_safe(found.url, self._account.url):
            raise RegistryError(
                "the registry names an address that is not https.", "Ask its operators."
            )
        return found

    def _get(self, path: str, parameters: Mapping[str, str | int] | None = None) -> Any:
        return self._fine(
            self._web.json("GET", f"{self._account.url}{path}", parameters=parameters)
        )

    def _post(self, path: str, body: Mapping[str, Any], *, is_repeatable: bool = True) -> None:
        url = f"{self._account.url}{path}"
        self._fine(self._web.json("POST", url, body=body, is_repeatable=is_repeatable))

    def _fine(self, answer: Any) -> Any:
        """The answer, unless it says by itself that it is none."""
        if isinstance(answer, dict) and answer.get("ok") is False:
            said = self._web.hidden_in(str(answer.get("detail") or answer.get("message") or "no"))
            raise RegistryError(
                f"the registry refused it: {' '.join(said.split())[:300]}.",
                "Check the inputs altimate-*.",
            )
        return answer

    @contextlib.contextmanager
    def _step(self, doing: str, done: list[str] | None = None) -> Iterator[None]:
        """Say which step failed, and what is in the registry by then."""
        uploaded = f" Uploaded before: {', '.join(done)}." if done else ""
        try:
            yield
        except WebError as error:
            raise RegistryError(
                f"The Altimate registry cannot {doing}: {error.message}{uploaded}",
                error.hint,
                status=error.status,
            ) from None
        except NotJson as error:
            raise CiDeferError(
                f"The Altimate registry cannot {doing}: {error.message}",
                "Run the job again; if it stays so, upload the manifest again.",
            ) from None


def service(instance: str) -> Service:
    """The registry, as `web` has to know it."""
    return Service(
        name="The Altimate registry",
        said="detail",
        error=lambda message, hint, status: RegistryError(message, hint, status=status),
        hint=_hint,
        has_gateway=True,
        headers={
            "Content-Type": "application/json",
            "x-tenant": header_value(instance, "instance name"),
        },
    )


def _hint(status: int) -> str:
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return "Check altimate-token and altimate-instance: the key must be one of this instance."
    if status == HTTPStatus.PAYMENT_REQUIRED:
        return "The credits of the instance are used up: see its page in the registry."
    if status == HTTPStatus.NOT_FOUND:
        return "Check altimate-integration and altimate-environment."
    return "Run the job again."


def _convert(answer: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError:
        # The answer may hold a presigned address, so it is not shown.
        raise RegistryError(
            "the registry answered in a shape that ci-defer does not know.", "Run the job again."
        ) from None
