"""The chat server that other tests ask speaks as TRL's own client expects (which is told that vLLM is installed)."""

import pytest
from trl.generation import vllm_client

from difference_feedback import world
from difference_feedback.judges.chat import ChatClient, ChatRequest
from difference_feedback.runs.sections import Endpoint


def test_trl_s_client_and_ours_get_the_same_tokens(openai_server, monkeypatch):
    monkeypatch.setattr(vllm_client, "is_vllm_available", lambda: True)
    theirs = vllm_client.VLLMClient(openai_server.url.removesuffix("/v1"))
    [problem] = world.sample_problems("rl", 1, 0)
    content = [
        {"type": "image", "image": problem.images[0]},
        {"type": "text", "text": problem.question},
    ]
    result = theirs.chat([[{"role": "user", "content": content}]], temperature=0.0, max_tokens=24, logprobs=None)
    endpoint = Endpoint(url=openai_server.url, model=openai_server.model, max_tokens=24)
    [ours] = ChatClient(endpoint).ask([ChatRequest(problem.prompt, problem.images, token_ids=True)])
    assert ours.token_ids == result["completion_ids"]
    assert len(ours.token_ids[0]) > 3


@pytest.mark.parametrize("seed", [0, 1])
def test_a_seed_gives_the_same_answer_again(openai_server, seed):
    chat = ChatClient(Endpoint(url=openai_server.url, model=openai_server.model, max_tokens=12))
    [problem] = world.sample_problems("rl", 1, 0)
    request = ChatRequest(problem.prompt, problem.images, temperature=1.0, seed=seed, n=2)
    assert chat.ask([request])[0].texts == chat.ask([request])[0].texts
