"""One page with everything: table, plot, words. It needs nothing from anywhere else."""

from __future__ import annotations

from importlib import resources

from jinja2 import Environment, StrictUndefined

from pipeline.lab import bars
from pipeline.lab.compare_report import Report, costs, flaws, losses, notes, rows, title
from pipeline.lab.compare_schedule import FROZEN_S, STOPPED_S

__all__ = ["page"]

_TEMPLATE = "compare_page.html"
_LABEL = "Bars for each measure and contender; the numbers are in the table above"


def page(report: Report, wide: str, narrow: str) -> str:
    """The page; `wide` and `narrow` are the plots."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(resources.files(__package__).joinpath(_TEMPLATE).read_text(encoding="utf-8"))
    results = report.results
    return template.render(
        title=title(report),
        command=report.command,
        version=report.versions["lead-pipeline"],
        machine=f"{report.machine['cpus']} CPUs, Python {report.machine['python']}",
        flaws=flaws(results),
        notes=notes(report),
        contenders=[result.contender.title for result in results],
        rows=rows(results),
        wide=bars.inline(wide, _LABEL),
        narrow=bars.inline(narrow, _LABEL),
        losses=[f"{one.contender.title}: {losses(one.measures)}." for one in results if one.measures.lost],
        costs=costs(results),
        frozen_s=f"{FROZEN_S:g}",
        stopped_s=f"{STOPPED_S:g}",
    )
