"""How a page looks: its style, and the policy that allows this style and nothing else."""

from __future__ import annotations

from base64 import b64encode
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from pipeline.web.colours import contrast, ink_on, shade
from pipeline.web.forms import FormSpec

__all__ = ["PLAIN", "Look", "form_look"]

#: What stands behind text in `style.css`, where it has the least contrast, on light and on dark.
_LIGHT, _DARK = "#f3f1ea", "#1d2025"
#: What a button needs to be seen as one.
_VISIBLE = 3.0
_LOOKS_KEPT = 200


class Look:
    """A style, and its Content-Security-Policy.

    Arguments:
        style: The CSS of the page.
        more: More directives.
    """

    def __init__(self, style: str, *more: str) -> None:
        self.style = style
        digest = b64encode(sha256(style.encode()).digest()).decode()
        images = "img-src 'self' data:" if more else "img-src data:"
        own = f"default-src 'none'; style-src 'sha256-{digest}'; {images}; form-action 'self'; base-uri 'none'"
        self.policy = "; ".join([own, *more])


def _css(name: str) -> str:
    return (Path(__file__).parent / "pages" / name).read_text(encoding="utf-8")


_STYLE, _FORM = _css("style.css"), _css("form.css")

#: Of every page that is no form.
PLAIN = Look(_STYLE)


@lru_cache(maxsize=_LOOKS_KEPT)
def form_look(spec: FormSpec) -> Look:
    """That of a form: its colour, its script, and the sites that may show it in a frame."""
    frames = " ".join(("'self'", *spec.origins))
    policy = ("script-src 'self'", "connect-src 'self'", f"frame-ancestors {frames}")
    return Look(_STYLE + _FORM + _accent(spec.accent), *policy)


def _accent(colour: str) -> str:
    light, dark = _scheme(colour, _LIGHT), _scheme(colour, _DARK)
    return f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"


def _scheme(colour: str, paper: str) -> str:
    """For text the shade that can be read on `paper`; for the button the colour as it is, if it can be seen there."""
    accent = shade(colour, paper)
    fill = colour if contrast(colour, paper) >= _VISIBLE else accent
    return f"--accent: {accent}; --fill: {fill}; --on-fill: {ink_on(fill)};"
