"""The finish that makes a PDF an archive document: output intent, XMP, attachments (PDF/A-3b, ISO 19005-3).

Asserted structurally, not certified: no PDF/A validator is installable from the package archives
(xbrl.md section 9.3). Every date is a constant, so that equal input gives equal bytes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from pathlib import PurePath
from typing import NamedTuple

import pikepdf
from pikepdf import Array, AttachedFileSpec, Dictionary, Name, Pdf
from PIL import ImageCms

_MEDIA_TYPES = {".xhtml": "application/xhtml+xml", ".csv": "text/csv", ".xbrl": "application/xml"}
_CONSTANT_DATE = "D:20000101000000Z"
_SRGB = "sRGB IEC61966-2.1"


class Attachment(NamedTuple):
    """A file to embed."""

    name: str
    content: bytes


@cache
def srgb_profile() -> bytes:
    """An sRGB ICC profile with constant bytes: creation date and profile id are overwritten (ICC.1 7.2)."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    data[24:36] = (2000).to_bytes(2, "big") + bytes([0, 1, 0, 1, 0, 0, 0, 0, 0, 0])
    data[84:100] = bytes(16)
    return bytes(data)


def archived(content: bytes, *, title: str, author: str, attachments: Sequence[Attachment]) -> bytes:
    """The PDF as PDF/A-3b with the attachments as associated data.

    Args:
        content: a PDF whose fonts are all embedded.
        title: title in the metadata.
        author: creator in the metadata.
        attachments: files to embed, in order.
    """
    with Pdf.open(io.BytesIO(content)) as pdf:
        pdf.Root.OutputIntents = Array([pdf.make_indirect(_output_intent(pdf))])
        pdf.Root.Lang = pikepdf.String("en-GB")
        pdf.Root.ViewerPreferences = Dictionary(DisplayDocTitle=True)
        pdf.Root.AF = Array([_embed(pdf, attachment) for attachment in attachments])
        with pdf.open_metadata(set_pikepdf_as_editor=False, update_docinfo=False) as metadata:
            metadata["pdfaid:part"] = "3"
            metadata["pdfaid:conformance"] = "B"
            metadata["dc:title"] = title
            metadata["dc:creator"] = [author]
            metadata["dc:language"] = ["en-GB"]
            metadata["pdf:Producer"] = author
        pdf.docinfo = pdf.make_indirect(Dictionary(Title=title, Author=author, Producer=author))
        target = io.BytesIO()
        pdf.save(target, deterministic_id=True, min_version="1.7", linearize=False)
        return target.getvalue()


def _output_intent(pdf: Pdf) -> Dictionary:
    return Dictionary(
        Type=Name.OutputIntent,
        S=Name.GTS_PDFA1,
        OutputConditionIdentifier=_SRGB,
        Info=_SRGB,
        DestOutputProfile=pdf.make_stream(srgb_profile(), {"/N": 3}),
    )


def _embed(pdf: Pdf, attachment: Attachment) -> pikepdf.Object:
    specification = AttachedFileSpec(
        pdf,
        attachment.content,
        filename=attachment.name,
        description=f"Machine-readable edition of this report: {attachment.name}",
        mime_type=_MEDIA_TYPES.get(PurePath(attachment.name).suffix, "application/octet-stream"),
        creation_date=_CONSTANT_DATE,
        mod_date=_CONSTANT_DATE,
    )
    specification.relationship = Name.Data
    pdf.attachments[attachment.name] = specification
    return specification.obj
