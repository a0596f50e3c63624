"""A BigQuery table behind one access: queries with bounded cost, time and memory, and errors that name the right.

Values come back as the library reads them; what a billing export means is not looked at here. A client is built
from explicit credentials, so that tenants never share an identity.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from offgridflow_pipeline.connectors.errors import DeliveryError
from offgridflow_pipeline.connectors.providers import google_credentials
from offgridflow_pipeline.connectors.providers.calls import Calls, ProviderUnavailableError
from offgridflow_pipeline.connectors.providers.problems import Problem, understand

if TYPE_CHECKING:
    import pyarrow as pa
    from google.auth.credentials import Credentials
    from google.cloud import bigquery, bigquery_storage
    from google.cloud.bigquery.table import RowIterator

    from offgridflow_pipeline.connectors.access import GcpAccess

#: Default limit of one query, about half a US dollar on demand; a year of a large detailed export is below it.
MAXIMUM_BYTES_BILLED = 100 * 2**30
#: One request and its retries; the whole query.
REQUEST_SECONDS = 120.0
QUERY_SECONDS = 900.0
#: Batches that the Storage Read API may hold ready: bounds memory.
_BATCHES_AHEAD = 4
_STREAMS = 2

#: project.dataset.table or project/dataset/table; a project may be domain-scoped (example.com:name).
_NAME = re.compile(r"(?P<project>[a-z0-9.:-]+)[./](?P<dataset>\w+)[./](?P<table>[\w-]+)")
_SCHEME = "bigquery://"

Parameter = str | int | date | datetime | Sequence[date]


@dataclass(frozen=True, slots=True)
class TableName:
    """A table; its parts are safe to stand in SQL between backticks."""

    project: str
    dataset: str
    table: str

    @classmethod
    def of_uri(cls, uri: str) -> TableName:
        """The table of ``bigquery://project.dataset.table`` (or with slashes).

        Raises:
            DeliveryError: it is not of that form.
        """
        found = _NAME.fullmatch(uri.removeprefix(_SCHEME)) if uri.startswith(_SCHEME) else None
        if found is None:
            raise DeliveryError(f"{uri} names no BigQuery table: write bigquery://project.dataset.table.")
        return cls(found["project"], found["dataset"], found["table"])

    @property
    def uri(self) -> str:
        """The table as a URI."""
        return f"{_SCHEME}{self.project}/{self.dataset}/{self.table}"

    def __str__(self) -> str:
        return f"{self.project}.{self.dataset}.{self.table}"


class BigQueryTable:
    """One table and the queries on it; jobs run in (and are paid by) the access's project, else the table's.

    Raises (all methods):
        AccessDeniedError: a right is missing; the message names it.
        ExpiredCredentialsError: the credentials are not accepted.
        ProviderUnavailableError: throttled or failing until the deadline.
        DeliveryError: the table does not exist, the query is refused or would cost more than allowed.
    """

    def __init__(self, name: TableName, access: GcpAccess, *, maximum_bytes_billed: int = MAXIMUM_BYTES_BILLED) -> None:
        self.name = name
        self._access = access
        self._maximum_bytes = maximum_bytes_billed
        self._storage_refused = False

    @cached_property
    def description(self) -> bigquery.Table:
        """Schema, partitioning and kind of the table."""
        with self._answers("bigquery_table"):
            return self._client.get_table(str(self.name), retry=self._retry, timeout=REQUEST_SECONDS)

    def rows(self, sql: str, parameters: Mapping[str, Parameter] | None = None) -> list[dict[str, Any]]:
        """All rows of a small result; in `sql`, ``{table}`` stands for the table and ``@name`` for a parameter."""
        with self._answers("bigquery_data"):
            return [dict(row) for row in self._result(self._job(sql, parameters or {}))]

    def batches(self, sql: str, parameters: Mapping[str, Parameter] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows in Arrow batches, as they arrive: by the Storage Read API where it can be used, else by pages."""
        with self._answers("bigquery_data"):
            job = self._job(sql, parameters or {})
            reader = self._storage_reader()
            started = False
            if reader is not None:
                try:
                    for batch in self._streamed(job, reader):
                        started = True
                        yield batch
                except self._no_storage():
                    if started:
                        raise
                    self._storage_refused = True
                else:
                    return
            yield from self._streamed(job, None)

    def _streamed(self, job: bigquery.QueryJob, reader: bigquery_storage.BigQueryReadClient | None) -> Iterator[Any]:
        return iter(
            self._result(job).to_arrow_iterable(
                bqstorage_client=reader,
                max_queue_size=_BATCHES_AHEAD,
                max_stream_count=_STREAMS,
            )
        )

    def _job(self, sql: str, parameters: Mapping[str, Parameter]) -> bigquery.QueryJob:
        from google.cloud import bigquery
        from google.cloud.bigquery.retry import DEFAULT_JOB_RETRY

        config = bigquery.QueryJobConfig(
            query_parameters=[_parameter(name, value) for name, value in parameters.items()],
            maximum_bytes_billed=self._maximum_bytes,
            labels={"application": "offgridflow"},
        )
        return self._client.query(
            sql.format(table=f"`{self.name}`"),
            job_config=config,
            retry=self._retry,
            job_retry=DEFAULT_JOB_RETRY.with_timeout(QUERY_SECONDS),
            timeout=REQUEST_SECONDS,
        )

    def _result(self, job: bigquery.QueryJob) -> RowIterator:
        """The rows of a job from the first on; an iterator can be read only once."""
        return job.result(retry=self._retry, timeout=QUERY_SECONDS)

    @cached_property
    def _client(self) -> bigquery.Client:
        from google.api_core.client_options import ClientOptions
        from google.cloud import bigquery

        access = self._access
        return bigquery.Client(
            project=access.quota_project or self.name.project,
            credentials=self._credentials,
            client_options=ClientOptions(
                api_endpoint=access.api_endpoint or None, quota_project_id=access.quota_project or None
            ),
        )

    @cached_property
    def _credentials(self) -> Credentials:
        return google_credentials.google_credentials(self._access, google_credentials.BIGQUERY)

    @cached_property
    def _retry(self) -> Any:
        from google.cloud.bigquery.retry import DEFAULT_RETRY

        return DEFAULT_RETRY.with_timeout(REQUEST_SECONDS)

    def _storage_reader(self) -> bigquery_storage.BigQueryReadClient | None:
        """A client of the Storage Read API; none at an endpoint of one's own, which has no address for it."""
        from google.cloud import bigquery_storage

        if self._access.api_endpoint or self._storage_refused:
            return None
        return bigquery_storage.BigQueryReadClient(credentials=self._credentials)  # type: ignore[no-untyped-call]

    def _no_storage(self) -> tuple[type[Exception], ...]:
        """What says that the Storage Read API cannot be used: no right to it, not switched on, not reached."""
        from google.api_core import exceptions

        return (
            exceptions.Forbidden,
            exceptions.MethodNotImplemented,
            exceptions.ServiceUnavailable,
            exceptions.RetryError,
        )

    @contextmanager
    def _answers(self, api: str) -> Iterator[None]:
        """Turn errors of the library into ours."""
        from google.api_core.exceptions import GoogleAPIError
        from google.auth.exceptions import GoogleAuthError
        from requests.exceptions import RequestException

        try:
            yield
        except (GoogleAPIError, GoogleAuthError, RequestException, TimeoutError) as error:
            raise self._refusal(api, understand("gcp", error)) from None

    def _refusal(self, api: str, problem: Problem) -> DeliveryError:
        said = f"{problem.code}: {problem.text}"
        match problem.verdict, problem.code:
            case "retry", _:
                return ProviderUnavailableError(
                    f"BigQuery did not answer for {self.name} ({said}). Run it again later."
                )
            case _, "notFound" | "404":
                return DeliveryError(f"BigQuery finds no table {self.name} ({said}): check the connection's uri.")
            case _, "bytesBilledLimitExceeded":
                return DeliveryError(
                    f"The query on {self.name} would read more than {self._maximum_bytes:,} bytes ({said}): "
                    "ask for fewer days, or raise the limit of the connection."
                )
        # A job that may not be created says so; any other refusal is about the data.
        wanted = "bigquery_jobs" if "bigquery.jobs.create" in problem.text else api
        return Calls(wanted, str(self.name)).refuse(problem)


def _parameter(name: str, value: Parameter) -> Any:
    from google.cloud import bigquery

    if isinstance(value, str):
        return bigquery.ScalarQueryParameter(name, "STRING", value)
    if isinstance(value, int):
        return bigquery.ScalarQueryParameter(name, "INT64", value)
    if isinstance(value, datetime):
        return bigquery.ScalarQueryParameter(name, "TIMESTAMP", value)
    if isinstance(value, date):
        return bigquery.ScalarQueryParameter(name, "DATE", value)
    return bigquery.ArrayQueryParameter(name, "DATE", list(value))
