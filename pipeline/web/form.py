"""`GET /`: the form; and the same form again, with what was sent, and what is wrong beside the field it belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import uuid_utils
from aiohttp import web

from pipeline.lead import Lead
from pipeline.web.form_body import Form
from pipeline.web.pages import page, problem_page
from pipeline.web.problems import Problem

__all__ = ["CONTROLS", "FormView", "form_routes", "refusal_page"]

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Control:
    """A field of our form. `length_max_chars` is the lead's own limit, so that nobody learns of it after sending."""

    name: str
    label: str
    type: str
    autocomplete: str
    length_max_chars: int


CONTROLS = (
    Control("name", "Name", "text", "name", 512),
    Control("email", "Email", "email", "email", 320),
    Control("phone", "Phone", "tel", "tel", 64),
    Control("company", "Company", "text", "organization", 512),
    # A lead has no limit for it. With each character nine bytes when it is sent, all of the form fits into its bound.
    Control("message", "Message", "textarea", "on", 5000),
)
_NO_ERRORS: Mapping[str, str] = {}
_NAMES = frozenset(control.name for control in CONTROLS)


@dataclass(frozen=True, slots=True)
class Field:
    """A control, what is in it, and what is wrong with that, in words."""

    control: Control
    value: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class FormView:
    """The form as it is shown.

    A `locked` one shows what was sent and sends exactly that again: what may have arrived must not come again as
    something else under the same message id. The fields of another one can be edited.
    """

    fields: dict[str, Field]
    hidden: Pairs
    locked: bool = False
    #: What is wrong, but with nothing that can be edited here.
    error: str | None = None


def form_routes() -> list[web.RouteDef]:
    """`GET /`, and with it HEAD."""
    return [web.get("/", _get)]


async def _get(request: web.Request) -> web.Response:
    # The id is given here, so that a double click, a reload and a second try are all the same lead.
    hidden = (("message_id", _new_id()), ("source", "form"))
    return page("form", form=FormView({control.name: Field(control) for control in CONTROLS}, hidden))


def refusal_page(problem: Problem, form: Form | None) -> web.Response:
    """What a browser gets when a form was not captured: in words, and with the form if it could be read."""
    heading, text = _WORDS[problem.status] if form else _WORDS_WITHOUT_FORM[problem.status]
    return problem_page(problem, heading=heading, text=text, form=_view(problem, form) if form else None)


def _view(problem: Problem, form: Form) -> FormView:
    wrong: str | None = None if problem.status == 415 else problem.members.get("field")
    message_id = problem.members.get("message_id") or _sent_id(form, wrong) or _new_id()
    pairs = tuple(pair for pair in form.pairs if pair[0] != "message_id")
    if problem.status == 503:
        return FormView(_fields(pairs), (("message_id", message_id), *pairs), locked=True)
    hidden = (("message_id", message_id), *_others(pairs))
    for control in CONTROLS:
        if control.name == wrong:
            return FormView(_fields(pairs, {wrong: _of_control(control, problem, pairs)}), hidden)
    return FormView(_fields(pairs), hidden, error=_in_words(problem, wrong))


def _sent_id(form: Form, wrong: str | None) -> str | None:
    """The id to go on with; not one that was refused, because the person who fills in the form cannot mend it."""
    return None if wrong == "message_id" else dict(form.pairs).get("message_id")


def _fields(pairs: Pairs, errors: Mapping[str, str] = _NO_ERRORS) -> dict[str, Field]:
    values = dict(reversed(pairs))  # the first of each name
    return {one.name: Field(one, values.get(one.name, ""), errors.get(one.name)) for one in CONTROLS}


def _others(pairs: Pairs) -> Iterator[tuple[str, str]]:
    """What our form does not show; of a member of a lead that came more than once, only the first."""
    found = set[str]()
    for name, value in pairs:
        is_first = name not in found
        found.add(name)
        is_sendable = name and (is_first or name not in Lead.__struct_fields__)
        is_shown = is_first and name in _NAMES
        if is_sendable and not is_shown:
            yield name, value


def _of_control(control: Control, problem: Problem, pairs: Pairs) -> str:
    sent = [value for name, value in pairs if name == control.name]
    if len(sent) > 1:
        return "This was sent more than once; only the first is shown."
    value = "".join(sent)
    if len(value) > control.length_max_chars:
        return f"At most {control.length_max_chars} characters, please: these are {len(value)}."
    if control.name == "email" and not value.strip():
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


_NOT_CONFIRMED = (
    "Right now we cannot make sure that we have received it. Please wait a few seconds and send it again. "
    "That is safe: it counts once, however often it is sent."
)
_WORDS = {
    400: ("Please look at this again", "It was not sent yet."),
    413: ("This is too long", "It was not sent yet."),
    415: ("Files cannot be sent here", "It was not sent yet."),
    503: ("Not confirmed yet", _NOT_CONFIRMED),
}
_WORDS_WITHOUT_FORM = {
    400: ("This cannot be read", "What arrived is damaged, or is not what a form sends. Nothing was kept."),
    408: ("This took too long", "The form did not arrive in time, and nothing was kept. Please send it again."),
    413: ("This is too much", "A form holds at most 64 KiB of text, and no files. Nothing was kept."),
    415: ("This cannot be read", "A form is sent as UTF-8 text, uncompressed. Nothing was kept."),
}
