"""A small canvas: data coordinates to SVG, with axes, lines, bands and labels that do not overlap."""

from collections.abc import Sequence
from html import escape

import numpy.typing as npt

from difference_feedback.report.chart import nice_ticks, spread

COLOURS = ("#0b6fb8", "#c2410c", "#15803d", "#7c3aed", "#b45309", "#be185d", "#0f766e", "#4b5563", "#a16207", "#4338ca")
INK, GREY, GRID = "#1f2933", "#6b7280", "#e5e7eb"
Numbers = Sequence[float] | npt.NDArray


class Canvas:
    """An SVG of `width` x `height` pixels; axes are set once, then everything is drawn in their units."""

    def __init__(self, width: int, height: int, *, left: int, right: int, top: int, bottom: int) -> None:
        self.width, self.height = width, height
        self.left, self.right = left, width - right
        self.top, self.bottom = top, height - bottom
        self.x_range, self.y_range = (0.0, 1.0), (0.0, 1.0)
        self.parts: list[str] = []

    def x_axis(self, low: float, high: float, title: str, ticks: Sequence[float] | None = None) -> None:
        ticks = nice_ticks(low, high, 6) if ticks is None else ticks
        self.x_range = (min(low, ticks[0]), max(high, ticks[-1]))
        for tick in ticks:
            x = self.to_x(tick)
            self.parts.append(f'<path d="M{x:.1f} {self.top}V{self.bottom}" stroke="{GRID}"/>')
            self.text(x, self.bottom + 18, f"{tick:g}", anchor="middle", colour=GREY)
        self.text((self.left + self.right) / 2, self.bottom + 38, title, anchor="middle", colour=GREY)

    def y_axis(self, low: float, high: float, title: str) -> None:
        ticks = nice_ticks(low, high, 6)
        self.y_range = (ticks[0], ticks[-1])
        for tick in ticks:
            y = self.to_y(tick)
            self.parts.append(f'<path d="M{self.left} {y:.1f}H{self.right}" stroke="{GRID}"/>')
            self.text(self.left - 8, y + 4, f"{tick:g}", anchor="end", colour=GREY)
        middle = (self.top + self.bottom) / 2
        self.parts.append(
            f'<text x="14" y="{middle}" transform="rotate(-90 14 {middle})" text-anchor="middle" fill="{GREY}">'
            f"{escape(title)}</text>"
        )

    def to_x(self, value: float) -> float:
        low, high = self.x_range
        return self.left + (self.right - self.left) * (value - low) / (high - low)

    def to_y(self, value: float) -> float:
        low, high = self.y_range
        return self.bottom - (self.bottom - self.top) * (value - low) / (high - low)

    def line(self, x: Numbers, y: Numbers, colour: str) -> None:
        points = "L".join(f"{self.to_x(a):.1f} {self.to_y(b):.1f}" for a, b in zip(x, y, strict=True))
        self.parts.append(f'<path d="M{points}" fill="none" stroke="{colour}" stroke-width="2.2"/>')

    def band(self, x: Numbers, low: Numbers, high: Numbers, colour: str) -> None:
        there = [f"{self.to_x(a):.1f} {self.to_y(b):.1f}" for a, b in zip(x, high, strict=True)]
        back = [f"{self.to_x(a):.1f} {self.to_y(b):.1f}" for a, b in zip(x, low, strict=True)]
        self.parts.append(f'<path d="M{"L".join(there + back[::-1])}Z" fill="{colour}" opacity="0.13"/>')

    def vertical(self, x: float) -> None:
        self.parts.append(f'<path d="M{self.to_x(x):.1f} {self.top}V{self.bottom}" stroke="{INK}"/>')

    def horizontal(self, low: float, high: float, y: float, colour: str) -> None:
        """A bar from `low` to `high` of the x axis, at pixel `y`."""
        path = f"M{self.to_x(low):.1f} {y:.1f}H{self.to_x(high):.1f}"
        self.parts.append(f'<path d="{path}" stroke="{colour}" stroke-width="2.5"/>')

    def dot(self, x: float, y: float, colour: str, radius: float, faint: bool = False) -> None:
        """A dot at `x` of the x axis and pixel `y`."""
        opacity = ' opacity="0.45"' if faint else ""
        self.parts.append(f'<circle cx="{self.to_x(x):.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"{opacity}/>')

    def text(self, x: float, y: float, text: str, anchor: str = "start", colour: str = INK) -> None:
        """Text at pixels `(x, y)`."""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>')

    def labels(self, ends: Sequence[tuple[str, float, str]], gap: float = 18) -> None:
        """Names of lines at their right ends: `(name, y, colour)`."""
        wanted = [self.to_y(y) for _, y, _ in ends]
        for (name, _, colour), y in zip(ends, spread(wanted, gap, self.top + 8, self.bottom), strict=True):
            self.text(self.right + 8, y + 4, name, colour=colour)

    def finish(self) -> str:
        """The SVG, on white so that it can be read on any page."""
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
        style = f'width="{self.width}" height="{self.height}" font-family="system-ui, sans-serif" font-size="13">'
        ground = f'<rect width="{self.width}" height="{self.height}" fill="#ffffff"/>'
        return "\n".join([head + style, ground, *self.parts, "</svg>"]) + "\n"
