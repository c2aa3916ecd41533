r"""One spelling for a final answer: Unicode signs as TeX commands, no wrappers such as `\text{}`, no spacing commands.

Braces stay: `2^{n+1}` is not `2^n+1`.
"""

import re
import unicodedata
from functools import lru_cache

# fmt: off
_SIGNS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "×": "\\times ", "·": "\\cdot ", "⋅": "\\cdot ", "∙": "\\cdot ",
    "÷": "\\div ", "∞": "\\infty ", "≤": "\\le ", "≥": "\\ge ", "⩽": "\\le ", "⩾": "\\ge ", "≠": "\\ne ", "±": "\\pm ",
    "∓": "\\mp ", "∅": "\\emptyset ", "∪": "\\cup ", "∩": "\\cap ", "∈": "\\in ", "≈": "\\approx ", "≅": "\\approx ",
    "∠": "\\angle ", "△": "\\triangle ", "Δ": "\\triangle ", "→": "\\rightarrow ", "←": "\\leftarrow ",
    "↑": "\\uparrow ", "↓": "\\downarrow ", "↔": "\\leftrightarrow ", "⇒": "\\Rightarrow ", "⇐": "\\Leftarrow ",
    "⇔": "\\Leftrightarrow ", "¬": "\\neg ", "‘": "'", "’": "'", "′": "'", "“": '"', "”": '"', "″": '"', "。": ".",
    "、": ",", "⌊": "\\lfloor ", "⌋": "\\rfloor ", "⌈": "\\lceil ", "⌉": "\\rceil ", "⟨": "\\langle ", "⟩": "\\rangle ",
    "º": "°", "˚": "°", "∶": ":", "∣": "|",
}
_GREEK = (
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi",
    "omicron", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
)
# fmt: on
_SIGNS |= {
    unicodedata.lookup(f"GREEK SMALL LETTER {'LAMDA' if n == 'lambda' else n.upper()}"): f"\\{n} " for n in _GREEK
}
_SIGN = re.compile("|".join(map(re.escape, _SIGNS)))
_VULGAR = re.compile("[¼-¾⅐-⅞]")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
_LOWERED = re.compile("[₀-₉]+")
_ROOT = re.compile(r"([√∛])\s*(?:\(([^()]*)\)|\{([^{}]*)\}|(\d+(?:\.\d+)?|[A-Za-z]))")
_SIZES = re.compile(r"\\(?:left|right|middle|[bB]igg?[lrm]?|displaystyle|textstyle|limits|nolimits)(?![A-Za-z])\.?")
_SPACES = re.compile(r"\\(?:[,;:> ]|q?quad(?![A-Za-z])|hspace\s*\{[^{}]*\}|newline(?![A-Za-z])|phantom\s*\{[^{}]*\})")
_DEGREE = re.compile(
    r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z])|\{\s*°\s*\}|°)|\\(?:degree|degrees|textdegree)(?![A-Za-z])"
)
_WRAPPER = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|normal|up)?|math(?:rm|bf|it|sf|tt|bb|cal|frak|normal)|operatorname\*?|mbox|hbox|boxed|fbox"
    r"|boldsymbol|bm|emph|underline)\s*\{([^{}]*)\}"
)
_STYLE = re.compile(r"\\(?:bf|rm|it|sf|tt|text|mathrm|mathbf|boldsymbol)(?![A-Za-z])")
_HTML = re.compile(r"</?(?:b|i|u|p|em|strong|code|span|br)\s*/?>")
_HTML_SCRIPT = re.compile(r"<su([pb])>([^<>]*)</su[pb]>")
_STARS = re.compile(r"(?<![\w)}])\*\*|\*\*(?![\w({\\])|^\*(?=\S)|(?<=\S)\*$|`+")
_COMMANDS = [
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\leqs?l?a?n?t?(?![A-Za-z])"), r"\\le "),
    (re.compile(r"\\geqs?l?a?n?t?(?![A-Za-z])"), r"\\ge "),
    (re.compile(r"\\neq(?![A-Za-z])"), r"\\ne "),
    (re.compile(r"\\lt(?![A-Za-z])"), "<"),
    (re.compile(r"\\gt(?![A-Za-z])"), ">"),
    (re.compile(r"\\to(?![A-Za-z])"), r"\\rightarrow "),
    (re.compile(r"\\(?:varnothing|O)(?![A-Za-z])"), r"\\emptyset "),
    (re.compile(r"\\lbrace(?![A-Za-z])"), r"\\{"),
    (re.compile(r"\\rbrace(?![A-Za-z])"), r"\\}"),
    (re.compile(r"\\[lr]?vert(?![A-Za-z])"), "|"),
    (re.compile(r"\\[lc]?dots(?![A-Za-z])"), "..."),
    (re.compile(r"\\backslash(?![A-Za-z])"), ""),
    (re.compile(r"\\prime(?![A-Za-z])"), "'"),
    (re.compile(r"\\([%#&_])"), r"\1"),
]
_SYNONYMS = [
    (re.compile(r"<=|=<"), r"\\le "),
    (re.compile(r">="), r"\\ge "),
    (re.compile(r"!="), r"\\ne "),
    (re.compile(r"\+/-"), r"\\pm "),
    (re.compile(r"(?<=\d)\{,\}(?=\d{3}(?!\d))"), ""),
    (re.compile(r"(?<=\d)\{,\}(?=\d)"), "."),  # a decimal comma
]
CURRENCY = "¤"  # a dollar sign that stands for money
_MATH = re.compile(r"\$\$?([^$]*)\$\$?")


@lru_cache(maxsize=16_384)
def plain(text: str) -> str:
    """The text in one spelling. What encloses it (`$`, `**`, quotes, a full stop) is gone."""
    if not text.isascii():
        text = _in_ascii(text)
    text = _dollars(text)
    if "\\" in text:
        text = _without_commands(text)
    if "<" in text:
        text = _HTML_SCRIPT.sub(lambda m: f"{'^' if m[1] == 'p' else '_'}{{{m[2]}}}", _HTML.sub("", text))
    for pattern, replacement in _SYNONYMS:
        text = pattern.sub(replacement, text)
    text = _STARS.sub("", text.replace("~", " "))
    return _unquoted(" ".join(text.split()))


def _in_ascii(text: str) -> str:
    """Unicode signs as TeX commands; fractions, raised and lowered digits in braces."""
    text = _VULGAR.sub(lambda m: " " + unicodedata.normalize("NFKC", m[0]).replace("⁄", "/") + " ", text)
    text = _RAISED.sub(lambda m: f"^{{{unicodedata.normalize('NFKC', m[0]).replace('−', '-')}}}", text)
    text = _LOWERED.sub(lambda m: f"_{{{unicodedata.normalize('NFKC', m[0])}}}", text)
    text = _ROOT.sub(lambda m: f"\\sqrt{'[3]' if m[1] == '∛' else ''}{{{m[2] or m[3] or m[4]}}}", text)
    text = unicodedata.normalize("NFKC", _SIGN.sub(lambda m: _SIGNS[m[0]], text))
    return _SIGN.sub(lambda m: _SIGNS[m[0]], text)


def _without_commands(text: str) -> str:
    """The text without commands for sizes, spaces and fonts, in one spelling of the others."""
    text = text.replace("\\\\", " \\cr ")  # a new row
    text = re.sub(r"\\[()\[\]]", " ", _SIZES.sub("", text)).replace("\\!", "")
    text = _DEGREE.sub("°", _SPACES.sub(" ", text))
    for _ in range(4):
        text, count = _WRAPPER.subn(r" \1 ", text)
        if not count:
            break
    text = _STYLE.sub(" ", text)
    for pattern, replacement in _COMMANDS:
        text = pattern.sub(replacement, text)
    return text


def _dollars(text: str) -> str:
    r"""Dollar signs around mathematics are left out; `\$`, or one before a number, is money."""
    text = text.replace("\\$", CURRENCY)
    if text.count("$") == 1:
        return re.sub(r"\$(?=\s*[\d.])", CURRENCY, text).replace("$", " ")
    if re.match(r"\s*\$\s*\d[\d.,]*\s+(?:[a-z]+\s+)?\$", text):  # "$5 and $10"
        return text.replace("$", CURRENCY)
    return _MATH.sub(r" \1 ", text).replace("$", " ")


def _unquoted(text: str) -> str:
    while True:
        before = text
        if text.endswith("}") and text.count("}") > text.count("{"):
            text = text[:-1].strip()
        if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
            text = text[1:-1].strip()
        text = re.sub(r"^[,;:=]+\s*|(?<!\.)\s*(?!\.\.\.)[.,;:]+$", "", text).strip()
        if text == before:
            return text
