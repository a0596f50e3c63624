"""Activity files: fuel, electricity, travel, spend. Their form is checked at once, the calculation comes later.

The same bytes of the same kind are the same upload, so sending a file again does no harm and needs no key.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Coroutine
from datetime import datetime
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal, NotRequired

from fastapi import APIRouter, File, Form, Query, Request, Response, UploadFile
from fastapi.routing import APIRoute
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from typing_extensions import TypedDict

from offgridflow_pipeline.database.pipeline.uploads import Upload
from offgridflow_pipeline.identity.audit import Action, record
from offgridflow_pipeline.identity.permissions import Permission
from offgridflow_pipeline.inventory.activity_files import ActivityKind, FileForm, examine
from offgridflow_pipeline.sidecar.answering import answers, pagination
from offgridflow_pipeline.sidecar.answering.public_ids import UploadId, public_id, uuid_of
from offgridflow_pipeline.sidecar.entrance.audit_trail import trail
from offgridflow_pipeline.sidecar.entrance.authorization import Authorization, requires
from offgridflow_pipeline.sidecar.entrance.middleware import too_many
from offgridflow_pipeline.sidecar.entrance.problems import FieldProblem, Problem, not_found, problem_responses
from offgridflow_pipeline.sidecar.services import services_of
from offgridflow_pipeline.subscriptions.entitlements import Entitlement

if TYPE_CHECKING:
    from offgridflow_pipeline.sidecar.entrance.caller import Caller


class KnownSenderRoute(APIRoute):
    """A route whose body is read only from who may send it: it is large, and waits on disk until it is whole."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, behind a check of credential and permission."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            if request.method == "POST":
                await run_in_threadpool(_require_sender, request)
            return await handle(request)

        return handled


def _require_sender(request: Request) -> None:
    services = services_of(request)
    sender = Authorization(request, services, Permission.UPLOADS_WRITE, makes=Entitlement.UPLOADS)
    with sender.transaction() as caller:
        if refused := services.rate_limiter.refusal("uploads", caller.tenant):
            raise too_many(refused)


router = APIRouter(tags=["uploads"], route_class=KnownSenderRoute)
MAXIMUM_NAME_LENGTH = 200


class UploadProblem(TypedDict):
    """One fault; `row` as in a spreadsheet (the header is row 1), 0 = the file as a whole."""

    row: int
    column: str
    message: str
    cure: str
    sheet: NotRequired[Annotated[str, Field(description="Worksheet of the row, in a workbook.")]]


class UploadLinks(TypedDict):
    """Where to go from here."""

    self: str


class UploadedFile(TypedDict):
    """A file and what its form is worth; a refused one is kept as evidence and not computed from."""

    id: Annotated[str, Field(examples=["upl_0f8fad5b-d9cb-469f-a165-70867728950e"])]
    kind: ActivityKind
    file_name: str
    media_type: str
    sha256: str
    size_bytes: int
    row_count: int
    state: Literal["accepted", "refused"]
    problems: list[UploadProblem]
    uploaded_by: str
    created_at: datetime
    _links: UploadLinks


@router.post(
    "/uploads",
    operation_id="create_upload",
    summary="Upload an activity file",
    status_code=201,
    response_model=UploadedFile,
    responses={
        200: {"model": UploadedFile, "description": "The same file is there already."},
        **problem_responses(400, 401, 403, 413, 422, 429),
    },
)
def create_upload(
    auth: Annotated[Authorization, requires(Permission.UPLOADS_WRITE, makes=Entitlement.UPLOADS)],
    kind: Annotated[ActivityKind, Form(description="What the file holds.")],
    file: Annotated[UploadFile, File(description="CSV in UTF-8, plain or gzip; or an Excel workbook (.xlsx).")],
) -> Response:
    """Keep the file and tell what is wrong with its form: row, column, message and cure of every fault.

    Of a workbook its only visible sheet is read; of several the one that is named after the kind.
    """
    if not file.size:
        wrong = FieldProblem(pointer="/body/file", message="The file is empty.", code="empty_file")
        raise Problem(
            422, "empty_file", "The file is empty: upload a CSV file or a workbook with a header row.", errors=[wrong]
        )
    with auth.transaction() as caller:
        sha256 = file_digest(file.file, "sha256").hexdigest()  # type: ignore[arg-type]  # a file in all but name
        before = caller.database.uploads.same(caller.tenant, kind, sha256)
        tenant = caller.tenant
    if before is not None:
        return _answer(before, is_new=False)
    file.file.seek(0)
    form = examine(kind, file.file)
    file.file.seek(0)
    size_bytes = _keep(auth, tenant, file.file)
    with auth.transaction() as caller:
        upload, is_new = caller.database.uploads.add(
            caller.tenant,
            kind=kind,
            file_name=_plain_name(file.filename),
            media_type=form.media_type,
            sha256=sha256,
            size_bytes=size_bytes,
            row_count=form.row_count,
            state="accepted" if form.is_accepted else "refused",
            problems=_problems(form),
            uploaded_by=caller.principal,
        )
        if is_new:
            _audit(auth, caller, upload)
    return _answer(upload, is_new=is_new)


@router.get(
    "/uploads",
    operation_id="list_uploads",
    summary="Activity files, newest first",
    response_model=answers.Page[UploadedFile],
    responses=problem_responses(400, 401, 403, 422, 429),
)
def list_uploads(
    auth: Annotated[Authorization, requires(Permission.EVIDENCE_READ)],
    kind: Annotated[ActivityKind | None, Query(description="Files of this kind alone.")] = None,
    limit: pagination.Limit = pagination.DEFAULT_LIMIT,
    cursor: pagination.CursorText = None,
) -> Response:
    """Accepted and refused files."""
    with auth.transaction() as caller:
        cursors = pagination.cursors(auth.services, caller, "uploads", {"kind": kind})
        rows = caller.database.uploads.list(caller.tenant, limit=limit + 1, after=cursors.read(cursor), kind=kind)
    page, next_cursor = pagination.page(rows, limit, cursors, key=lambda row: (row.created_at, row.upload_id))
    return answers.read(
        answers.Page[UploadedFile], answers.Page(items=[_shown(row) for row in page], next_cursor=next_cursor)
    )


@router.get(
    "/uploads/{upload_id}",
    operation_id="get_upload",
    summary="One activity file",
    response_model=UploadedFile,
    responses=problem_responses(401, 403, 404, 429),
)
def get_upload(auth: Annotated[Authorization, requires(Permission.EVIDENCE_READ)], upload_id: UploadId) -> Response:
    """Its state, and every fault that was found."""
    with auth.transaction() as caller:
        found = caller.database.uploads.get(caller.tenant, uuid_of("upl", upload_id))
    if found is None:
        raise not_found()
    return answers.read(UploadedFile, _shown(found))


def _keep(auth: Authorization, tenant: str, file: BinaryIO) -> int:
    """Store the bytes under their hash; returns their number."""
    with tempfile.NamedTemporaryFile(prefix="ogf-upload-") as copy:
        shutil.copyfileobj(file, copy)
        copy.flush()
        return auth.services.raw_objects.put(tenant, Path(copy.name)).size_bytes


def _plain_name(name: str | None) -> str:
    """The last part of what the client calls the file, without anything that is not printable."""
    last = (name or "").replace("\\", "/").rpartition("/")[2]
    plain = "".join(letter for letter in last if letter.isprintable()).strip()
    return plain[-MAXIMUM_NAME_LENGTH:] or "upload.csv"


def _problems(form: FileForm) -> list[dict[str, Any]]:
    told = [
        {"row": fault.row, "column": fault.column, "message": fault.message, "cure": fault.cure}
        | ({"sheet": fault.sheet} if fault.sheet else {})
        for fault in form.faults
    ]
    if form.more_faults:
        rest = f"{form.more_faults} more faults were found"
        told.append({"row": 0, "column": "", "message": rest, "cure": "mend these first"})
    return told


def _shown(upload: Upload) -> dict[str, Any]:
    identity = public_id("upl", upload.upload_id)
    return {
        "id": identity,
        "kind": upload.kind,
        "file_name": upload.file_name,
        "media_type": upload.media_type,
        "sha256": upload.sha256,
        "size_bytes": upload.size_bytes,
        "row_count": upload.row_count,
        "state": upload.state,
        "problems": upload.problems,
        "uploaded_by": upload.uploaded_by,
        "created_at": upload.created_at,
        "_links": {"self": f"/v1/uploads/{identity}"},
    }


def _answer(upload: Upload, *, is_new: bool) -> Response:
    shown = _shown(upload)
    return answers.written(
        UploadedFile, shown, status=201 if is_new else 200, headers={"location": shown["_links"]["self"]}
    )


def _audit(auth: Authorization, caller: Caller, upload: Upload) -> None:
    record(
        caller.database,
        caller.tenant,
        Action.UPLOAD_ACCEPTED if upload.state == "accepted" else Action.UPLOAD_REFUSED,
        actor=caller.principal,
        target=public_id("upl", upload.upload_id),
        outcome="success" if upload.state == "accepted" else "refused",
        details={"kind": upload.kind, "sha256": upload.sha256, "rows": upload.row_count},
        **trail(auth.request),
    )
