"""Positions as tables for people (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.inspection.positions import GroupPosition, PartitionPosition

__all__ = ["age", "brief", "full"]

NONE = "–"
_STATES = {
    "Stable": "",
    "Empty": "no worker runs",
    "Dead": "no worker runs",
    "PreparingRebalance": "partitions are being assigned",
    "CompletingRebalance": "partitions are being assigned",
}
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def full(found: Sequence[GroupPosition], app_id: str) -> RenderableType:
    """One table for each topic and group, with a line of totals, and below each its warnings."""
    parts: list[RenderableType] = []
    for position in found:
        parts += [_table(position), *_warnings(position, app_id), ""]
    return Group(*parts)


def brief(found: Sequence[GroupPosition], app_id: str, *, rows: int, lines: int) -> RenderableType:
    """One line for each topic and group, those partitions that most wait for, the warnings, and where the rest is.

    Args:
        rows: of partitions.
        lines: that all of it would take.
    """
    parts: list[RenderableType] = [_groups(found), *(line for one in found for line in _warnings(one, app_id))]
    if rows:
        parts.append(_most_behind(found, rows))
    hint = f"All of it takes {lines} lines: enlarge the window, or use `leads offsets`."
    return Group(*parts, Text(hint, style="dim"))


def _groups(found: Sequence[GroupPosition]) -> Table:
    table = _brief_table("topic", "group", "members", "owned", "lag", "oldest pending")
    for one in found:
        owned = f"{_owned(one)} of {len(one.partitions)}"
        table.add_row(
            one.topic, one.group, str(one.members), owned, f"{one.lag:,}", _age_or_dash(one.oldest_pending_age_s)
        )
    return table


def _most_behind(found: Sequence[GroupPosition], rows: int) -> Table:
    """Who has read to the end comes last, and of those whose partition nobody reads first."""
    table = _brief_table("topic", "group", "part.", "committed", "lag", "owner")
    every = [(group, one) for group in found for one in group.partitions]
    for group, one in sorted(every, key=lambda each: (-(each[1].lag or 0), each[1].owner is not None))[:rows]:
        _, _, _, committed, lag, _, owner = _cells(one)
        table.add_row(group.topic, group.group, str(one.partition), committed, lag, owner)
    return table


def _brief_table(*names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in names:
        is_text = name in ("topic", "group", "owner")
        table.add_column(name, justify="left" if is_text else "right", no_wrap=True)
    return table


def age(seconds: float) -> str:
    """A duration in its two largest units, such as `3.2 s`, `4 min 5 s` or `2 d 3 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    first = next(index for index, (_, size) in enumerate(_UNITS) if whole >= size)
    parts = []
    for name, size in _UNITS[first : first + 2]:
        count, whole = divmod(whole, size)
        parts.append(f"{count} {name}")
    return " ".join(part for part in parts if not part.startswith("0 "))


def _table(position: GroupPosition) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=_title(position), title_justify="left", title_style="")
    # Two lines of head and narrow gaps, so that the URL of a worker fits into 80 columns.
    table.padding, table.pad_edge = (0, 1, 0, 0), False
    for name in ("part.", "log\nstart", "log\nend", "committed", "lag", "oldest\npending"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("owner", overflow="fold")
    for one in position.partitions:
        table.add_row(*_cells(one))
    table.add_section()
    total = (f"{position.lag:,}", _age_or_dash(position.oldest_pending_age_s))
    table.add_row("all", "", "", "", *total, f"{_owned(position)} of {len(position.partitions)} owned", style="bold")
    return table


def _owned(position: GroupPosition) -> int:
    return sum(one.owner is not None for one in position.partitions)


def _title(position: GroupPosition) -> Text:
    members = f"{position.members} member{'' if position.members == 1 else 's'}"
    state = _STATES.get(position.state, position.state)
    told = ", ".join(filter(None, [members if position.members else "", state]))
    return Text.assemble((position.topic, "bold"), " read by ", (position.group, "bold"), f" ({told})")


def _cells(one: PartitionPosition) -> list[str]:
    offsets = (one.log_start, one.log_end, one.committed, one.lag)
    pending = _age_or_dash(one.oldest_pending_age_s)
    return [str(one.partition), *(NONE if at is None else f"{at:,}" for at in offsets), pending, one.owner or NONE]


def _age_or_dash(seconds: float | None) -> str:
    return NONE if seconds is None else age(seconds)


def _warnings(position: GroupPosition, app_id: str) -> list[Text]:
    return [Text(f"warning: {text}", style="yellow") for text in position.warnings(app_id)]
