"""Credentials for Google Cloud Storage by workload identity federation (OIDC).

obstore knows keys of service accounts, and not the file that google-github-actions/auth writes:
that one says how to exchange the token of a workflow run. Google's own library does it.
"""

from __future__ import annotations

from datetime import timezone
from typing import TYPE_CHECKING

from google.auth.exceptions import GoogleAuthError
from google.auth.identity_pool import Credentials
from google.auth.transport.requests import Request

from ci_defer.errors import ConfigurationError
from ci_defer.stores.objects import NO_FEDERATION

if TYPE_CHECKING:
    from obstore.store import GCSCredential

SCOPES = ["https://www.googleapis.com/auth/devstorage.read_write"]


class Federated:
    """Gives a token for the credentials in a file, and a new one when obstore asks again.

    Raises ConfigurationError when the file is not of such credentials.
    """

    def __init__(self, file: str) -> None:
        try:
            # The general loader would also ask Google for the project, which nobody needs here.
            self._credentials = Credentials.from_file(  # type: ignore[no-untyped-call] # theirs
                file, scopes=SCOPES
            )
        except (GoogleAuthError, ValueError) as error:
            raise ConfigurationError(
                f"The Google credentials in {file} cannot be used: {error}.",
                "Let google-github-actions/auth write them.",
            ) from None

    def __call__(self) -> GCSCredential:
        """Raises PermissionError, whose text obstore passes on."""
        try:
            self._credentials.refresh(Request())
        except GoogleAuthError:
            # What it says may hold the token that was to be exchanged.
            raise PermissionError(NO_FEDERATION) from None
        expiry = self._credentials.expiry
        return {
            "token": str(self._credentials.token),
            "expires_at": expiry.replace(tzinfo=timezone.utc) if expiry else None,
        }
