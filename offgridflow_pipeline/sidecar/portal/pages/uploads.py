"""Activity files: send one, see what was found in it row by row."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Query, Response, UploadFile

from offgridflow_pipeline.identity.permissions import Permission
from offgridflow_pipeline.inventory.activity_files import KINDS, activity_columns
from offgridflow_pipeline.sidecar.answering import pagination
from offgridflow_pipeline.sidecar.answering.public_ids import public_id, uuid_of
from offgridflow_pipeline.sidecar.entrance.authorization import Authorization, requires
from offgridflow_pipeline.sidecar.entrance.problems import not_found
from offgridflow_pipeline.sidecar.portal.forms import Field, refusal_text
from offgridflow_pipeline.sidecar.portal.people import people_of
from offgridflow_pipeline.sidecar.portal.rendering import language_for, page, see_other
from offgridflow_pipeline.sidecar.portal.texts import Texts
from offgridflow_pipeline.sidecar.routes.uploads import KnownSenderRoute, create_upload
from offgridflow_pipeline.subscriptions.entitlements import Entitlement

router = APIRouter(include_in_schema=False, route_class=KnownSenderRoute)
UPLOADS_PER_PAGE = 25


@router.get("/uploads")
def uploads_page(
    auth: Annotated[Authorization, requires(Permission.EVIDENCE_READ)],
    cursor: Annotated[str | None, Query(max_length=2048)] = None,
) -> Response:
    """Sent files, newest first, and the form to send one."""
    return _uploads(auth, cursor=cursor)


@router.post("/uploads")
def send_file(
    auth: Annotated[Authorization, requires(Permission.UPLOADS_WRITE, makes=Entitlement.UPLOADS)],
    kind: Field = "",
    file: Annotated[UploadFile | None, File()] = None,
) -> Response:
    """Keep the file and show what was found in it."""
    chosen = next((known for known in KINDS if known == kind), None)
    if chosen is None or file is None or not file.size:
        return _uploads(auth, refused="no_file")
    answer = create_upload(auth, chosen, file)
    return see_other("/uploads/" + answer.headers["location"].rpartition("/")[2])


@router.get("/uploads/{upload_id}")
def upload_page(auth: Annotated[Authorization, requires(Permission.EVIDENCE_READ)], upload_id: str) -> Response:
    """One file: accepted, or every fault with its cure."""
    with auth.transaction() as caller:
        upload = caller.database.uploads.get(caller.tenant, uuid_of("upl", upload_id))
        people = people_of(caller)
    if upload is None:
        raise not_found()
    return page(auth.request, "upload.html", caller, upload=upload, people=people)


def _uploads(auth: Authorization, *, cursor: str | None = None, refused: str | None = None) -> Response:
    with auth.transaction() as caller:
        cursors = pagination.cursors(auth.services, caller, "portal/uploads")
        found = caller.database.uploads.list(caller.tenant, limit=UPLOADS_PER_PAGE + 1, after=cursors.read(cursor))
        rows, next_cursor = pagination.page(
            found, UPLOADS_PER_PAGE, cursors, key=lambda upload: (upload.created_at, upload.upload_id)
        )
        people = people_of(caller)
    texts = Texts(language_for(auth.request, caller))
    return page(
        auth.request,
        "uploads.html",
        caller,
        status=200 if refused is None else 422,
        uploads=rows,
        next_cursor=next_cursor,
        people=people,
        public_id=public_id,
        kinds=[(one, texts(f"activity.{one}")) for one in KINDS],
        kind=KINDS[0],
        columns={one: activity_columns(one) for one in KINDS},
        maximum_bytes=auth.services.settings.maximum_upload_bytes,
        wrong={} if refused is None else {"file": refusal_text(auth.request, refused, caller)},
    )
