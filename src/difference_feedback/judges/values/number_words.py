"""Numbers in words: `twenty-one`, `three and a half`, `two thirds`, `1.5 million`, `四十二`."""

from collections.abc import Sequence
from fractions import Fraction

from difference_feedback.judges.values.tokens import NUMBER, WORD, Token

# fmt: off
_UNITS = {word: number for number, word in enumerate(
    ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
     "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
)}
_TENS = {word: 10 * number for number, word in enumerate(
    ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], 2
)} | {"fourty": 40}
_SCALES = {
    "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12,
    "dozen": 12, "lakh": 10**5, "crore": 10**7,
}
_SCALES |= {f"{word}s": number for word, number in _SCALES.items()}
_ORDINALS = {
    "first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9,
    "tenth": 10, "eleventh": 11, "twelfth": 12, "twentieth": 20, "thirtieth": 30, "fortieth": 40, "fiftieth": 50,
    "hundredth": 100, "thousandth": 1000, "millionth": 10**6,
} | {f"{word}th": number for word, number in _UNITS.items() if number > 12}
_PARTS = {word: number for word, number in _ORDINALS.items() if number > 2} | {"half": 2, "halve": 2, "quarter": 4}
_PARTS |= {f"{word}s": number for word, number in _PARTS.items()} | {"halves": 2}
_CHINESE = {sign: number for number, sign in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "兩": 2}
_CHINESE_SCALES = {"十": 10, "百": 100, "千": 1000, "万": 10**4, "亿": 10**8}
# fmt: on
WORDS = frozenset(_UNITS) | frozenset(_TENS) | frozenset(_SCALES) | frozenset(_ORDINALS) | frozenset(_PARTS)


def leading_number(tokens: Sequence[Token]) -> tuple[Fraction, int] | None:
    """The number in words (or with a word for its scale) at the start, and how many tokens it has."""
    if not tokens:
        return None
    chinese = _chinese(tokens[0].text) if tokens[0].kind == WORD else None
    if chinese is not None:
        return chinese
    words = [token.text.lower() for token in tokens]
    start = 1 if words[0] in ("a", "an") and len(words) > 1 and (words[1] in _SCALES or words[1] in _PARTS) else 0
    whole: Fraction | None
    if start:
        whole, end = Fraction(1), 1
    elif tokens[0].kind == NUMBER:
        whole, end = Fraction(words[0]), 1
        if len(words) < 2 or not (words[1] in _SCALES or words[1] in _PARTS or words[1:3] == ["and", "a"]):
            return _ordinal(tokens)
    else:
        whole, end = _cardinal(words)
        if whole is None:
            if words == [words[0]] and words[0] in _ORDINALS:
                return Fraction(_ORDINALS[words[0]]), 1
            return (Fraction(1, 2), 1) if words[0] == "half" else None
    while end < len(words) and words[end] in _SCALES:
        whole, end = whole * _SCALES[words[end]], end + 1
    after = words[end:]
    if after[:1] == ["-"] and len(after) > 1:
        after, skipped = after[1:], 1
    else:
        skipped = 0
    if after and after[0] in _PARTS and not (start == 0 and after[0] in _ORDINALS and whole >= 20 and skipped):
        return whole / _PARTS[after[0]], end + skipped + 1
    if skipped and after[0] in _ORDINALS and whole >= 20:  # twenty-first
        return whole + _ORDINALS[after[0]], end + 2
    if words[end : end + 1] == ["and"]:  # three and a half, two and one third
        part = leading_number(tokens[end + 1 :])
        if part and 0 < part[0] < 1:
            return whole + part[0], end + 1 + part[1]
    return whole, end


def _ordinal(tokens: Sequence[Token]) -> tuple[Fraction, int] | None:
    """`3rd`, `21st`."""
    if len(tokens) != 2 or tokens[1].spaced or not tokens[0].text.isdigit():
        return None
    number = int(tokens[0].text[-6:])
    suffix = "th" if number // 10 % 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return (Fraction(tokens[0].text), 2) if tokens[1].text.lower() == suffix else None


def _cardinal(words: Sequence[str]) -> tuple[Fraction | None, int]:
    """The cardinal number at the start, and how many words it has."""
    total, part, end, last = 0, 0, 0, 10**18
    place = 0
    while place < len(words):
        word = words[place]
        if word in ("-", "and") and end == place and place:
            place += 1
            if word == "and" and last % 100:
                break
            continue
        if word in _UNITS and (last >= 20):
            part += _UNITS[word]
            last = 1
        elif word in _TENS and last >= 100:
            part += _TENS[word]
            last = 20
        elif word in _SCALES and end:
            part *= _SCALES[word]
            if _SCALES[word] > 100:
                total, part = total + part, 0
            last = max(100, _SCALES[word])
        else:
            break
        place += 1
        end = place
    return (Fraction(total + part), end) if end else (None, 0)


def _chinese(text: str) -> tuple[Fraction, int] | None:
    """A token that is a Chinese numeral as a whole."""
    if any(sign not in _CHINESE and sign not in _CHINESE_SCALES for sign in text):
        return None
    if not any(sign in _CHINESE_SCALES for sign in text):
        return (Fraction(int("".join(str(_CHINESE[sign]) for sign in text))), 1)
    total = section = digit = 0
    for sign in text:
        if sign in _CHINESE:
            digit = _CHINESE[sign]
            continue
        scale = _CHINESE_SCALES[sign]
        if scale < 10**4:
            section, digit = section + (digit or 1) * scale, 0
        else:
            total, section, digit = (total + section + digit) * scale, 0, 0
    return Fraction(total + section + digit), 1
