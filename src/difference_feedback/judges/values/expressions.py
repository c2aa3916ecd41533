r"""Parse a mathematical expression, in LaTeX or plain text, into a tree.

Only what can be read in one way is read: `x2`, `1 2`, words, sums, integrals and base subscripts raise `Unreadable`.
"""

from collections.abc import Sequence
from fractions import Fraction

from difference_feedback.judges.values.symbols import FUNCTIONS, GREEK, Unreadable, decimal, is_word, split_words
from difference_feedback.judges.values.tokens import COMMAND, NUMBER, WORD, Token

Tree = tuple  # (operation, parts...): ("number", Fraction), ("name", str), ("+", Tree, Tree), ...
LONGEST = 200  # tokens
_DEEPEST = 40
_PRODUCT = {"*": "*", "\\cdot": "*", "\\times": "*", "/": "/", "\\div": "/"}
_PAIRS = {"(": ")", "[": "]", "{": "}"}
_APPLIED = ("f", "g", "h")


def parse(tokens: Sequence[Token]) -> Tree:
    """The tree of an expression that takes all tokens. Raises `Unreadable`."""
    if not tokens or len(tokens) > LONGEST:
        raise Unreadable("empty or too long")
    if len("".join(token.text for token in tokens)) > 1 and all(map(is_word, tokens)):
        raise Unreadable("words")  # `ab` may be a product, a line, a word
    return _Parser(tokens).whole()


class _Parser:
    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = split_words(tokens)
        self.place = 0
        self.depth = 0

    def whole(self) -> Tree:
        tree = self._sum()
        if self.place < len(self.tokens):
            raise Unreadable(self._peek())
        return tree

    def _peek(self, ahead: int = 0) -> str:
        place = self.place + ahead
        return self.tokens[place].text if place < len(self.tokens) else ""

    def _kind(self) -> str:
        return self.tokens[self.place].kind if self.place < len(self.tokens) else ""

    def _take(self, text: str | None = None) -> Token:
        if self.place >= len(self.tokens) or (text is not None and self._peek() != text):
            raise Unreadable(f"{text} expected")
        self.place += 1
        return self.tokens[self.place - 1]

    def _sum(self) -> Tree:
        tree: Tree = ("number", Fraction(0)) if self._peek() == "\\pm" else self._term()
        while (sign := self._peek()) in ("+", "-", "\\pm", "\\mp"):
            self._take()
            tree = ({"\\pm": "±", "\\mp": "∓"}.get(sign, sign), tree, self._term())
        return tree

    def _term(self) -> Tree:
        tree: Tree = self._signed()
        while True:
            operation = _PRODUCT.get(self._peek())
            if operation:
                slash = self._take().text == "/"
                tree = (operation, tree, self._signed())
                if slash and self._starts_factor() and not self.tokens[self.place].spaced and self._peek(-1) != ")":
                    raise Unreadable("1/2x")  # half of x, or the inverse of 2x
            elif self._starts_factor():
                tree = ("*", tree, self._power())
            else:
                return tree

    def _starts_factor(self) -> bool:
        """Whether a factor follows without a sign. A number does so only after a bracket or a root."""
        text, kind = self._peek(), self._kind()
        if kind == NUMBER:
            return self._peek(-1) in (")", "}")
        if kind == WORD:
            return True
        if kind == COMMAND:
            return (
                text[1:] in FUNCTIONS
                or text[1:] in GREEK
                or text in ("\\frac", "\\pi", "\\binom", "\\lfloor", "\\lceil")
            )
        return text in ("(", "[", "{")

    def _signed(self) -> Tree:
        minus = self._peek() in ("+", "-") and self._take().text == "-"
        tree = self._power()
        return ("-", ("number", Fraction(0)), tree) if minus else tree

    def _power(self) -> Tree:
        base = self._atom()
        while self._peek() in ("!", "°", "%"):
            base = (self._take().text, base)
            if base[0] == "!" == self._peek():
                raise Unreadable("a double factorial")
        if self._peek() == "^":
            self._take()
            tree: Tree = ("^", base, self._exponent())
            while self._peek() == "!":
                tree = (self._take().text, tree)
            if self._peek() == "^":
                raise Unreadable("double exponent")
            return tree
        return base

    def _exponent(self) -> Tree:
        if self._peek() in ("-", "+"):
            minus = self._take().text == "-"
            tree = self._exponent()
            return ("-", ("number", Fraction(0)), tree) if minus else tree
        tree = self._atom()
        if self._peek() == "^":  # 9^9^9 is 9^(9^9)
            self._take()
            return ("^", tree, self._exponent())
        return tree

    def _atom(self) -> Tree:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise Unreadable("too deep")
        tree = self._operand()
        self.depth -= 1
        return tree

    def _operand(self) -> Tree:
        """A number, a name, a function with its argument, or what stands in brackets."""
        token = self._take()
        if token.kind == NUMBER:
            return self._number(token)
        if token.kind == WORD:
            return self._function(token.text) if token.text in FUNCTIONS else self._name(token.text)
        if token.text in _PAIRS:
            return self._until(_PAIRS[token.text])
        if token.text == "|":
            return ("abs", self._until("|"))
        if token.kind == COMMAND:
            return self._command(token.text)
        raise Unreadable(token.text)

    def _until(self, closing: str) -> Tree:
        tree = self._sum()
        self._take(closing)
        return tree

    def _number(self, token: Token) -> Tree:
        number = decimal(token.text)
        if not (token.text.isdigit() and number.denominator == 1):
            return ("number", number)
        if self._peek() == "\\frac":  # 3\frac{1}{2}
            part = self._argument_numbers()
            if part is not None and 0 < part < 1:
                return ("number", number + part)
            if part is not None:
                raise Unreadable("a mixed number with an improper fraction")
        texts = [self._peek(i) for i in range(3)]
        if texts[0].isdigit() and self.tokens[self.place].spaced and texts[1] == "/" and texts[2].isdigit():  # 3 1/2
            part = Fraction(int(texts[0]), int(texts[2])) if int(texts[2]) else Fraction(2)
            if part >= 1:
                raise Unreadable("a mixed number with an improper fraction")
            self.place += 3
            return ("number", number + part)
        if self._peek() == "_":
            raise Unreadable("a base")
        return ("number", number)

    def _argument_numbers(self) -> Fraction | None:
        r"""The value of a `\frac` of two whole numbers, which is then taken."""
        start = self.place
        self._take()
        _, top, bottom = self._fraction()
        if top[0] == bottom[0] == "number" and bottom[1] and top[1].denominator == bottom[1].denominator == 1:
            return Fraction(top[1], bottom[1])
        self.place = start
        return None

    def _argument(self) -> Tree:
        token = self._take()
        if token.text == "{":
            return self._until("}")
        self.place -= 1
        return self._atom()

    def _fraction(self) -> Tree:
        start = self.place
        top, bottom = self._argument(), self._argument()
        texts = [token.text for token in self.tokens[start : self.place]]
        if texts.count("d") > 1 or "\\partial" in texts:
            raise Unreadable("a derivative")
        return ("/", top, bottom)

    def _command(self, command: str) -> Tree:
        name = command[1:]
        if name == "frac":
            return self._fraction()
        if name in FUNCTIONS:
            return self._function(name)
        if name == "pi":
            return ("pi",)
        if name == "infty":
            return ("infinity",)
        if name in GREEK:
            return self._name(name)
        if name == "binom":
            return ("binomial", self._argument(), self._argument())
        if name in ("lfloor", "lceil"):
            return (name[1:], self._until("\\r" + name[1:]))
        raise Unreadable(command)

    def _function(self, name: str) -> Tree:
        if name == "sqrt":
            return self._root()
        power = base = None
        for _ in range(2):
            if self._peek() == "^" and power is None:
                self._take()
                power = self._exponent()
            elif self._peek() == "_" and name == "log" and base is None:
                self._take()
                base = self._argument()
        argument = self._function_argument()
        if name in ("log", "lg"):
            tree: Tree = ("log", argument, base or ("number", Fraction(10)))
        else:
            tree = (name, argument)
        if power is None:
            return tree
        if power == ("-", ("number", Fraction(0)), ("number", Fraction(1))):
            if name not in ("sin", "cos", "tan"):
                raise Unreadable("an inverse function")
            return ("a" + name, argument)
        return ("^", tree, power)

    def _root(self) -> Tree:
        index: Tree = ("number", Fraction(2))
        if self._peek() == "[":
            self._take()
            index = self._until("]")
        return ("root", self._argument(), index)

    def _function_argument(self) -> Tree:
        """What a function without brackets is applied to: the product up to the next sign or function."""
        if self._peek() in ("(", "["):
            closing = _PAIRS[self._take().text]
            return self._until(closing)
        minus = self._peek() == "-"
        if minus:
            self._take()
        tree = self._power()
        while self._starts_factor() and self._peek().lstrip("\\") not in FUNCTIONS and self._peek() not in ("(", "["):
            tree = ("*", tree, self._power())
        if self._peek() == "/" and tree[0] in ("pi", "*", "number"):  # \sin \pi/6
            self._take()
            tree = ("/", tree, self._power())
        return ("-", ("number", Fraction(0)), tree) if minus else tree

    def _name(self, name: str) -> Tree:
        if name == "π":
            return ("pi",)
        if self._peek() == "_":
            self._take()
            name += "_" + self._subscript()
        while self._peek() == "'":
            name += self._take().text
        if name in ("e", "i"):
            return (name,)
        if name in _APPLIED and self._peek() == "(":
            raise Unreadable("a function's value")
        return ("name", name)

    def _subscript(self) -> str:
        if self._peek() != "{":
            return self._take().text
        self._take()
        start = self.place
        while self._peek() not in ("}", ""):
            self.place += 1
        self._take("}")
        return "".join(token.text for token in self.tokens[start : self.place - 1])
