"""The chart of dose and response as one SVG: which repairs pay, what was measured, and where a repair model stands."""

import math
from html import escape
from itertools import pairwise

import numpy as np

from difference_feedback.report.chart import nice_ticks
from difference_feedback.report.dose import Dose
from difference_feedback.report.dose_verdict import Placed, times

WIDTH, HEIGHT = 760, 540
LEFT, RIGHT, TOP, BOTTOM = 64, 40, 68, 56
INK, GREY, GRID, PAYS, COSTS, MODEL = "#1f2933", "#5b6470", "#e5e7eb", "#15803d", "#b3390a", "#0b6fb8"
_STEPS = 120  # columns and rows in which contours are sought


def dose_chart(dose: Dose, model: Placed | None = None) -> str:
    """The chart as a whole SVG on white, which loads nothing. Every text is escaped.

    Across: the share of wrong answers that get a right repair; upwards: the share of these that is clean. Above the
    thick line training pays. It is drawn at the overhead of `model`, where that is known, and else for repairs that
    cost nothing. In the grey band its 95 % interval includes 0. Dots are what was measured, with its gain.
    """
    return _Chart(dose, model).svg()


class _Chart:
    def __init__(self, dose: Dose, model: Placed | None) -> None:
        self.dose, self.model = dose, model
        self.price = model.price if model else 0.0
        (right, _), (clean, _) = dose.area
        right, clean = min(right, 0.4), min(clean, 0.4)
        if model is not None:
            right = min(right, model.right.low)
            clean = min(clean, model.clean.low) if model.clean else 0.0
        self.x0, self.y0 = (math.floor(10 * low - 1e-9) / 10 if low > 0 else 0.0 for low in (right, clean))
        self.xs, self.ys = np.linspace(self.x0, 1, _STEPS), np.linspace(self.y0, 1, _STEPS)
        self.parts: list[str] = []

    def svg(self) -> str:
        self._regions()
        self._axes()
        self._contours()
        self._names()
        self._measured()
        if self.model is not None:
            self._place(self.model)
        label = "Which repairs pay: share of right repairs across, share of clean ones upwards"
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
            f'role="img" aria-label="{label}" font-family="system-ui, sans-serif" font-size="13">'
        )
        ground = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
        return "\n".join([head, ground, *self.parts, "</svg>"]) + "\n"

    def _x(self, right: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (right - self.x0) / (1 - self.x0)

    def _y(self, clean: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (clean - self.y0) / (1 - self.y0)

    def _text(self, x: float, y: float, text: str, colour: str = INK, anchor: str = "middle", extra: str = "") -> None:
        """A text with a white rim, so that it can be read on lines."""
        rim = 'stroke="#ffffff" stroke-width="3" paint-order="stroke"'
        place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"'
        self.parts.append(f"<text {place} {rim} {extra}>{escape(text)}</text>")

    def _regions(self) -> None:
        """Green where training pays, red where it costs, and between them the band that is undecided."""
        self.parts.append(self._box(self.x0, 1, self.y0, 1, '#f1f2f4"'))
        self.gains = [[self.dose.gain(x, y, self.price).verdict for y in self.ys] for x in self.xs]
        half = (1 - self.y0) / (_STEPS - 1) / 2
        for colour, verdict in (("#dcf3e3", "pays"), ("#fbe5dc", "costs")):
            columns = [[y for y, of in zip(self.ys, column, strict=True) if of == verdict] for column in self.gains]
            spans = [(min(c) - half, max(c) + half) if c else None for c in columns]
            for (x, span), (after, other) in pairwise(zip(self.xs, spans, strict=True)):
                if span and other:
                    low, high = max(span[0], self.y0), min(span[1], 1.0)
                    low2, high2 = max(other[0], self.y0), min(other[1], 1.0)
                    corners = ((x, low), (x, high), (after, high2), (after, low2))
                    path = "L".join(f"{self._x(a) + 0.3 * (a == after):.1f} {self._y(b):.1f}" for a, b in corners)
                    self.parts.append(f'<path d="M{path}Z" fill="{colour}"/>')

    def _box(self, x0: float, x1: float, y0: float, y1: float, fill: str) -> str:
        left, top = self._x(x0), self._y(y1)
        return (
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{self._x(x1) - left:.1f}" height="{self._y(y0) - top:.1f}" '
            f'fill="{fill}/>'
        )

    def _axes(self) -> None:
        for tick in nice_ticks(self.x0, 1.0, 6):
            if self.x0 - 1e-9 <= tick <= 1:
                self.parts.append(f'<path d="M{self._x(tick):.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="{GRID}"/>')
                self._text(self._x(tick), HEIGHT - BOTTOM + 18, f"{tick:.0%}".replace("%", " %"), GREY)
        for tick in nice_ticks(self.y0, 1.0, 6):
            if self.y0 - 1e-9 <= tick <= 1:
                self.parts.append(f'<path d="M{LEFT} {self._y(tick):.1f}H{WIDTH - RIGHT}" stroke="{GRID}"/>')
                self._text(LEFT - 8, self._y(tick) + 4, f"{tick:.0%}".replace("%", " %"), GREY, "end")
        middle = (TOP + HEIGHT - BOTTOM) / 2
        self._text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, "wrong answers that get a right repair", INK)
        turned = f'transform="rotate(-90 16 {middle})"'
        self._text(16, middle, "of these repairs, clean: no wrong value stated", INK, extra=turned)
        self._text(LEFT, 24, "How good must repairs be?", INK, "start", 'font-size="17" font-weight="650"')
        at = f"where a step costs {times(self.price)}" if self.price else "repairs not billed"
        budget = f", at {self.dose.budget_cpu_seconds:g} CPU seconds" if self.dose.budget_cpu_seconds else ""
        self._text(LEFT, 44, f"Gain over GRPO in points{budget}, {at}. Dots: measured.", GREY, "start")

    def _names(self) -> None:
        """What each region says, in its middle."""
        names = {"pays": ("training pays", PAYS), "costs": ("training costs", COSTS), "open": ("undecided", GREY)}
        for verdict, (name, colour) in names.items():
            cells = [
                (x, y)
                for x, column in zip(self.xs, self.gains, strict=True)
                for y, of in zip(self.ys, column, strict=True)
                if of == verdict
            ]
            if len(cells) < _STEPS**2 // 50:
                continue
            left = [cell for cell in cells if cell[0] < self.x0 + (1 - self.x0) / 4]
            middle = np.mean(left if verdict == "open" and left else cells, axis=0)  # beside the thick line, not on it
            x, y = min(cells, key=lambda cell: math.dist(cell, middle))
            x = min(max(self._x(x), LEFT + 52), WIDTH - RIGHT - 52)
            self._text(x, self._y(y), name, colour, extra='font-size="15" font-style="italic"')

    def _contours(self) -> None:
        """Lines of equal gain, labelled at their right ends, beside the plot; break-even is thick."""
        reach = [self.dose.gain(x, y, self.price).value for x in (self.x0, 1) for y in (self.y0, 1)]
        levels = [level for level in nice_ticks(min(reach), max(reach), 7) if min(reach) < level < max(reach)]
        for level in sorted({0.0, *levels}, key=lambda value: value == 0):
            line = self._line(level)
            if len(line) < 2:
                continue
            path = "L".join(f"{x:.1f} {y:.1f}" for x, y in line)
            style = f'stroke="{INK}" stroke-width="4"' if level == 0 else f'stroke="{GREY}" stroke-dasharray="3 4"'
            self.parts.append(f'<path d="M{path}" fill="none" {style}/>')
            x, y = line[-1] if level else line[-len(line) // 4]
            text = "break-even" if level == 0 else f"{level:+g}".replace("-", "−")
            if level == 0:
                self._text(x, y - 8, text, INK, "start", 'font-weight="650"')
            else:
                colour = PAYS if level > 0 else COSTS
                if x > WIDTH - RIGHT - 1:
                    self._text(x + 9, y + 4, text, colour, "start")
                else:
                    self._text(x, y - 6, text, colour)

    def _line(self, level: float) -> list[tuple[float, float]]:
        """Where the expected gain is `level`, in pixels, from the left."""
        a, b, c = map(float, self.dose.coefficients)
        price = self.dose.slope.value * math.log2(1 + self.price)
        places = ((x, (level + price - a - b * x) / (c * x)) for x in self.xs if c * x)
        return [(self._x(x), self._y(y)) for x, y in places if self.y0 <= y <= 1]

    def _measured(self) -> None:
        for point in self.dose.points:
            x, y = self._x(point.right), self._y(point.clean)
            seeds = len(point.by_seed)
            about = (
                f"measured: {point.right:.0%} right, {point.clean:.0%} of these clean, gain {point.gain:+.1f} "
                f"({point.low:+.1f} to {point.high:+.1f}) over {seeds} seeds"
            )
            colour = PAYS if point.low > 0 else COSTS if point.high < 0 else GREY
            self.parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="{colour}" stroke="#ffffff">'
                f"<title>{about}</title></circle>"
            )
            end = x > WIDTH - RIGHT - 50
            text = f"{point.gain:+.1f}".replace("-", "−")
            self._text(x - 10 if end else x + 10, y + (16 if end else 5), text, colour, "end" if end else "start")

    def _place(self, model: Placed) -> None:
        """A cross at the model's shares, and the box of their intervals."""
        clean = model.clean
        low, high = (clean.low, clean.high) if clean else (self.y0, 1.0)
        style = f'{MODEL}" fill-opacity="0.16" stroke="{MODEL}" stroke-width="1.5"'
        self.parts.append(self._box(model.right.low, model.right.high, low, high, style))
        x = self._x(model.right.value)
        name = model.name if len(model.name) <= 40 else f"...{model.name[-37:]}"
        name = name if clean else f"{name}: clean share not known"
        middle = self._y(clean.value if clean else (self.y0 + 1) / 2)
        if clean:
            self.parts.append(
                f'<path d="M{x - 8:.1f} {middle:.1f}H{x + 8:.1f}M{x:.1f} {middle - 8:.1f}V{middle + 8:.1f}" '
                f'stroke="{MODEL}" stroke-width="3"/>'
            )
        top = self._y(low) + 18
        top = top if top < HEIGHT - BOTTOM - 4 else self._y(high) - 8 if clean else self._y(low) - 10
        anchor, at = ("end", self._x(model.right.high)) if x > WIDTH / 2 else ("start", self._x(model.right.low))
        self._text(at, top, name, MODEL, anchor, 'font-weight="650"')
