"""The picture beside the form: leads that come in many streams, and end in one line, each once.

`python -m pipeline.lab.artwork` draws it anew, in grey on white: the page gives it the accent colour of the form.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy
from PIL import Image

__all__ = ["draw"]

PICTURES = Path(__file__).resolve().parents[1] / "web" / "pictures"
#: Drawn larger, so that edges become smooth when it is made smaller.
OVERSAMPLING = 2


@dataclass(frozen=True)
class Composition:
    """Where things are, in shares of width and height: streams enter at the left between `top` and `bottom`, and are
    one from `joined` on, at the height of `line`.
    """

    width: int
    height: int
    streams: int
    top: float
    bottom: float
    line: float
    joined: float
    #: Of the thinnest line and of the smallest dot, in pixels.
    stroke: float


COMPOSITIONS = {
    "streams": Composition(1280, 480, 34, -0.12, 1.12, 0.5, 0.70, 1.3),
    "streams.tall": Composition(1200, 1600, 46, 0.44, 1.10, 0.79, 0.80, 1.6),
}


@dataclass(frozen=True)
class Stream:
    """A curve from (0, `start`) to the line; `bend` is where it turns to it, `sway` how much it meanders before."""

    start: float
    bend: float
    sway: float
    phase: float
    ink: float

    def heights(self, x: Any, of: Composition) -> Any:
        """Its height at each `x`, in shares."""
        way = numpy.clip((x / of.joined - self.bend) / (1 - self.bend), 0, 1)
        joined = way * way * way * (way * (6 * way - 15) + 10)
        meander = self.sway * numpy.sin(7 * x + self.phase) * (1 - joined)
        return self.start + meander + (of.line - self.start) * joined


def draw(of: Composition, seed: int = 8) -> Image.Image:
    """The picture, the same one for the same seed."""
    random = Random(seed)
    width, height = of.width * OVERSAMPLING, of.height * OVERSAMPLING
    paper = numpy.zeros((height, width), dtype=numpy.float32)
    x = numpy.linspace(0, 1, width, dtype=numpy.float32)
    for stream in _streams(of, random):
        y = stream.heights(x, of) * height
        _line(paper, y, stream.ink * (0.35 + 0.65 * x / of.joined).clip(0, 1), of.stroke * OVERSAMPLING)
        for at in _places(random):
            column = int(at * of.joined * width)
            radius = of.stroke * OVERSAMPLING * random.uniform(1.7, 3.0)
            _dot(paper, column, float(y[column]), radius, min(1.0, stream.ink * 1.7), is_hollow=random.random() < 0.2)
    _ledger(paper, of, x)
    grey = Image.fromarray(numpy.uint8((1 - paper) * 255 + 0.5))
    return grey.resize((of.width, of.height), Image.Resampling.LANCZOS)


def _streams(of: Composition, random: Random) -> Iterator[Stream]:
    for number in range(of.streams):
        share = (number + random.uniform(-0.3, 0.3)) / (of.streams - 1)
        start = of.top + (of.bottom - of.top) * share
        yield Stream(
            start, random.uniform(0.02, 0.34), random.uniform(0.004, 0.016), random.uniform(0, 6.3),
            random.choice((0.22, 0.3, 0.3, 0.42, 0.6)),
        )  # fmt: skip


def _places(random: Random) -> Iterator[float]:
    """Where on a stream leads are: anywhere, and none where the streams are close."""
    for _ in range(random.choice((1, 1, 2, 2, 3))):
        yield random.uniform(0.03, 0.72)


def _ledger(paper: Any, of: Composition, x: Any) -> None:
    """The one line, and the leads on it, in order."""
    height, width = paper.shape
    y = numpy.full(width, of.line * height, dtype=numpy.float32)
    fade = ((x - of.joined * 0.86) / (of.joined * 0.14)).clip(0, 1)
    _line(paper, y, fade, of.stroke * 1.7 * OVERSAMPLING)
    radius = of.stroke * 3.6 * OVERSAMPLING
    for column in numpy.arange(of.joined * width + 4 * radius, width + radius, 5.2 * radius):
        _dot(paper, int(column), of.line * height, radius, 1.0, is_hollow=False)


def _line(paper: Any, y: Any, ink: Any, stroke: float) -> None:
    """Ink along the heights `y`; the stronger ink wins where lines cross."""
    lean = numpy.sqrt(1 + numpy.gradient(y) ** 2)
    rows = numpy.arange(paper.shape[0], dtype=numpy.float32)[:, None]
    low, high = max(0, int(y.min() - 9)), min(paper.shape[0], int(y.max() + 9))
    if low < high:
        part = paper[low:high]
        drawn = ink * (stroke / 2 + 0.5 - numpy.abs(rows[low:high] - y) / lean).clip(0, 1)
        numpy.maximum(part, drawn, out=part)


def _dot(paper: Any, column: int, row: float, radius: float, ink: float, *, is_hollow: bool) -> None:
    reach = int(radius + 3)
    top, left = max(0, int(row) - reach), max(0, column - reach)
    part = paper[top : int(row) + reach, left : column + reach]
    if not part.size:
        return
    rows, columns = numpy.mgrid[top : top + part.shape[0], left : left + part.shape[1]]
    distance = numpy.hypot(rows - row, columns - column)
    inside = (radius + 0.5 - distance).clip(0, 1)
    numpy.maximum(part, ink * inside, out=part)
    if is_hollow:
        part *= 1 - (radius * 0.55 + 0.5 - distance).clip(0, 1)


def main() -> None:
    """Draw all of them."""
    for name, composition in COMPOSITIONS.items():
        draw(composition).save(PICTURES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
