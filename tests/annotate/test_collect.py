"""Items to annotate from responses: which are chosen, how the others are counted, and how a run is continued."""

import json
import os
import sys
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from servers.unruly_server import unruly
from typer.testing import CliRunner

from difference_feedback.annotate.collect import Response, collect_items
from difference_feedback.annotate.feedback import feedback_html, is_right
from difference_feedback.annotate.items import find_work
from difference_feedback.cli import app
from difference_feedback.data.dataset import VisualQuestion
from difference_feedback.data.repair_set import load_repair_set
from difference_feedback.models import generate
from difference_feedback.runs.jsonl import read_rows, write_jsonl
from difference_feedback.world.nano import load_base

IMAGE = (Image.new("RGB", (30, 30)),)


def questions(n):
    return [VisualQuestion(str(i), f"<image>What is {i} + 1?", IMAGE, str(i + 1)) for i in range(n)]


def says(number, words=10):
    return " ".join(["because"] * words) + f" the answer is {number}."


def test_every_response_is_an_item_or_counted():
    sample = questions(4)
    responses = [
        Response("0", says(1), "good"),
        Response("0", says(7), "bad"),
        Response("0", says(7).upper(), "bad too"),
        Response("0", says(8), "worse"),
        Response("0", "9", "short"),
        Response("1", says(9), "alone"),
        Response("2", "3", "right but short"),
        Response("2", says(5), "bad"),
        Response("9", "?", "lost"),
        Response("3", " ", "empty"),
    ]
    collection = collect_items(sample, responses)
    assert {item["id"]: item["reference"] for item in collection.items} == {"0": says(1), "2": "3"}
    counts = {name: count for name, count in collection.counts.items() if count}
    assert counts == {
        "right": 2,
        "question unknown": 1,
        "empty": 1,
        "wrong, no right answer to the same question": 1,
        "wrong, shorter than the least length": 1,
        "wrong, the same as another": 1,
        "wrong, beyond the number for each question": 1,
        "items with a short reference": 1,
        "items": 2,
    }
    assert collection.items[0]["question"].startswith("What is")
    assert collection.items[0]["source"]["reference"] in ("good", "right but short")


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 8), st.integers(0, 12)), max_size=40), st.integers(1, 3))
def test_counts_add_up(drawn, per_question):
    responses = [Response(str(q), says(n, words)) for q, n, words in drawn]
    collection = collect_items(questions(5), responses, per_question=per_question, limit=4)
    lost = sum(
        count for name, count in collection.counts.items() if name not in ("items", "items with a short reference")
    )
    assert lost + len(collection.items) == len(responses)
    assert len({item["id"] for item in collection.items}) == len(collection.items) <= 4
    assert max(Counter(item["id"].split("-")[0] for item in collection.items).values(), default=0) <= per_question


def test_items_have_ids_and_images_of_their_own_where_a_question_is_called_as_the_second_item_of_another(tmp_path):
    sample = [replace(question, id=id) for question, id in zip(questions(3), ("a", "a-2", "a/2"), strict=True)]
    responses = [Response(q.id, says(answer)) for q in sample for answer in (q.answer, 50, 60, 70)]
    collection = collect_items(sample, responses, per_question=3)
    ids = [item["id"] for item in collection.items]
    assert len(set(ids)) == len(ids) == 9
    for item, question in zip(collection.items, collection.questions, strict=True):
        assert item["answer"] == question.answer
        assert item["id"].startswith(question.id)
        assert (item["id"] == question.id) == (item["id"] in {q.id for q in sample})


def test_the_grader_of_the_recipe_says_which_responses_are_right_and_some_it_cannot_judge():
    grader = SimpleNamespace(grade=lambda questions, texts: [None if "9" in t else "1" in t for t in texts])
    responses = [Response("0", says(number)) for number in (11, 12, 2, 9)]
    collection = collect_items(questions(1), responses, grader=grader)
    assert [item["draft"] for item in collection.items] == [says(2)]
    assert collection.counts["not judged"] == 1
    assert collection.counts["right"] == 2


def test_strata_are_drawn_from_in_turn_and_seeds_repeat():
    sample = questions(30)
    responses = [Response(q.id, says(answer)) for q in sample for answer in (q.answer, "99")]
    strata = {q.id: {"subject": "a" if int(q.id) < 24 else "b", "level": 1} for q in sample}
    collection = collect_items(sample, responses, strata=strata, limit=10)
    assert collection.strata == {"subject a, level 1": 5, "subject b, level 1": 5}
    assert collection.items == collect_items(sample, responses, strata=strata, limit=10).items
    assert collection.items != collect_items(sample, responses, strata=strata, limit=10, seed=1).items
    assert collection.items[0]["level"] == 1


def test_every_model_s_wrong_answers_are_drawn_from_in_turn():
    sample = questions(30)
    responses = [Response(q.id, says(q.answer), "right") for q in sample]
    responses += [Response(q.id, says(99), "often" if int(q.id) < 24 else "seldom") for q in sample]
    collection = collect_items(sample, responses, limit=10)
    assert collection.strata == {"model often": 5, "model seldom": 5}


@pytest.fixture
def data(tmp_path):
    Image.new("RGB", (40, 40), "red").save(tmp_path / "a.png")
    rows = [
        {"id": str(i), "question": f"What is {i} + 1?", "image": "a.png", "answer": str(i + 1), "subject": "sums"}
        for i in range(3)
    ]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "data.jsonl"


def run(*arguments):
    return CliRunner().invoke(app, ["repair", "collect", *map(str, arguments)])


def test_from_files_to_the_page_and_to_training(data, tmp_path):
    lines = [{"id": i, "response": says(answer), "model": m} for i in (0, 1) for m, answer in (("x", i + 1), ("y", 50))]
    lines.append({"id": 2})
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + "{broken\n")
    output = tmp_path / "out"
    result = run(data, "-r", tmp_path / "r.jsonl", "-o", output)
    assert result.exit_code == 0, result.output
    assert "2 items" in result.output
    for place in ('r.jsonl, line 5, "response"', "r.jsonl, line 6"):
        assert place in result.stderr
    repairs, _ = find_work(output)
    assert repairs.problems == []
    assert [row["subject"] for row in repairs.rows] == ["sums"] * 2
    assert [is_right(row, row["draft"]) for row in repairs.rows] == [False] * 2
    assert [is_right(row, row["reference"]) for row in repairs.rows] == [True] * 2
    assert "boxed" not in repairs.rows[0]["question"]
    assert Image.open(output / repairs.rows[0]["image"][0]).getpixel((0, 0)) == (255, 0, 0)
    annotated = output / "items.annotated.jsonl"
    annotated.write_text(json.dumps(repairs.rows[0] | {"repaired": "fine", "annotator": "ada"}) + "\n")
    assert load_repair_set(annotated).rows[0].draft == says(50)
    again = run(data, "-r", tmp_path / "r.jsonl", "-o", output)
    assert again.exit_code == 2
    assert "already holds repairs of its items" in again.stderr


def test_sampling_from_a_server_can_be_continued(data, tmp_path):
    output = tmp_path / "out"
    with unruly() as server:
        server.script = [says(1), {"status": 404}, says(1)]
        common = ("--url", server.url, "--samples", 2, "-o", output)
        first = run(data, *common)
        assert "1 questions got no answer" in first.stderr
        requests = len(server.bodies)
        assert requests == 3
        assert server.bodies[0]["n"] == 2
        assert "boxed" in server.bodies[0]["messages"][0]["content"][1]["text"]
        second = run(data, *common)
        assert len(server.bodies) == requests + 1
    assert len(read_rows(output / "responses.jsonl")) == 6
    assert second.exit_code == 2  # question 0 has right answers alone, 1 and 2 wrong ones alone
    assert "no right answer to the same question" in second.stderr


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (("--url-model", "other"), ["model", "'policy'", "'other'"]),
        (("--temperature", "0.5"), ["temperature", "1.0", "0.5"]),
        (("--max-new-tokens", "9"), ["max_new_tokens", "512", "9"]),
        (("--seed", "1"), ["seed", "0", "1"]),
        (("system_prompt=Answer like a pirate.",), ["question 0", "system_prompt"]),
        (("data.instruction=Be brief.",), ["question 0", "data"]),
        ((), []),
        (("--samples", "3"), []),
    ],
)
def test_answers_that_were_sampled_in_another_way_are_not_taken_for_those_asked_for(data, tmp_path, changed, words):
    output = tmp_path / "out"
    with unruly() as server:
        server.script = [says(1), says(2), says(3)]
        common = ("--url", server.url, "--samples", 2, "-o", output)
        run(data, *common)
        before = (output / "responses.jsonl").read_text()
        result = run(data, *common, *changed)
        asked = len(server.bodies) - 3
    for word in words:
        assert word in result.stderr
    if words:
        assert "another --output" in result.stderr
        assert asked == 0
        assert (output / "responses.jsonl").read_text() == before
    else:
        assert "another --output" not in result.stderr
        assert asked == 3 * bool(changed)


def test_answers_to_pictures_of_other_names_are_not_taken_for_these_and_more_questions_can_be_asked(data, tmp_path):
    output = tmp_path / "out"
    with unruly() as server:
        server.script = [says(1)] * 9
        common = ("--url", server.url, "--samples", 2, "-o", output)
        run(data, "data.limit=2", *common)
        run(data, *common)
        assert len(server.bodies) == 3
        (tmp_path / "a.png").rename(tmp_path / "b.png")
        data.write_text(data.read_text().replace("a.png", "b.png"))
        assert "another prompt of question 0" in run(data, *common).stderr


def test_answers_of_a_file_of_the_release_before_are_told_apart_by_their_model(data, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    rows = [{"id": str(i), "response": says(n), "model": "policy"} for i in range(3) for n in (i + 1, 50)]
    write_jsonl(output / "responses.jsonl", rows)
    with unruly() as server:
        common = ("--url", server.url, "--samples", 2, "-o", output)
        assert "'policy'" in run(data, *common, "--url-model", "other").stderr
        assert "3 items" in run(data, *common, "--seed", 1).output
        assert server.bodies == []


@pytest.mark.parametrize("have_ids", [True, False])
def test_responses_with_ids_of_no_question_are_told_with_both_kinds_of_ids(data, tmp_path, have_ids):
    if not have_ids:
        rows = [json.loads(line) for line in data.read_text().splitlines()]
        write_jsonl(data, [{name: value for name, value in row.items() if name != "id"} for row in rows])
    first = 0 if have_ids else 1
    known = [{"id": i + first, "response": says(n)} for i in range(3) for n in (i + 1, 50)]
    unknown = [row | {"id": f"pid-{row['id']}"} for row in known]

    def collected(name, rows):
        write_jsonl(tmp_path / "r.jsonl", rows)
        return run(data, "-r", tmp_path / "r.jsonl", "-o", tmp_path / name)

    result = collected("none", unknown)
    assert result.exit_code == 2
    examples = (f"'pid-{first}', 'pid-{first + 1}'", f"'{first}', '{first + 1}'")
    for part in ("6 of 6", *examples, "the ids of their questions"):
        assert part in result.stderr
    assert "Sample more" not in result.stderr
    assert ("counted from 1" in result.stderr) != have_ids
    some = collected("some", known + unknown[:2])
    assert some.exit_code == 0
    assert "2 of 8" in some.stderr
    assert "of no question" not in collected("all", known).stderr


def test_a_local_model_is_sampled(data, tmp_path):
    result = run(data, "--model", "nano", "--samples", 2, "--max-new-tokens", 4, "-o", tmp_path / "out")
    assert len(read_rows(tmp_path / "out" / "responses.jsonl")) == 6
    assert result.exit_code == 2
    assert "no response can become an item" in result.stderr


def test_so_many_answers_are_sampled_at_the_same_time(data, tmp_path, monkeypatch):
    batches, types = [], []
    run_batch = generate._generate_batch
    monkeypatch.setattr(
        generate,
        "_generate_batch",
        lambda model, processor, prompts, *rest: (
            batches.append(len(prompts)) or types.append(model.dtype) or run_batch(model, processor, prompts, *rest)
        ),
    )
    folder = tmp_path / "model"
    model, processor = load_base()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    common = ("--model", folder, "--samples", 2, "--max-new-tokens", 4)
    run(data, *common, "--batch-size", 4, "-o", tmp_path / "a")
    run(data, *common, "--batch-size", 1, "--dtype", "bfloat16", "-o", tmp_path / "b")
    assert batches == [2, 1, 1, 1, 1]
    assert types == [torch.float32] * 2 + [torch.bfloat16] * 3


SERVER = """
import argparse, sys
from servers.openai_server import OpenAIServer
from difference_feedback.world.nano import load_base
import uvicorn
parser = argparse.ArgumentParser()
for name in ("host", "served-model-name", "model", "generation-config"):
    parser.add_argument("--" + name)
parser.add_argument("--port", type=int)
words = parser.parse_args()
app = OpenAIServer(*load_base(), words.served_model_name).app
uvicorn.run(app, host=words.host, port=words.port, log_level="error")
"""


def test_a_server_is_started_for_the_model_and_the_sampling_can_be_continued(data, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    (tmp_path / "server.py").write_text(SERVER)
    folder, output = tmp_path / "model", tmp_path / "out"
    model, processor = load_base()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    serve = ("--model", folder, "--serve", f"{sys.executable} {tmp_path / 'server.py'}", "--gpus", "0")
    common = (data, *serve, "--samples", 2, "--max-new-tokens", 6, "-o", output)
    run(*common)
    rows = read_rows(output / "responses.jsonl")
    assert Counter(row["id"] for row in rows) == {"0": 2, "1": 2, "2": 2}
    assert {row["model"] for row in rows} == {str(folder)}
    assert (output / "vllm_collect.log").is_file()
    write_jsonl(output / "responses.jsonl", rows[:3])
    run(*common)
    assert Counter(row["id"] for row in read_rows(output / "responses.jsonl")) == {"0": 2, "1": 2, "2": 2}


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--url", "http://127.0.0.1:9/v1", "--serve", "vllm serve"), "--serve"),
        (("--url", "http://127.0.0.1:9/v1"), "cannot be reached"),
        (("--model", "nano", "--gpus", "0"), "--serve"),
        (("--model", "org/m", "--serve", "no-such-vllm serve"), "no-such-vllm"),
        (("--model", "nano", "--serve", sys.executable), "nano base"),
    ],
)
def test_a_server_that_cannot_be_started_or_reached_is_refused_at_once(data, arguments, word):
    result = run(data, *arguments)
    assert result.exit_code == 2
    assert word in result.stderr


def test_a_reward_of_ones_own_and_a_column_of_another_name(data, tmp_path):
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    data.write_text("".join(json.dumps({"truth": row.pop("answer"), **row}) + "\n" for row in rows))
    (tmp_path / "mine.py").write_text(
        "def odd(completions, **_):\n    return [float('50' in c[-1]['content']) for c in completions]\n"
    )
    lines = [{"id": 0, "response": says(answer)} for answer in (50, 1)]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    keys = ("data.columns.answer=truth", f"reward={tmp_path / 'mine.py'}:odd")
    result = run(data, *keys, "-r", tmp_path / "r.jsonl", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    [item] = read_rows(tmp_path / "out" / "items.jsonl")
    assert (item["draft"], item["reference"], item["answer"]) == (says(1), says(50), "1")
    # The page cannot grade by it: by the default rule, its right answer would be wrong, and its wrong one right.
    assert item["rule"] == keys[1].removeprefix("reward=")
    assert is_right(item, says(1)) is is_right(item, says(50)) is None
    assert f"not graded by your reward, {item['rule']}" in feedback_html(item, says(50))


@pytest.mark.parametrize(
    ("word", "place"),
    [
        ("trl.max_steps=1", "trl.max_steps"),
        ("data.colums={}", "colums"),
        ("reward=final_answer", "final-answer"),
        ("format_prompt=nothing", "{question}"),
        ("data.path=none.jsonl", "none.jsonl"),
    ],
)
def test_keys_that_cannot_be_are_refused_before_anything_is_sampled(data, tmp_path, word, place):
    result = run(data, word, "--model", "nano", "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert place in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [(), ("--model", "nano", "--url", "http://127.0.0.1:9/v1")])
def test_one_source_of_answers_is_needed(data, arguments):
    result = run(data, *arguments)
    assert result.exit_code == 2
    assert "give one of" in result.stderr


def test_without_an_item_the_error_shows_a_response_that_states_no_answer(data, tmp_path):
    vague = "because of this and of that and of many more things it is quite hard to say"
    texts = (vague, vague + " so", says(50))
    lines = [{"id": i, "response": text} for i in (0, 1) for text in texts]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = run(data, "-r", tmp_path / "r.jsonl", "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "4 of 6 responses state no final answer" in result.stderr
    assert "hard to say so" in result.stderr
    by_own = tmp_path / "mine.py"
    by_own.write_text("def never(completions, **_):\n    return [0.0] * len(completions)\n")
    result = run(data, f"reward={by_own}:never", "-r", tmp_path / "r.jsonl", "-o", tmp_path / "out")
    assert "no response can become an item" in result.stderr
    assert "no final answer" not in result.stderr
