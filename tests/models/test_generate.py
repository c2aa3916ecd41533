"""Sampling: same answers whatever shares the batch, no vision tokens, nothing left behind."""

import pytest
import torch

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.models.generate import OwnStreams, generate, own_random_stream, unchanged
from difference_feedback.world import sample_problems

EOS, PAD = 2, 0
VISION = {3, 4, 5, 6, 7}


@pytest.fixture(scope="module")
def questions():
    """Prompts of mixed length, with one, two and no images."""
    problems = sample_problems("rl", 6, seed=0)
    prompts, images = [p.prompt for p in problems], [list(p.images) for p in problems]
    prompts[1] = [{"role": "user", "content": [{"type": "image"}, *prompts[1][0]["content"]]}]
    images[1] = images[1] * 2
    prompts[2] = [{"role": "system", "content": "look at the image and answer"}, *prompts[2]]
    prompts[3] = [{"role": "user", "content": "a question as plain text , its image unmentioned"}]
    return prompts, images


def test_batch_with_left_padding_equals_one_by_one(frozen, questions):
    model, processor = frozen
    prompts, images = questions
    together = generate(model, processor, prompts, images, max_new_tokens=12, temperature=0)
    alone = [
        generate(model, processor, [p], [i], max_new_tokens=12, temperature=0)[0]
        for p, i in zip(prompts, images, strict=True)
    ]
    assert together == alone
    assert len({tuple(ids) for answers in together for ids in answers}) == len(prompts)  # they do differ


def test_small_batches_keep_the_order(frozen, questions):
    model, processor = frozen
    prompts, images = questions
    whole = generate(model, processor, prompts, images, max_new_tokens=8, temperature=0)
    assert generate(model, processor, prompts, images, max_new_tokens=8, temperature=0, batch_size=2) == whole
    assert generate(model, processor, prompts[::-1], images[::-1], max_new_tokens=8, temperature=0) == whole[::-1]


def test_the_image_matters(frozen, questions):
    model, processor = frozen
    prompts, images = questions
    other = [[image.transpose(0).point(lambda v: 255 - v) for image in samples] for samples in images]
    answers = generate(model, processor, prompts, images, max_new_tokens=8, temperature=0)
    assert answers != generate(model, processor, prompts, other, max_new_tokens=8, temperature=0)


def test_a_seed_gives_the_same_samples_and_leaves_the_random_stream_alone(frozen, questions):
    model, processor = frozen
    prompts, images = questions
    kwargs = {"max_new_tokens": 8, "num_samples": 3}
    torch.manual_seed(5)
    first = generate(model, processor, prompts, images, seed=1, **kwargs)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), drawn)
    assert generate(model, processor, prompts, images, seed=1, **kwargs) == first
    assert generate(model, processor, prompts, images, seed=2, **kwargs) != first
    assert [len(answers) for answers in first] == [3] * len(prompts)
    assert len({tuple(ids) for ids in first[0]}) > 1


def test_with_seeds_of_their_own_answers_do_not_depend_on_what_is_beside_them(frozen, questions):
    model, processor = frozen
    prompts, images = questions
    kwargs = {"max_new_tokens": 10, "num_samples": 3, "temperature": 0.7}
    seeds = [11, 12, 13, 14, 15, 16]
    whole = generate(model, processor, prompts, images, seeds=seeds, **kwargs)
    assert len({tuple(ids) for ids in whole[0]}) > 1
    assert generate(model, processor, prompts, images, seeds=seeds, seed=9, batch_size=2, **kwargs) == whole
    backwards = generate(model, processor, prompts[::-1], images[::-1], seeds=seeds[::-1], **kwargs)
    assert backwards == whole[::-1]
    for i in (0, 4):
        assert generate(model, processor, [prompts[i]], [images[i]], seeds=[seeds[i]], **kwargs) == [whole[i]]
    longer = generate(model, processor, prompts, images, seeds=seeds, **{**kwargs, "max_new_tokens": 14})
    assert [[ids[:10] for ids in answers] for answers in longer] == whole
    assert generate(model, processor, prompts, images, seeds=[*seeds[:5], 99], **kwargs)[:5] == whole[:5]


def test_own_streams_draw_from_the_models_distribution():
    """Frequencies of 40,000 draws, within five standard deviations; what is suppressed is never drawn."""
    scores = torch.tensor([[1.0, -torch.inf, 0.2, -1.5, 2.0]])
    draws = OwnStreams(list(range(40_000)), 1, 1, temperature=0.7)(torch.zeros(1, 1).long(), scores.expand(40_000, -1))
    assert ((draws == 0).sum(1) == 1).all()
    expected = (scores[0] / 0.7).softmax(-1)
    measured = (draws == 0).float().mean(0)
    assert ((measured - expected).abs() <= 5 * (expected * (1 - expected) / 40_000).sqrt()).all()
    assert measured[1] == 0


def test_answers_end_at_the_end_of_sequence_token(frozen, questions):
    model, processor = frozen
    prompts, images = questions[0][:2], questions[1][:2]
    answers = generate(model, processor, prompts, images, max_new_tokens=40, temperature=30.0, num_samples=32)
    flat = [ids for samples in answers for ids in samples]
    ended = [ids for ids in flat if EOS in ids]
    assert ended
    assert all(ids.index(EOS) == len(ids) - 1 for ids in ended)
    assert all(len(ids) == 40 for ids in flat if EOS not in ids)


def test_no_vision_tokens(nano_model, questions):
    model, processor = nano_model
    prompts, images = questions
    with torch.no_grad():  # all tokens as likely as can be
        model.get_output_embeddings().weight.zero_()
    answers = generate(model, processor, prompts, images, max_new_tokens=24, num_samples=16)
    sampled = {token for samples in answers for ids in samples for token in ids}
    assert len(sampled) > 300
    assert not sampled & VISION


def test_a_checkpoints_own_sampling_settings_do_not_slip_in(nano_model, questions):
    model, processor = nano_model
    prompts, images = questions
    plain = generate(model, processor, prompts, images, max_new_tokens=8)
    model.generation_config.update(top_k=1, repetition_penalty=3.0, temperature=0.01, top_p=0.1, min_p=0.9)
    model.generation_config.update(epsilon_cutoff=0.9, eta_cutoff=0.9, typical_p=0.1, return_dict_in_generate=True)
    assert generate(model, processor, prompts, images, max_new_tokens=8) == plain


def test_a_model_in_training_is_left_as_it_was(nano_model, questions):
    model, processor = nano_model
    prompts, images = questions
    model.train()
    model.model.visual.eval()
    model.model.visual.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    flags = [parameter.requires_grad for parameter in model.parameters()]
    inputs = processor(text=["<|vision_start|><|image_pad|><|vision_end|>a"], images=[images[0]], return_tensors="pt")
    before = model(**inputs).logits.detach()
    generate(model, processor, prompts, images, max_new_tokens=4)
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    loss = model(**inputs).logits
    assert torch.equal(loss.detach(), before)
    loss.sum().backward()  # nothing of the generation is in the graph, nor frozen by it
    assert next(model.model.language_model.parameters()).grad is not None


def test_modes_are_restored_when_something_fails(nano_model):
    model, _ = nano_model
    model.train()

    def fail():
        with unchanged(model):
            assert not model.training
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        fail()
    assert model.training


def test_own_random_stream_is_restored_after_an_error():
    torch.manual_seed(3)
    state = torch.get_rng_state()

    def fail():
        with own_random_stream(torch.device("cpu"), 7):
            torch.rand(5)
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        fail()
    assert torch.equal(torch.get_rng_state(), state)


def test_several_greedy_samples_are_an_error(frozen, questions):
    with pytest.raises(ConfigError, match="temperature above 0"):
        generate(*frozen, *questions, max_new_tokens=4, temperature=0, num_samples=2)


def test_a_missing_image_names_the_row(frozen, questions):
    prompts, images = questions
    with pytest.raises(DataError, match=r"row 1, field 'images'"):
        generate(*frozen, prompts, [images[0], [], *images[2:]], max_new_tokens=4)


def test_nothing_asked_nothing_generated(frozen):
    assert generate(*frozen, [], [], max_new_tokens=4) == []
