"""Repairs by a vLLM server that speculates from the prompt, beside one that does not: `make test-vllm`.

Sampling is right here since `vllm_startup` mends a kernel of vLLM's for the CPU. GPUs have kernels of their own.
"""

import os
import urllib.request
from collections import Counter

import numpy as np
import pytest
from scipy.stats import chi2_contingency
from servers.vllm_server import FOLDER, MODEL, PYTHON, URL, serve_settings

from difference_feedback import world
from difference_feedback.judges.chat import ChatClient, ChatRequest
from difference_feedback.method.repairs import RepairRequest
from difference_feedback.repair.endpoint import VLLMServerRepairer
from difference_feedback.repair.prompts import RepairPrompt
from difference_feedback.runs.sections import Endpoint, RepairEndpoint
from difference_feedback.runs.serving import free_url, serving
from difference_feedback.world.nano import load_base

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def plain():
    if URL not in os.environ:
        pytest.skip(f"left out: vLLM ({URL} is not set; run `make test-vllm`)")
    return Endpoint(url=os.environ[URL], model=MODEL, retries=0)


@pytest.fixture(scope="module")
def speculating(plain, tmp_path_factory):
    """A server as a run starts it for its repairs on a GPU."""
    serve = serve_settings(os.environ[PYTHON], os.environ[FOLDER]) | {"speculation": 8}
    endpoint = RepairEndpoint.model_validate({"url": free_url(), "model": MODEL, "retries": 0, "serve": serve})
    with serving({"repairs.endpoint": endpoint}, tmp_path_factory.mktemp("server")):
        yield endpoint


@pytest.fixture(scope="module")
def tokenizer():
    return load_base()[1].tokenizer


@pytest.fixture(scope="module")
def requests(tokenizer):
    result = []
    for problem in world.sample_problems("rl", 24, 0):
        form = world.TASKS[problem.task].forms(problem.facts)[0]
        wrong = form.write({form.readings[0].name: form.readings[0].misreadings[0]})
        ids = [*tokenizer.encode(wrong), tokenizer.eos_token_id]
        result.append(RepairRequest(problem.prompt, list(problem.images), ids, world.correct_answers(problem)[-1]))
    return result


def counted(endpoint):
    """vLLM's counters, by their names."""
    with urllib.request.urlopen(endpoint.url.removesuffix("/v1") + "/metrics") as answer:
        lines = [line for line in answer.read().decode().splitlines() if line.startswith("vllm:")]
    return {line.partition("{")[0].removeprefix("vllm:"): float(line.rpartition(" ")[2]) for line in lines}


def question(tokenizer, request, **settings):
    draft = tokenizer.decode(request.draft_ids, skip_special_tokens=True)
    messages = RepairPrompt("nano", tokenizer)(request.prompt, draft, request.reference)
    return ChatRequest(messages, request.images, token_ids=True, **settings)


def test_greedy_repairs_are_the_same_in_fewer_steps(plain, speculating, tokenizer, requests):
    """Every token, the end included; the steps are those of the engine, one request after the other."""
    ids, steps = [], []
    for endpoint in (plain, speculating):
        alone = endpoint.model_copy(update={"concurrency": 1})
        before = counted(endpoint)
        repairs = VLLMServerRepairer(alone, tokenizer, style="nano", temperature=0.0).repair(requests)
        after = counted(endpoint)
        ids.append([repair.token_ids for [repair] in repairs])
        steps.append(after["iteration_tokens_total_count"] - before["iteration_tokens_total_count"])
    accepted = after["spec_decode_num_accepted_tokens_total"] - before["spec_decode_num_accepted_tokens_total"]
    print(f"engine steps: {steps}, accepted proposals: {accepted}, tokens: {sum(map(len, ids[0]))}")
    assert ids[0] == ids[1]
    assert steps[1] < 0.75 * steps[0]
    assert accepted >= 0.9 * (steps[0] - steps[1])


def test_seeds_make_the_same_repairs_again(speculating, tokenizer, requests):
    first, second = (
        VLLMServerRepairer(speculating, tokenizer, style="nano", temperature=1.0).repair(requests, 3) for _ in range(2)
    )
    assert first == second
    assert any(len({repair.text for repair in row}) > 1 for row in first)


def test_what_is_shut_out_is_shut_out_at_every_place_of_a_window(speculating, tokenizer, requests):
    """The most frequent tokens of the greedy repairs, in samples. vLLM reads a word without its space and with it."""
    client = ChatClient(speculating)
    free = client.ask([question(tokenizer, request) for request in requests])
    written = Counter(token for answer in free for token in answer.token_ids[0][:-1])
    words = [
        token for token, _ in written.most_common() if len(tokenizer.encode(tokenizer.decode(token).strip())) == 1
    ][:3]
    texts = [tokenizer.decode(token) for token in words]
    bound = client.ask([question(tokenizer, request, bad_words=texts, n=4, temperature=1.0) for request in requests])
    tokens = {token for answer in bound for ids in answer.token_ids for token in ids}
    assert sum(written[token] for token in words) > len(requests) / 2
    assert tokens.isdisjoint(words)
    assert len(tokens) > 10


def test_a_bias_is_refused_so_repairs_send_none(speculating, tokenizer, requests):
    [answer] = ChatClient(speculating).ask([question(tokenizer, requests[0], logit_bias={5: -100.0})])
    assert answer.texts is None
    assert "logit_bias" in answer.error


def test_samples_have_the_same_law(plain, speculating, tokenizer, requests):
    """Whole beginnings of six tokens, with a temperature: chi-square of two samples.

    Beginnings that occur fewer than ten times in both samples together are one cell. Chance gives less than 1e-4 once
    in ten thousand runs; the seeds are fixed.
    """
    tables = []
    for request in requests[:4]:
        samples = []
        for seed, endpoint in ((0, plain), (1000, speculating)):  # vLLM gives the 500 the seeds from there on
            asked = question(tokenizer, request, n=500, max_tokens=6, temperature=1.5, seed=seed)
            [answer] = ChatClient(endpoint).ask([asked])
            samples.append(Counter(map(tuple, answer.token_ids)))
        cells = Counter(samples[0] + samples[1])
        common = [ids for ids, times in cells.items() if times >= 10]
        rows = [[sample[ids] for ids in common] for sample in samples]
        tables.append(np.array([[*row, 500 - sum(row)] for row in rows]))
    tests = [chi2_contingency(table[:, table.sum(0) > 0], correction=False) for table in tables]
    print([(len(table[0]), round(test.pvalue, 4)) for table, test in zip(tables, tests, strict=True)])
    assert sum(table.shape[1] for table in tables) > 20
    assert min(test.pvalue for test in tests) > 1e-4
