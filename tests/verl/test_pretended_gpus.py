"""verl's pool and the repair model's replicas on a Ray cluster that pretends to have eight GPUs."""

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import runs
from transformers import AutoTokenizer

from difference_feedback.errors import ConfigError, DataError, DifferenceFeedbackError
from difference_feedback.method.repairs import RepairRequest
from difference_feedback.repair.endpoint import EndpointRepairer
from difference_feedback.repair.local import LocalRepairer
from difference_feedback.runs.sections import Endpoint
from difference_feedback.verl.settings import settings_of
from difference_feedback.world import correct_answers, sample_problems

pytest.importorskip("verl", reason="verl has an environment of its own")
ray = pytest.importorskip("ray")
hydra = pytest.importorskip("hydra")
pytestmark = [pytest.mark.verl, pytest.mark.slow]
RECIPES = Path(__file__).parents[2] / "recipes" / "verl"
RECIPE = "qwen2_5_vl_7b_df_gspo"
NANO = ("difference_feedback.repair_model=nano", "+difference_feedback.style=nano")
NANO = (*NANO, "difference_feedback.dtype=float32", "difference_feedback.attention=null", "trainer.device=cpu")
MAX_TOKENS = 24


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Eight GPUs that do not exist, and as many CPUs as verl's pool of them asks for."""
    path = os.pathsep.join([str(runs.PACKAGE.parents[1]), os.environ.get("PYTHONPATH", "")])
    variables = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    ray.init(num_gpus=8, num_cpus=44, include_dashboard=False, runtime_env={"env_vars": variables})
    yield
    ray.shutdown()


@pytest.fixture
def free(cluster: None) -> Iterator[None]:
    """Afterwards all eight GPUs are free again: what is in a placement group ends with it."""
    from ray._raylet import PlacementGroupID
    from ray.util.placement_group import PlacementGroup

    yield
    for actor in ray.util.list_named_actors():
        ray.kill(ray.get_actor(actor))
    for group in ray.util.placement_group_table():
        ray.util.remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(group))))
    limit = time.monotonic() + 60
    while ray.available_resources().get("GPU") != 8 or ray.util.list_named_actors():
        assert time.monotonic() < limit
        time.sleep(0.2)


def compose(*changes: str) -> Any:
    with hydra.initialize_config_dir(version_base=None, config_dir=str(RECIPES)):
        return hydra.compose(config_name=RECIPE, overrides=[*NANO, *changes])


def start(config: Any) -> tuple[Any, Any]:
    """verl's pool, made as the trainer makes it, and the queue of the repairs."""
    from difference_feedback.verl.placement import check_cluster
    from difference_feedback.verl.trainer import DFTrainer

    config.actor_rollout_ref.rollout.response_length = MAX_TOKENS
    settings = settings_of(config)
    assert settings is not None
    check_cluster(config, settings)
    trainer = DFTrainer.__new__(DFTrainer)
    trainer.config, trainer.settings = config, settings
    trainer._init_resource_pool_mgr()
    trainer.resource_pool_manager.create_resource_pool()
    return trainer.resource_pool_manager.resource_pool_dict["global_pool"], trainer.repairer


def inside(actor: Any, function: Any) -> Any:
    return ray.get(actor.__ray_call__.remote(function))


def gpus(actor: Any) -> list[str]:
    return inside(actor, lambda _: ray.get_runtime_context().get_accelerator_ids()["GPU"])


def requests() -> list[list[RepairRequest]]:
    """Wrong answers of six prompts, one to three of each."""
    from difference_feedback.world.nano import build_processor

    encode = build_processor().tokenizer.encode
    prompts = []
    for i, problem in enumerate(sample_problems("rl", 6, seed=1)):
        draft = encode(correct_answers(problem)[0])
        request = RepairRequest(problem.prompt, list(problem.images), draft, "answer 1")
        prompts.append([replace(request, draft_ids=draft[: 4 + 3 * k], seed=10 * i + k) for k in range(1 + i % 3)])
    return prompts


def test_replicas_share_verls_gpus_and_batch_what_comes(free: None) -> None:
    from verl.single_controller.base import Worker
    from verl.single_controller.ray import RayClassWithInitArgs, RayWorkerGroup

    pool, repairs = start(compose("+difference_feedback.replicas=3", "difference_feedback.batch_size=5"))
    replicas = inside(repairs, lambda queue: queue.replicas)
    workers = RayWorkerGroup(pool, RayClassWithInitArgs(cls=ray.remote(Worker))).workers
    assert sorted(gpu for worker in workers for gpu in gpus(worker)) == [str(i) for i in range(8)]
    by_bundle = [gpus(worker)[0] for worker in workers]
    assert [gpus(replica) for replica in replicas] == [[by_bundle[i]] for i in (0, 2, 5)]

    prompts = requests()
    local = LocalRepairer.from_pretrained("nano", style="nano", max_new_tokens=MAX_TOKENS, temperature=0.7)
    expected = [[local.repair([request], 2)[0] for request in prompt] for prompt in prompts]
    assert len({repair.text for prompt in expected for pair in prompt for repair in pair}) > 10
    for order in (range(6), (5, 3, 1, 0, 2, 4)):
        answers = ray.get([repairs.repair.remote(prompts[i]) for i in order])
        assert answers == [expected[i] for i in order]
    ray.get(repairs.take_work.remote())
    together = [request for prompt in prompts for request in prompt]  # as if all came while the replicas were busy
    assert ray.get(repairs.repair.remote(together)) == [answer for prompt in expected for answer in prompt]
    seconds, batches = ray.get(repairs.take_work.remote())
    assert seconds > 0
    assert (len(together), batches) == (12, 3), "each of the three takes up to five, of whatever prompts"

    # A request that cannot be repaired fails alone.
    broken = replace(prompts[5][0], images=[])
    calls = [repairs.repair.remote(prompts[4]), repairs.repair.remote([broken]), repairs.repair.remote(prompts[3])]
    with pytest.raises(DataError, match="image"):
        ray.get(calls[1])
    assert [ray.get(calls[0]), ray.get(calls[2])] == [expected[4], expected[3]]

    # A lost replica's work goes to the others; without any, every request fails at once.
    for replica in replicas[:2]:
        ray.kill(replica)
    assert ray.get([repairs.repair.remote(prompt) for prompt in prompts], timeout=60) == expected
    ray.kill(replicas[2])
    for _ in range(2):
        with pytest.raises(DifferenceFeedbackError, match="every replica of the repair model is lost"):
            ray.get(repairs.repair.remote(prompts[0]), timeout=60)


def test_a_server_needs_no_gpu_here(free: None, openai_server: Any) -> None:
    endpoint = {"url": openai_server.url, "model": openai_server.model, "concurrency": 6}
    server = ",".join(
        f"{key}:'{value}'" if isinstance(value, str) else f"{key}:{value}" for key, value in endpoint.items()
    )
    changes = (f"+difference_feedback.endpoint={{{server}}}", "+difference_feedback.via=endpoint")
    _, repairs = start(
        compose(*changes, f"actor_rollout_ref.model.path={runs.BASE}", "difference_feedback.batch_size=2")
    )
    tokenizer = AutoTokenizer.from_pretrained(runs.BASE)
    direct = EndpointRepairer(Endpoint.model_validate(endpoint), tokenizer, style="nano", temperature=0.7)
    prompts = requests()
    expected = [[direct.repair([request], 2)[0] for request in prompt] for prompt in prompts]
    assert len({repair.text for prompt in expected for pair in prompt for repair in pair}) > 10
    assert ray.get([repairs.repair.remote(prompt) for prompt in prompts]) == expected
    [connection] = inside(repairs, lambda queue: set(queue.replicas))
    assert gpus(connection) == []


def test_replicas_on_gpus_of_their_own(free: None) -> None:
    config = compose("trainer.n_gpus_per_node=7", "++difference_feedback.placement=own")
    pool, repairs = start(config)
    assert [group.bundle_count for group in pool.pgs] == [7]
    [replica] = inside(repairs, lambda queue: queue.replicas)
    assert len(gpus(replica)) == 1
    prompt = requests()[2]
    assert [len(candidates) for candidates in ray.get(repairs.repair.remote(prompt))] == [2] * len(prompt)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["++difference_feedback.placement=own"], ["8 free GPUs", "need 8", "1 more", "placement=pool"]),
        (["trainer.n_gpus_per_node=4", "trainer.nnodes=3"], ["8 free GPUs", "need 12", "trainer.nnodes=3"]),
        (
            ["++difference_feedback.placement=cpu", "++difference_feedback.num_cpus=30"],
            ["44 free CPUs", "need 24", "num_cpus"],
        ),
        (["+difference_feedback.replicas=9"], ["replicas=9", "8 GPUs", "at most"]),
        (
            ["difference_feedback.repair_model=/no/such/model", "+difference_feedback.replicas=1"],
            ["/no/such/model", "no such folder"],
        ),
    ],
)
def test_a_start_that_cannot_work_ends_with_its_reason(free: None, changes: list[str], words: list[str]) -> None:
    begin = time.monotonic()
    with pytest.raises(ConfigError) as error:
        start(compose(*changes))
    assert time.monotonic() - begin < 60
    assert all(word in str(error.value) for word in words), error.value


def test_waiting_for_a_place_has_an_end(free: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another job takes the GPUs between the check and the placement."""
    from verl.single_controller.ray import RayResourcePool

    from difference_feedback.verl import placement

    monkeypatch.setattr(placement, "SECONDS", 2.0)
    assert ray.util.placement_group([{"GPU": 1}] * 8).wait(30)
    settings = settings_of(compose("++difference_feedback.placement=own"))
    assert settings is not None
    pool = RayResourcePool([8], max_colocate_count=3)
    with pytest.raises(ConfigError, match=r"n_gpus_per_node.*no room.*smaller pool"):
        placement.place_pool(pool, "cpu")
    with pytest.raises(ConfigError, match=r"placement=own.*no room.*replicas, or placement=pool"):
        placement.places(settings, pool)


def test_the_7b_recipe_trains_on_eight_pretended_gpus(tmp_path: Path) -> None:
    """The shipped recipe, its pool, ranks and dynamic batches, with the nano base for its models: a whole step."""
    sizes = ("actor_rollout_ref.rollout.n=", "actor_rollout_ref.rollout.tensor_model_parallel_size", "trainer.n")
    sizes = (*sizes, "actor_rollout_ref.actor.ppo_micro", "ray_kwargs.ray_init.num_", "critic")
    kept = tuple(f"{part}.log_prob_micro" for part in ("actor_rollout_ref.rollout", "actor_rollout_ref.ref"))
    harness = runs.settings(tmp_path / "run", prompts=8, steps=1)
    changes = [line for line in harness if not line.lstrip("+").startswith((*sizes, *kept))]
    changes += [*NANO, "+difference_feedback.replicas=2"]
    changes += ["+ray_kwargs.ray_init.num_gpus=8", "ray_kwargs.ray_init.num_cpus=40"]
    command = ["--config-dir", str(RECIPES), "--config-name", RECIPE, *changes]
    log = runs.execute([sys.executable, "-m", "difference_feedback.verl.main_df", *command], tmp_path / "run")
    assert "'n_gpus_per_node': 8" in log
    [line] = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    row = json.loads(line)["data"]
    assert row["df/answers"] == 8 * 8
    assert 0 < row["df/pairs"] <= row["df/wrong"]
    assert row["df/rows"] == 2 * row["df/pairs"]
    assert (row["df/rows"] + row["df/padding_rows"]) % 8 == 0
    assert row["df/probs_diff_max"] < 1e-5
    assert row["actor/grad_norm"] > 0
    assert row["df/answers_of_failed_prompts"] == 0
