"""A form as it is shown: empty, or again with what was sent, and what is wrong beside the field it belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import uuid_utils
from aiohttp import web

from pipeline.lead import Lead
from pipeline.web.assets import PICTURES, SCRIPT, Picture, Script
from pipeline.web.form_body import Form
from pipeline.web.forms import HONEYPOT, FieldSpec, FormSpec
from pipeline.web.look import form_look
from pipeline.web.pages import page, problem_page
from pipeline.web.problems import Problem
from pipeline.web.submission import NO_OPTION, REQUIRED

__all__ = ["Field", "FormView", "form_page", "in_words", "received_page", "refusal_page"]

Pairs = tuple[tuple[str, str], ...]
_NO_FIELDS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Field:
    """A field, what is in it, and what is wrong with that, in words."""

    spec: FieldSpec
    value: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class FormView:
    """The form as it is shown, and where it is sent to.

    A `locked` one shows what was sent and sends exactly that again: what may have arrived must not come again as
    something else under the same message id. The fields of another one can be edited.
    """

    spec: FormSpec
    action: str
    fields: tuple[Field, ...]
    hidden: Pairs
    locked: bool = False
    #: What is wrong, but with nothing that can be edited here.
    error: str | None = None
    script: Script = field(default=SCRIPT)

    @property
    def trap(self) -> str:
        """The name of the field that nobody sees; none where it would be one of the lead's."""
        return HONEYPOT if self.action == self.spec.url else ""

    @property
    def rows(self) -> list[tuple[Field, ...]]:
        """The fields in order; email and phone together where either is enough."""
        rows: list[tuple[Field, ...]] = []
        for one in self.fields:
            is_second = one.spec.name in _EITHER and rows and rows[-1][-1].spec.name in _EITHER
            if is_second and self.spec.is_either_enough:
                rows[-1] += (one,)
            else:
                rows.append((one,))
        return rows


_EITHER = ("email", "phone")


def form_page(spec: FormSpec) -> web.Response:
    """The empty form, with an id of its own."""
    # The id is given here, so that a double click, a reload and a second try are all the same lead.
    fields = tuple(Field(one) for one in spec.fields)
    form = FormView(spec, spec.url, fields, (("message_id", _new_id()),))
    return page("form", look=form_look(spec), form=form, spec=spec, picture=_picture(spec), problem=None)


def received_page(spec: FormSpec, reference: str | None) -> web.Response:
    """What a browser is shown when its form has arrived."""
    return page("received", look=form_look(spec), spec=spec, picture=_picture(spec), reference=reference)


def refusal_page(problem: Problem, form: Form | None, spec: FormSpec, action: str) -> web.Response:
    """What a browser gets when a form was not captured: in words, and with the form if it could be read."""
    words = _WORDS if form else _WORDS_WITHOUT_FORM
    heading, text = words.get(problem.status, (problem.title, problem.detail))
    if form is None:
        return problem_page(problem, heading=heading, text=text)
    return page(
        "form", status=problem.status, headers=problem.headers, look=form_look(spec), spec=spec, picture=_picture(spec),
        form=_view(problem, form, spec, action), problem={"heading": heading, "text": text},
    )  # fmt: skip


def in_words(problem: Problem, form: Form | None, spec: FormSpec) -> str:
    """What is wrong, for the person who has filled in the form."""
    if form is not None and problem.status == 400:
        wrong = problem.members.get("field")
        for one in spec.fields:
            if one.name == wrong:
                return _of_field(one, problem, form.pairs)
        return _in_words(problem, wrong)
    words = _WORDS if form else _WORDS_WITHOUT_FORM
    heading, text = words.get(problem.status, (problem.title, problem.detail))
    return f"{heading}. {text}"


def _picture(spec: FormSpec) -> Picture | None:
    return PICTURES.get(spec.picture)


def _view(problem: Problem, form: Form, spec: FormSpec, action: str) -> FormView:
    wrong: str | None = None if problem.status == 415 else problem.members.get("field")
    message_id = problem.members.get("message_id") or _sent_id(form, wrong) or _untimed_id()
    pairs = tuple(pair for pair in form.pairs if pair[0] not in ("message_id", HONEYPOT))
    if problem.status in _LOCKING:
        return FormView(spec, action, _fields(spec, pairs), (("message_id", message_id), *pairs), locked=True)
    hidden = (("message_id", message_id), *_others(spec, pairs))
    for one in spec.fields:
        if one.name == wrong:
            errors = {one.name: _of_field(one, problem, pairs)}
            return FormView(spec, action, _fields(spec, pairs, errors), hidden)
    return FormView(spec, action, _fields(spec, pairs), hidden, error=_in_words(problem, wrong))


#: After these the broker may have the lead, or not.
_LOCKING = frozenset((503,))


def _sent_id(form: Form, wrong: str | None) -> str | None:
    """The id to go on with; not one that was refused, because the person who fills in the form cannot mend it."""
    return None if wrong == "message_id" else dict(form.pairs).get("message_id")


def _fields(spec: FormSpec, pairs: Pairs, errors: Mapping[str, str] = _NO_FIELDS) -> tuple[Field, ...]:
    values = dict(reversed(pairs))  # the first of each name
    return tuple(Field(one, values.get(one.name, ""), errors.get(one.name)) for one in spec.fields)


def _others(spec: FormSpec, pairs: Pairs) -> Iterator[tuple[str, str]]:
    """What the form does not show; of a member of a lead that came more than once, only the first."""
    shown = {one.name for one in spec.fields}
    found = set[str]()
    for name, value in pairs:
        is_first = name not in found
        found.add(name)
        is_sendable = name and (is_first or name not in Lead.__struct_fields__)
        is_shown = is_first and name in shown
        if is_sendable and not is_shown:
            yield name, value


def _of_field(one: FieldSpec, problem: Problem, pairs: Pairs) -> str:
    sent = [value for name, value in pairs if name == one.name]
    if len(sent) > 1:
        return "This was sent more than once; only the first is shown."
    value, reason = "".join(sent), problem.members.get("reason")
    if len(value) > one.length_max_chars:
        return f"At most {one.length_max_chars} characters, please: these are {len(value)}."
    if reason == REQUIRED:
        return "Please tick this." if one.type == "checkbox" else "Please fill this in."
    if reason == NO_OPTION:
        return "Please choose one of these."
    if one.name == "email" and not value.strip():
        return "Enter an email address or a phone number."
    return _sentence(problem)


def _in_words(problem: Problem, wrong: str | None) -> str:
    if problem.status == 413:
        return "All fields together hold too much: please shorten them."
    if problem.status == 415:
        return "They were left out: please send the form again without them."
    if wrong == "message_id":
        return "The form had no valid number of its own. It has a new one now: please send it again."
    named = f"The field “{wrong}” came with the form that you used, and you cannot mend it here. " if wrong else ""
    return named + _sentence(problem)


def _sentence(problem: Problem) -> str:
    reason = str(problem.members.get("reason", problem.detail)).rstrip(".")
    return f"{reason[:1].upper()}{reason[1:]}."


def _new_id() -> str:
    return str(uuid_utils.uuid7())


def _untimed_id() -> str:
    """For a form that has been filled in already: an id that does not say when."""
    return str(uuid_utils.uuid4())


_NOT_CONFIRMED = (
    "Right now we cannot make sure that we have received it. Please wait a few seconds and send it again. "
    "That is safe: it counts once, however often it is sent."
)
_BUSY = "Nothing was kept. Please go back, wait a few seconds, and send it again."
_WORDS = {
    400: ("Please look at this again", "It was not sent yet."),
    413: ("This is too long", "It was not sent yet."),
    415: ("Files cannot be sent here", "It was not sent yet."),
    429: ("Too many at once", "It was not sent yet. Please wait a few seconds and send it again."),
    503: ("Not confirmed yet", _NOT_CONFIRMED),
}
_WORDS_WITHOUT_FORM = {
    400: ("This cannot be read", "What arrived is damaged, or is not what a form sends. Nothing was kept."),
    408: ("This took too long", "The form did not arrive in time, and nothing was kept. Please send it again."),
    413: ("This is too much", "A form holds at most 64 KiB of text, and no files. Nothing was kept."),
    415: ("This cannot be read", "A form is sent as UTF-8 text, uncompressed. Nothing was kept."),
    429: ("Too many at once", _BUSY),
    503: ("Too much to do right now", _BUSY),
}
