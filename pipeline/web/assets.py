"""`GET /assets/{name}`: pictures and script, under names that follow from their content, so that they never change.

`make assets` writes the pictures and their manifest; the script is what `pages/form.js` is when a worker starts. Only
what is listed exists: a name is looked up, never opened.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256, sha384
from pathlib import Path

import msgspec
from aiohttp import hdrs, web

from pipeline.web.compression import Encoded, encoded

__all__ = [
    "ASSETS",
    "MANIFEST",
    "PICTURES",
    "PICTURE_NAME",
    "SCRIPT",
    "Manifest",
    "Picture",
    "PictureFile",
    "PictureFiles",
    "Source",
    "asset_routes",
]  # fmt: skip

ASSETS = Path(__file__).parent / "assets"
MANIFEST = "manifest.json"
PICTURE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}(\.tall)?")
_TALL = ".tall"

#: From here on the form has the picture beside it, and not above; the same is in `form.css`.
WIDE = "(min-width: 60rem)"
_SIZES = {True: "42vw", False: "100vw"}

_FOR_EVER = "public, max-age=31536000, immutable"
#: Of the script under the name that other sites use: theirs is a new one soon after ours is.
_FOR_AN_HOUR = "public, max-age=3600"


class PictureFile(msgspec.Struct, frozen=True):
    """One file of a picture: sizes in pixels and bytes."""

    name: str
    type: str
    width: int
    height: int
    size_bytes: int


class PictureFiles(msgspec.Struct, frozen=True):
    """The files of a picture. One that `is_ink`, grey on white, is shown in the accent colour of a form."""

    source_sha256: str
    is_ink: bool
    files: tuple[PictureFile, ...]


Manifest = dict[str, PictureFiles]


@dataclass(frozen=True, slots=True)
class Source:
    """A `<source>`."""

    type: str
    media: str
    srcset: str
    sizes: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Picture:
    """A `<picture>`: the best format first; the last one is for browsers that know nothing else."""

    sources: tuple[Source, ...]
    fallback: PictureFile
    is_ink: bool


class Script:
    """The script of the form."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.name = f"form.{sha256(content).hexdigest()[:12]}.js"
        self.url = f"/assets/{self.name}"
        self.integrity = f"sha384-{b64encode(sha384(content).digest()).decode()}"


def _manifest() -> Manifest:
    return msgspec.json.decode((ASSETS / MANIFEST).read_bytes(), type=Manifest)


def _picture(manifest: Manifest, name: str) -> Picture:
    found, tall = manifest[name], manifest.get(name + _TALL)
    sources = [*(_sources(tall, is_wide=True) if tall else ()), *_sources(found, is_wide=False)]
    (fallback,) = (file for file in found.files if file.type in ("image/jpeg", "image/png"))
    return Picture(tuple(sources), fallback, found.is_ink)


def _sources(found: PictureFiles, *, is_wide: bool) -> list[Source]:
    sources = []
    for media_type in dict.fromkeys(file.type for file in found.files):
        files = [file for file in found.files if file.type == media_type]
        srcset = ", ".join(f"/assets/{file.name} {file.width}w" for file in files)
        sources.append(
            Source(media_type, WIDE if is_wide else "", srcset, _SIZES[is_wide], files[-1].width, files[-1].height)
        )
    return sources


SCRIPT = Script((Path(__file__).parent / "pages" / "form.js").read_bytes())
_pictures = _manifest()
#: By the name that forms call them.
PICTURES: Mapping[str, Picture] = {
    name: _picture(_pictures, name) for name in _pictures if not name.endswith(_TALL)
}  # fmt: skip
_TYPES = {file.name: file.type for found in _pictures.values() for file in found.files}


@cache
def _script() -> Encoded:
    """Not before somebody asks: the best compression takes a thirtieth of a second of each worker's start."""
    return encoded(SCRIPT.content, is_kept=True)


def asset_routes() -> list[web.RouteDef]:
    """`GET /assets/{name}`, and with it HEAD."""
    return [web.get("/assets/{name}", _get)]


async def _get(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    if name in (SCRIPT.name, "form.js"):
        cached = _FOR_EVER if name == SCRIPT.name else _FOR_AN_HOUR
        response = _script().response(request, "text/javascript", charset="utf-8")
    elif name in _TYPES:
        cached = _FOR_EVER
        response = web.Response(body=(ASSETS / name).read_bytes(), content_type=_TYPES[name])
    else:
        raise web.HTTPNotFound
    response.headers[hdrs.CACHE_CONTROL] = cached
    response.headers["X-Content-Type-Options"] = "nosniff"
    # A script with `integrity` that another site loads is refused without this; none of it is a secret.
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response
