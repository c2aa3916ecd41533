"""Units: which words after a number are one, and by what factor two units of one kind differ."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from difference_feedback.judges.values.brackets import enclosed
from difference_feedback.judges.values.expressions import FUNCTIONS
from difference_feedback.judges.values.number_words import WORDS
from difference_feedback.judges.values.tokens import NUMBER, WORD, Token


@dataclass(frozen=True)
class Unit:
    """A factor and the base units with their powers. Counted nouns (`red apples`) have no factor."""

    factor: Fraction = Fraction(1)
    powers: frozenset[tuple[str, int]] = frozenset()
    nouns: frozenset[str] = frozenset()

    def agrees(self, other: "Unit") -> bool:
        """Whether quantities in the two can be equal: the same base units, or a counted noun in common."""
        same_nouns = bool(self.nouns & other.nouns) or self.nouns == other.nouns
        return same_nouns and self.powers == other.powers

    def times(self, other: "Unit", power: int = 1) -> "Unit":
        """The product with a power of another unit."""
        powers = dict(self.powers)
        for name, exponent in other.powers:
            powers[name] = powers.get(name, 0) + exponent * power
        kept = frozenset((name, exponent) for name, exponent in powers.items() if exponent)
        return Unit(self.factor * other.factor**power, kept, self.nouns | other.nouns)


# Base units with powers: factor names. Units with SI prefixes follow in `_PREFIXED`. Case matters: mW is not MW.
_TABLE = """
length: 1 米, 1000 千米 公里, 1/100 厘米, 1/1000 毫米, 1/10 分米
length: 381/1250 ft foot feet, 127/5000 in inch inche, 1143/1250 yd yard, 201168/125 mi mile, 1/1000000 micron
mass: 1 克, 1000 kilo 千克 公斤, 1/1000 毫克, 1000000 tonne ton 吨
mass: 45359237/100000 lb pound, 45359237/1600000 oz ounce
time: 1 sec 秒, 60 min minute 分钟, 3600 h hr hour 小时, 86400 day 天, 604800 week 周
month: 1 month 个月, 12 year yr 年
length^3: 1/1000 升, 1/1000000 毫升 cc
length^2: 10000 ha hectare
angle: 1 ° deg degree 度, 1/60 arcminute, 1/3600 arcsecond
radian: 1 rad radian
celsius: 1 °C C Celsius 摄氏度
fahrenheit: 1 °F F Fahrenheit
temperature: 1 K kelvin
dollar: 1 ¤ dollar USD buck 美元, 1/100 ¢ cent
euro: 1 € EUR euro
sterling: 1 £ GBP
yuan: 1 ¥ yuan RMB CNY 元 yen JPY
rupee: 1 ₹ Rs INR rupee
energy: 3600000 kWh
force: 1 牛
length time^-1: 5/18 kph kmh, 1397/3125 mph
square: 1 unit 单位
atmosphere: 1 atm atmosphere
mercury: 1 mmHg torr
level: 1 dB decibel
rotation: 1 rpm
length: 1/10000000000 Å angstrom
"""
_PREFIXED = """
length: m metre meter
mass: g gram gramme
time: s second
length^3/1000: L l litre liter
current: A ampere amp
voltage: V volt
power: W watt
energy: J joule
calorie: cal calorie
electronvolt: eV electronvolt
force: N newton
pressure: Pa pascal
frequency: Hz hertz
resistance: Ω ohm
capacitance: F farad
inductance: H henry
charge: C coulomb
induction: T tesla
flux: Wb weber
illuminance: lx lux
luminous: lm lumen
barometric: bar
amount: mol mole
datum: B byte
bit: bit
"""
# fmt: off
_PREFIXES: dict[str, int | Fraction] = {
    "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "m": Fraction(1, 10**3), "μ": Fraction(1, 10**6),
    "u": Fraction(1, 10**6), "n": Fraction(1, 10**9), "p": Fraction(1, 10**12), "c": Fraction(1, 100),
    "d": Fraction(1, 10), "h": 100,
}
_PREFIX_NAMES = {
    "": "", "k": "kilo", "M": "mega", "G": "giga", "T": "tera", "m": "milli", "μ": "micro", "n": "nano", "p": "pico",
    "c": "centi", "d": "deci", "h": "hecto",
}
# Symbols that are read as a unit right after a number. Others need a space: `3mg` may be m times g.
_GLUED = frozenset({
    "cm", "mm", "km", "dm", "kg", "ml", "mL", "ms", "ft", "in", "lb", "oz", "mi", "yd", "cc", "hr", "min", "sec",
    "mol", "deg", "rad", "kph", "mph", "kmh", "mV", "mA", "mW", "mJ", "mT", "kA", "kV", "kW", "kN", "kJ", "kPa", "MPa",
    "MW", "MJ", "MV", "Pa", "Hz", "kHz", "MHz", "GHz", "kWh", "eV", "keV", "MeV", "GeV", "kB", "KB", "MB", "GB",
    "TB", "kcal", "cal", "USD", "EUR", "GBP", "RMB", "nF", "pF", "kΩ", "MΩ",
})
# fmt: on


def _units() -> dict[str, Unit]:
    units: dict[str, Unit] = {}
    for line in _PREFIXED.strip().splitlines():
        base, names = line.split(": ")
        base, _, divisor = base.partition("/")
        unit = Unit(Fraction(1, int(divisor or 1)), _powers_of(base))
        symbols = [name for name in names.split() if len(name) <= 3 and name not in ("amp", "ohm", "bit")]
        for prefix, factor in _PREFIXES.items():
            scaled = Unit(unit.factor * factor, unit.powers)
            units.update({prefix + symbol: scaled for symbol in symbols})
            if prefix in _PREFIX_NAMES:
                units.update({_PREFIX_NAMES[prefix] + name: scaled for name in names.split() if name not in symbols})
    units["KB"] = units["kB"]
    for line in _TABLE.strip().splitlines():  # these take precedence: `min`, `ft`, `C`
        base, groups = line.split(": ")
        for group in groups.split(","):
            number, *names_of_group = group.split()
            units.update(dict.fromkeys(names_of_group, Unit(Fraction(number), _powers_of(base))))
    for letter in "HB":  # no units without a prefix here
        del units[letter]
    return units


def _powers_of(base: str) -> frozenset[tuple[str, int]]:
    return frozenset((name.partition("^")[0], int(name.partition("^")[2] or 1)) for name in base.split())


_UNITS = _units()
CURRENCIES = ("¤", "€", "£", "¥", "₹", "Rs", "USD", "EUR", "GBP", "INR", "RMB", "US")
# fmt: off
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3, "平方": 2, "立方": 3}
_AFTER = frozenset({"long", "wide", "tall", "high", "deep", "old", "thick", "apart", "away", "left", "total", "each"})
# Words that say more about a number than what is counted.
_NO_NOUNS = WORDS | FUNCTIONS | frozenset({
    "less", "more", "than", "fewer", "least", "most", "not", "never", "nor", "and", "but", "the", "are", "was", "were",
    "isn", "aren", "wasn", "has", "have", "had", "can", "could", "may", "might", "must", "should", "would", "will",
    "wrong", "incorrect", "false", "rejected", "invalid", "impossible", "excluded", "right", "correct", "true", "from",
    "until", "till", "through", "minus", "plus", "times", "divided", "over", "under", "below", "above", "either",
    "neither", "except", "without", "with", "for", "off", "out", "too", "also", "maybe", "perhaps", "possibly",
    "percent", "percentage", "points", "squared", "cubed", "factorial", "mod", "modulo", "power", "root", "negative",
    "positive", "infinity", "tens", "pair", "pairs", "score", "then", "instead", "otherwise", "because", "since", "per",
    "hence", "thus", "unless", "depending", "approximately", "about", "around", "between", "where", "which", "that",
    "this", "they", "there", "these", "those", "its", "his", "her", "alpha", "beta", "theta", "lambda", "omega",
})
# fmt: on
_SIGNS = ("°", "€", "£", "¥", "₹", "¢", "¤", "\\Omega", "\\mu", "\\ohm")
_NEGATIONS = "不非没无未或和"


def unit_of(tokens: Sequence[Token]) -> Unit | None:
    """The unit that all these tokens are; None when they are none."""
    unit, power, over, place, known = Unit(), 1, 1, 0, False
    while place < len(tokens):
        text = tokens[place].text
        if text in ("/", "per", "每") and place:
            over, place = -1, place + 1
            continue
        if text in ("*", "\\cdot", ".", "\\times", "(", ")") and place:
            place += 1
            continue
        if text.lower() in _POWERS and place + 1 < len(tokens):
            power, place = _POWERS[text.lower()], place + 1
            continue
        if text[:2] in ("平方", "立方") and len(text) > 2:
            power, text = _POWERS[text[:2]], text[2:]
        if text in ("\\Omega", "\\ohm"):
            text = "Ω"
        if text in _PREFIXES and place + 1 < len(tokens) and tokens[place + 1].text in ("\\Omega", "\\ohm"):
            place, text = place + 1, text + "Ω"
        if text == "\\mu" and place + 1 < len(tokens):
            place, text = place + 1, "μ" + tokens[place + 1].text.replace("\\Omega", "Ω")
        if text == "°" and place + 1 < len(tokens) and tokens[place + 1].text in ("C", "F"):
            place, text = place + 1, "°" + tokens[place + 1].text
        place += 1
        factor = named_unit(text)
        if factor is None:
            noun = _noun(tokens[place - 1 :])
            if noun is None or power != 1:
                return None
            if known and not noun.nouns <= _AFTER:
                return None
            unit = unit if known else unit.times(noun)
            place += len(tokens[place:])
            continue
        known = True
        exponent, place = _exponent(tokens, place)
        unit = unit.times(factor, over * power * exponent)
        power, over = 1, 1
    return unit if power == 1 and (unit.powers or unit.nouns or known) else None


def _exponent(tokens: Sequence[Token], place: int) -> tuple[int, int]:
    """The power that stands after a unit (`^2`, `2`, `squared`), and the place after it."""
    texts = [token.text for token in tokens[place : place + 5]]
    match = re.match(r"\^ (?:\{ )?(- )?([1-4])(?: \})?(?: |$)", " ".join(texts))
    if match:
        return (-1 if match[1] else 1) * int(match[2]), place + len(match[0].split())
    if texts and texts[0] in ("2", "3") and not tokens[place].spaced:
        return int(texts[0]), place + 1
    if texts and texts[0] in ("squared", "cubed"):
        return (2 if texts[0] == "squared" else 3), place + 1
    return 1, place


def named_unit(text: str) -> Unit | None:
    """The unit of a name, in the singular or the plural; `KG` and `Meters` are read as `kg` and `meters`."""
    singular = text[:-1] if len(text) > 2 and text[-1] in "sS" else text
    for name in (text, singular, text.lower(), singular.lower()):
        if name in _UNITS and (name in (text, singular) or len(name) > 1):
            return _UNITS[name]
    return None


def _noun(tokens: Sequence[Token]) -> Unit | None:
    """What is counted: up to three words that say no more than that."""
    nouns = set()
    if len(tokens) > 3:
        return None
    for token in tokens:
        word = token.text.lower()
        if token.kind != WORD:
            return None
        if not word.isascii():
            if len(word) > 4 or any(sign in _NEGATIONS for sign in word):
                return None
        elif not (token.spaced and len(word) > 2 and re.search("[aeiouy]", word)) or word in _NO_NOUNS:
            return None
        nouns.add(word.removesuffix("s") if len(word) > 3 else word)
    return Unit(nouns=frozenset(nouns))


def split_unit(tokens: Sequence[Token]) -> tuple[Sequence[Token], Unit | None]:
    """The tokens before a unit at the end, and that unit.

    A unit of one letter needs a space before it: `3x` and `5m` are products.
    """
    for place in range(1, len(tokens)):
        token, before = tokens[place], tokens[place - 1]
        if token.text == "{" and before.kind == NUMBER and enclosed(tokens[place:]):  # 2 \\mathrm{m s^{-2}}
            unit = unit_of(tokens[place + 1 : -1])
            if unit is not None:
                return tokens[:place], unit
        starts = token.kind == WORD or token.text in _SIGNS
        if not starts or before.text in ("^", "_", "+", "-", "*", "/", "\\cdot", "\\times", "="):
            continue
        if token.kind == WORD and not token.spaced and token.text.isascii():
            if len(token.text) == 1 or not (before.kind == NUMBER or before.text in (")", "}", "\\pi")):
                continue
            if token.text not in _GLUED and len(token.text) < 4:
                continue
        if token.text == "°" and any(t.text.lstrip("\\") in ("sin", "cos", "tan", "cot", "sec", "csc") for t in tokens):
            continue  # in \sin 30° the degrees are the function's
        unit = unit_of(tokens[place:])
        if unit is not None:
            return tokens[:place], unit
    return tokens, None
