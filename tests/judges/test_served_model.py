"""A model behind a server answers where a model in this process would: evaluation, drafts, the filter by text alone."""

import pytest
from overwritten import left_after_overwriting
from servers.unruly_server import unruly

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.judges.questions import EMBEDDED, draft_questions
from difference_feedback.judges.served_model import ServedModel
from difference_feedback.models.generate import Answerer
from difference_feedback.policy.evaluation import evaluate, evaluate_recipe
from difference_feedback.repair import stage
from difference_feedback.repair.drafts import oracle_repairs
from difference_feedback.repair.rl_data import rl_drafts
from difference_feedback.repair.stage import Stage
from difference_feedback.runs.folder import Run
from difference_feedback.runs.jsonl import read_rows
from difference_feedback.runs.recipes import EvaluateRecipe, RepairRLRecipe
from difference_feedback.runs.sections import PolicyEndpoint, TextOnly
from difference_feedback.world import sample_problems
from difference_feedback.world.nano import load_base


@pytest.fixture
def served(openai_server):
    return ServedModel(PolicyEndpoint(url=openai_server.url, concurrency=4), "nano")


def test_greedy_answers_are_the_local_ones_and_in_order(served, openai_server):
    assert isinstance(served, Answerer)
    model, processor = load_base()
    assert not isinstance(model, Answerer)
    problems = sample_problems("test", 14, 0)
    remote, local = (evaluate(m, processor, problems, max_new_tokens=40) for m in (served, model))
    assert remote.predictions == local.predictions
    assert len({p.response for p in local.predictions}) > 7
    assert 1 < openai_server.peak <= 4


def test_a_request_shuts_out_vision_tokens_and_what_the_model_s_configuration_says_of_sampling(served, openai_server):
    evaluate(served, served.processor, sample_problems("test", 1, 0), max_new_tokens=7, temperature=0.5)
    [body] = openai_server.requests
    assert set(body["logit_bias"].values()) == {-100.0}
    names = served.processor.tokenizer.convert_ids_to_tokens([int(token) for token in body["logit_bias"]])
    assert {"<|image_pad|>", "<|vision_start|>"} <= set(names)
    assert (body["max_tokens"], body["temperature"]) == (7, 0.5)
    assert (body["top_p"], body["top_k"], body["min_p"], body["repetition_penalty"]) == (1.0, -1, 0.0, 1.0)
    assert body["return_token_ids"]


def test_drafts_come_from_it_with_their_token_ids(served, openai_server):
    recipe = RepairRLRecipe(drafts=6)
    questions, rule = draft_questions(recipe), EMBEDDED
    supply = rl_drafts(
        served, served.processor, 6, questions=questions, grade=rule.is_right, text_only=TextOnly(samples=2)
    )
    tokenizer = served.processor.tokenizer
    assert len(supply.drafts) == 6
    for wrong in supply.drafts:
        assert tokenizer.decode(wrong.draft.token_ids, skip_special_tokens=True) == wrong.draft.text
        assert wrong.draft.token_ids[-1] == tokenizer.eos_token_id
        assert not rule.is_right(wrong.problem, wrong.draft.text)
        assert rule.is_right(wrong.problem, wrong.reference)
    shown = [
        any(part["type"] == "image_url" for part in body["messages"][-1]["content"]) for body in openai_server.requests
    ]
    assert {True, False} == set(shown), "the filter asks from the text alone"
    assert len({body["seed"] for body in openai_server.requests if body["n"] == 4}) > 1


def test_oracle_repairs_of_its_drafts(served):
    rows = oracle_repairs(served, served.processor, 4, progress=None, max_new_tokens=40)
    assert len(rows) == 4
    assert all(row.draft != row.repaired for row in rows)


def test_a_recipe_s_evaluation_by_a_server_equals_the_one_in_this_process(openai_server, tmp_path):
    values = {"evaluation": {"problems": 12, "max_new_tokens": 40}}
    server = {"url": openai_server.url}
    runs = []
    for name, endpoint in (("remote", server), ("local", None)):
        recipe = EvaluateRecipe.model_validate({"evaluation": values["evaluation"] | {"endpoint": endpoint}})
        run = Run(tmp_path / name, recipe)
        summary = evaluate_recipe(recipe, run)
        runs.append((summary["accuracy"], read_rows(run.folder / "predictions.jsonl")))
    assert len(openai_server.requests) == 12
    assert runs[0] == runs[1]
    assert left_after_overwriting(run) == set()


def test_a_stage_with_a_served_policy_loads_no_second_model(openai_server, tmp_path, monkeypatch):
    loaded = []
    load = stage.load_model
    monkeypatch.setattr(stage, "load_model", lambda name, **k: loaded.append(name) or load(name, **k))
    evaluation = {"endpoint": {"url": openai_server.url, "model": "nano"}}
    recipe = RepairRLRecipe.model_validate({"policy": "org/policy", "evaluation": evaluation})
    monkeypatch.setattr(stage, "ServedModel", lambda endpoint, name: ServedModel(endpoint, "nano"))
    assert isinstance(Stage(recipe, Run(tmp_path / "run", recipe), policy=recipe.policy).policy, ServedModel)
    assert loaded == [], "the model itself is loaded elsewhere, and the policy is not loaded"


def test_an_answer_that_does_not_come_is_no_wrong_answer():
    problems = sample_problems("test", 2, 0)
    with unruly() as server:
        server.script = [{"status": 404}]
        model = ServedModel(PolicyEndpoint(url=server.url), "nano")
        with pytest.raises(DataError, match=r"evaluation\.endpoint.*row 0"):
            evaluate(model, model.processor, problems)
        server.script = ["3 plus 8 is 11 . answer 11"]
        with pytest.raises(DataError, match="token ids"):
            evaluate(model, model.processor, problems)


def test_several_greedy_samples_are_refused(served):
    with pytest.raises(ConfigError, match="temperature"):
        served.answer([], [], max_new_tokens=4, temperature=0.0, num_samples=2)
