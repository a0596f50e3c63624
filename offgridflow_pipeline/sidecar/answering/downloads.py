"""Downloads of report artefacts, for the API, the portal and signed links.

From the id to the row (row level security) to the content-addressed object; a name is compared, never a path. A whole
file is hashed on its way and its last bytes are held back until the digest is right: a damaged object ends the
connection instead of passing for the report. Each download is one audit event, written before the first byte.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from offgridflow_pipeline.identity.audit import Action, record
from offgridflow_pipeline.lake.objects import RawObjectError
from offgridflow_pipeline.sidecar.answering.byte_ranges import UnsatisfiableRangeError, Wanted, wanted
from offgridflow_pipeline.sidecar.answering.caching import PRIVATE
from offgridflow_pipeline.sidecar.answering.public_ids import public_id, uuid_of
from offgridflow_pipeline.sidecar.entrance.audit_trail import trail
from offgridflow_pipeline.sidecar.entrance.problems import Problem, not_found

if TYPE_CHECKING:
    from uuid import UUID

    from fastapi import Request

    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.database.pipeline.reports import ReportArtefact
    from offgridflow_pipeline.sidecar.entrance.authorization import Authorization
    from offgridflow_pipeline.sidecar.services import Services

CHUNK_BYTES = 256 * 1024
#: A later part of a file belongs to the download that this person began within this time.
CONTINUED_WITHIN = timedelta(hours=1)
_REMEMBERED_EVENTS = 100
_UNSAFE_IN_NAME = re.compile(r"[^A-Za-z0-9._-]")
#: Nothing in the file may run or load, should a browser show it all the same.
SANDBOX = "default-src 'none'; style-src 'unsafe-inline'; sandbox"


@dataclass(frozen=True, slots=True)
class Download:
    """A download that was found and noted; `stream` is open at its beginning, None where no byte is to be sent."""

    artefact: ReportArtefact
    wanted: Wanted
    stream: Any = None


def of_report(auth: Authorization, report_id: str, name: str) -> Response:
    """An artefact of a report of the caller's tenant, as API and portal send it.

    Raises:
        Problem: as `prepare`; and those of the authorization.
    """
    identity = uuid_of("rep", report_id)
    with auth.transaction() as caller:
        prepared = prepare(
            auth.request,
            auth.services,
            caller.database,
            tenant=caller.tenant,
            principal=caller.principal,
            report_id=identity,
            name=name,
        )
    return answer(prepared)


def prepare(
    request: Request,
    services: Services,
    database: Database,
    *,
    tenant: str,
    principal: str,
    report_id: UUID,
    name: str,
    sha256: str | None = None,
) -> Download:
    """Find the artefact, open its object and note the download, in the bound transaction of the tenant.

    With `sha256` it must have these bytes.

    Raises:
        Problem: 404 without such an artefact, 416 for a range behind its end, 503 when its object is gone.
    """
    artefact = database.reports.artefact(tenant, report_id, name)
    if artefact is None or sha256 not in {None, artefact.sha256}:
        raise not_found()
    try:
        part = wanted(request.method, request.headers, etag_of(artefact), artefact.size_bytes)
    except UnsatisfiableRangeError:
        raise Problem(
            416,
            "range_not_satisfiable",
            f"The file has {artefact.size_bytes} bytes.",
            headers={"Content-Range": f"bytes */{artefact.size_bytes}", "Accept-Ranges": "bytes"},
        ) from None
    if request.method == "HEAD" or part.status == 304:
        return Download(artefact, part)
    stream = _opened(services, tenant, artefact)
    came_by = trail(request)
    if not (part.start and _began(database, tenant, principal, report_id, artefact, came_by["ip_hash"])):
        record(
            database,
            tenant,
            Action.ARTIFACT_DOWNLOADED,
            actor=principal,
            target=public_id("rep", report_id),
            details={"artefact": artefact.file_name, "sha256": artefact.sha256, "signed_link": sha256 is not None},
            **came_by,
        )
    return Download(artefact, part, stream)


def answer(download: Download) -> Response:
    """The answer to a prepared download: 200, 206 or 304; without a body for HEAD."""
    artefact, part = download.artefact, download.wanted
    headers = {
        "etag": etag_of(artefact),
        "cache-control": PRIVATE,
        "accept-ranges": "bytes",
        "repr-digest": repr_digest(artefact.sha256),
        "content-disposition": attachment(artefact.file_name),
        "content-security-policy": SANDBOX,
        "x-content-type-options": "nosniff",
    }
    if part.status == 304:
        return Response(status_code=304, headers=headers)
    headers["content-length"] = str(part.stop - part.start)
    if part.status == 206:
        headers["content-range"] = f"bytes {part.start}-{part.stop - 1}/{artefact.size_bytes}"
    if download.stream is None:
        return Response(status_code=part.status, headers=headers, media_type=artefact.media_type)
    return StreamingResponse(
        _bytes(download.stream, artefact, part), part.status, headers, media_type=artefact.media_type
    )


def etag_of(artefact: ReportArtefact) -> str:
    """Strong ETag: the bytes are named by their hash."""
    return f'"{artefact.sha256}"'


def repr_digest(sha256: str) -> str:
    """Digest of the whole representation (RFC 9530)."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"


def attachment(file_name: str) -> str:
    """Content-Disposition that saves under that name, whatever characters it holds (RFC 6266)."""
    plain = _UNSAFE_IN_NAME.sub("_", file_name)
    if plain == file_name:
        return f'attachment; filename="{plain}"'
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(file_name, safe='')}"


def _opened(services: Services, tenant: str, artefact: ReportArtefact) -> Any:
    try:
        stream, size = services.raw_objects.open(tenant, artefact.sha256)
    except RawObjectError as error:
        raise _unavailable() from error
    if size != artefact.size_bytes:
        stream.close()
        raise _unavailable()
    return stream


def _unavailable() -> Problem:
    return Problem(503, "artefact_unavailable", "The file is not available now. It was logged.")


def _began(
    database: Database, tenant: str, principal: str, report_id: UUID, artefact: ReportArtefact, ip_hash: str
) -> bool:
    """Whether the log holds this person's download of the same bytes of late, which a later part continues.

    From the same network: a stolen key or a link that was passed on begins a download of its own.
    """
    since = datetime.now(UTC) - CONTINUED_WITHIN
    events = database.audit_log.newest(
        tenant, limit=_REMEMBERED_EVENTS, action=str(Action.ARTIFACT_DOWNLOADED), actor=principal
    )
    for body in (json.loads(event.body) for event in events):
        same = body["target"] == public_id("rep", report_id) and body["details"].get("sha256") == artefact.sha256
        if same and body["ip_hash"] == ip_hash and datetime.fromisoformat(body["at"]) >= since:
            return True
    return False


def _bytes(stream: Any, artefact: ReportArtefact, part: Wanted) -> Iterator[bytes]:
    """The bytes of the part; of a whole file the last ones only when its digest is right.

    Raises:
        RawObjectError: the object ends early or has another digest; the client then sees a broken transfer.
    """
    digest = hashlib.sha256()
    held_back = b""
    with stream:
        stream.seek(part.start)
        left = part.stop - part.start
        while left:
            chunk = stream.read(min(CHUNK_BYTES, left))
            if not chunk:
                raise RawObjectError(f"Object {artefact.sha256} ends early: restore it.")
            left -= len(chunk)
            digest.update(chunk)
            if held_back:
                yield held_back
            held_back = chunk
    if part.status == 200 and digest.hexdigest() != artefact.sha256:
        raise RawObjectError(f"Object {artefact.sha256} was changed after it was stored: restore it.")
    yield held_back
