"""Every architecture: answers, ends of answers, repairs and labels, on tiny models of the real classes."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from architectures import BUILDERS, NAMES, asking, mixed_rows, picture
from test_scoring import logps_of_generate
from torch import nn

from difference_feedback.data.repair_set import RepairExample
from difference_feedback.judges.chat import ChatAnswer
from difference_feedback.method.repairs import RepairRequest
from difference_feedback.models.adapters import name_base, with_lora
from difference_feedback.models.end_tokens import end_ids, end_of, written_end
from difference_feedback.models.generate import generate
from difference_feedback.models.load import load_model
from difference_feedback.models.scoring import answer_logps
from difference_feedback.models.vision_tokens import vision_token_ids
from difference_feedback.policy.evaluation import evaluate
from difference_feedback.repair.embedded import ReferenceRepairer
from difference_feedback.repair.endpoint import EndpointRepairer, VLLMServerRepairer
from difference_feedback.repair.local import LocalRepairer
from difference_feedback.repair.sft import RepairCollator, sft_dataset
from difference_feedback.runs.sections import Endpoint, Lora
from difference_feedback.world import sample_problems

pytestmark = pytest.mark.parametrize("name", NAMES)
GREEDY = {"max_new_tokens": 8, "temperature": 0}


@pytest.fixture
def loaded(checkpoint: Callable[[str], Path], name: str) -> tuple[Any, Any]:
    return load_model(str(checkpoint(name)))


def likely(model: Any, token: int) -> None:
    """Make one token more likely than all others together, after whatever the model has read."""

    def add(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        output[..., token] = 1e4
        return output

    model.get_output_embeddings().register_forward_hook(add)


def test_a_batch_answers_as_each_prompt_alone(loaded: tuple[Any, Any]) -> None:
    """Prompts of mixed length with one, two, three and no images; the images of each row are its own."""
    prompts, images = mixed_rows()
    together = generate(*loaded, prompts, images, **GREEDY)
    alone = [generate(*loaded, [p], [i], **GREEDY)[0] for p, i in zip(prompts, images, strict=True)]
    assert together == alone
    assert generate(*loaded, prompts[2:3], [[]], **GREEDY) == together[2:3]
    assert generate(*loaded, prompts, images, batch_size=2, **GREEDY) == together


def test_answers_are_scored_as_generate_writes_them(loaded: tuple[Any, Any]) -> None:
    """Prompts with one, two, three and no images, padded in one batch."""
    prompts, images = mixed_rows()
    last = len(loaded[1].tokenizer)
    answers = [[last - 3 - 7 * k for k in range(2 + 3 * i)] for i in range(len(prompts))]
    together = answer_logps(*loaded, prompts, images, answers)
    for score, prompt, pictures, ids in zip(together, prompts, images, answers, strict=True):
        np.testing.assert_allclose(answer_logps(*loaded, [prompt], [pictures], [ids])[0], score, rtol=0, atol=1e-4)
        np.testing.assert_allclose(logps_of_generate(*loaded, prompt, pictures, ids), score, rtol=0, atol=1e-4)


def test_images_are_seen_in_their_order(loaded: tuple[Any, Any]) -> None:
    model, processor = loaded
    pair = [picture(1), picture(2)]

    def logits(images: list[Any]) -> torch.Tensor:
        text = processor.apply_chat_template([asking("which ?", 2)], add_generation_prompt=True, tokenize=False)
        inputs = processor(text=text, images=[images], add_special_tokens=False, return_tensors="pt")
        with torch.no_grad():
            return model(**inputs).logits[0, -1]

    first = logits(pair)
    assert not torch.allclose(first, logits(pair[::-1]), atol=1e-3)
    assert not torch.allclose(first, logits([pair[0], picture(3)]), atol=1e-3)


def test_answers_end_at_every_end_and_hold_no_vision_token(loaded: tuple[Any, Any], name: str) -> None:
    model, processor = loaded
    parts, tokenizer = BUILDERS[name](), processor.tokenizer
    ends = end_ids(tokenizer, model.generation_config)
    assert ends == set(tokenizer.convert_tokens_to_ids(parts.ends)) | {tokenizer.eos_token_id}
    assert written_end(processor, ends) == tokenizer.convert_tokens_to_ids(parts.written)
    assert written_end(tokenizer) == tokenizer.convert_tokens_to_ids(parts.written), "without the model at hand"
    for end in ends:
        stopping = copy.deepcopy(model)
        likely(stopping, end)
        assert generate(stopping, processor, [asking("x", 0)], [[]], **GREEDY) == [[[end]]]
    vision = vision_token_ids(model.config, tokenizer)
    image_token = tokenizer.convert_tokens_to_ids(processor.image_token)
    assert image_token in vision
    likely(model, image_token)
    [answers] = generate(model, processor, [asking("x", 1)], [[picture(1)]], max_new_tokens=8, num_samples=8)
    assert vision.isdisjoint(i for ids in answers for i in ids)


def test_a_repairer_repairs_and_its_texts_end_as_the_drafts(loaded: tuple[Any, Any], name: str) -> None:
    model, processor = loaded
    tokenizer = processor.tokenizer
    prompts, images = mixed_rows()
    end = tokenizer.convert_tokens_to_ids(BUILDERS[name]().written)
    draft = tokenizer.encode("the answer is 4", add_special_tokens=False)
    requests = [
        RepairRequest(prompt, list(of_row), [*draft, end], "the answer is 5")
        for prompt, of_row in zip(prompts, images, strict=True)
    ]
    repairer = LocalRepairer(model, processor, max_new_tokens=8, temperature=0)
    together = repairer.repair(requests)
    assert together == [repairer.repair([request])[0] for request in requests]
    likely(model, end)
    assert [[repair.token_ids for repair in row] for row in repairer.repair(requests)] == [[[end]]] * 4

    [[repair]] = ReferenceRepairer(tokenizer).repair(requests[:1])
    assert repair.token_ids == [*tokenizer.encode("the answer is 5", add_special_tokens=False), end]
    assert end_of(draft, tokenizer) == []
    blank = tokenizer.encode(" the answer is 4", add_special_tokens=False)
    [[repair]] = ReferenceRepairer(tokenizer).repair([replace(requests[0], draft_ids=[*blank, end])])
    assert repair.token_ids == [*tokenizer.encode(" the answer is 5", add_special_tokens=False), end], "after a blank"

    served = Endpoint(url="http://127.0.0.1:9/v1", model="m")
    answer = ChatAnswer(["the answer is 5"] * 2, token_ids=[[*draft, end], draft], truncated=[False, False])
    for kind in (EndpointRepairer, VLLMServerRepairer):
        for repair in kind(served, tokenizer)._candidates(requests[0], answer):
            assert repair.token_ids[-1] == end
            assert end not in repair.token_ids[:-1]


def test_labels_are_what_the_template_writes_as_the_answer(loaded: tuple[Any, Any], name: str) -> None:
    """Generation prompt and labels joined are the conversation as the chat template writes it, up to the end."""
    model, processor = loaded
    tokenizer = processor.tokenizer
    prompts, images = mixed_rows()
    rows = [
        RepairExample(str(i), prompt[-1]["content"][-1]["text"], tuple(of_row), "x 4", "x 5", f"x {i + 5}")
        for i, (prompt, of_row) in enumerate(zip(prompts, images, strict=True))
    ]
    batch = RepairCollator(processor, model.generation_config)(list(sft_dataset(rows, processor, "full")))
    end = BUILDERS[name]().written
    for row, ids, labels, attended in zip(
        rows, batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True
    ):
        places = (labels != -100).nonzero().flatten()
        assert torch.equal(ids[places], labels[places])
        assert places.tolist() == list(range(places[0], places[0] + len(places)))
        assert tokenizer.decode(labels[places]).strip() == f"{row.repaired}{end}"
        turns = [*asking("x", 0), {"role": "assistant", "content": [{"type": "text", "text": row.repaired}]}]
        whole = processor.apply_chat_template([turns], tokenize=False)[0]
        asked = processor.apply_chat_template([turns[:1]], add_generation_prompt=True, tokenize=False)[0]
        text = tokenizer.decode(labels[places[:-1]])
        if whole.startswith(asked):  # LLaVA-OneVision's template does not write what it prompts with
            assert whole.startswith(asked + text), "with the blank that the template puts before an answer"
        assert attended[places].all()
        assert not attended[places[-1] + 1 :].any()
    with torch.no_grad():
        together = model(**batch).loss
        losses = [
            model(**RepairCollator(processor, model.generation_config)([row])).loss
            for row in sft_dataset(rows, processor, "full")
        ]
    tokens = [int((labels != -100).sum()) for labels in batch["labels"]]
    mean = sum(float(loss) * n for loss, n in zip(losses, tokens, strict=True)) / sum(tokens)
    assert float(together) == pytest.approx(mean, rel=1e-4), "padding and the other rows' images change no loss"


def test_an_adapter_sits_on_every_linear_layer_of_the_language_model_and_on_no_other(
    loaded: tuple[Any, Any], tmp_path: Path, name: str, checkpoint: Callable[[str], Path]
) -> None:
    """Told apart by what a layer reads: the vision tower and the connector run before the first language layer."""
    model, _ = loaded
    order: list[str] = []
    for place, module in model.named_modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda *_, place=place: order.append(place))
    prompts, images = mixed_rows((1,))
    generate(*loaded, prompts, images, max_new_tokens=1, temperature=0)
    first = max(i for i, place in enumerate(order) if place.endswith("layers.0.self_attn.q_proj"))
    language = [place for place in order[first:] if "lm_head" not in place]

    adapted = with_lora(model, Lora(rank=2), seed=0)
    assert sorted(adapted.targeted_module_names) == sorted(language)
    assert {place.rpartition(".")[2] for place in language} >= {"q_proj", "k_proj", "v_proj", "o_proj", "down_proj"}

    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.5)
    expected = generate(adapted, loaded[1], prompts, images, **GREEDY)
    adapted.save_pretrained(tmp_path)
    name_base(tmp_path, str(checkpoint(name)))
    assert generate(*load_model(str(tmp_path)), prompts, images, **GREEDY) == expected


def test_held_out_questions_are_answered_and_graded(loaded: tuple[Any, Any]) -> None:
    questions = sample_problems("test", 4, seed=0)
    result = evaluate(*loaded, questions, max_new_tokens=6)
    answers = generate(
        *loaded, [q.prompt for q in questions], [q.images for q in questions], max_new_tokens=6, temperature=0
    )
    decode = loaded[1].tokenizer.decode
    assert [p.response for p in result.predictions] == [decode(ids, skip_special_tokens=True) for [ids] in answers]
    assert len(result.judged) == 4


def test_a_lent_image_runs_the_vision_tower_and_changes_no_gradient(loaded: tuple[Any, Any]) -> None:
    """Rows without an image, trained beside a rank that has some."""
    model, processor = loaded
    rows = list(
        sft_dataset(
            [RepairExample(str(i), "how many ?", (), "x 4", "x 5", f"x {i}") for i in range(2)], processor, "full"
        )
    )
    gradients = []
    for lends in (False, True):
        batch = RepairCollator(processor, model.generation_config, lends)(rows)
        assert len(batch["input_ids"]) == 2 + lends
        model.zero_grad(set_to_none=True)
        model(**batch).loss.backward()
        gradients.append({name: value.grad for name, value in model.named_parameters()})
    model.zero_grad(set_to_none=True)
    plain, lent = gradients
    assert sum(value is None for value in lent.values()) < sum(value is None for value in plain.values())
    largest = max(float(value.abs().max()) for value in plain.values() if value is not None)
    for name, value in lent.items():
        expected = plain[name] if plain[name] is not None else torch.zeros(())
        if value is not None:
            torch.testing.assert_close(value, expected.expand_as(value), rtol=0, atol=1e-5 * largest, msg=name)
