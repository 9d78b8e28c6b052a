"""What may be shown: URLs without their secrets, and what others wrote without what drives a terminal (pure)."""

from __future__ import annotations

import json
import re

__all__ = ["printable", "without_secrets"]


def printable(text: str) -> str:
    """The text with every character that is not printable as JSON escapes it; those that turn the direction, too."""
    return text if text.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def without_secrets(url: str) -> str:
    """The URL without user and password, and without the values of parameters that look like a secret."""
    # Up to the last "@", because a password that was not quoted may hold one, or a slash.
    bare = re.sub(r"(?<=://).*@", "", url, count=1, flags=re.DOTALL)
    return re.sub(r"(?i)([?&][^=&]*(?:password|secret|token|key)[^=&]*=)[^&#]*", r"\1***", bare)
