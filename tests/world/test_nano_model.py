"""The nano model in the real classes: processor, chat template, generation, saving and loading."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, Qwen2_5_VLForConditionalGeneration

from difference_feedback import world
from difference_feedback.bench.supervised import collate, questions, rewrites, train_supervised
from difference_feedback.report.data import Example
from difference_feedback.world import nano
from difference_feedback.world.tokenizer import VISION_TOKENS


@pytest.fixture(scope="module")
def built():
    return nano.build(seed=1)


def encode(processor, problems):
    texts = [processor.apply_chat_template(p.prompt, add_generation_prompt=True, tokenize=False) for p in problems]
    images = [list(p.images) for p in problems]
    return processor(text=texts, images=images, padding=True, padding_side="left", return_tensors="pt")


def test_the_same_seed_builds_the_same_model(built):
    again, other = nano.build(seed=1)[0], nano.build(seed=2)[0]
    state = built[0].state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())
    assert not all(torch.equal(value, state[name]) for name, value in other.state_dict().items())
    assert 200_000 < built[0].num_parameters() < 1_000_000


@settings(max_examples=50)
@given(text=st.text(max_size=40))
def test_any_text_has_an_encoding_that_decodes_to_it(built, text):
    tokenizer = built[1].tokenizer
    if not any(token in text for token in tokenizer.all_special_tokens):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_words_of_the_tasks_are_single_tokens(built):
    tokenizer = built[1].tokenizer
    answer = "row 1 reads 4 7 1 . column 3 has 1 . answer 1"
    assert len(tokenizer.encode(answer)) == len(answer.split())


def test_generation_never_emits_a_vision_token(built):
    model, processor = built
    inputs = encode(processor, world.sample_problems("rl", 12, 0))
    torch.manual_seed(0)
    out = model.generate(**inputs, max_new_tokens=40, do_sample=True, temperature=5.0, top_k=0)
    new = set(out[:, inputs["input_ids"].shape[1] :].unique().tolist())
    assert not new & set(processor.tokenizer.convert_tokens_to_ids(list(VISION_TOKENS)))
    assert len(new) > 50  # random weights at a high temperature reach most of the vocabulary


def test_another_image_changes_the_log_probabilities(built):
    model, processor = built
    problem = world.sample_problems("rl", 1, 0)[0]
    blank = Image.new("RGB", problem.images[0].size, "white")
    inputs, blanked = encode(processor, [problem]), encode(processor, [replace(problem, images=(blank,))])
    assert torch.equal(inputs["input_ids"], blanked["input_ids"])
    with torch.no_grad():
        assert not torch.allclose(model(**inputs).logits, model(**blanked).logits)


def test_padding_on_the_left_changes_nothing(built):
    model, processor = built
    problems = world.sample_problems("rl", 6, 0)
    with torch.no_grad():
        together = model(**encode(processor, problems)).logits[:, -1]
        alone = torch.cat([model(**encode(processor, [p])).logits[:, -1] for p in problems])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_saved_and_loaded_by_the_auto_classes_it_is_the_same(built, tmp_path):
    model, processor = built
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded, loaded_processor = (
        AutoModelForImageTextToText.from_pretrained(tmp_path),
        AutoProcessor.from_pretrained(tmp_path),
    )
    assert isinstance(loaded, Qwen2_5_VLForConditionalGeneration)
    assert [p.name for p in tmp_path.glob("*.safetensors")]
    assert loaded.generation_config.suppress_tokens == model.generation_config.suppress_tokens
    inputs, again = (encode(p, world.sample_problems("rl", 6, 0)) for p in (processor, loaded_processor))
    assert torch.equal(inputs["input_ids"], again["input_ids"])
    with torch.no_grad():
        assert torch.equal(model.eval()(**inputs).logits, loaded.eval()(**again).logits)


def test_labels_stand_on_the_answer_and_its_end_alone(built):
    processor = built[1]
    stream = questions("warm", seed=0)
    batch: list[Example] = [next(stream) for _ in range(8)]
    inputs = collate(processor, batch)
    for example, labels, ids in zip(batch, inputs["labels"], inputs["input_ids"], strict=True):
        kept = labels[labels != -100]
        assert processor.tokenizer.decode(kept) == example.answer + "<|im_end|>"
        assert torch.equal(ids[-len(kept) :], kept)


def test_rewrites_turn_a_wrong_draft_into_the_right_answer_of_the_same_form():
    stream = rewrites("warm", seed=0)
    for _ in range(30):
        example = next(stream)
        text = example.conversation[-1]["content"][-1]["text"]
        draft = text.split(" draft : ")[1].split(" reference : ")[0].removesuffix(" repair :")
        assert world.is_correct(example.problem, example.answer)
        assert world.error_spans(example.problem, draft) is not None
        assert len(draft.split()) == len(example.answer.split())


def test_supervised_training_lowers_the_loss(built):
    model, processor = nano.build(seed=3)
    stream = questions("warm", seed=0)
    batch = [next(stream) for _ in range(16)]
    losses: list[float] = []
    train_supervised(model, processor, iter([batch] * 25), steps=25, on_step=lambda _, loss: losses.append(loss))
    assert losses[-1] < 0.6 * losses[0]
    assert not model.training
