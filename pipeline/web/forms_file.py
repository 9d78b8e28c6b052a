"""The forms of a worker, as its `forms.toml` says now: a new version is taken over, a broken one is not."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.web.assets import PICTURES
from pipeline.web.forms import FORMS_SIZE_MAX_BYTES, BadForms, Forms, FormSpec, parse_forms

__all__ = ["BUILT_IN", "DEFAULT", "FormsFile"]

#: Looked for where workers start, unless a setting names another one.
DEFAULT = Path("forms.toml")
#: At most so often the file is looked at, whatever is asked for.
LOOK_EVERY_S = 1.0

BUILT_IN: Forms = parse_forms((Path(__file__).parent / "forms.toml").read_bytes(), PICTURES)

logger = logging.getLogger(__name__)

_Version = tuple[int, int] | None


class FormsFile:
    """The forms of a file. Its first version is read at once.

    Arguments:
        path: The file; None: `DEFAULT` if there is one, else the form that is built in.
        now_s: A clock that does not go back.

    Raises:
        BadForms: the file cannot be used, or is not there though it was named. The text says so, and names it.
    """

    def __init__(self, path: Path | None, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._path = path or DEFAULT
        self._now_s = now_s
        self._looked_s = now_s()
        self._version = _version(self._path)
        self._forms = BUILT_IN
        if path is not None or self._version is not None:
            self._forms = _read(self._path)

    def forms(self) -> Forms:
        """All of them, by name, the first one first."""
        if self._now_s() - self._looked_s >= LOOK_EVERY_S:
            self._looked_s = self._now_s()
            self._look()
        return self._forms

    def form(self, name: str) -> FormSpec | None:
        """The one with this name."""
        return self.forms().get(name)

    def first(self) -> FormSpec:
        """The one at `/`."""
        return next(iter(self.forms().values()))

    def _look(self) -> None:
        version = _version(self._path)
        if version == self._version:
            return
        self._version = version
        try:
            self._forms = _read(self._path)
        except BadForms as error:
            logger.warning("%s; the forms stay as they are", error)
        else:
            logger.info("%s was read again: %d forms", self._path, len(self._forms))


def _version(path: Path) -> _Version:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _read(path: Path) -> Forms:
    try:
        with path.open("rb") as opened:
            text = opened.read(FORMS_SIZE_MAX_BYTES + 1)
    except OSError as error:
        raise BadForms(f"{path} cannot be read ({error.strerror})") from None
    try:
        return parse_forms(text, PICTURES)
    except BadForms as error:
        raise BadForms(f"{path} cannot be used: {error}") from None
