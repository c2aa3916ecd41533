"""The GPUs that a run is billed for: each once, whoever uses it."""

import pytest

from difference_feedback.method.cost import BILL
from difference_feedback.models.billing import bill_servers
from difference_feedback.runs.sections import Endpoint


def _endpoint(port: int, **values: object) -> Endpoint:
    return Endpoint.model_validate({"url": f"http://127.0.0.1:{port}/v1", "model": "m", **values})


@pytest.mark.parametrize(
    ("ranks", "endpoints", "billed"),
    [
        (6, [_endpoint(1, serve={"gpus": "6,7"})], 2),
        (6, [_endpoint(1, serve={"gpus": "6,7"}), _endpoint(2, serve={"gpus": "7"})], 2),
        (8, [_endpoint(1, serve={"gpus": "0,1,2,3,4,5,6,7"})], 0),
        (4, [_endpoint(1, serve={})], 4),
        (8, [_endpoint(1, billed_gpus=4.0)], 4),
        (8, [_endpoint(1)], 0),
    ],
)
def test_a_gpu_is_billed_once(
    monkeypatch: pytest.MonkeyPatch, ranks: int, endpoints: list[Endpoint], billed: int
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4,5,6,7")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    total = 0.0
    for rank in range(ranks):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        monkeypatch.setattr(BILL, "_gpus", {})
        bill_servers(endpoints)
        assert ("gpu" in BILL.now()) == bool(billed), "all ranks have the same clocks"
        total += BILL._gpus.get("servers", 0.0)
    assert total == billed


def test_on_several_machines_each_bills_its_own_server_and_one_the_common_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    total = 0.0
    for rank in range(4):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("LOCAL_RANK", str(rank % 2))
        monkeypatch.setattr(BILL, "_gpus", {})
        bill_servers([_endpoint(1, serve={"gpus": "2"}), _endpoint(2, billed_gpus=3.0)])
        total += BILL._gpus.get("servers", 0.0)
    assert total == 2 * 1 + 3
