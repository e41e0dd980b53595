"""GitHub's published description of its REST API: is a request, or an answer of ours, as it says?

The part of the description that `rest` answers is openapi-slice.json, made by
`make_openapi_slice`; openapi-core does the validation. Both are loaded with the first question, so
a test that never reaches the REST API does not pay for them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from tests.harness.web import Request, Response

if TYPE_CHECKING:
    from openapi_core import OpenAPI
    from openapi_core.testing import MockRequest

SLICE = Path(__file__).with_name("openapi-slice.json")

# Statuses that GitHub answers and its description does not name: no or a bad token, no permission,
# nothing there, too much, broken. What has to hold for them is the shape of the body.
_ALWAYS = {400, 401, 403, 404, 422, 429, 500, 502, 503}
_ERROR_KEYS = {"message", "documentation_url", "status", "errors"}


class Description:
    """The slice, and validators made from it."""

    def documentation_url(self, method: str, template: str) -> str:
        """The page about an operation, which error messages of the API link to."""
        return str(self._operation(method, template)["externalDocs"]["url"])

    def request_problems(
        self, template: str, parameters: Mapping[str, str], request: Request
    ) -> list[str]:
        """What is wrong with a request for the path `template`, whose parts are `parameters`."""
        from openapi_core.exceptions import OpenAPIError  # noqa: PLC0415 - see above

        operation = self._operation(request.method, template)
        declared = {self._parameter(entry)["name"] for entry in operation.get("parameters", ())}
        problems = [
            f"there is no query parameter {name!r}"
            for name in request.query
            if name not in declared
        ]
        if request.body and "requestBody" not in operation:
            problems.append("it has a body, and nobody will read it")
        try:
            self._strict.validate_request(self._as_request(template, parameters, request))
        except OpenAPIError as error:
            problems.append(_explain(error))
        return problems

    def response_problems(
        self,
        template: str,
        parameters: Mapping[str, str],
        request: Request,
        response: Response,
    ) -> list[str]:
        """What is wrong with our answer to such a request."""
        from openapi_core.exceptions import OpenAPIError  # noqa: PLC0415
        from openapi_core.testing import MockResponse  # noqa: PLC0415

        is_error = response.status >= 400
        problems = _error_problems(response) if is_error else []
        documented = self._operation(request.method, template)["responses"]
        if is_error and str(response.status) not in documented:
            if response.status not in _ALWAYS:
                problems.append(f"the status {response.status} is not documented")
            return problems
        headers = dict(response.headers)
        content_type = headers.get("Content-Type", "").partition(";")[0]
        # Bodies of errors have a `status`, which the description has not for all of them.
        validator = self._lenient if is_error else self._strict
        try:
            validator.validate_response(
                self._as_request(template, parameters, request),
                MockResponse(response.body, response.status, headers, content_type),
            )
        except OpenAPIError as error:
            problems.append(_explain(error))
        return problems

    @cached_property
    def _document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(SLICE.read_text("utf-8"))
        return document

    @cached_property
    def _lenient(self) -> OpenAPI:
        return self._validators("allow")

    @cached_property
    def _strict(self) -> OpenAPI:
        """Nothing passes that the description does not name."""
        return self._validators("forbid")

    def _validators(self, additional_properties: Literal["allow", "forbid"]) -> OpenAPI:
        from openapi_core import Config, OpenAPI  # noqa: PLC0415

        config = Config(
            spec_validator_cls=None,  # The slice was validated when it was made.
            additional_properties_default_policy=additional_properties,
            extra_media_type_deserializers={"application/vnd.github.sha": bytes.decode},
        )
        return OpenAPI.from_dict(self._document, config=config)

    def _operation(self, method: str, template: str) -> dict[str, Any]:
        operation: dict[str, Any] = self._document["paths"][template][method.lower()]
        return operation

    def _parameter(self, entry: Mapping[str, Any]) -> Mapping[str, Any]:
        if "$ref" not in entry:
            return entry
        name = entry["$ref"].rpartition("/")[2]
        parameter: Mapping[str, Any] = self._document["components"]["parameters"][name]
        return parameter

    def _as_request(
        self, template: str, parameters: Mapping[str, str], request: Request
    ) -> MockRequest:
        from openapi_core.testing import MockRequest  # noqa: PLC0415

        # The description knows GitHub's own address and no slash within a parameter.
        quoted = {name: quote(value, safe="") for name, value in parameters.items()}
        return MockRequest(
            host_url=self._document["servers"][0]["url"],
            method=request.method,
            path=template.format(**quoted),
            args=dict(request.query),
            headers=dict(request.headers),
            data=request.body,
            content_type=request.headers.get("content-type", "").partition(";")[0],
        )


def _error_problems(response: Response) -> list[str]:
    try:
        body = json.loads(response.body)
    except ValueError:
        return ["the body of an error is not JSON"]
    if not isinstance(body, dict) or not {"message", "documentation_url"} <= set(body):
        return [f"an error without message and documentation_url: {body!r}"]
    problems = [f"an error has no {key!r}" for key in sorted(set(body) - _ERROR_KEYS)]
    if body.get("status") != str(response.status):
        problems.append(f"an error {response.status} says status {body.get('status')!r}")
    return problems


def _explain(error: BaseException) -> str:
    """One line; what a validator says about the schema is below the first exception."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    details = [
        f"{'/'.join(map(str, detail.absolute_path)) or 'the top'}: {detail.message}"
        for detail in getattr(cause, "schema_errors", ())
    ]
    # With details, the text of the exceptions is the whole value.
    texts = [type(error).__name__, *details] if details else [str(error), str(cause)]
    return "; ".join(text.partition("\n")[0] for text in dict.fromkeys(texts))


DESCRIPTION = Description()
"""One for all fakes of a process."""
