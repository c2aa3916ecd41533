"""Scores of given answers: those of `generate` when it writes them, whatever the batch, and the model as before."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LogitsProcessor, LogitsProcessorList

from difference_feedback.models import scoring
from difference_feedback.models.generate import generate, render_prompts
from difference_feedback.models.scoring import answer_logps, other_token
from difference_feedback.world import correct_answers, sample_problems
from difference_feedback.world.nano import load_base

EOS = 2
CLOSE: dict[str, Any] = {"rtol": 2e-6, "atol": 1e-5}
"""What float32 rounds: 1e-5, or the last bits of a log-probability far below 0."""


class Dictate(LogitsProcessor):
    """Lets `generate` write the given tokens alone."""

    def __init__(self, ids: list[int], start: int) -> None:
        self.ids, self.start = ids, start

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        dictated = torch.full_like(scores, -torch.inf)
        dictated[:, self.ids[input_ids.shape[1] - self.start]] = 0.0
        return dictated


def logps_of_generate(
    model: Any, processor: Any, prompt: Any, images: Any, ids: list[int], temperature: float = 1.0
) -> np.ndarray:
    """The oracle: the raw logits of `generate`, with its cache, at each step of writing `ids`."""
    text = render_prompts(processor, [prompt], [images])
    pictures = [list(images)] if len(images) else None
    inputs = processor(text=text, images=pictures, add_special_tokens=False, return_tensors="pt")
    start = inputs["input_ids"].shape[1]
    written = model.generate(
        **inputs,
        max_new_tokens=len(ids),
        do_sample=False,
        eos_token_id=None,
        logits_processor=LogitsProcessorList([Dictate(ids, start)]),
        output_logits=True,
        return_dict_in_generate=True,
    )
    assert written.sequences[0, start:].tolist() == ids
    return np.array(
        [float((step[0] / temperature).log_softmax(-1)[i]) for step, i in zip(written.logits, ids, strict=True)]
    )


@pytest.fixture(scope="module")
def base() -> tuple[Any, Any]:
    """The shipped base: its probabilities are those of a trained model, so that tolerances mean something."""
    return load_base()


@pytest.fixture(scope="module")
def rows(base: tuple[Any, Any]) -> tuple[list[Any], list[Any], list[list[int]]]:
    """Eight questions of several lengths, with one image, two or none, and answers of several lengths."""
    problems = sample_problems("rl", 8, seed=2)
    prompts, images, answers = [], [], []
    for i, problem in enumerate(problems):
        prompt, pictures = [dict(problem.prompt[0])], list(problem.images)
        text = [part for part in prompt[0]["content"] if part["type"] == "text"]
        if i % 4 == 1:
            pictures += problems[0].images
        elif i % 4 == 2:
            pictures = []
        prompt[0]["content"] = [{"type": "image"} for _ in pictures] + text
        prompts.append(prompt)
        images.append(pictures)
        ids = base[1].tokenizer.encode(correct_answers(problem)[0], add_special_tokens=False)
        answers.append([*ids[: 3 + 4 * (i % 3)], EOS])
    return prompts, images, answers


def test_a_batch_scores_as_each_alone_and_as_generate(base, rows) -> None:
    together = answer_logps(*base, *rows)
    for score, prompt, images, ids in zip(together, *rows, strict=True):
        alone = answer_logps(*base, [prompt], [images], [ids])[0]
        np.testing.assert_allclose(alone, score, **CLOSE)
        np.testing.assert_allclose(logps_of_generate(*base, prompt, images, ids), score, **CLOSE)
    assert [len(score) for score in together] == [len(ids) for ids in rows[2]]


def test_batches_of_any_size_and_limits_of_memory_change_nothing(base, rows, monkeypatch) -> None:
    whole = answer_logps(*base, *rows)
    vocabulary = base[0].config.get_text_config().vocab_size
    for batch_size, most_tokens in ((3, 10**6), (64, 20), (64, 1)):
        monkeypatch.setattr(scoring, "_MOST_LOGITS", most_tokens * vocabulary)
        parts = answer_logps(*base, *rows, batch_size=batch_size)
        for score, part in zip(whole, parts, strict=True):
            np.testing.assert_allclose(part, score, **CLOSE)


def test_batches_keep_to_their_limits() -> None:
    lengths = [5, 3, 9, 2, 40, 1, 1, 1]
    parts = list(scoring._batches(range(8), lengths, most_rows=3, most_tokens=20))
    assert [i for part in parts for i in part] == list(range(8))
    for part in parts:
        assert len(part) <= 3
        assert len(part) == 1 or len(part) * max(lengths[i] for i in part) <= 20
    assert [4] in parts, "an answer beyond the limit is scored by itself"


def test_the_temperature_is_that_of_sampling(base, rows) -> None:
    prompt, images, ids = (part[0] for part in rows)
    score = answer_logps(*base, [prompt], [images], [ids], temperature=0.5)[0]
    expected = logps_of_generate(*base, prompt, images, ids, temperature=0.5)
    np.testing.assert_allclose(score, expected, **CLOSE)


def test_the_images_are_seen(base, rows) -> None:
    prompt, images, ids = (part[0] for part in rows)
    others = sample_problems("rl", 9, seed=7)[-1].images
    assert not np.allclose(*(answer_logps(*base, [prompt], [of], [ids])[0] for of in (images, others)), atol=1e-3)


def test_nothing_to_score(base, rows) -> None:
    prompts, images, answers = rows
    assert answer_logps(*base, [], [], []) == []
    some = answer_logps(*base, prompts[:2], images[:2], [[], answers[1]])
    assert some[0].shape == (0,)
    np.testing.assert_allclose(some[1], answer_logps(*base, *(part[1:2] for part in rows))[0], **CLOSE)


def test_the_model_and_the_random_stream_are_as_before(base, rows) -> None:
    model, processor = copy.deepcopy(base[0]), base[1]
    model.train()
    model.model.rope_deltas = torch.ones(1)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    answer_logps(model, processor, *rows)
    assert torch.equal(torch.rand(3), expected)
    assert model.training
    assert torch.equal(model.model.rope_deltas, torch.ones(1))
    assert all(parameter.grad is None for parameter in model.parameters())
    before = generate(model, processor, rows[0][:1], rows[1][:1], max_new_tokens=5, temperature=0)
    answer_logps(model, processor, *rows)
    assert generate(model, processor, rows[0][:1], rows[1][:1], max_new_tokens=5, temperature=0) == before


def test_tokens_that_are_not_the_same(base) -> None:
    tokenizer = base[1].tokenizer
    larger = copy.deepcopy(tokenizer)
    larger.add_tokens(["brandnew"])
    assert other_token(tokenizer, tokenizer) is None
    assert other_token(tokenizer, larger) is None, "it may know more tokens"
    assert other_token(larger, tokenizer) == "brandnew"
