"""Times of day and dates."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class TimeOfDay:
    """A time. `half` is "am", "pm", or "" where the text does not say."""

    hour: int
    minute: int
    second: int
    half: str

    def same(self, other: "TimeOfDay") -> bool:
        """Whether the two can be one time: a missing am or pm agrees with either."""
        if (self.minute, self.second) != (other.minute, other.second):
            return False
        if bool(self.half) == bool(other.half) or max(self.hour, other.hour) > 12:
            return self._of_24() == other._of_24()
        return self.hour == other.hour

    def _of_24(self) -> int:
        return self.hour % 12 + (12 if self.half == "pm" else 0) if self.half else self.hour


@dataclass(frozen=True)
class Date:
    """A date; parts that the text does not say are None."""

    year: int | None
    month: int
    day: int | None


_CLOCK = re.compile(
    r"(?:at )?(\d{1,2})(?::(\d{2}))?(?::(\d{2}))?\s*([ap])\.?\s*m\b\.?"
    r"|(?:at )?(\d{1,2}):(\d{2})(?::(\d{2}))?(?: ?(?:h|hrs|o'clock))?"
    r"|(?:at )?(\d{1,2}) ?o'clock",
    re.IGNORECASE,
)
_NAMES = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_MONTH = (
    r"(jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\.?"
)
_WEEKDAY = r"(?:on )?(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day,? )?(?:the )?"
_DATES = [
    re.compile(rf"{_WEEKDAY}{_MONTH} (?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?:,? (?P<year>\d{{4}}))?", re.IGNORECASE),
    re.compile(
        rf"{_WEEKDAY}(?P<day>\d{{1,2}})(?:st|nd|rd|th)? (?:of )?{_MONTH}(?:,? (?P<year>\d{{4}}))?", re.IGNORECASE
    ),
    re.compile(rf"{_MONTH},? (?P<year>\d{{4}})", re.IGNORECASE),
]
_ISO = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})|(\d{4}) ?年 ?(\d{1,2}) ?月 ?(\d{1,2}) ?日")


def read_clock(text: str) -> TimeOfDay | None:
    """A time such as `4:30 pm`, `16:30` or `3 PM`; None for anything else."""
    match = _CLOCK.fullmatch(text)
    if not match:
        return None
    hour, minute, second = (
        int(next((g for g in group if g), 0)) for group in (match.group(1, 5, 8), match.group(2, 6), match.group(3, 7))
    )
    half = match[4].lower() + "m" if match[4] else ""
    if hour > (12 if half else 24) or minute > 59 or second > 59:
        return None
    return TimeOfDay(hour, minute, second, half)


def read_date(text: str) -> Date | None:
    """A date with the month's name, or one that begins with the year. `3/4/2020` can be read in two ways: None."""
    iso = _ISO.fullmatch(text)
    if iso:
        year, month, day = (int(part) for part in iso.groups() if part)
        return Date(year, month, day) if 1 <= month <= 12 and 1 <= day <= 31 else None
    for pattern in _DATES:
        match = pattern.fullmatch(text)
        if match:
            parts = match.groupdict()
            name = next(group for group in match.groups() if group and group[0].isalpha())
            return Date(
                int(parts["year"]) if parts.get("year") else None,
                _NAMES.index(name[:3].lower()) + 1,
                int(parts["day"]) if parts.get("day") else None,
            )
    return None


def looks_like_date(text: str) -> bool:
    """Whether a text is a date in numbers, which is compared as a text alone."""
    return bool(re.fullmatch(r"\d{1,4}([/.-])\d{1,2}\1\d{1,4}", text))
