"""What real object stores answer when something is wrong, by a name that is the same for all.

Sources: S3, https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html; Azure,
https://learn.microsoft.com/rest/api/storageservices/common-rest-api-error-codes; Google,
https://cloud.google.com/storage/docs/xml-api/reference-status. What is from elsewhere says so.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.harness.objects_proxy import Answer, CutResponse, Fault

_AZURE_REQUEST = "RequestId:5bc1c1a9-701e-0003-0f66-1a6cd5000000\nTime:2026-01-01T00:00:00.0000000Z"

_AZURE_CHALLENGE = (
    "Bearer authorization_uri=https://login.microsoftonline.com/common/oauth2/authorize "
    "resource_id=https://storage.azure.com"
)


def named_fault(kind: str, name: str) -> Fault:
    """The fault of this name as a server of this kind (`s3`, `azure`, `gcs`) has it."""
    try:
        return FAULTS[kind][name]
    except KeyError:
        raise LookupError(f"{kind} has no {name}: it has {', '.join(FAULTS[kind])}") from None


def _xml(
    status: int,
    code: str,
    message: str,
    more: str = "",
    *,
    headers: tuple[tuple[str, str], ...] = (),
) -> Answer:
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>"
    )
    return Answer(status, body.encode(), (("Content-Type", "application/xml"), *headers))


def _s3(
    status: int,
    code: str,
    message: str,
    more: str = "",
    *,
    headers: tuple[tuple[str, str], ...] = (),
) -> Answer:
    more += "<RequestId>4442587FB7D0A2F9</RequestId><HostId>aG9zdA==</HostId>"
    return _xml(status, code, message, more, headers=headers)


def _azure(
    status: int,
    code: str,
    message: str,
    more: str = "",
    *,
    headers: tuple[tuple[str, str], ...] = (),
) -> Answer:
    return _xml(
        status,
        code,
        f"{message}\n{_AZURE_REQUEST}",
        more,
        headers=(("x-ms-error-code", code), *headers),
    )


# A connection that breaks while a file of some size is on its way.
_RESET = CutResponse(after=100_000)
# No cloud is ever full: this is how what stands in for one says it, or what is in front of one.
_FULL = _xml(507, "InsufficientStorage", "There is not enough space on the disk.")

FAULTS: Mapping[str, Mapping[str, Fault]] = {
    "s3": {
        "no_permission": _s3(403, "AccessDenied", "Access Denied"),
        "expired_credentials": _s3(
            400, "ExpiredToken", "The provided token has expired.", "<Token-0>FwoGZXIv</Token-0>"
        ),
        # With no Location, as https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
        # says: the client has to take the bucket's region from the header.
        "wrong_region": _s3(
            301,
            "PermanentRedirect",
            "The bucket you are attempting to access must be addressed using the specified "
            "endpoint. Please send all future requests to this endpoint.",
            "<Endpoint>bucket.s3.eu-central-1.amazonaws.com</Endpoint><Bucket>bucket</Bucket>",
            headers=(("x-amz-bucket-region", "eu-central-1"),),
        ),
        # What regional endpoints answer: the region is part of what is signed.
        "wrong_region_signed": _s3(
            400,
            "AuthorizationHeaderMalformed",
            "The authorization header is malformed; the region 'us-east-1' is wrong; expecting "
            "'eu-central-1'",
            "<Region>eu-central-1</Region>",
            headers=(("x-amz-bucket-region", "eu-central-1"),),
        ),
        "slow_down": _s3(503, "SlowDown", "Please reduce your request rate."),
        # As MinIO has it,
        # https://github.com/minio/minio/blob/master/cmd/api-errors.go (ErrStorageFull).
        "disk_full": _s3(
            507,
            "XMinioStorageFull",
            "Storage backend has reached its minimum free drive threshold. Please delete a few "
            "objects to proceed.",
        ),
        # Two conditional writes of one object at a time; try it again,
        # https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        "conflict": _s3(
            409,
            "ConditionalRequestConflict",
            "The conditional request cannot succeed due to a conflicting operation against this "
            "resource.",
        ),
        "reset_in_the_middle": _RESET,
    },
    "azure": {
        "no_permission": _azure(
            403,
            "AuthorizationPermissionMismatch",
            "This request is not authorized to perform this operation using this permission.",
        ),
        # Of a shared access signature; what follows is of tokens.
        "expired_credentials": _azure(
            403,
            "AuthenticationFailed",
            "Server failed to authenticate the request. Make sure the value of Authorization "
            "header is formed correctly including the signature.",
            "<AuthenticationErrorDetail>Signature not valid in the specified time frame"
            "</AuthenticationErrorDetail>",
        ),
        "expired_token": _azure(
            401,
            "InvalidAuthenticationInfo",
            "Server failed to authenticate the request. Please refer to the information in the "
            "www-authenticate header.",
            "<AuthenticationErrorDetail>Lifetime validation failed. The token is expired."
            "</AuthenticationErrorDetail>",
            headers=(("WWW-Authenticate", _AZURE_CHALLENGE),),
        ),
        # No wrong_region: the name of the account says where it is.
        "slow_down": _azure(503, "ServerBusy", "The server is busy."),
        "disk_full": _FULL,
        "reset_in_the_middle": _RESET,
    },
    "gcs": {
        "no_permission": _xml(
            403,
            "AccessDenied",
            "Access denied.",
            "<Details>ci@acme.iam.gserviceaccount.com does not have storage.objects.get access to "
            "the Google Cloud Storage object. Permission 'storage.objects.get' denied on resource "
            "(or it may not exist).</Details>",
        ),
        "expired_credentials": _xml(
            401,
            "AuthenticationRequired",
            "Authentication required.",
            headers=(("WWW-Authenticate", 'Bearer realm="https://accounts.google.com/"'),),
        ),
        # No wrong_region: there is one address for all.
        # One object may be written about once a second, https://cloud.google.com/storage/docs/gcs429
        "slow_down": _xml(
            429,
            "SlowDown",
            "The object exceeded the rate limit for object mutation operations (create, update, "
            "and delete). Please reduce your request rate. See "
            "https://cloud.google.com/storage/docs/gcs429.",
        ),
        "disk_full": _FULL,
        "reset_in_the_middle": _RESET,
    },
}
"""By the kind of server, then by name."""
