"""Every page renders, whatever it is given, and says nothing to anybody but the person who looks at it."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from typing import Any

import pytest
from aiohttp import web
from jinja2 import UndefinedError

from pipeline.web.form import Field, FormView, form_page, received_page
from pipeline.web.forms import FieldSpec, FormSpec
from pipeline.web.forms_file import BUILT_IN
from pipeline.web.look import form_look
from pipeline.web.pages import Link, page, problem_page
from pipeline.web.problems import Problem
from tests.page_reader import Page

HOSTILE = "</dd><script>alert('\"1\"')</script>&lt;{{ 7 * 7 }}\udcff" + "x" * 4000
STATES = ("pending", "written", "dead-lettered", "unknown", "missing")


def receipt(state: str, **values: Any) -> web.Response:
    nothing = dict.fromkeys(("written_at", "reason", "retry_after_s", "this_record"))
    typical = {"tenant": "default", "message_id": "m-1", "has_receipt": True, **nothing}
    return page("receipt", state=state, **typical | values)


def partition(number: int, **values: Any) -> dict[str, Any]:
    none = {"owner": None, "state": "unassigned", "changelog_offset": None, "remaining": None}
    return {"partition": number, **none, **values}


def read(response: web.Response) -> Page:
    assert isinstance(response.body, bytes)
    return Page(response.body.decode())


HOSTILE_LINE = HOSTILE[:150].replace("\udcff", "")
hostile_spec = FormSpec(
    name="contact", title=HOSTILE_LINE, intro=HOSTILE_LINE, button=HOSTILE_LINE, thanks=HOSTILE_LINE, note=HOSTILE_LINE,
    note_url="/a", fields=(
        *(FieldSpec(name=name, label=HOSTILE_LINE, hint=HOSTILE_LINE) for name in ("email", "phone", "x")),
        FieldSpec(name="topic", label=HOSTILE_LINE, type="select", options=(HOSTILE_LINE,)),
        FieldSpec(name="ok", label=HOSTILE_LINE, type="checkbox"),
        FieldSpec(name="text", label=HOSTILE_LINE, type="textarea"),
    ),
)  # fmt: skip
hostile_form = FormView(
    hostile_spec, HOSTILE, tuple(Field(one, HOSTILE, HOSTILE) for one in hostile_spec.fields), ((HOSTILE, HOSTILE),),
    error=HOSTILE,
)  # fmt: skip
of_form = {"look": form_look(hostile_spec), "spec": hostile_spec, "picture": None}
CONTACT = BUILT_IN["contact"]
hostile_row = {"partition": HOSTILE, "owner": HOSTILE, "state": HOSTILE, "changelog_offset": HOSTILE}
PAGES = {
    **{f"receipt {state}": receipt(state) for state in STATES},
    **{
        f"receipt {state}, hostile": receipt(
            state,
            tenant=HOSTILE,
            message_id=HOSTILE,
            written_at=HOSTILE,
            reason=HOSTILE,
            retry_after_s=HOSTILE,
            this_record=HOSTILE,
        )
        for state in STATES
    },
    "problem": problem_page(Problem(404, "Not found", "There is no such thing.")),
    "problem, hostile": problem_page(Problem(400, HOSTILE, HOSTILE)),
    "form": form_page(CONTACT),
    "form, hostile": page("form", form=hostile_form, problem=None, **of_form),
    "form, hostile again": page("form", form=hostile_form, problem={"heading": HOSTILE, "text": HOSTILE}, **of_form),
    "form, locked": page("form", form=replace(hostile_form, locked=True), problem=None, **of_form),
    "received": received_page(CONTACT, None),
    "received, hostile": page("received", reference=HOSTILE, **of_form),
    "no tables": page("tables", tables=[]),
    "tables": page("tables", tables=[{"name": "seen", "entries_url": "/tables/seen", "partitions": [partition(0)]}]),
    "tables, hostile": page(
        "tables",
        tables=[{"name": HOSTILE, "entries_url": HOSTILE, "partitions": [partition(1) | hostile_row] * 2}],
    ),
    "no entries": page("entries", name="seen", columns=["key"], rows=[], next_url=None),
    "entries": page(
        "entries",
        name="seen",
        columns=["key", "offset"],
        rows=[{"key": Link("a/b", "/leads/a/b"), "offset": 1}],
        next_url="/tables/seen?a=1",
    ),
    "entry": page("entry", name="seen", rows=[{"key": Link("a/b", "/leads/a/b"), "partition": 1, "time": None}]),
    "entry, hostile": page("entry", name=HOSTILE, rows=[{HOSTILE: Link(HOSTILE, HOSTILE), "a": HOSTILE}]),
    "entries, hostile": page(
        "entries",
        name=HOSTILE,
        columns=[HOSTILE],
        rows=[{HOSTILE: HOSTILE}, {HOSTILE: None}, {HOSTILE: Link(HOSTILE, HOSTILE)}],
        next_url=HOSTILE,
    ),
}


@pytest.mark.parametrize("name", PAGES)
class TestEveryPage:
    def test_it_is_whole_and_nothing_in_it_is_markup(self, name: str) -> None:
        found = read(PAGES[name])
        is_form, has_picture = name.startswith("form"), name in ("form", "received")
        assert [found.tags.count(tag) for tag in ("script", "img", "iframe")] == [is_form, has_picture, False]
        assert found.tags.count("h1") == 1
        assert found.tags.count("title") == 1
        assert "49" not in found.text

    def test_only_its_own_style_is_allowed(self, name: str) -> None:
        response = PAGES[name]
        assert isinstance(response.body, bytes)
        (style,) = re.findall(rb"<style>(.*?)</style>", response.body, re.DOTALL)
        allowed = b64encode(sha256(style).digest()).decode()
        default, styles, images, *others = response.headers["Content-Security-Policy"].split("; ")
        assert default == "default-src 'none'"
        assert styles == f"style-src 'sha256-{allowed}'"
        of_forms = ["script-src 'self'", "connect-src 'self'", "frame-ancestors 'self'"]
        is_form = name.startswith(("form", "received"))
        assert images == ("img-src 'self' data:" if is_form else "img-src data:")
        embeddable = name.startswith(("receipt", "problem"))
        more = of_forms if is_form else [] if embeddable else ["frame-ancestors 'none'"]
        assert others == ["form-action 'self'", "base-uri 'none'", *more]

    def test_headers(self, name: str) -> None:
        headers = PAGES[name].headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Content-Type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    "state,words",
    [
        ("pending", ("Thank you", "stored safely")),
        ("written", ("Thank you", "has reached")),
        ("dead-lettered", ("could not file it", "is kept")),
        ("unknown", ("we have received it", "cannot be said right now")),
        ("missing", ("No such reference",)),
    ],
)
def test_a_receipt_in_words(state: str, words: tuple[str, ...]) -> None:
    text = read(receipt(state, tenant="acme", this_record="first")).text
    assert all(one in text for one in words)
    assert "acme/m-1" in text
    assert ("Thank you" in text) == (state in ("pending", "written"))


@pytest.mark.parametrize("state,words", [("pending", "that is on its way"), ("written", "that has reached")])
def test_a_receipt_of_what_was_edited_and_sent_again(state: str, words: str) -> None:
    found = read(receipt(state, this_record="id-conflict", written_at="2026-01-31T12:05:00Z"))
    assert "The first version stays" in found.text
    assert words in found.text
    assert "does not replace the first version" in found.text
    assert "Something else was sent under the same reference before" in found.text
    assert "Thank you" not in found.text


@pytest.mark.parametrize("state", ["pending", "written"])
def test_a_receipt_of_what_the_code_failed_on(state: str) -> None:
    text = read(receipt(state, this_record="bug")).text
    assert "could not file it" in text
    assert "Our software failed on it" in text


@pytest.mark.parametrize(
    "state,this,is_unsure",
    [
        ("written", "first", False),
        ("written", "repeat", False),
        ("written", "later", True),
        # Whoever knows is away.
        ("written", None, True),
        ("pending", "later", True),
        ("pending", None, False),
    ],
)
def test_a_receipt_says_both_where_either_may_be_so(state: str, this: str | None, is_unsure: bool) -> None:
    assert ("the first version stays" in read(receipt(state, this_record=this)).text) == is_unsure
    assert "first version" not in read(receipt(state, has_receipt=False)).text


def test_a_receipt_says_when_and_why() -> None:
    at = datetime(2026, 1, 31, 12, 5, tzinfo=timezone(timedelta(hours=2)))
    for written_at in (at, at.isoformat(), at.astimezone(UTC)):
        assert "2026-01-31 10:05 UTC" in read(receipt("written", written_at=written_at)).text
    assert "2026-01-31T12:05" in read(receipt("written", written_at="2026-01-31T12:05")).text
    assert "in 5 seconds" in read(receipt("pending", retry_after_s=5)).text
    assert "Something else was sent" in read(receipt("dead-lettered", reason="id-conflict")).text
    assert "something new" in read(receipt("dead-lettered", reason="something new")).text
    assert "default" not in read(receipt("pending")).text


def test_status_and_headers_are_those_of_the_problem() -> None:
    response = problem_page(Problem(503, "Cannot say", "Later.", headers={"Retry-After": "3"}))
    assert (response.status, response.headers["Retry-After"]) == (503, "3")
    assert read(response).alert.split() == ["Cannot", "say", "Later."]
    shown = {"tenant": "a", "message_id": "b", "this_record": None, "has_receipt": False}
    assert page("receipt", status=404, state="missing", **shown).status == 404


def test_a_value_that_is_missing_is_a_bug() -> None:
    with pytest.raises(UndefinedError):
        page("entries", name="seen", columns=["a"], rows=[{"b": 1}], next_url=None)
    with pytest.raises(UndefinedError):
        page("receipt", state="written")


def test_a_table_can_be_scrolled_with_the_keyboard() -> None:
    assert isinstance(PAGES["tables"].body, bytes)
    html = PAGES["tables"].body.decode()
    assert 'class="scroll" role="region" tabindex="0" aria-labelledby="table-1"' in html
    assert ">–<" in html
