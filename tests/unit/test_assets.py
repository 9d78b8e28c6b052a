"""Pictures and script: named by their content, kept for ever, and what the sources and the budget say."""

from __future__ import annotations

import gzip
import io
import random
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import cramjam
import pytest
from PIL import Image

from pipeline.lab.pictures import AVIF, JPEG, PNG, WEBP, PictureError, build
from pipeline.lab.pictures import PICTURES as SOURCES
from pipeline.web.assets import ASSETS, MANIFEST, PICTURES, SCRIPT, _manifest
from pipeline.web.compression import preferred
from tests.unit.capture_server import Client, Topic, serve

BUDGETS = {one.type: one.size_max_bytes for one in (AVIF, WEBP, JPEG, PNG)}
FILES = [file for found in _manifest().values() for file in found.files]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async for client in serve(Topic()):
        yield client


class TestCommitted:
    """`make assets` was run after the last change of a picture."""

    def test_every_source_is_there_as_it_is(self) -> None:
        sources = {path.stem: sha256(path.read_bytes()).hexdigest() for path in SOURCES.iterdir()}
        assert sources == {name: found.source_sha256 for name, found in _manifest().items()}

    def test_every_file_is_what_its_name_and_the_manifest_say(self) -> None:
        assert {path.name for path in ASSETS.iterdir()} == {MANIFEST, *(file.name for file in FILES)}
        for file in FILES:
            content = (ASSETS / file.name).read_bytes()
            assert file.name.split(".")[-2] == sha256(content).hexdigest()[:12]
            assert len(content) == file.size_bytes <= BUDGETS[file.type]
            image = Image.open(io.BytesIO(content))
            assert (image.width, image.height, image.get_format_mimetype()) == (file.width, file.height, file.type)

    def test_the_best_format_comes_first(self) -> None:
        sources = PICTURES["streams"].sources
        types = ["image/avif", "image/webp", "image/jpeg"]
        assert [one.type for one in sources] == types * 2
        assert [bool(one.media) for one in sources] == [True] * 3 + [False] * 3


class TestBuild:
    def build(self, directory: Path, image: Image.Image, name: str = "team.png") -> list[str]:
        (directory / "in").mkdir(exist_ok=True)
        image.save(directory / "in" / name)
        manifest = build(directory / "in", directory / "out")
        assert sorted(path.name for path in (directory / "out").iterdir()) == sorted(
            [MANIFEST, *(file.name for found in manifest.values() for file in found.files)]
        )
        return [
            f"{file.type.removeprefix('image/')} {file.width}" for found in manifest.values() for file in found.files
        ]

    def test_a_small_picture_has_one_width(self, tmp_path: Path) -> None:
        assert self.build(tmp_path, Image.new("RGB", (100, 50), "red")) == ["avif 100", "webp 100", "jpeg 100"]
        # What belongs to no picture any more is removed.
        assert self.build(tmp_path, Image.new("RGBA", (100, 50))) == ["avif 100", "webp 100", "png 100"]

    def test_a_large_one_has_several(self, tmp_path: Path) -> None:
        found = self.build(tmp_path, Image.new("L", (700, 20), 3))
        assert found == ["avif 480", "webp 480", "avif 640", "webp 640", "jpeg 640", "avif 700", "webp 700"]

    def test_one_above_the_budget_fails_with_a_sentence(self, tmp_path: Path) -> None:
        noise = Image.frombytes("RGB", (500, 500), random.Random(1).randbytes(750_000))
        with pytest.raises(
            PictureError, match=r"team\.png: 480 pixels wide it takes [\d,]+ bytes as [A-Z]+, and at most"
        ):
            self.build(tmp_path, noise)
        assert not (tmp_path / "out").exists()

    def test_what_is_no_picture(self, tmp_path: Path) -> None:
        (tmp_path / "team.png").write_text("no")
        with pytest.raises(PictureError, match=r"team\.png: it cannot be read"):
            build(tmp_path, tmp_path / "out")

    def test_a_name_that_could_not_stand_in_a_url(self, tmp_path: Path) -> None:
        with pytest.raises(PictureError, match="named with lower-case letters"):
            self.build(tmp_path, Image.new("L", (1, 1)), "Our Team.png")


class TestServed:
    @pytest.mark.parametrize("file", FILES[:3], ids=lambda file: file.type)
    async def test_a_picture(self, client: Client, file: object) -> None:
        response = await client.get(f"/assets/{file.name}")  # type: ignore[attr-defined]
        assert response.status == 200
        assert response.headers["Content-Type"] == file.type  # type: ignore[attr-defined]
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert len(await response.read()) == file.size_bytes  # type: ignore[attr-defined]
        head = await client.head(f"/assets/{file.name}")  # type: ignore[attr-defined]
        assert (head.status, head.headers["Content-Length"]) == (200, str(file.size_bytes))  # type: ignore[attr-defined]

    @pytest.mark.parametrize(
        "name", ["manifest.json", "x.avif", "..%2fform.py", "%2e%2e/form.py", "form.000000000000.js", "../form.py", ""]
    )
    async def test_nothing_else(self, client: Client, name: str) -> None:
        assert (await client.get(f"/assets/{name}")).status == 404

    async def test_the_script(self, client: Client) -> None:
        mine, theirs = await client.get(SCRIPT.url), await client.get("/assets/form.js")
        assert mine.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert theirs.headers["Cache-Control"] == "public, max-age=3600"
        for response in (mine, theirs):
            assert response.headers["Content-Type"] == "text/javascript; charset=utf-8"
            assert await response.read() == SCRIPT.content

    async def test_the_page_names_the_script_and_its_hash(self, client: Client) -> None:
        html = await (await client.get("/")).text()
        assert f'<script src="{SCRIPT.url}" integrity="{SCRIPT.integrity}" fetchpriority="low" defer></script>' in html


class TestCompression:
    @pytest.mark.parametrize("path", ["/", "/forms/contact/received", SCRIPT.url])
    @pytest.mark.parametrize("coding", ["br", "gzip", "identity"])
    async def test_as_the_client_likes(self, client: Client, path: str, coding: str) -> None:
        async with client.get(path, headers={"Accept-Encoding": coding}, auto_decompress=False) as response:
            content = await response.read()
        assert response.headers.get("Content-Encoding", "identity") == coding
        assert "Accept-Encoding" in ", ".join(response.headers.getall("Vary"))
        assert int(response.headers["Content-Length"]) == len(content)
        plain = {"br": cramjam.brotli.decompress, "gzip": gzip.decompress, "identity": bytes}[coding](content)
        assert bytes(plain).startswith((b"<!DOCTYPE html>", b"//"))
        assert (len(content) < len(bytes(plain)) / 2) == (coding != "identity")

    @pytest.mark.parametrize(
        "accepted,coding",
        [
            ("", "identity"),
            ("gzip, deflate, br, zstd", "br"),
            ("gzip, deflate", "gzip"),
            ("x-gzip", "gzip"),
            ("br;q=0.5, gzip", "gzip"),
            ("br;q=0.5, gzip;q=0.4, identity;q=0.9", "identity"),
            ("BR", "br"),
            ("*", "br"),
            ("br;q=0, *", "gzip"),
            ("br;q=0, gzip;q=0", "identity"),
            ("*;q=0", "identity"),
            ("br;q=nan, gzip;q=-1", "identity"),
            ("deflate", "identity"),
        ],
    )
    def test_weights(self, accepted: str, coding: str) -> None:
        assert preferred(accepted) == coding
