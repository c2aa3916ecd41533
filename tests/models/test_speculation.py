"""Speculation writes what plain decoding writes: token for token with the same numbers, and by the same law.

The oracle is transformers' own loop, greedy and with `OwnStreams`, and the whole distribution, enumerated.
"""

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from architectures import NAMES, mixed_rows, save
from peft import LoraConfig, get_peft_model
from scipy.stats import chisquare
from transformers import (
    GenerationConfig,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    LogitsProcessorList,
    MistralConfig,
    MistralForCausalLM,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from difference_feedback.models.flops import FlopMeter
from difference_feedback.models.generate import generate
from difference_feedback.models.load import load_model
from difference_feedback.models.own_streams import OwnStreams, own_numbers
from difference_feedback.models.proposals import Copying, window
from difference_feedback.models.speculation import speculated, speculates
from difference_feedback.world import sample_problems

GREEDY: dict[str, Any] = {"temperature": 0}
KINDS = ["right", "substitutions", "insertion", "deletion", "two edits", "end inside", "too long", "second", "wrong"]
KINDS += ["empty", "odd ids"]


def edited(ids: list[int], kind: str) -> list[list[int]]:
    """Texts from which `ids` arise by edits of that kind."""
    return {
        "right": [ids],
        "substitutions": [[i if n % 4 else i + 1 for n, i in enumerate(ids)]],
        "insertion": [ids[:3] + ids[4:]],
        "deletion": [[*ids[:2], 9, 9, 8, *ids[2:]]],
        "two edits": [[*ids[:2], 9, *ids[2:6], *ids[8:]]],
        "end inside": [ids[:4] + ids[-1:] + ids[4:]],
        "too long": [ids + [17, 18, 19] * 40],
        "second": [[9, 9], ids],
        "wrong": [[9] * 30],
        "empty": [],
        "odd ids": [[10**9, -1, 3, *ids]],
    }[kind]


def texts_for(answers: list[list[list[int]]], first: int = 0) -> list[list[list[int]]]:
    """Proposals of another kind for each row, for its first answer."""
    return [edited(of_row[0], KINDS[(first + row) % len(KINDS)]) for row, of_row in enumerate(answers)]


@pytest.mark.parametrize("name", NAMES)
def test_every_architecture_writes_what_it_writes_plainly(name: str, tmp_path: Path) -> None:
    """Rows with other images, drafts and lengths in one batch, by greedy decoding and by their own numbers."""
    model, processor = load_model(str(save(name, tmp_path)))
    call: Any = (model, processor, *mixed_rows())
    sampled: dict[str, Any] = {"temperature": 0.7, "num_samples": 2, "seeds": [11, 12, 13, 14]}
    for first, settings in enumerate((GREEDY, sampled)):
        plain = generate(*call, max_new_tokens=12, **settings)
        texts = texts_for(plain, 4 * first)
        assert generate(*call, max_new_tokens=12, proposals=texts, speculate=True, **settings) == plain


@pytest.fixture(scope="module")
def questions() -> tuple[Any, Any]:
    problems = sample_problems("rl", len(KINDS), seed=0)
    return [p.prompt for p in problems], [list(p.images) for p in problems]


@pytest.mark.parametrize("top_p", [1.0, 0.8])
def test_no_proposal_and_no_batch_changes_an_answer(frozen: Any, questions: Any, top_p: float) -> None:
    model, processor = frozen
    prompts, images = questions
    settings: dict[str, Any] = {"temperature": 0.9, "top_p": top_p, "num_samples": 2, "max_new_tokens": 24, "seed": 3}
    none = [[] for _ in prompts]
    first = generate(model, processor, prompts, images, proposals=none, speculate=True, **settings)
    for shift, size in ((0, 64), (6, 4)):
        texts = texts_for(first, shift)
        call: dict[str, Any] = {"proposals": texts, "speculate": True, "batch_size": size, **settings}
        assert generate(model, processor, prompts, images, **call) == first
    assert len({tuple(ids) for of_row in first for ids in of_row}) > len(KINDS)


def test_the_nano_model_greedily_and_by_its_own_numbers(frozen: Any, questions: Any) -> None:
    call: Any = (*frozen, *questions)
    for settings in (GREEDY, {"temperature": 0.7, "num_samples": 3, "seeds": list(range(len(KINDS)))}):
        plain = generate(*call, max_new_tokens=40, **settings)
        for shift in (0, 5):
            texts = texts_for(plain, shift)
            assert generate(*call, max_new_tokens=40, proposals=texts, speculate=True, **settings) == plain
    for limit in (1, 2, 5):
        plain = generate(*call, max_new_tokens=limit, **GREEDY)
        right = [[*of_row, [8]] for of_row in generate(*call, max_new_tokens=40, **GREEDY)]
        assert generate(*call, max_new_tokens=limit, proposals=right, speculate=True, **GREEDY) == plain


def tiny(vocabulary: int, sliding: int | None = None, layers: int = 1, scale: float = 0.7) -> Any:
    """A text model of random weights, whose next token depends on all before it."""
    torch.manual_seed(1)
    config = MistralConfig(
        **{"vocab_size": vocabulary, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": layers},
        **{"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "sliding_window": sliding},
        **{"max_position_embeddings": 4096, "eos_token_id": 1, "pad_token_id": 0, "bos_token_id": None},
    )
    model = MistralForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=scale)
    return model


def test_the_law_of_whole_answers_is_plain_samplings() -> None:
    """10^5 answers against their probabilities, computed prefix by prefix: chi-square, p above 10^-4."""
    model, draws, longest, prompt, size = tiny(8, scale=0.3), 100_000, 3, [2, 3, 4], 8
    config = GenerationConfig(
        **{"max_new_tokens": longest, "do_sample": True, "eos_token_id": 1, "pad_token_id": 0, "suppress_tokens": [5]},
        **{"temperature": 0.8, "top_p": 0.9, "top_k": 5, "num_return_sequences": draws},
    )
    inputs = {"input_ids": torch.tensor([prompt]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    numbers = torch.from_numpy(np.random.default_rng(0).random((draws, longest)))
    answers = Counter(map(tuple, speculated(model, inputs, config, [[[4, 2, 3, 4]]], numbers, fixed=1e6)))

    warpers = LogitsProcessorList([SuppressTokensLogitsProcessor([5]), TemperatureLogitsWarper(0.8)])
    warpers += [TopKLogitsWarper(5), TopPLogitsWarper(0.9)]  # in the order in which `generate` applies them
    law: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(longest):
        open_ = [answer for answer in law if not answer or answer[-1] != 1]
        ids = torch.tensor([[*prompt, *answer] for answer in open_])
        with torch.no_grad():
            shares = warpers(ids, model(ids).logits[:, -1]).softmax(-1).double()
        law |= {
            (*answer, token): law[answer] * float(shares[row, token])
            for (row, answer), token in itertools.product(enumerate(open_), range(size))
        }
        for answer in open_:
            del law[answer]
    assert sum(law.values()) == pytest.approx(1, abs=1e-6)
    assert all(law.get(answer, 0) > 0 for answer in answers)
    often = [answer for answer, share in law.items() if share * draws >= 10]
    expected = [law[answer] * draws for answer in often]
    counts = [answers[answer] for answer in often]
    if draws - sum(expected) > 1:
        expected, counts = [*expected, draws - sum(expected)], [*counts, draws - sum(counts)]
    assert len(often) > 15
    assert chisquare(counts, np.array(expected) * draws / sum(expected)).pvalue > 1e-4


def local(vocabulary: int) -> Any:
    """A model whose configuration has a word of its own for a window of attention."""
    torch.manual_seed(1)
    config = GPTNeoConfig(
        **{"vocab_size": vocabulary, "hidden_size": 16, "intermediate_size": 32, "num_layers": 2, "num_heads": 2},
        **{"attention_types": [[["global", "local"], 1]], "window_size": 6, "eos_token_id": 1, "bos_token_id": 0},
    )
    model = GPTNeoForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.4)
    return model


@pytest.mark.parametrize("sliding", [None, 6, "local"])
def test_rows_that_drift_far_apart(sliding: Any) -> None:
    """Long answers, some of them copied fast and some slowly; holes in the memory, and windows of attention."""
    model, rows = local(40) if sliding == "local" else tiny(40, sliding, layers=2, scale=0.4), 8
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(3, 20, (rows,), generator=generator).tolist()
    ids = torch.randint(2, 40, (rows, 20), generator=generator)
    mask = torch.tensor([[0] * (20 - n) + [1] * n for n in lengths])
    inputs = {"input_ids": ids * mask, "attention_mask": mask}
    config = GenerationConfig(max_new_tokens=70, do_sample=True, eos_token_id=1, pad_token_id=0, top_k=0)
    seeds = list(range(rows))
    draw = LogitsProcessorList([OwnStreams(seeds, 1, 70, 1.0)])
    sequences = model.generate(**inputs, generation_config=config, logits_processor=draw)[:, 20:].tolist()
    plain = [row[: row.index(1) + 1] if 1 in row else row for row in sequences]
    assert max(map(len, plain)) == 70
    texts = [edited(answer, KINDS[row % len(KINDS)]) for row, answer in enumerate(plain)]
    for fixed in (8.0, 1e3):
        assert speculated(model, inputs, config, texts, own_numbers(seeds, 1, 70), fixed=fixed) == plain


@pytest.mark.parametrize("rule", [{"repetition_penalty": 1.5}, {"max_time": 1e-9}])
def test_rules_that_read_what_is_written_are_decoded_plainly(rule: dict[str, float]) -> None:
    model = tiny(40)
    config = GenerationConfig(max_new_tokens=20, eos_token_id=1, pad_token_id=0, **rule)
    inputs = {"input_ids": torch.tensor([[5, 6, 7]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    plain = model.generate(**inputs, generation_config=config)[:, 3:].tolist()
    assert speculated(model, inputs, config, [plain]) == plain


@pytest.mark.parametrize(("share", "passes"), [(0.05, 0.2), (0.15, 0.5)])
def test_passes_of_long_answers(share: float, passes: float) -> None:
    """A model that writes a known answer of 1,000 tokens, of which a share differs from the draft."""
    model, length = tiny(200), 1000
    rng = np.random.default_rng(0)
    draft, answer = rng.integers(2, 200, length), []
    for token in draft:
        kind = rng.random() / share
        answer += [] if kind < 1 / 3 else [int(rng.integers(2, 200)), int(token)] if kind < 2 / 3 else [int(token)]
        if 2 / 3 <= kind < 1:
            answer[-1] = int(rng.integers(2, 200))
    answer.append(1)
    target = torch.nn.functional.one_hot(torch.tensor([5, 6, *answer, 1, 1]), 200).float()

    def write(_: Any, __: Any, kwargs: Any, output: Any) -> Any:
        places = kwargs["position_ids"][0, -output.logits.shape[1] :]
        output.logits = target[places.clamp(max=len(target) - 2) + 1][None] * 50
        count.append(1)
        return output

    count: list[int] = []
    model.register_forward_hook(write, with_kwargs=True)
    config = GenerationConfig(max_new_tokens=1200, eos_token_id=1, pad_token_id=0)
    inputs = {"input_ids": torch.tensor([[4, 5, 6]])[:, 1:], "attention_mask": torch.ones(1, 2, dtype=torch.long)}
    assert speculated(model, inputs, config, [[[*draft.tolist(), 1]]], fixed=512.0) == [answer]
    assert len(count) <= passes * len(answer)


def test_operations_and_tokens_are_counted(frozen: Any, questions: Any) -> None:
    call: Any = (*frozen, *questions)
    plain = generate(*call, max_new_tokens=24, **GREEDY)
    with FlopMeter() as alone:
        generate(*call, max_new_tokens=24, **GREEDY)
    rows: list[int] = []
    tally: Counter[str] = Counter()
    hook = frozen[0].register_forward_hook(lambda _, __, output: rows.append(len(output.logits)))
    with FlopMeter() as meter:
        generate(*call, max_new_tokens=24, proposals=texts_for(plain), speculate=True, tally=tally, **GREEDY)
    hook.remove()
    assert tally == {"tokens": meter.work.generated_tokens, "passes": sum(rows)}
    assert meter.work.generated_tokens == sum(len(ids) for of_row in plain for ids in of_row)
    assert meter.work.forward > alone.work.forward * meter.work.generated_tokens / alone.work.generated_tokens


def test_adapter_mode_and_random_stream_are_left_as_they_were(frozen: Any, questions: Any) -> None:
    from difference_feedback.world.nano import load_base

    model = get_peft_model(load_base()[0], LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    model.add_adapter("repair", LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    model.train()
    inner = next(module for module in model.modules() if hasattr(module, "rope_deltas"))
    inner.rope_deltas = deltas = torch.full((2, 1), 5)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    torch.manual_seed(7)
    call: Any = (model, frozen[1], *questions)
    plain = generate(*call, max_new_tokens=16, adapter_name="repair", **GREEDY)
    text = {"proposals": texts_for(plain), "speculate": True}
    assert generate(*call, max_new_tokens=16, adapter_name="repair", **text, **GREEDY) == plain
    assert generate(*call, max_new_tokens=16, **text, **GREEDY) != plain
    generate(*call, max_new_tokens=16, **text)
    drawn = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(torch.rand(3), drawn)
    assert inner.rope_deltas is deltas
    assert model.training
    assert all(module.training for module in model.modules())
    assert model.active_adapter == "default"
    assert trained == {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_a_sharded_model_is_decoded_plainly(frozen: Any) -> None:
    model = torch.nn.Linear(1, 1)
    model.weight.ds_id = 0  # as ZeRO-3 marks its parameters
    assert not speculates(model, 1, True)
    assert speculates(frozen[0], 1, True)
    assert not speculates(frozen[0], 1, False)


def test_draws_do_not_depend_on_what_speculates(frozen: Any, questions: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks that share a model decode plainly, and a batch that is large for the machine does: all draw alike."""
    settings: dict[str, Any] = {"temperature": 0.9, "num_samples": 2, "max_new_tokens": 16, "seed": 3}
    texts: list[Any] = [[[9, 9]] for _ in questions[0]]
    speculating = generate(*frozen, *questions, proposals=texts, speculate=True, **settings)
    monkeypatch.setattr("difference_feedback.models.generate.speculates", lambda *_: False)
    assert generate(*frozen, *questions, proposals=texts, **settings) == speculating
    plain = generate(*frozen, *questions, **settings)
    assert generate(*frozen, *questions, proposals=texts, speculate=False, **settings) == plain != speculating


def test_where_proposals_go_on_after_an_edit() -> None:
    draft = list(range(10, 60))

    def after(texts: list[list[int]], answer: list[int]) -> list[int]:
        """The next proposals of a row that has written `answer`, one token a pass."""
        row = Copying(texts)
        for end in range(1, len(answer) + 1):
            row.follow(answer[:end], 0)
        return row.ahead(3)

    assert after([draft], [10, 11]) == [12, 13, 14]
    assert after([draft], [10, 99]) == [12, 13, 14], "a substitution"
    assert after([draft], [10, 99, 11]) == [12, 13, 14], "an insertion"
    assert after([draft], [10, 15, 16]) == [17, 18, 19], "a deletion"
    assert after([draft], [10, 98, 99, 13]) == [14, 15, 16], "two substitutions"
    assert after([draft, [1, 2, 3, 4, 5]], [10, 1, 2, 3]) == [4, 5], "words of the reference"
    assert after([draft], draft) == []
    assert after([], [1, 2]) == []


def test_the_window_follows_acceptances_and_costs() -> None:
    def row(tried: int, accepted: int) -> Copying:
        copying = Copying([[5] * 500])
        copying.tried, copying.right = tried, accepted
        return copying

    sizes = [window([row(60, accepted)], [500], 100.0, 500) for accepted in (0, 30, 54, 60)]
    assert sizes == sorted(set(sizes))
    assert sizes[0] <= 1
    costs = [window([row(60, 55)], [500], fixed, 500) for fixed in (1.0, 10.0, 100.0, 1000.0)]
    assert costs == sorted(set(costs))
    assert window([row(60, 55)] * 64, [500] * 64, 10.0, 500) < window([row(60, 55)], [500], 10.0, 500)
    assert window([row(60, 60)], [3], 1e6, 500) == 3
    assert window([row(60, 60)], [30], 1e6, 2) == 2
    assert window([row(60, 60)], [0], 1e6, 500) == 0


@pytest.mark.parametrize(("rows", "length"), [(1, 20), (1, 100), (4, 100), (16, 60), (32, 40)])
@pytest.mark.parametrize("fixed", [13.0, 39.0, 512.0])
def test_drafts_that_are_not_copied_cost_little(rows: int, length: int, fixed: float) -> None:
    """At most 4 % over plain decoding, by the costs that `window` states; the prompt's pass counts as any other."""
    copies, lost, spent = [Copying([[5] * length]) for _ in range(rows)], 0.0, 0.0
    for step in range(length):
        size = window(copies, [copy.available for copy in copies], fixed, 500)
        spent += fixed + rows * 1.5
        lost += rows * size + (4 + rows) * (size > 0)
        for copy in copies:
            copy.follow([9] * (step + 1), 0)
    assert lost <= 0.04 * spent
