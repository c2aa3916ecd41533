"""A small canvas: data coordinates to SVG, with axes, lines, bands and labels that do not overlap.

A picture is narrow, so that its text is readable on a phone, and brings its own ground, so that it is readable on any
page. Its colours follow the reader's light or dark setting. Every line is named in words, too.
"""

from collections.abc import Sequence
from html import escape

import numpy.typing as npt

from difference_feedback.report.chart import nice_ticks, spread

LIGHT = {"ground": "#ffffff", "ink": "#1f2933", "grey": "#5b6472", "grid": "#e5e7eb"}
DARK = {"ground": "#0d1117", "ink": "#e6edf3", "grey": "#9aa4b2", "grid": "#2b323b"}
SERIES = (
    ("#0b6fb8", "#58a6ff"),
    ("#c2410c", "#ff9b6a"),
    ("#15803d", "#56d38a"),
    ("#7c3aed", "#b794ff"),
    ("#92660a", "#e3b341"),
    ("#be185d", "#ff7eb6"),
    ("#4b5563", "#c3cad4"),
    ("#0f766e", "#4fd1c5"),
)
"""A colour on light and on dark ground for each series."""
DASHES = ("", "8 4", "2 3", "10 3 2 3")
Numbers = Sequence[float] | npt.NDArray


def _style() -> str:
    def rules(colours: dict[str, str], series: Sequence[str]) -> str:
        named = "".join(f".{name}{{fill:{colour}}}.{name}-line{{stroke:{colour}}}" for name, colour in colours.items())
        drawn = (f".f{i}{{fill:{colour}}}.s{i}{{stroke:{colour}}}" for i, colour in enumerate(series))
        halo = f"text{{stroke:{colours['ground']};stroke-width:4;paint-order:stroke;stroke-linejoin:round}}"
        return named + "".join(drawn) + halo

    light, dark = zip(*SERIES, strict=True)
    return f"<style>{rules(LIGHT, light)}@media (prefers-color-scheme: dark){{{rules(DARK, dark)}}}</style>"


class Canvas:
    """An SVG of `width` x `height` units; axes are set once, then everything is drawn in their units."""

    def __init__(self, width: int, height: int, *, left: int, right: int, top: int, bottom: int) -> None:
        self.width, self.height = width, height
        self.left, self.right = left, width - right
        self.top, self.bottom = top, height - bottom
        self.x_range, self.y_range = (0.0, 1.0), (0.0, 1.0)
        self.parts: list[str] = []

    def x_axis(self, low: float, high: float, title: str) -> None:
        ticks = nice_ticks(low, high, 6)
        self.x_range = (min(low, ticks[0]), max(high, ticks[-1]))
        for tick in ticks:
            x = self.to_x(tick)
            self.parts.append(f'<path d="M{x:.1f} {self.top}V{self.bottom}" class="grid-line"/>')
            self.text(x, self.bottom + 18, f"{tick:g}", anchor="middle", kind="grey")
        self.text((self.left + self.right) / 2, self.bottom + 38, title, anchor="middle", kind="grey")

    def y_axis(self, low: float, high: float, title: str, form: str = "g") -> None:
        """The title stands above the axis, where it is read without turning the head."""
        ticks = nice_ticks(low, high, 6)
        self.y_range = (ticks[0], ticks[-1])
        for tick in ticks:
            y = self.to_y(tick)
            self.parts.append(f'<path d="M{self.left} {y:.1f}H{self.right}" class="grid-line"/>')
            self.text(self.left - 8, y + 4, format(tick, form), anchor="end", kind="grey")
        self.text(8, self.top - 12, title, kind="grey")

    def to_x(self, value: float) -> float:
        low, high = self.x_range
        return self.left + (self.right - self.left) * (value - low) / (high - low)

    def to_y(self, value: float) -> float:
        low, high = self.y_range
        return self.bottom - (self.bottom - self.top) * (value - low) / (high - low)

    def line(self, x: Numbers, y: Numbers, series: int, dash: str = "") -> None:
        points = "L".join(f"{self.to_x(a):.1f} {self.to_y(b):.1f}" for a, b in zip(x, y, strict=True))
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<path d="M{points}" fill="none" class="s{series}" stroke-width="2.2"{dashes}/>')

    def band(self, x: Numbers, low: Numbers, high: Numbers, series: int) -> None:
        there = [f"{self.to_x(a):.1f} {self.to_y(b):.1f}" for a, b in zip(x, high, strict=True)]
        back = [f"{self.to_x(a):.1f} {self.to_y(b):.1f}" for a, b in zip(x, low, strict=True)]
        self.parts.append(f'<path d="M{"L".join(there + back[::-1])}Z" class="f{series}" opacity="0.13"/>')

    def vertical(self, x: float) -> None:
        self.parts.append(f'<path d="M{self.to_x(x):.1f} {self.top}V{self.bottom}" class="ink-line"/>')

    def horizontal(self, low: float, high: float, y: float, series: int) -> None:
        """A bar from `low` to `high` of the x axis, at unit `y`."""
        path = f"M{self.to_x(low):.1f} {y:.1f}H{self.to_x(high):.1f}"
        self.parts.append(f'<path d="{path}" class="s{series}" stroke-width="3"/>')

    def dot(self, x: float, y: float, series: int, radius: float, faint: bool = False) -> None:
        """A dot at `x` of the x axis and unit `y`."""
        opacity = ' opacity="0.5"' if faint else ""
        self.parts.append(f'<circle cx="{self.to_x(x):.1f}" cy="{y:.1f}" r="{radius}" class="f{series}"{opacity}/>')

    def text(self, x: float, y: float, text: str, anchor: str = "start", kind: str = "ink") -> None:
        """Text at units `(x, y)`; `kind` is `ink`, `grey` or a series, such as `f0`."""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(text)}</text>')

    def labels(self, ends: Sequence[tuple[str, float, int]], gap: float = 18) -> None:
        """Names of lines at their right ends: `(name, y, series)`."""
        wanted = [self.to_y(y) for _, y, _ in ends]
        for (name, _, series), y in zip(ends, spread(wanted, gap, self.top + 8, self.bottom), strict=True):
            self.text(self.right + 8, y + 4, name, kind=f"f{series}")

    def finish(self, title: str) -> str:
        """The SVG; `title` says in a sentence what it shows, for those who do not see it."""
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" role="img" '
        style = f'width="{self.width}" height="{self.height}" font-family="system-ui, sans-serif" font-size="15">'
        ground = f'<rect width="{self.width}" height="{self.height}" class="ground"/>'
        return (
            "\n".join([head + style, f"<title>{escape(title)}</title>", _style(), ground, *self.parts, "</svg>"]) + "\n"
        )
