"""The account that a server runs as."""

from __future__ import annotations

import os
import pwd
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Account", "unprivileged"]

#: Exists on every Unix, and owns nothing.
_LAST_RESORT = "nobody"


@dataclass(frozen=True)
class Account:
    """An account by its numbers, as `subprocess` takes them; without numbers it is that of this process."""

    uid: int | None = None
    gid: int | None = None

    @property
    def groups(self) -> Sequence[int] | None:
        """Its other groups: none, above all none of root's."""
        return None if self.uid is None else []

    def __str__(self) -> str:
        return pwd.getpwuid(os.geteuid() if self.uid is None else self.uid).pw_name

    def own(self, file: int | str | os.PathLike[str]) -> None:
        """Give it a file, by its path or its descriptor."""
        if self.uid is not None and self.gid is not None:
            os.chown(file, self.uid, self.gid)


def unprivileged(preferred: str) -> Account:
    """This account; for root, which some servers refuse, `preferred` if the machine has it, else `nobody`.

    Raises:
        KeyError: the machine has neither.
    """
    if os.geteuid() != 0:
        return Account()
    try:
        entry = pwd.getpwnam(preferred)
    except KeyError:
        entry = pwd.getpwnam(_LAST_RESORT)
    return Account(entry.pw_uid, entry.pw_gid)
