"""`forms.toml`: what it may say, what is said of what it may not, and that a new version is taken over."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from pipeline.web.assets import PICTURES
from pipeline.web.colours import READABLE, contrast, ink_on, shade
from pipeline.web.forms import FIELDS_MAX, FORMS_MAX, FORMS_SIZE_MAX_BYTES, BadForms, parse_forms
from pipeline.web.forms_file import BUILT_IN, FormsFile

SECRET = "hunter2-secret"

EMAIL = '[[form.field]]\nname = "email"\nlabel = "Email"\n'


def form(name: str = "a", more: str = "", fields: str = EMAIL) -> str:
    return f'[[form]]\nname = "{name}"\ntitle = "T"\n{more}\n{fields}\n'


def field(more: str, name: str = "x") -> str:
    return f'{EMAIL}[[form.field]]\nname = "{name}"\nlabel = "X"\n{more}\n'


def refusal(text: str) -> str:
    with pytest.raises(BadForms) as error:
        parse_forms(text.encode(), PICTURES)
    return str(error.value)


class TestGood:
    def test_the_built_in_one(self) -> None:
        (contact,) = BUILT_IN.values()
        assert (contact.name, contact.url, contact.tenant) == ("contact", "/forms/contact", "default")
        assert [one.name for one in contact.fields] == ["name", "email", "phone", "company", "message"]
        assert contact.is_either_enough
        assert contact.fixed == {"tenant": "default", "source": "form"}

    def test_forms_are_in_the_order_of_the_file(self) -> None:
        assert list(parse_forms((form("b") + form("a")).encode(), PICTURES)) == ["b", "a"]

    def test_what_is_not_said_follows_from_the_name(self) -> None:
        text = form(fields=field('type = "textarea"') + '[[form.field]]\nname = "phone"\nlabel = "P"\n')
        email, message, phone = parse_forms(text.encode(), PICTURES)["a"].fields
        assert (email.type, email.autocomplete, email.length_max_chars) == ("email", "email", 320)
        assert (message.type, message.autocomplete, message.length_max_chars) == ("textarea", "on", 2000)
        assert (phone.type, phone.autocomplete, phone.length_max_chars) == ("tel", "tel", 64)

    def test_the_only_way_to_reach_a_person_is_required(self) -> None:
        found = parse_forms(form().encode(), PICTURES)["a"]
        assert found.fields[0].required
        assert not found.is_either_enough

    @pytest.mark.parametrize("origin", ["https://a.example", "http://localhost:8000", "https://[::1]:80"])
    def test_origins(self, origin: str) -> None:
        assert parse_forms(form(more=f'origins = ["{origin}"]').encode(), PICTURES)["a"].origins == (origin,)


@pytest.mark.parametrize(
    "text,words",
    [
        ("x = 1", "there is no such key as x"),
        ("form = 3", "form: expected a list, got a number"),
        (f'form = "{SECRET}"', "form: expected a list, got text"),
        ("form = []", "form: expected a list of length >= 1"),
        ("a = ", "it is no TOML (at end of document)"),
        (f'a = {SECRET}', "it is no TOML (at line 1, column 5)"),
        (form(name="A b"), "form 1: name: expected 1 to 64 lower-case letters, digits or '-'"),
        ('[[form]]\nname = "a"\n' + EMAIL, "form a: there is no title"),
        (form(more="colour = 1"), "form a: there is no such key as colour"),
        (form(more="title = 3").replace('title = "T"\n', ""), "form a: title: expected text, got a number"),
        (form(more=f'accent = "{SECRET}"'), 'form a: accent: expected a colour such as "#0a6b57"'),
        (form(more=f'language = "{SECRET}!"'), 'form a: language: expected a language such as "en-GB"'),
        (form(more='origins = ["*"]'), "form a: origins: expected origins such as"),
        (form(more='origins = ["https://a.example/"]'), "form a: origins: expected origins such as"),
        (form(more='origins = ["HTTPS://A.example"]'), "form a: origins: expected origins such as"),
        (form(more="fill_time_min_s = -1"), "form a: fill_time_min_s: expected seconds from 0 (off) to 60"),
        (form(more=f'tenant = "a {SECRET}"'), "form a: tenant: 1 to 64 letters, digits, '.', '_' or '-'"),
        (form(more='note_url = "javascript:alert(1)"'), "form a: note_url: expected a URL that begins with https://"),
        (form(more=f'picture = "{SECRET}"'), "form a: picture: there is streams"),
        (form() + form(), "form: two have the same name"),
        (form(fields=EMAIL + EMAIL), "form a: field: two have the same name"),
        (form(fields=EMAIL.replace("email", "x")), 'form a: field: none is named "email" or "phone"'),
        (form(fields=field("", name="tenant")), "form a, field tenant: name: this one has another meaning"),
        (form(fields=field("", name="confirm_url")), "form a, field confirm_url: name: this one has another meaning"),
        (form(fields=field("", name="a b")), "form a, field 2: name: expected 1 to 64 letters, digits"),
        (form(fields=field(f'type = "{SECRET}"')), "form a, field x: type: expected text, email, tel, textarea"),
        (form(fields=field('type = "select"')), 'form a, field x: options: type = "select" needs them'),
        (form(fields=field('options = ["a"]')), 'form a, field x: options: type = "select" needs them'),
        (form(fields=field("max_length = 5001")), "form a, field x: max_length: expected a whole number from 1"),
        (form(fields=field("max_length = 65", name="phone")), "form a, field phone: max_length: at most 64, as a lead"),
        (form(fields=field("max_length = 5000") + field("max_length = 5000", "y").removeprefix(EMAIL)),
         "form a: field: all together hold more than"),
        (form(fields=field("required = 1")), "form a, field x: required: expected true or false, got a number"),
        (form(fields=EMAIL + "".join(field("", f"x{n}").removeprefix(EMAIL) for n in range(FIELDS_MAX))),
         "form a: field: expected a list of length <= 32"),
        ("".join(form(f"a{n}") for n in range(FORMS_MAX + 1)), "form: expected a list of length <= 100"),
        ("#" * (FORMS_SIZE_MAX_BYTES + 1), "it has more than 1048576 bytes"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_by_name_and_without_a_value(text: str, words: str) -> None:
    found = refusal(text)
    assert found.startswith(words), found
    assert SECRET not in found
    assert "\n" not in found


def test_a_file_that_is_no_text() -> None:
    with pytest.raises(BadForms, match="it is not UTF-8"):
        parse_forms(b"\xff", PICTURES)
    with pytest.raises(BadForms):
        parse_forms(b"a=" + b"[" * 100_000, PICTURES)


class TestFile:
    """A clock that is told, and a real file."""

    @pytest.fixture(autouse=True)
    def elsewhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        self.path = tmp_path / "forms.toml"
        self.time_s = 0.0

    def write(self, text: str) -> None:
        self.path.write_text(text)
        # Two versions within one tick of the file system's clock are two versions.
        os.utime(self.path, ns=(0, int(self.time_s * 1e9)))

    def file(self, path: Path | None = None) -> FormsFile:
        return FormsFile(path, now_s=lambda: self.time_s)

    def after(self, seconds: float, file: FormsFile) -> list[str]:
        self.time_s += seconds
        return list(file.forms())

    def test_without_a_file_there_is_the_built_in_form(self) -> None:
        assert self.file().forms() is BUILT_IN

    def test_a_file_that_was_named_must_be_there(self) -> None:
        with pytest.raises(BadForms, match=r"missing\.toml cannot be read \(No such file or directory\)"):
            self.file(Path("missing.toml"))

    def test_a_broken_file_refuses_to_start(self) -> None:
        self.write("x = 1")
        with pytest.raises(BadForms, match=r"forms\.toml cannot be used: there is no such key as x"):
            self.file()

    def test_a_new_version_is_taken_over_within_a_second(self) -> None:
        self.write(form("a"))
        file = self.file()
        self.time_s = 0.5
        self.write(form("b"))
        assert self.after(0.4, file) == ["a"]
        assert self.after(0.2, file) == ["b"]
        assert file.first().name == "b"
        assert file.form("a") is None

    def test_a_file_that_comes_later_is_found(self) -> None:
        file = self.file()
        self.write(form("b"))
        assert self.after(1, file) == ["b"]

    def test_a_broken_version_leaves_the_old_one_and_one_line(self, caplog: pytest.LogCaptureFixture) -> None:
        self.write(form("a"))
        file = self.file()
        self.time_s = 2
        self.write(form("b", more=f'accent = "{SECRET}"'))
        assert [self.after(2, file) for _ in range(3)] == [["a"]] * 3
        (line,) = caplog.messages
        assert line == (
            'forms.toml cannot be used: form b: accent: expected a colour such as "#0a6b57"; the forms stay as they are'
        )
        self.write(form("b"))
        assert self.after(2, file) == ["b"]

    def test_a_file_that_goes_away_leaves_its_forms(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.WARNING)
        self.write(form("a"))
        file = self.file()
        self.path.unlink()
        assert [self.after(2, file) for _ in range(3)] == [["a"]] * 3
        assert len(caplog.messages) == 1


class TestColours:
    def test_contrast_is_that_of_wcag(self) -> None:
        assert contrast("#000000", "#ffffff") == 21
        assert contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=0.001)

    @pytest.mark.parametrize("colour", ["#ffd400", "#0a6b57", "#000000", "#ffffff", "#ff0000", "#777777"])
    @pytest.mark.parametrize("paper", ["#f3f1ea", "#1d2025"])
    def test_every_colour_has_a_shade_that_can_be_read(self, colour: str, paper: str) -> None:
        assert contrast(shade(colour, paper), paper) >= READABLE
        assert contrast(ink_on(colour), colour) >= READABLE

    def test_a_colour_that_can_be_read_stays(self) -> None:
        assert shade("#0a6b57", "#f3f1ea") == "#0a6b57"
