"""Pairs from rows: tokens, masks, and the problems of a row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from difference_feedback.errors import ConfigError
from difference_feedback.report.mask_file import mask_file
from difference_feedback.report.mask_pairs import Pair, load_tokenizer, mask_pair, pair_of, word_texts, word_tokens
from difference_feedback.runs.jsonl import Row, read_rows, write_jsonl

# Excerpts of MATH-Vision responses (Wang et al., NeurIPS 2024, github.com/mathllm/MATH-V, MIT licence).
WRONG = "There are two different digits in this picture: 0 and 5. The answer is \\boxed{2}."
RIGHT = "There are 6 different digits: 0, 5, 6, 8, 9.\n\n\\boxed{6}"


def checked(rows, vocabulary=None):
    results = [pair_of(row, vocabulary) for row in rows]
    pairs = [result for result in results if isinstance(result, Pair)]
    return pairs, [problem for result in results if isinstance(result, list) for problem in result]


def masked(wrong, repaired, **options):
    return mask_pair(Pair(1, "a", wrong, repaired), **options)


def problems_of(values, vocabulary=None):
    return [str(problem) for problem in checked([Row(7, values)], vocabulary)[1]]


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    """A small byte-level BPE tokenizer, trained here."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(["3 plus 8 is 11 , plus 2 is 13 . answer 13"] * 20, vocab_size=300)
    folder = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer).save_pretrained(folder)
    return str(folder)


def test_row_of_the_output():
    row = masked("3 plus 8 is 12 .", "3 plus 8 is 11 .").to_row()
    assert row == {
        "id": "a",
        "wrong_tokens": ["3", "plus", "8", "is", "12", "."],
        "repaired_tokens": ["3", "plus", "8", "is", "11", "."],
        "wrong_mask": [0, 0, 0, 0, 1, 0],
        "repaired_mask": [0, 0, 0, 0, 1, 0],
        "edits": [{"op": "substitute", "source": 4, "target": 4}],
        "distance": 1,
        "edit_cost": 1 / 6,
    }


def test_token_ids_as_they_are():
    row = masked([5, 6, 7], [5, 7]).to_row()
    assert row["wrong_tokens"] == [5, 6, 7]
    assert row["wrong_mask"] == [0, 1, 0]
    assert row["repaired_mask"] == [0, 1]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", []),
        (" \n ", []),
        ("two words", ["two", "words"]),
        ("x=3.5, it's", ["x", "=", "3", ".", "5", ",", "it", "'", "s"]),
        (r"\frac{1}{2}\)", ["\\frac", "{", "1", "}", "{", "2", "}", "\\", ")"]),
        ("答案是12。", ["答", "案", "是", "12", "。"]),
        ("カメ3匹", ["カ", "メ", "3", "匹"]),
        ("naïve Größe привет", ["naïve", "Größe", "привет"]),
        ("🐢🐇", ["🐢", "🐇"]),
        ("a_b", ["a_b"]),
    ],
)
def test_words_and_signs(text, tokens):
    assert word_tokens(text) == tokens


@given(st.text())
def test_no_character_but_white_space_is_lost(text):
    names, texts = word_tokens(text), word_texts(text)
    assert "".join(texts) == text[: len("".join(texts))]
    assert text[len("".join(texts)) :].strip() == ""
    assert [shown.lstrip() for shown in texts] == names
    result = masked(text, text[::2])
    assert len(result.wrong_weights) == len(names)
    assert result.alignment.apply().tolist() == result.repair.ids


def test_real_answers_share_what_they_share():
    result = masked(WRONG, RIGHT)
    row = result.to_row()
    kept = [token for token, weight in zip(row["wrong_tokens"], row["wrong_mask"], strict=True) if weight == 0]
    assert kept[:3] == ["There", "are", "different"]
    assert "\\boxed" in kept
    assert "2" not in kept
    assert 0 < row["edit_cost"] < 1


@pytest.mark.parametrize(
    ("wrong", "repaired", "wrong_mask", "repaired_mask", "cost"),
    [
        ("", "", [], [], 0.0),
        ("", "a b", [], [1, 1], 1.0),
        ("a", "", [1], [], 1.0),
        ("a b", "a b", [0, 0], [0, 0], 0.0),
        ("a", "b", [1], [1], 1.0),
        ([], [4], [], [1], 1.0),
    ],
)
def test_empty_identical_and_one_token_answers(wrong, repaired, wrong_mask, repaired_mask, cost):
    row = masked(wrong, repaired).to_row()
    assert (row["wrong_mask"], row["repaired_mask"], row["edit_cost"]) == (wrong_mask, repaired_mask, cost)


def test_steps_and_soft_weights():
    wrong, repaired = "One is 1. Two is 3. Done.", "One is 1. Two is 2. Done."
    assert masked(wrong, repaired, granularity="step").to_row()["wrong_mask"] == [0] * 4 + [1] * 4 + [0] * 2
    soft = masked(wrong, repaired, sigma=1.0).to_row()["wrong_mask"]
    assert soft[6] == 1
    assert soft[5] == soft[7] == pytest.approx(0.367879, abs=1e-6)


def test_steps_of_bare_ids_are_refused():
    with pytest.raises(ConfigError, match="a tokenizer for the token ids"):
        masked([1], [2], granularity="step")


def test_model_tokenizer(tokenizer_folder):
    tokenizer = load_tokenizer(tokenizer_folder)
    result = masked("3 plus 8 is 12 . 答", "3 plus 8 is 11 . 答", tokenizer=tokenizer)
    assert result.wrong.ids == tokenizer.encode("3 plus 8 is 12 . 答", add_special_tokens=False)
    assert result.alignment.distance <= 2
    by_ids = masked(result.wrong.ids, result.repair.ids, tokenizer=tokenizer, granularity="step")
    assert by_ids.wrong.names == result.wrong.names
    assert len(by_ids.wrong_weights) == len(result.wrong.ids)


def test_unknown_tokenizer_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match="give a folder that holds one"):
        load_tokenizer(str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("values", "field", "part"),
    [
        ({"wrong": "a", "repaired": "b"}, "id", "missing"),
        ({"id": 1, "repaired": "b"}, "wrong", "missing"),
        ({"id": 1, "wrong": "a"}, "repaired", "missing"),
        ({"id": None, "wrong": "a", "repaired": "b"}, "id", "NoneType"),
        ({"id": True, "wrong": "a", "repaired": "b"}, "id", "bool"),
        ({"id": [1], "wrong": "a", "repaired": "b"}, "id", "list"),
        ({"id": 1, "wrong": 5, "repaired": "b"}, "wrong", "the type is int; give a text or a list of token ids"),
        ({"id": 1, "wrong": None, "repaired": "b"}, "wrong", "NoneType"),
        ({"id": 1, "wrong": "a", "repaired": {"text": "b"}}, "repaired", "dict"),
        ({"id": 1, "wrong": "a", "repaired": [1]}, "repaired", "in the same form"),
        ({"id": 1, "wrong": [1, -1], "repaired": [1]}, "wrong", "token 1 is '-1'"),
        ({"id": 1, "wrong": [1], "repaired": [2**31]}, "repaired", "from 0 to 2147483647"),
        ({"id": 1, "wrong": [1], "repaired": [1.0]}, "repaired", "token 0 is '1.0'"),
        ({"id": 1, "wrong": [True], "repaired": [1]}, "wrong", "token 0 is 'True'"),
        ({"id": 1, "wrong": ["a"], "repaired": [1]}, "wrong", "token 0 is 'a'"),
        ({"id": 1, "wrong": "\ud800", "repaired": "b"}, "wrong", "surrogate"),
        ({"id": 1, "wrong": "a", "repaired": "b", "question": 3}, "question", "give a text"),
        ({"id": 1, "wrong": "a", "repair": 5}, "repair", "int"),
        ({"id": 1, "wrong": "a", "repair": [1]}, "repair", "in the same form"),
    ],
)
def test_bad_rows_name_their_field(values, field, part):
    (problem,) = problems_of(values)
    assert problem.startswith(f'line 7, "{field}": ')
    assert part in problem


def test_the_repair_may_be_called_repair():
    pairs, problems = checked([Row(1, {"id": 1, "wrong": "a", "repair": "b"})])
    assert [pair.repair for pair in pairs] == ["b"]
    assert problems == []


def test_every_bad_field_of_a_row_is_listed():
    assert len(problems_of({})) == 3


def test_ids_beyond_the_vocabulary():
    assert problems_of({"id": 1, "wrong": [99], "repaired": [98]}, vocabulary=100) == []
    (problem,) = problems_of({"id": 1, "wrong": [100], "repaired": [98]}, vocabulary=100)
    assert "from 0 to 99" in problem


def test_duplicated_ids_keep_the_first(tmp_path):
    wrongs = {"x": "a", "z": "b", "p": "a"}
    write_jsonl(tmp_path / "pairs", [{"id": i, "wrong": wrong, "repaired": "y"} for wrong, i in wrongs.items()])
    file = mask_file(tmp_path / "pairs", tmp_path / "masks", mask_pair)
    assert [row["wrong_tokens"] for row in read_rows(tmp_path / "masks")] == [["x"], ["z"]]
    assert [str(problem) for problem in file.problems] == [
        "line 3, \"id\": line 1 already has the id 'a'; give every row its own id"
    ]
