"""Connections: a tenant's sources of bills and carbon statements, as they are configured. They hold no secret.

Rows of PostgreSQL become `Connection` values here. Credentials are resolved in `credentials`; reading starts in
`sources`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, ValidationError, model_validator

from offgridflow_pipeline.connectors.errors import ConnectionConfigError
from offgridflow_pipeline.connectors.feeds import FEEDS, FeedName
from offgridflow_pipeline.connectors.secrets.shapes import redacted, secret_shape

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.database.pipeline.connections import ConnectionRow

StatementKind = Literal["aws_carbon_export", "aws_sustainability", "azure_carbon", "gcp_carbon"]
Kind = FeedName | StatementKind
Provider = Literal["aws", "azure", "gcp", "https", "local"]
Reconcile = Literal["none", "cost_explorer", "cost_management", "bigquery"]

#: URI scheme -> whose service is asked; a path without a scheme is a local file or folder.
SCHEMES: Mapping[str, Provider] = {
    "": "local",
    "s3": "aws",
    "az": "azure",
    "abfs": "azure",
    "abfss": "azure",
    "gs": "gcp",
    "bigquery": "gcp",
    "https": "https",
}
#: Https addresses of Azure Blob Storage are read as such, with the access of Azure.
_AZURE_BLOBS = re.compile(
    r"https://[a-z0-9]{3,24}\.(blob|dfs)\.core\.(windows\.net|usgovcloudapi\.net|chinacloudapi\.cn)/"
)
#: What a URI looks like where a name alone is not enough, and how to write it.
_URI_FORMS: Mapping[str, tuple[re.Pattern[str], str]] = {
    "az": (re.compile(r"az://[a-z0-9]{3,24}/[a-z0-9$][a-z0-9-]{1,62}(/.*)?"), "az://ACCOUNT/CONTAINER/PATH"),
    "bigquery": (
        re.compile(r"bigquery://[a-z0-9.:-]+[./]\w+[./][\w-]+"),
        "bigquery://PROJECT.DATASET.TABLE",
    ),
}
#: Kinds that are read through an API instead of from files, and whose.
_API_KINDS: Mapping[str, Provider] = {"aws_sustainability": "aws", "azure_carbon": "azure"}
_BIGQUERY_KINDS = frozenset({"gcp_standard", "gcp_detailed", "gcp_focus", "gcp_carbon"})
_RECONCILED_BY: Mapping[str, Provider] = {"cost_explorer": "aws", "cost_management": "azure", "bigquery": "gcp"}

#: What a field looks like, told when it does not.
_FORMS: Mapping[str, str] = {
    "kind": f"one of {', '.join((*FEEDS, *get_args(StatementKind)))}",
    "id": "lower-case letters, digits, - and _, at most 63, such as aws-payer",
    "role_arn": "arn:aws:iam::123456789012:role/NAME",
    "external_id": "2 to 1224 letters, digits and +=,.@:/-",
    "region": "a region code such as eu-west-1",
    "account_ids": "12 digits each",
    "endpoint_url": "an address such as https://s3.example.org",
    "account_url": "https://ACCOUNT.blob.core.windows.net",
    "management_url": "https://management.azure.com",
    "api_endpoint": "https://bigquery.googleapis.com",
    "directory_id": "the directory (tenant) id or domain",
    "client_id": "a GUID",
    "subscriptions": "a GUID each",
    "scope": "/subscriptions/GUID or /providers/Microsoft.Billing/billingAccounts/ID",
    "project": "a project id",
    "allowed_hosts": "host names such as bills.example.org",
    "secret_ref": "env:NAME, file:/PATH, aws-sm:NAME, gcp-sm:projects/..., azure-kv:https://... or sealed",
}

_GUID = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
AccountId = Annotated[str, StringConstraints(pattern=r"^\d{12}$")]
Guid = Annotated[str, StringConstraints(pattern=_GUID, to_lower=True)]
Host = Annotated[str, StringConstraints(pattern=r"^[a-z0-9.-]+(:\d{1,5})?$", to_lower=True)]
Address = Annotated[str, StringConstraints(pattern=r"^(https?://[^\s@?#]+)?$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class AwsConfig(_Part):
    """AWS: the role to assume with its external id, or nothing for the identity of the process or static keys.

    `region` is that of the bucket or API; `endpoint_url` replaces AWS's own (a private endpoint); `account_ids`
    limit reconciliation and carbon statements to these accounts.
    """

    role_arn: str = Field("", pattern=r"^(arn:aws[a-z-]*:iam::\d{12}:role/\S+)?$")
    external_id: str = Field("", pattern=r"^([A-Za-z0-9_+=,.@:/-]{2}[A-Za-z0-9_+=,.@:/-]*)?$", max_length=1224)
    region: str = Field("", pattern=r"^([a-z]{2,}(-[a-z]+)+-\d)?$")
    endpoint_url: Address = ""
    account_ids: tuple[AccountId, ...] = ()


class AzureConfig(_Part):
    """Azure: directory (tenant) and client of a service principal, or nothing for the process's identity.

    `account_url` is the Blob endpoint, `management_url` that of Azure Resource Manager, where they are not the
    public ones; `scope` is the billing scope for Cost Management; `subscriptions` are those of carbon statements.
    """

    directory_id: str = Field("", pattern=r"^[A-Za-z0-9.-]*$")
    client_id: Guid | Literal[""] = ""
    account_url: Address = ""
    management_url: Address = ""
    scope: str = Field("", pattern=r"^(/(subscriptions|providers)/\S+)?$")
    subscriptions: tuple[Guid, ...] = ()


class GcpConfig(_Part):
    """Google Cloud: `project` runs and pays for queries; `api_endpoint` replaces Google's own.

    `anonymous` sends no credentials: public buckets and emulators.
    """

    project: str = Field("", pattern=r"^([a-z0-9.:-]{4,63})?$")
    api_endpoint: Address = ""
    anonymous: bool = False


class HttpsConfig(_Part):
    """Https files: hosts that may be asked besides the one of the URI (redirects, parts on another host)."""

    allowed_hosts: tuple[Host, ...] = ()


class Connection(_Part):
    """One source of bills or carbon statements.

    `uri` is a file, a folder, ``s3://bucket/prefix``, ``az://account/container/path``, ``gs://bucket/prefix``,
    ``bigquery://project.dataset.table`` or an https file; empty for kinds that are an API. `role` tells the feed of
    record from feeds that only reconcile it; `reconcile` names the API that control totals come from. Only the part
    of the provider asked (`provider`) may be filled. `secret_ref` names a secret, see `secrets`; empty = ambient.
    """

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    kind: Kind
    uri: str = ""
    role: Literal["record", "reconciliation"] = "record"
    reconcile: Reconcile = "none"
    aws: AwsConfig = AwsConfig()
    azure: AzureConfig = AzureConfig()
    gcp: GcpConfig = GcpConfig()
    https: HttpsConfig = HttpsConfig()
    secret_ref: str = Field("", pattern=r"^((env|file|aws-sm|gcp-sm|azure-kv):\S.*|sealed)?$", max_length=2048)

    @property
    def provider(self) -> Provider:
        """Whose service is asked: by the URI's scheme, or the API of the kind."""
        if self.kind in _API_KINDS:
            return _API_KINDS[self.kind]
        return "azure" if _AZURE_BLOBS.match(self.uri) else SCHEMES[_scheme(self.uri)]

    @property
    def is_feed(self) -> bool:
        """Whether it delivers billing rows (otherwise carbon statements)."""
        return self.kind in FEEDS

    @model_validator(mode="after")
    def _consistent(self) -> Connection:
        for problem in chain(
            self._unprintable(), self._hidden_secrets(), self._wrong_uri(), self._wrong_parts(), self._missing()
        ):
            raise ValueError(problem)
        return self

    def _unprintable(self) -> Iterator[str]:
        for name, value in _texts(self.model_dump(), ""):
            if not value.isprintable():
                yield f"{name} holds a line break or another control character: take it out"

    def _hidden_secrets(self) -> Iterator[str]:
        for name, value in _texts(self.model_dump(), ""):
            shape = secret_shape(value)
            if shape:
                yield (
                    f"{name} holds what looks like a secret ({shape}): configuration is not secret. Take it out "
                    "and give it by --secret-stdin or --secret-ref; if it was stored anywhere, revoke it"
                )

    def _wrong_uri(self) -> Iterator[str]:
        scheme = _scheme(self.uri)
        if self.kind in _API_KINDS:
            if self.uri:
                yield f"{self.kind} is read through an API: leave the uri empty"
        elif not self.uri:
            yield f"{self.kind} needs a uri: where its files or its table are"
        elif scheme not in SCHEMES:
            known = ", ".join(f"{s}://" for s in SCHEMES if s)
            yield f"uri begins with {scheme}://; known are {known} and local paths"
        elif scheme == "bigquery" and self.kind not in _BIGQUERY_KINDS:
            yield f"{self.kind} is read from files: its uri cannot be a BigQuery table"
        elif scheme in _URI_FORMS and not _URI_FORMS[scheme][0].fullmatch(self.uri):
            yield f"uri is written as {_URI_FORMS[scheme][1]}"
        elif scheme and "?" in self.uri:
            yield "uri has a query (?...): signed URLs are secrets that expire; name the object, give access instead"

    def _wrong_parts(self) -> Iterator[str]:
        for name in ("aws", "azure", "gcp", "https"):
            part: BaseModel = getattr(self, name)
            filled = next(iter(part.model_dump(exclude_defaults=True)), None)
            if filled and name != self.provider:
                yield (
                    f"{name}.{filled} is of no use: this {self.kind} is read from {self.provider}. "
                    "Leave it out, or check kind and uri"
                )
        asked = _RECONCILED_BY.get(self.reconcile, self.provider)
        if asked != self.provider:
            yield f"reconcile={self.reconcile} asks {asked}, but this connection's access is to {self.provider}"
        if self.secret_ref and self.provider == "local":
            yield "secret_ref is of no use for local files: leave it out"
        if self.secret_ref and self.gcp.anonymous:
            yield "gcp.anonymous sends no credentials: leave out anonymous or secret_ref"

    def _missing(self) -> Iterator[str]:
        if self.aws.external_id and not self.aws.role_arn:
            yield "aws.external_id belongs to a role: add aws.role_arn"
        if self.azure.client_id and not self.azure.directory_id and self.secret_ref:
            yield "azure.client_id needs azure.directory_id: the directory (tenant) that the client lives in"
        if self.kind == "azure_carbon" and not self.azure.subscriptions:
            yield "azure.subscriptions is missing: the subscriptions that carbon statements are for"
        if self.reconcile == "cost_management" and not self.azure.scope:
            yield "azure.scope is missing: the billing scope that Cost Management is asked for"


def connection(values: Mapping[str, Any]) -> Connection:
    """A connection of these values.

    Raises:
        ConnectionConfigError: every problem with its cure; values are not repeated, they may be secret.
    """
    try:
        return Connection.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(dict.fromkeys(_told(p) for p in error.errors(include_url=False, include_input=False)))
        raise ConnectionConfigError(f"Connection {redacted(str(values.get('id', '')))!r}: {problems}.") from None


def connections_of(database: Database, tenant: str) -> list[Connection]:
    """The tenant's connections that are to be read, by id; paused ones are left out.

    Raises:
        ConnectionConfigError: a stored connection is not one that this edition knows.
        UnknownTenantError: no tenant has that slug.
    """
    return [from_row(row) for row in database.connections.list(tenant, paused=False)]


def from_row(row: ConnectionRow) -> Connection:
    """The connection that a row holds.

    Raises:
        ConnectionConfigError: the row is not one that this edition knows.
    """
    return connection(
        {
            **row.config,
            "id": row.connection_id,
            "kind": row.kind,
            "uri": row.uri,
            "role": row.role,
            "secret_ref": row.secret_ref or "",
        }
    )


def to_row(wanted: Connection) -> dict[str, Any]:
    """Keyword arguments of `CloudConnections.add`, but for tenant and id."""
    return {
        "provider": wanted.provider,
        "kind": wanted.kind,
        "uri": wanted.uri,
        "role": wanted.role,
        "secret_ref": wanted.secret_ref or None,
        "config": wanted.model_dump(
            mode="json", exclude={"id", "kind", "uri", "role", "secret_ref"}, exclude_defaults=True
        ),
    }


def record_outcome(
    database: Database,
    tenant: str,
    connection_id: str,
    error: Exception | str | None = None,
    secrets: Iterable[SecretStr] = (),
) -> None:
    """Note on the connection that it was read, or why not; secrets are blacked out of the reason."""
    if error is None:
        database.connections.record_success(tenant, connection_id)
    else:
        database.connections.record_failure(tenant, connection_id, redacted(str(error), secrets))


def _scheme(uri: str) -> str:
    return urlsplit(uri).scheme.lower() if "://" in uri else ""


def _texts(value: object, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, Mapping):
        for key, member in value.items():
            yield from _texts(member, f"{name}.{key}".removeprefix("."))
    elif isinstance(value, tuple | list):
        for member in value:
            yield from _texts(member, name)


def _told(problem: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in problem["loc"] if not str(part).startswith(("literal[", "constrained-")))
    if problem["type"] == "extra_forbidden":
        return f"{redacted(place)} is no setting of a connection; a secret belongs to --secret-stdin or --secret-ref"
    form = next((_FORMS[str(part)] for part in problem["loc"] if str(part) in _FORMS), None)
    if form:
        return f"{place} is written as {form}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{place}: {message}" if place else message
