"""Clients of AWS from a connection's access: an assumed role, static keys, or the identity of the process.

Retries are off: `provider_calls` decides what is tried again and for how long. Object storage has its own module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from offgridflow_pipeline.connectors.access import AwsAccess

#: Cost Explorer and STS of the classic partition answer here; both are global services.
DEFAULT_REGION = "us-east-1"
CONNECT_TIMEOUT_SECONDS = 10
READ_TIMEOUT_SECONDS = 60
_SESSION_NAME = "offgridflow"


def aws_client(access: AwsAccess, service: str) -> Any:
    """A boto3 client of the service; a role is assumed now, so an error of STS comes from here.

    Raises:
        botocore.exceptions.ClientError: the role cannot be assumed.
        botocore.exceptions.BotoCoreError: no credentials, or no answer.
    """
    import boto3

    keys: dict[str, Any] = {}
    if access.access_key_id:
        keys = {
            "aws_access_key_id": access.access_key_id,
            "aws_secret_access_key": access.secret_access_key.get_secret_value(),
        }
    if access.role_arn:
        keys = _assumed(boto3.session.Session(**keys), access)
    return _client(boto3.session.Session(**keys), service, access)


def _assumed(session: Any, access: AwsAccess) -> dict[str, Any]:
    request = {"RoleArn": access.role_arn, "RoleSessionName": _SESSION_NAME}
    if access.external_id:
        request["ExternalId"] = access.external_id
    found = _client(session, "sts", access).assume_role(**request)["Credentials"]
    return {
        "aws_access_key_id": found["AccessKeyId"],
        "aws_secret_access_key": found["SecretAccessKey"],
        "aws_session_token": found["SessionToken"],
    }


def _client(session: Any, service: str, access: AwsAccess) -> Any:
    from botocore.config import Config

    return session.client(
        service,
        region_name=access.region or DEFAULT_REGION,
        endpoint_url=access.endpoint_url or None,
        config=Config(
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=READ_TIMEOUT_SECONDS,
            retries={"total_max_attempts": 1, "mode": "standard"},
        ),
    )
