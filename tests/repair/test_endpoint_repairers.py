"""Repair models behind a real server on loopback: the nano base, asked over OpenAI's routes."""

import json

import pytest
from servers.unruly_server import unruly

from difference_feedback import world
from difference_feedback.errors import ConfigError, DataError
from difference_feedback.judges.chat import ChatClient
from difference_feedback.method.repairs import RepairRequest
from difference_feedback.models.vision_tokens import vision_token_ids
from difference_feedback.policy.train import train
from difference_feedback.repair.endpoint import EndpointRepairer, VLLMServerRepairer
from difference_feedback.repair.local import LocalRepairer
from difference_feedback.runs.folder import Run
from difference_feedback.runs.recipes import TrainRecipe
from difference_feedback.runs.sections import Endpoint
from difference_feedback.world.nano import load_base


@pytest.fixture(scope="module")
def base():
    return load_base()


@pytest.fixture(scope="module")
def requests(base):
    tokenizer = base[1].tokenizer
    result = []
    for problem in world.sample_problems("rl", 5, 0):
        form = world.TASKS[problem.task].forms(problem.facts)[0]
        wrong = form.write({form.readings[0].name: form.readings[0].misreadings[0]})
        ids = [*tokenizer.encode(wrong), tokenizer.eos_token_id]
        result.append(RepairRequest(problem.prompt, list(problem.images), ids, world.correct_answers(problem)[-1]))
    return result


def endpoint(server, **settings):
    return Endpoint(url=server.url, model=getattr(server, "model", "m"), **{"concurrency": 3, "retries": 0} | settings)


def test_greedy_repairs_come_alone(openai_server, base):
    repairer = EndpointRepairer(endpoint(openai_server), base[1].tokenizer, style="nano", temperature=0.0)
    with pytest.raises(ConfigError, match=r"repairs.temperature is 0.*2 samples"):
        repairer.repair([], 2)


def test_a_request_shuts_out_vision_tokens_in_a_way_that_vllm_takes_with_speculation(openai_server, base, requests):
    tokenizer = base[1].tokenizer
    VLLMServerRepairer(endpoint(openai_server), tokenizer, style="nano").repair(requests[:1])
    [body] = openai_server.requests
    assert "logit_bias" not in body
    ids = [tokenizer.encode(word, add_special_tokens=False) for word in body["bad_words"]]
    assert {i for [i] in ids} == vision_token_ids(None, tokenizer) != set()


def test_a_repair_with_a_vision_token_is_refused(base, requests):
    """A server may ignore what a request shuts out. Such a token would stand for an image that is not there."""
    ids = base[1].tokenizer.encode("1 plus 2 is 3 <|image_pad|>")
    good = [i for i in ids if i not in vision_token_ids(None, base[1].tokenizer)]
    choices = [
        {"message": {"content": "1 plus 2 is 3"}, "token_ids": row, "finish_reason": "stop"} for row in (ids, good)
    ]
    with unruly() as server:
        server.script = [{"raw": json.dumps({"choices": choices})}]
        repairer = VLLMServerRepairer(endpoint(server), base[1].tokenizer, style="nano", temperature=1.0)
        [[bad, fine]] = repairer.repair(requests[:1], 2)
    assert (bad.fault, bad.token_ids) == ("unreadable", [])
    assert fine.fault is None
    assert fine.token_ids[:-1] == good


@pytest.mark.parametrize("kind", [EndpointRepairer, VLLMServerRepairer])
def test_the_served_model_repairs_as_the_local_one(openai_server, base, requests, kind):
    settings = {"style": "nano", "temperature": 0.0}
    remote = kind(endpoint(openai_server), base[1].tokenizer, **settings).repair(requests)
    local = LocalRepairer(*base, max_growth=1.5, batch_size=1, **settings)
    expected = [local.repair([request])[0] for request in requests]
    assert [[r.text for r in row] for row in remote] == [[r.text for r in row] for row in expected]
    assert [[r.token_ids for r in row] for row in remote] == [[r.token_ids for r in row] for row in expected]
    assert all(r.projected == (kind is EndpointRepairer) for row in remote for r in row)


def test_samples_are_several_seeded_and_of_each_call_their_own(openai_server, base, requests):
    repairer = EndpointRepairer(endpoint(openai_server), base[1].tokenizer, style="nano", temperature=1.0)
    first, second = repairer.repair(requests, 2), repairer.repair(requests, 2)
    assert [len(row) for row in first] == [2] * len(requests)
    assert first != second
    repairer.calls = 0
    assert repairer.repair(requests, 2) == first


def test_the_server_sees_image_draft_and_reference(openai_server, base, requests):
    EndpointRepairer(endpoint(openai_server), base[1].tokenizer, style="nano").repair(requests[:1])
    [body] = openai_server.requests
    image, text = body["messages"][-1]["content"]
    assert image["image_url"]["url"].startswith("data:image/png;base64,")
    assert f"reference : {requests[0].reference} repair :" in text["text"]
    assert body["max_tokens"] == int(1.5 * len(requests[0].draft_ids)) + 8


def test_a_row_that_fails_has_no_candidates_and_the_others_theirs(base, requests):
    with unruly() as server:
        server.script = ["answer 3", {"status": 404}, "answer 4"]
        repairer = EndpointRepairer(endpoint(server, concurrency=1), base[1].tokenizer, style="nano")
        result = repairer.repair(requests[:3])
    assert [[r.text for r in row] for row in result] == [["answer 3"], [], ["answer 4"]]
    assert repairer.client.usage.failed == 1


def test_a_server_without_token_ids_is_named(base, requests):
    with unruly() as server:
        server.script = ["answer 3"]
        with pytest.raises(DataError, match=r"returns no token ids.*repairs.via=endpoint"):
            VLLMServerRepairer(endpoint(server), base[1].tokenizer, style="nano").repair(requests[:1])


def test_a_truncated_repair_has_no_end(openai_server, base, requests):
    for kind in (EndpointRepairer, VLLMServerRepairer):
        repairer = kind(endpoint(openai_server, max_tokens=2), base[1].tokenizer, style="nano", temperature=0.0)
        [[repair]] = repairer.repair(requests[:1])
        assert len(repair.token_ids) == 2
        assert base[1].tokenizer.eos_token_id not in repair.token_ids


@pytest.mark.parametrize("via", ["endpoint", "vllm"])
def test_a_training_run_with_a_served_repair_model(openai_server, tmp_path, via):
    server = {"url": openai_server.url, "model": openai_server.model, "concurrency": 2}
    trl = {"max_steps": 1, "per_device_train_batch_size": 32, "num_generations": 8, "max_completion_length": 64}
    values = {"repairs": {"via": via, "style": "nano", "endpoint": server}, "problems": 8, "trl": trl}
    recipe = TrainRecipe.model_validate(values | {"evaluation": {"problems": 4, "max_new_tokens": 8}})
    run = Run(tmp_path / "run", recipe)
    train(recipe, run)
    [row] = [row for row in run.metrics() if "df/requested" in row]
    assert row["df/requested"] > 0
    assert len(openai_server.requests) == row["df/requested"]
    refused = row["df/refused/too_long"] + row["df/refused/missing"] + row["df/refused/empty"]
    usable = 2 * row["df/requested"] - refused  # K = 2
    assert row["df/projected"] == (usable if via == "endpoint" else 0)


def test_the_client_can_be_given(base, requests):
    with unruly() as server:
        server.script = [{"status": 500}, "answer 3"]
        settings = endpoint(server, retries=1)
        repairer = EndpointRepairer(
            settings, base[1].tokenizer, style="nano", client=ChatClient(settings, first_pause=0.01)
        )
        [[repair]] = repairer.repair(requests[:1])
    assert repair.text == "answer 3"
