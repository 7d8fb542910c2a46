"""HTML forms in request bodies, urlencoded or multipart, as Starlette reads them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl

from ...errors import BadAudioError
from ...messages import kind_of
from ...wires.multipart import Part, split_parts
from ..errors import RequestError, bad_request

__all__ = ["Upload", "read_form"]

# Starlette takes no more fields and files than this.
_MAX_PARTS = 1000
_NAME = re.compile(r';\s*name="([^"]*)"')
_FILENAME = re.compile(r';\s*filename="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Upload:
    """A file out of a form."""

    filename: str
    data: bytes


def read_form(content_type: str, body: bytes) -> dict[str, str | Upload]:
    """Return a form's fields and files; none for a body of another type, as Starlette does.

    Raises RequestError, a 400, for a multipart body that is broken.
    """
    kind = kind_of(content_type)
    if kind == "application/x-www-form-urlencoded":
        return dict(parse_qsl(body.decode("latin-1"), keep_blank_values=True, errors="replace"))
    if kind != "multipart/form-data":
        return {}
    try:
        return dict(map(_field, split_parts(content_type, body, _MAX_PARTS)))
    except BadAudioError:
        raise bad_request("There was an error parsing the body") from None


def _field(part: Part) -> tuple[str, str | Upload]:
    disposition = part.headers.get("content-disposition", "")
    name, filename = _NAME.search(disposition), _FILENAME.search(disposition)
    if name is None:
        raise _nameless()
    value: str | Upload
    if filename is not None:
        value = Upload(filename[1], bytes(part.body))
    else:
        value = str(part.body, "utf-8", "replace")
    return name[1], value


def _nameless() -> RequestError:
    return bad_request('The Content-Disposition header field "name" must be provided.')
