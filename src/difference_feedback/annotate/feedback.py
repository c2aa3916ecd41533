"""What an annotator sees while typing: the mask of both sides, the edit cost, and the grader's verdict."""

from collections.abc import Mapping
from functools import lru_cache
from html import escape
from typing import Any

from difference_feedback.judges.rules import grade
from difference_feedback.method.alignment import edit_cost
from difference_feedback.report.mask_page import card
from difference_feedback.report.mask_pairs import Pair, Tokenizer, mask_pair
from difference_feedback.runs.rewards import BENCHMARKS, JUDGE


def feedback_html(
    item: Mapping[str, Any], text: str, tokenizer: Tokenizer | None = None, drafted: str | None = None
) -> str:
    """HTML for the edited `text` of an item. Everything that comes from data is escaped.

    With a `drafted` repair it also says how far the text is from that.
    """
    pair = mask_pair(Pair(0, item["id"], item["draft"], text), tokenizer)
    cost = edit_cost(pair.alignment)
    shown = card(pair, cost)
    sides = "".join(
        f'<div class="df-side {kind}"><h4>{escape(title)}</h4><p>{"".join(map(_run, runs))}</p></div>'
        for kind, title, runs in shown["sides"]
    )
    what = "tokens" if tokenizer else "words"
    figures = f"{shown['distance']} edits, edit cost <b>{cost:.3f}</b> in {what} · {sign(item, text)}"
    if drafted is not None:
        edits = mask_pair(Pair(0, item["id"], drafted, text), tokenizer).alignment.distance
        figures += f" · {edits} edits from the drafted repair" if edits else " · <b>the drafted repair, unchanged</b>"
    return f'<div class="df-figures">{figures}</div><div class="df-pair">{sides}</div>'


@lru_cache(maxsize=10_000)
def word_cost(text: str, changed: str) -> float:
    """Edit cost between two texts in words and signs. [DF, Eq. 2]"""
    return edit_cost(mask_pair(Pair(0, 0, text, changed)).alignment)


def sign(item: Mapping[str, Any], text: str) -> str:
    """The grader's verdict on a text as HTML, or why the page gives no verdict."""
    verdict = is_right(item, text)
    if verdict is not None:
        return '<b class="right">✓ right</b>' if verdict else '<b class="wrong">✗ wrong</b>'
    reward = other_reward(item)
    return f"not graded by your reward, {escape(reward)}" if reward else "not graded: the item has no annotated answer"


def other_reward(item: Mapping[str, Any]) -> str | None:
    """The reward that the item's `rule` names, where the page does not grade by it; None where it does.

    A function of one's own is not run: the items name it, and they may come from others. A judge is not asked, and a
    benchmark's rule reads columns that the item does not have.
    """
    rule = str(item.get("rule") or "")
    others = any(name in (*BENCHMARKS, JUDGE) or ".py:" in name for name in rule.split(" + "))
    return rule if others else None


def is_right(item: Mapping[str, Any], text: str) -> bool | None:
    """The grader's verdict on a text; None when the item has no annotated answer, or `other_reward` decides."""
    answer = item.get("answer")
    if answer is None or not str(answer).strip() or other_reward(item):
        return None
    options = item.get("options")
    options = tuple(map(str, options)) if isinstance(options, list) else ()  # a saved row may have any
    return _verdict(text, str(answer), options, item.get("rule") == "embedded")


@lru_cache(maxsize=10_000)
def _verdict(text: str, answer: str, options: tuple[str, ...], embedded: bool) -> bool:
    if embedded:
        return text.rpartition("answer")[2].split() == answer.split()
    return grade(text, answer, list(options) or None).correct


def _run(run: Any) -> str:
    text = escape(run.text)
    return f'<mark class="{escape(run.kind)}">{text}</mark>' if run.kind else text
