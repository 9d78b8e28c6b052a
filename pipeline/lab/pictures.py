"""`make assets`: what lies in `pipeline/web/pictures` as AVIF, WebP and one fallback, in `pipeline/web/assets`.

A picture has several widths, a name by its content, and a place in the manifest, which knows its size, so that nothing
moves when it arrives. Beside `NAME` there may be a `NAME.tall`, for screens where the place of the picture is high.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import msgspec
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.web.assets import ASSETS, MANIFEST, PICTURE_NAME, Manifest, PictureFile, PictureFiles

__all__ = ["PICTURES", "PictureError", "build"]

PICTURES = ASSETS.parent / "pictures"
WIDTHS = (480, 640, 960, 1280)
SUFFIXES = (".avif", ".jpeg", ".jpg", ".png", ".webp")
PICTURES_MAX = 50
PIXELS_MAX = 50_000_000
#: Tried in this order until a picture is small enough.
QUALITIES = (52, 45, 38, 31, 24)


@dataclass(frozen=True)
class Format:
    """How a picture is written, and how many bytes it may take, whatever its width: a page has 30 KB for everything."""

    pillow: str
    suffix: str
    type: str
    size_max_bytes: int


AVIF = Format("AVIF", "avif", "image/avif", 16_000)
WEBP = Format("WEBP", "webp", "image/webp", 24_000)
JPEG = Format("JPEG", "jpg", "image/jpeg", 40_000)
PNG = Format("PNG", "png", "image/png", 40_000)


class PictureError(Exception):
    """A picture cannot be used. The text says which, why, and what to do."""


def build(pictures: Path = PICTURES, assets: Path = ASSETS) -> Manifest:
    """Write all of them anew, and remove what belongs to none.

    Raises:
        PictureError: one cannot be read, has a bad name, or takes too many bytes. Nothing was changed.
    """
    paths = sorted(path for path in pictures.iterdir() if path.suffix.lower() in SUFFIXES)
    if len(paths) > PICTURES_MAX:
        raise PictureError(f"{pictures} holds {len(paths)} pictures; at most {PICTURES_MAX} are allowed")
    contents: dict[str, bytes] = {}
    manifest = {path.stem: _files(path, contents) for path in paths}
    if len(manifest) < len(paths):
        raise PictureError(f"{pictures} holds two pictures of one name")
    assets.mkdir(exist_ok=True)
    for name, content in contents.items():
        (assets / name).write_bytes(content)
    for path in assets.iterdir():
        if path.name not in contents:
            path.unlink()
    (assets / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
    return manifest


def _files(path: Path, contents: dict[str, bytes]) -> PictureFiles:
    if not PICTURE_NAME.fullmatch(path.stem):
        raise PictureError(f"{path.name}: a picture is named with lower-case letters, digits and '-', such as team.jpg")
    image = _opened(path)
    files = []
    for picture, content in _encoded(path, image):
        contents[picture.name] = content
        files.append(picture)
    return PictureFiles(sha256(path.read_bytes()).hexdigest(), image.mode == "L", tuple(files))


def _opened(path: Path) -> Image.Image:
    """The picture, upright, without what else a camera writes into it: `L` if it is grey, `RGBA` if it has holes."""
    try:
        with Image.open(path) as opened:
            if opened.width * opened.height > PIXELS_MAX:
                raise PictureError(f"{path.name}: it has more than {PIXELS_MAX // 1_000_000} million pixels")
            image = ImageOps.exif_transpose(opened)
            if image.mode in ("1", "L", "I;16"):
                return image.convert("L")
            return image.convert("RGBA" if image.has_transparency_data else "RGB")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise PictureError(f"{path.name}: it cannot be read ({type(error).__name__})") from None


def _encoded(path: Path, image: Image.Image) -> Iterator[tuple[PictureFile, bytes]]:
    widths = [width for width in WIDTHS if width < image.width] + [min(image.width, WIDTHS[-1])]
    for width in dict.fromkeys(widths):
        smaller = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
        yield _in_format(path, smaller, AVIF)
        yield _in_format(path, smaller, WEBP)
        if width == min(image.width, WIDTHS[1]):
            yield _in_format(path, smaller, PNG if image.mode == "RGBA" else JPEG)


def _in_format(path: Path, image: Image.Image, form: Format) -> tuple[PictureFile, bytes]:
    for quality in QUALITIES:
        content = _written(image, form, quality)
        if len(content) <= form.size_max_bytes:
            name = f"{path.stem}-{image.width}.{sha256(content).hexdigest()[:12]}.{form.suffix}"
            return PictureFile(name, form.type, image.width, image.height, len(content)), content
    raise PictureError(
        f"{path.name}: {image.width} pixels wide it takes {len(content):,} bytes as {form.pillow}, and at most "
        f"{form.size_max_bytes:,} are allowed; choose a calmer picture, or one that is less high"
    )


def _written(image: Image.Image, form: Format, quality: int) -> bytes:
    written = io.BytesIO()
    if form is AVIF:
        colours = "4:0:0" if image.mode == "L" else "4:2:0"
        image.save(written, "AVIF", quality=quality, speed=6, subsampling=colours, max_threads=1)
    elif form is PNG:
        image.quantize(max(8, 4 * quality)).save(written, "PNG", optimize=True)
    else:
        image.save(written, form.pillow, quality=quality, method=6, optimize=True, progressive=True)
    return written.getvalue()


def main() -> None:
    """Say what came of it."""
    try:
        manifest = build()
    except PictureError as error:
        sys.exit(f"{error}.")
    for name, found in manifest.items():
        sizes = ", ".join(f"{file.name.rpartition('.')[2]} {file.width}: {file.size_bytes:,}" for file in found.files)
        print(f"{name}: {sizes} bytes")


if __name__ == "__main__":
    main()
