"""Reads a page as a browser does, as far as the tests need it."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import urlencode

__all__ = ["Page"]


class Page(HTMLParser):
    """What is on a page: fields with their values, in order, and texts by element id.

    `fields` is what pressing the button sends; `hidden` are the hidden inputs, `attributes` those of the controls that
    people see; `errors` are the texts that
    a control with `aria-invalid` refers to, by the name of the control.
    """

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.fields: list[tuple[str, str]] = []
        self.hidden: list[str] = []
        self.attributes: dict[str, dict[str, str | None]] = {}
        self.tags: list[str] = []
        self.texts: dict[str, str] = {}
        self.text = ""
        self.alert = ""
        self.action: str | None = None
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self._textarea: str | None = None
        self.feed(html)
        self.close()

    @property
    def errors(self) -> dict[str, str]:
        """The error beside each control that is marked as invalid."""
        invalid = {name: found for name, found in self.attributes.items() if found.get("aria-invalid") == "true"}
        return {name: self.texts[str(found["aria-describedby"]).split()[-1]].strip() for name, found in invalid.items()}

    def value(self, name: str) -> str:
        """The value of the only field of this name."""
        (value,) = (value for found, value in self.fields if found == name)
        return value

    def body(self, **typed: str) -> bytes:
        """What the button sends, URL-encoded and with the line ends of browsers, after these fields were filled in."""
        pairs = [(name, typed.get(name, value)) for name, value in self.fields]
        return urlencode([(name, value.replace("\n", "\r\n")) for name, value in pairs]).encode()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append(tag)
        if tag == "form":
            self.action = attributes["action"]
        if tag in ("input", "textarea", "select"):
            self._field(tag, attributes)
        if tag not in ("input", "meta", "link", "source", "img"):
            self._open.append((tag, attributes))

    def _field(self, tag: str, attributes: dict[str, str | None]) -> None:
        name = attributes["name"] or ""
        self.fields.append((name, attributes.get("value") or ""))
        self._textarea = name if tag == "textarea" else None
        if attributes.get("type") == "hidden":
            self.hidden.append(name)
        elif attributes.get("tabindex") != "-1":
            self.attributes[name] = attributes

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self._open.pop()
        assert opened == tag, f"<{opened}> is closed by </{tag}>"
        if tag == "textarea":
            name, value = self.fields[-1]
            self.fields[-1] = (name, value.removeprefix("\n"))
            self._textarea = None

    def handle_data(self, data: str) -> None:
        if self._textarea is not None:
            name, value = self.fields[-1]
            self.fields[-1] = (name, value + data)
            return
        self.text += data
        for _, attributes in self._open:
            if attributes.get("id"):
                self.texts[str(attributes["id"])] = self.texts.get(str(attributes["id"]), "") + data
            if attributes.get("role") == "alert":
                self.alert += data
