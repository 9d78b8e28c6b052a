"""Forms taken apart: what a browser encodes comes out as it was typed, and nothing else raises than a `Problem`."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multipart import content_disposition_quote

from pipeline.lead import Lead
from pipeline.web.form_body import FIELDS_MAX, Form, parse_form
from pipeline.web.problems import Problem

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=xYzZy"

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
pairs = st.lists(st.tuples(texts, texts), max_size=8)


def wire(text: str) -> str:
    """As browsers send lines."""
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")


def typed(text: str) -> str:
    return wire(text).replace("\r\n", "\n")


def multipart(*parts: tuple[str, bytes]) -> bytes:
    """A body of parts: header lines, and content."""
    return (
        b"".join(b"--xYzZy\r\n" + head.encode() + b"\r\n\r\n" + body + b"\r\n" for head, body in parts)
        + b"--xYzZy--\r\n"
    )


def field(name: str, value: str) -> tuple[str, bytes]:
    return f"Content-Disposition: form-data; name={content_disposition_quote(wire(name))}", wire(value).encode()


def refusal(body: bytes, content_type: str = URLENCODED) -> Problem:
    with pytest.raises(Problem) as failure:
        parse_form(body, content_type).members()
    return failure.value


def outcome(body: bytes, content_type: str) -> int:
    try:
        parse_form(body, content_type).members()
    except Problem as problem:
        return problem.status
    return 200


@given(pairs)
def test_what_was_typed_comes_out_of_urlencoded(given_pairs: list[tuple[str, str]]) -> None:
    body = urlencode([(wire(name), wire(value)) for name, value in given_pairs]).encode()
    if body.lstrip()[:1] not in (b"{", b"["):
        assert parse_form(body, URLENCODED).pairs == tuple((typed(name), typed(value)) for name, value in given_pairs)


@given(pairs)
@example([("a", "\r\n--xYzZ"), ("a", "\n"), ("a", "--"), ('"', "\\")])
def test_what_was_typed_comes_out_of_multipart(given_pairs: list[tuple[str, str]]) -> None:
    # HTML cannot tell these names from what it writes for quotes and line ends; nor a backslash at the end of one.
    given_pairs = [(name, value) for name, value in given_pairs if "%" not in name and "\\" not in name]
    found = parse_form(multipart(*(field(*pair) for pair in given_pairs)), MULTIPART)
    assert found == Form(tuple((typed(name), typed(value)) for name, value in given_pairs))


@given(st.binary(max_size=300))
@example(b"")
@example(b"&=&==&")
def test_no_bytes_raise_anything_else(body: bytes) -> None:
    for content_type in (URLENCODED, MULTIPART):
        for content in (body, b"--xYzZy\r\n" + body, multipart((body.decode("latin-1"), body))):
            assert outcome(content, content_type) in (200, 400, 413, 415)


@given(st.text(st.characters(exclude_categories=[], codec=None), max_size=40))
@example("boundary=")
@example('boundary="')
@example("boundary=\udcff")
@example("boundary*=utf-8''%FF%00")
@example("boundary*=none''a")
def test_no_content_type_raises_anything_else(parameters: str) -> None:
    assert outcome(b"--\r\n", f"multipart/form-data; {parameters}") == 400


@pytest.mark.parametrize(
    "body,status",
    [
        (b"name=%FF", 400),
        (b"name=\xff", 400),
        (b"%C3=x", 400),
        (b"name=%ED%A0%80", 400),
        (b"=x", 400),
        (b"email=a&email=a", 400),
        (b"message_id=a&message_id=b", 400),
        (b"&".join([b"a=1"] * (FIELDS_MAX + 1)), 413),
        (b'{"email": "a"}', 415),
        (b' [ {"email": "a"}]', 415),
    ],
)
def test_what_is_refused(body: bytes, status: int) -> None:
    assert refusal(body).status == status


@pytest.mark.parametrize("name", Lead.__struct_fields__)
def test_a_member_that_comes_twice_is_named(name: str) -> None:
    assert refusal(f"{name}=a&x=1&{name}=a".encode()).members["field"] == name


@pytest.mark.parametrize(
    "body,members",
    [
        (b"", {}),
        (b"name=Zo%C3%AB", {"name": "Zoë"}),
        ("name=Zoë".encode(), {"name": "Zoë"}),
        (b"name=a+b%2B&x", {"name": "a b+", "x": ""}),
        (b"x=2&y=&x=1&x=2", {"x": ["2", "1", "2"], "y": ""}),
        (b"tags%5B%5D=a&tags[]=b", {"tags[]": ["a", "b"]}),
        (b"message=a%0D%0Ab%0Dc%0A", {"message": "a\nb\nc\n"}),
        (b"&".join([b"a=1"] * FIELDS_MAX), {"a": ["1"] * FIELDS_MAX}),
    ],
)
def test_members(body: bytes, members: dict[str, Any]) -> None:
    assert parse_form(body, URLENCODED).members() == members


@pytest.mark.parametrize(
    "head",
    [
        'Content-Disposition: form-data; name="cv"; filename="cv.pdf"',
        'Content-Disposition: form-data; name="cv"; filename=""',
        "Content-Disposition: form-data; name=cv; filename=cv.pdf",
        "Content-Disposition: form-data; name=\"cv\"; filename*=utf-8''cv.pdf",
    ],
)
def test_a_file_is_refused_and_its_field_named(head: str) -> None:
    body = multipart(field("email", "a"), (f"{head}\r\nContent-Type: application/pdf", b"%PDF \xff"))
    assert refusal(body, MULTIPART).status == 415
    assert refusal(body, MULTIPART).members["field"] == "cv"
    assert parse_form(body, MULTIPART).pairs == (("email", "a"),)


def test_an_empty_file_with_a_name_is_a_file() -> None:
    assert refusal(multipart(('Content-Disposition: form-data; name="cv"; filename="a"', b"")), MULTIPART).status == 415


def test_a_file_input_that_was_left_empty_is_ignored() -> None:
    empty = 'Content-Disposition: form-data; name="cv"; filename=""\r\nContent-Type: application/octet-stream'
    assert parse_form(multipart((empty, b""), field("email", "a")), MULTIPART).members() == {"email": "a"}


def test_a_name_that_looks_like_a_file_is_none() -> None:
    assert parse_form(multipart(field("a; filename*=b", "x")), MULTIPART).members() == {"a; filename*=b": "x"}


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", "us-ascii"])
def test_a_part_may_name_its_charset(charset: str) -> None:
    part = f'Content-Disposition: form-data; name="a"\r\nContent-Type: text/plain; charset={charset}'
    assert parse_form(multipart((part, b"x")), MULTIPART).members() == {"a": "x"}


@pytest.mark.parametrize("charset", ["iso-8859-1", "utf-16", "nonsense"])
def test_another_charset_is_refused(charset: str) -> None:
    part = f'Content-Disposition: form-data; name="a"\r\nContent-Type: text/plain; charset={charset}'
    assert refusal(multipart((part, b"x")), MULTIPART).status == 415


@pytest.mark.parametrize(
    "body,status",
    [
        (b"", 400),
        (b"email=a", 400),
        (b"--xYzZy\r\n", 400),
        (multipart(field("email", "a"))[:-6], 400),
        (multipart(("Content-Type: text/plain", b"x")), 400),
        (multipart(("Content-Disposition: form-data", b"x")), 400),
        (multipart(("Content-Disposition: attachment; name=a", b"x")), 400),
        (multipart(("no header", b"x")), 400),
        (multipart(('Content-Disposition: form-data; name="a"', b"\xff")), 400),
        (multipart(field("", "x")), 400),
        (multipart(*[field("a", "1")] * (FIELDS_MAX + 1)), 413),
        (multipart(field("a" * 5000, "1")), 413),
    ],
)
def test_malformed_multipart(body: bytes, status: int) -> None:
    assert refusal(body, MULTIPART).status == status


@pytest.mark.parametrize("boundary", ['"a b"', "----=_Part_1.2", "'()+_,-./:=?", "x" * 70])
def test_boundaries(boundary: str) -> None:
    plain = boundary.strip('"').encode()
    body = b"--" + plain + b'\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--' + plain + b"--"
    assert parse_form(body, f"Multipart/Form-Data; charset=utf-8; boundary={boundary}").members() == {"a": "x"}
