"""Sessions and clients of AWS from a connection's access: an assumed role, static keys, or the identity of the process.

Clients of `aws_client` do not retry: `calls` decides what is tried again and for how long. Object storage takes its
session from here and has a client of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from botocore.config import Config

    from offgridflow_pipeline.connectors.access import AwsAccess

#: Cost Explorer and STS of the classic partition answer here; both are global services.
DEFAULT_REGION = "us-east-1"
CONNECT_TIMEOUT_SECONDS = 10
READ_TIMEOUT_SECONDS = 60
_SESSION_NAME = "offgridflow"


def aws_client(access: AwsAccess, service: str) -> Any:
    """A boto3 client of the service; a role is assumed with the first call, so an error of STS comes from there.

    Raises:
        botocore.exceptions.BotoCoreError: region, endpoint or profile are unusable.
    """
    from botocore.config import Config

    config = Config(
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        retries={"total_max_attempts": 1, "mode": "standard"},
    )
    return aws_session(access, config).client(
        service,
        region_name=access.region or DEFAULT_REGION,
        endpoint_url=access.endpoint_url or None,
        config=config,
    )


def aws_session(access: AwsAccess, config: Config) -> Any:
    """A boto3 session with static keys, or of the process; with a role, one that assumes it again before it ends.

    `config` bounds the calls of STS, which come with the first call of a client and not from here.
    """
    import boto3
    import botocore.session
    from botocore.credentials import CredentialResolver

    keys: dict[str, Any] = {}
    if access.access_key_id:
        keys = {
            "aws_access_key_id": access.access_key_id,
            "aws_secret_access_key": access.secret_access_key.get_secret_value(),
        }
    own = boto3.session.Session(**keys)
    if not access.role_arn:
        return own
    core = botocore.session.get_session()
    core.register_component("credential_provider", CredentialResolver([_assumed_role(own, access, config)]))
    return boto3.session.Session(botocore_session=core)


def _assumed_role(own: Any, access: AwsAccess, config: Config) -> Any:
    from botocore.credentials import CredentialProvider, DeferredRefreshableCredentials

    def assume() -> dict[str, str]:
        request = {"RoleArn": access.role_arn, "RoleSessionName": _SESSION_NAME}
        if access.external_id:
            request["ExternalId"] = access.external_id
        client = own.client(
            "sts",
            region_name=access.region or own.region_name or DEFAULT_REGION,
            endpoint_url=access.endpoint_url or None,
            config=config,
        )
        found = client.assume_role(**request)["Credentials"]
        return {
            "access_key": found["AccessKeyId"],
            "secret_key": found["SecretAccessKey"],
            "token": found["SessionToken"],
            "expiry_time": found["Expiration"].isoformat(),
        }

    class AssumedRole(CredentialProvider):
        METHOD = "custom-offgridflow-role"

        def load(self) -> Any:
            return DeferredRefreshableCredentials(assume, self.METHOD)

    return AssumedRole()
