"""`forms.toml`: the forms that people see, checked. Pure: no I/O.

BadForms    the text is no such file; says which form, which field, which key, and what is allowed, never a value
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import force_setattr

from pipeline.lead import LEAD_SIZE_MAX_BYTES, Lead, name_flaw

__all__ = ["FORMS_SIZE_MAX_BYTES", "HONEYPOT", "BadForms", "FieldSpec", "FormSpec", "Forms", "parse_forms"]

FORMS_SIZE_MAX_BYTES = 1024 * 1024
FORMS_MAX = 100
FIELDS_MAX = 32
OPTIONS_MAX = 100
ORIGINS_MAX = 50
TEXT_MAX_CHARS = 5000
#: A character has at most nine bytes when a form is sent; what is left is for names and for what is hidden.
TYPED_MAX_CHARS = (LEAD_SIZE_MAX_BYTES - 6 * 1024) // 9

#: Nobody sees this field, so that only a program fills it in. No browser has a value for it in store.
HONEYPOT = "confirm_url"

#: Those of a lead that a form may ask for, with the limits of a lead: nobody should learn of one after sending.
_ASKED_MAX_CHARS = {"name": 512, "email": 320, "phone": 64, "company": 512}
#: A field with such a name would hide from the script what the form itself has under it.
_OF_ELEMENTS = {
    "after",
    "dataset",
    "elements",
    "getAttribute",
    "hidden",
    "noValidate",
    "parentNode",
    "querySelector",
    "reset",
}
_RESERVED = frozenset(Lead.__struct_fields__) - _ASKED_MAX_CHARS.keys() | {HONEYPOT} | _OF_ELEMENTS
_TYPES = {"email": "email", "phone": "tel"}
_AUTOCOMPLETE = {"name": "name", "email": "email", "phone": "tel", "company": "organization"}
_LENGTHS_MAX_CHARS = {"textarea": 2000}
_LENGTH_MAX_CHARS = 512

_Line = Annotated[str, Meta(min_length=1, max_length=200)]
_Paragraph = Annotated[str, Meta(max_length=1000)]
_Name = Annotated[str, Meta(pattern=r"\A[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?\Z")]
_Origin = Annotated[str, Meta(pattern=r"\Ahttps?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?\Z")]

#: What is said of a value that does not fit; of the others, what msgspec says.
_ALLOWED = {
    "form.name": "1 to 64 lower-case letters, digits or '-'",
    "form.accent": "a colour such as \"#0a6b57\"",
    "form.language": "a language such as \"en-GB\"",
    "form.origins": "origins such as \"https://www.example.com\": scheme and host, no path, no *",
    "form.fill_time_min_s": "seconds from 0 (off) to 60",
    "form.note_url": "a URL that begins with https:// or /",
    "field.name": "1 to 64 letters, digits, '.', '_' or '-', the first one a letter",
    "field.type": "text, email, tel, textarea, select or checkbox",
    "field.autocomplete": "words of the HTML attribute, such as \"given-name\"",
    "field.max_length": f"a whole number from 1 to {TEXT_MAX_CHARS}",
}  # fmt: skip


class BadForms(ValueError):
    """`forms.toml` cannot be used."""


class _Flaw(ValueError):
    """What is wrong with a key, or with all of it (None)."""

    def __init__(self, key: str | None, reason: str) -> None:
        super().__init__(f"{key}: {reason}" if key else reason)


class FieldSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A field. What is not given follows from its name: `email` is an email address, and so on."""

    name: Annotated[str, Meta(pattern=r"\A[A-Za-z][A-Za-z0-9_.-]{0,63}\Z")]
    label: _Line
    type: Literal["text", "email", "tel", "textarea", "select", "checkbox", ""] = ""
    required: bool = False
    autocomplete: Annotated[str, Meta(pattern=r"\A[a-z0-9 -]{0,80}\Z")] = ""
    length_max_chars: Annotated[int, Meta(ge=0, le=TEXT_MAX_CHARS)] = msgspec.field(default=0, name="max_length")
    hint: Annotated[str, Meta(max_length=300)] = ""
    options: Annotated[tuple[_Line, ...], Meta(max_length=OPTIONS_MAX)] = ()

    def __post_init__(self) -> None:
        if self.name in _RESERVED:
            raise _Flaw("name", "this one has another meaning; choose another")
        force_setattr(self, "type", self.type or _TYPES.get(self.name, "text"))
        force_setattr(self, "autocomplete", self.autocomplete or _AUTOCOMPLETE.get(self.name, "on"))
        if (self.type == "select") != bool(self.options):
            raise _Flaw("options", 'type = "select" needs them, no other type has them')
        longest = _ASKED_MAX_CHARS.get(self.name, TEXT_MAX_CHARS)
        default = min(longest, _LENGTHS_MAX_CHARS.get(self.type, _LENGTH_MAX_CHARS))
        force_setattr(self, "length_max_chars", self.length_max_chars or default)
        if self.length_max_chars > longest:
            raise _Flaw("max_length", f"at most {longest}, as a lead has it")

    @property
    def typed_max_chars(self) -> int:
        """How much of a form its value can take."""
        return max(map(len, self.options)) if self.options else 3 if self.type == "checkbox" else self.length_max_chars


class FormSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A form: its address, its words, its colour, where its leads belong, and who may embed it."""

    name: _Name
    title: _Line
    intro: _Paragraph = ""
    button: Annotated[str, Meta(min_length=1, max_length=60)] = "Send"
    thanks: _Paragraph = "We have received it, and will get back to you."
    note: _Paragraph = ""
    note_url: Annotated[str, Meta(pattern=r"\A(?:(?:https://|/)[^\s\"<>]{1,500})?\Z")] = ""
    accent: Annotated[str, Meta(pattern=r"\A#[0-9a-fA-F]{6}\Z")] = "#0a6b57"
    picture: str = "streams"
    language: Annotated[str, Meta(pattern=r"\A[A-Za-z]{2,8}(?:-[A-Za-z0-9]{2,8}){0,3}\Z")] = "en-GB"
    tenant: str = "default"
    campaign: Annotated[str, Meta(max_length=512)] = ""
    source: Annotated[str, Meta(max_length=512)] = "form"
    origins: Annotated[tuple[_Origin, ...], Meta(max_length=ORIGINS_MAX)] = ()
    #: Seconds from the making of the page; sent sooner, a lead is suspected to be spam.
    fill_time_min_s: Annotated[float, Meta(ge=0, le=60)] = 2.0
    fields: Annotated[tuple[FieldSpec, ...], Meta(min_length=1, max_length=FIELDS_MAX)] = msgspec.field(name="field")

    def __post_init__(self) -> None:
        names = [field.name for field in self.fields]
        if len(set(names)) < len(names):
            raise _Flaw("field", "two have the same name")
        reachable = [field for field in self.fields if field.name in ("email", "phone")]
        if not reachable:
            raise _Flaw("field", 'none is named "email" or "phone", and a lead needs one of them')
        if len(reachable) == 1:
            force_setattr(reachable[0], "required", True)
        if sum(field.typed_max_chars for field in self.fields) > TYPED_MAX_CHARS:
            raise _Flaw("field", f"all together hold more than {TYPED_MAX_CHARS} characters; lower max_length")
        if name_flaw(self.tenant, "m"):
            raise _Flaw("tenant", "1 to 64 letters, digits, '.', '_' or '-'")

    @property
    def url(self) -> str:
        """Where it is shown, and where it is sent to."""
        return f"/forms/{self.name}"

    @property
    def is_either_enough(self) -> bool:
        """Whether one of email and phone will do."""
        return not any(field.required for field in self.fields if field.name in ("email", "phone"))

    @property
    def fixed(self) -> dict[str, str]:
        """What the server adds to each lead."""
        found = {"tenant": self.tenant, "campaign": self.campaign, "source": self.source}
        return {name: value for name, value in found.items() if value}


#: By name, in the order of the file.
Forms = Mapping[str, FormSpec]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    form: Annotated[tuple[FormSpec, ...], Meta(min_length=1, max_length=FORMS_MAX)]


def parse_forms(text: bytes, pictures: Collection[str]) -> Forms:
    """The forms in the text of a file.

    Arguments:
        pictures: The names that a form may have as its `picture`.

    Raises:
        BadForms: it cannot be used.
    """
    if len(text) > FORMS_SIZE_MAX_BYTES:
        raise BadForms(f"it has more than {FORMS_SIZE_MAX_BYTES} bytes")
    members = _members(text)
    try:
        forms = msgspec.convert(members, _File).form
    except msgspec.ValidationError as error:
        raise BadForms(_explained(error, members)) from None
    found = {form.name: form for form in forms}
    if len(found) < len(forms):
        raise BadForms("form: two have the same name")
    for form in forms:
        if form.picture and form.picture not in pictures:
            raise BadForms(f"form {form.name}: picture: there is {' and '.join(sorted(pictures)) or 'none'}")
    return found


def _members(text: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(text.decode())
    except UnicodeDecodeError:
        raise BadForms("it is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        # The place is enough: what stands there may be a value.
        place = re.search(r"\(at .*\)", str(error))
        raise BadForms(f"it is no TOML {place[0] if place else ''}".rstrip()) from None
    except RecursionError:
        raise BadForms("it is nested too deeply") from None


def _explained(error: msgspec.ValidationError, members: Mapping[str, Any]) -> str:
    """Where it is, by name where there is one, and what is allowed. msgspec's texts hold paths and types, no values."""
    text, _, path = str(error).partition(" - at ")
    form, field, key = _place(path)
    where = [_named("form", members, form)] if form is not None else []
    if form is not None and field is not None:
        where.append(_named("field", members["form"][form], field))
    kind = "field" if field is not None else "form"
    if isinstance(error.__cause__, _Flaw):
        what = str(error.__cause__)
    elif key and (allowed := _ALLOWED.get(f"{kind}.{key}")):
        what = f"{key}: expected {allowed}"
    else:
        what = f"{key}: {_plain(text)}" if key else _plain(text)
    return ": ".join([", ".join(where), what]) if where else what


def _place(path: str) -> tuple[int | None, int | None, str]:
    """Numbers of form and field, and the key, of msgspec's `$.form[0].field[1].max_length`."""
    match = re.fullmatch(r"`\$(?:\.form\[(\d+)\])?(?:\.field\[(\d+)\])?(?:\.(\w+))?.*`", path)
    if match is None:
        return None, None, ""
    form, field, key = match.groups()
    return None if form is None else int(form), None if field is None else int(field), key or ""


def _named(kind: str, members: Mapping[str, Any], number: int) -> str:
    found = members[kind][number]
    name = found.get("name") if isinstance(found, dict) else None
    is_shown = isinstance(name, str) and re.fullmatch(r"[\w-]{1,64}", name)
    return f"{kind} {name}" if is_shown else f"{kind} {number + 1}"


_KINDS = {"str": "text", "int": "a number", "float": "a number", "bool": "true or false", "array": "a list",
          "object": "a table"}  # fmt: skip


def _plain(text: str) -> str:
    text = text.replace("Object contains", "there is an").replace("Object missing", "there is no")
    text = text.replace("there is an unknown field", "there is no such key as").replace("required field ", "")
    text = re.sub(r"`(\w+)`", lambda match: _KINDS.get(match[1], match[1]), text)
    return text[:1].lower() + text[1:]
