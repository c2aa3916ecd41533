"""What chat models write around repairs never reaches the policy; what answers themselves look like is left alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers.unruly_server import unruly

from difference_feedback.method.repairs import Limits, RepairRequest, usable_repairs
from difference_feedback.repair.endpoint import EndpointRepairer
from difference_feedback.repair.prompts import FULL
from difference_feedback.repair.wrapping import unwrapped
from difference_feedback.runs.sections import Endpoint

DRAFT = "The picture shows 3 dots and 8 dots.\n\n3 + 8 = 12. The answer is \\boxed{12}."
REPAIR = "The picture shows 3 dots and 8 dots.\n\n3 + 8 = 11. The answer is \\boxed{11}."
WRAPPED = [
    "<draft>\n{}\n</draft>",
    "<draft>{}",
    "{}\n</draft>",
    "```\n{}\n```",
    "```markdown\n{}\n```",
    "~~~\n{}\n~~~",
    "Here is the repaired draft:\n\n{}",
    "Here’s the corrected answer:\n```\n{}\n```",
    "Sure! Here is the corrected version:\n<draft>\n{}\n</draft>\n\nI changed 12 to 11.",
    "Okay, here is the fixed answer:\n\n{}\n\nExplanation: 3 + 8 is 11.",
    "**Repaired answer:**\n\n{}",
    "### Revised draft:\n{}",
    "Corrected draft: {}",
    "{}\n\n**Changes made:**\n- 12 became 11",
    "{}\n\n(I corrected the sum.)",
    "“{}”",
    "<repaired_answer>\n{}\n</repaired_answer>",
    "<think>3 and 8, so 11</think>\n\n<draft>{}</draft>",
]
UNCLEAR = [
    "Sure, {}",
    "Here is the answer you wanted:\n{}",
    "```\n{}",
    "<reference>{}</reference>",
    "<draft>x</draft>\n<draft>{}</draft>",
]
ANSWERS = [
    ("Here is my reasoning: 3 + 8 = 11.", "Here is my reasoning: 3 + 8 = 12."),
    ("Sure, 11.", "Sure, 12."),
    ("<think>3 + 8 = 11</think><answer>11</answer>", "<think>3 + 8 = 12</think><answer>12</answer>"),
    ("```python\nprint(11)\n```", "```python\nprint(12)\n```"),
    ("The corrected value is 4: so it is 5.", "The corrected value is 3: so it is 4."),
    ("The corrected value is 4: so it is 5.", "The value is 3: so it is 4."),
    ('"three" is 3', '"three" is 4'),
    ("> 3 + 8\n\nis 11", "> 3 + 8\n\nis 12"),
    ("It is 11.\n\nNote: the scale is in cm.", "It is 12."),
]


@pytest.mark.parametrize("wrapping", WRAPPED)
def test_wrapping_that_is_no_part_of_the_answer_is_taken_off(wrapping):
    assert unwrapped(wrapping.format(REPAIR), DRAFT, FULL.markers) == REPAIR


@pytest.mark.parametrize("wrapping", UNCLEAR)
def test_what_may_be_either_is_refused(wrapping):
    assert unwrapped(wrapping.format(REPAIR), DRAFT, FULL.markers) is None


@pytest.mark.parametrize(("repair", "draft"), ANSWERS)
def test_answers_are_left_alone(repair, draft):
    assert unwrapped(repair, draft, FULL.markers) == repair


@given(
    st.lists(
        st.sampled_from(
            [*DRAFT.split(), "Sure,", "```", "Here", "is the", "corrected", ":", '"', "<b>", "</b>", "\n\n"]
        )
    )
)
def test_a_draft_is_its_own_repair(words):
    draft = " ".join(words)
    assert unwrapped(draft, draft, FULL.markers) == draft.strip()


def test_a_server_that_wraps_gives_the_repair_in_the_drafts_tokens_or_is_counted(frozen):
    tokenizer = frozen[1].tokenizer
    draft, repair = "3 plus 8 is 12 . answer 12", "3 plus 8 is 11 . answer 11"
    ids = [*tokenizer.encode(draft), tokenizer.eos_token_id]
    request = RepairRequest([{"role": "user", "content": "sum ?"}], [], ids, None)
    with unruly() as server:
        server.script = [repair, f"Here is the repaired draft:\n<draft>\n{repair}\n</draft>", f"Sure, {repair}"]
        endpoint = Endpoint(url=server.url, model="m", concurrency=1)
        plain, wrapped, unclear = EndpointRepairer(endpoint, tokenizer).repair([request] * 3)
    assert wrapped == plain
    assert plain[0].token_ids == [*tokenizer.encode(repair), tokenizer.eos_token_id]
    usable, refused = usable_repairs([*wrapped, *unclear], 2, Limits(frozenset(), len(tokenizer), 99), ids)
    assert usable == plain
    assert {reason: count for reason, count in refused.items() if count} == {"wrapped": 1}
