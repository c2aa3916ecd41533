"""What verl's workers lack on a CPU: a rollout engine, a critic without flash attention, memory that is not pinned.

`actor_rollout_ref.model.external_lib=verl_on_cpu.workers` loads it; so does every process group.
"""

import asyncio
import os
from typing import Any

import ray
import torch
import verl.utils.model
import verl.workers.engine.fsdp.transformer_impl as fsdp_engine
from transformers import AutoConfig, AutoModelForTokenClassification, AutoProcessor
from verl.utils.model import get_hf_auto_model_class
from verl.workers.rollout.base import _ROLLOUT_REGISTRY, BaseRollout
from verl.workers.rollout.replica import RolloutReplica, RolloutReplicaRegistry, TokenOutput


class Server:
    """A transformers model that answers verl's rollout requests, one after the other, as a Ray actor.

    Each answer has its own random stream. Its seed is made of the prompt, the number of requests for it since the last
    weights, and the training step. So the order of requests does not matter, and a resumed run draws the same answers.
    """

    def __init__(self, path: str, seed: int) -> None:
        torch.set_num_threads(1)
        config = AutoConfig.from_pretrained(path, attn_implementation="sdpa")
        kind = get_hf_auto_model_class(config)
        self.model = kind.from_pretrained(path, config=config, dtype=torch.float32).eval()
        self.config, self.processor = config, AutoProcessor.from_pretrained(path)
        end = self.model.generation_config.eos_token_id
        self.ends = set(end if isinstance(end, list) else [end])
        self.seed, self.global_steps, self.requests = seed, 0, {}
        self.suppressed = list(range(config.vision_start_token_id, config.video_token_id + 1))
        self.lock = asyncio.Lock()

    async def load_weights(self, weights: dict[str, torch.Tensor], global_steps: int | None) -> list[str]:
        state = self.model.state_dict()
        with torch.no_grad():
            for name, value in weights.items():
                state[name].copy_(value)
        self.global_steps, self.requests = global_steps or 0, {}
        tied = {"lm_head.weight"} if getattr(self.config, "tie_word_embeddings", False) else set()
        return [name for name in state if name not in weights and name not in tied]

    @torch.no_grad()
    def _sample(self, prompt_ids: list[int], params: dict[str, Any], images: Any) -> tuple[list[int], list[float]]:
        count = self.requests[tuple(prompt_ids)] = self.requests.get(tuple(prompt_ids), -1) + 1
        stream = hash((self.seed, self.global_steps, count, *prompt_ids)) % 2**31
        generator = torch.Generator().manual_seed(stream)
        temperature = params.get("temperature", 1.0)
        ids, fields = torch.tensor([prompt_ids]), {}
        if images:
            fields = dict(self.processor.image_processor(images=images, return_tensors="pt"))
            fields["mm_token_type_ids"] = (ids == self.config.image_token_id).long()
        cache, tokens, logps = None, [], []
        for _ in range(params.get("max_tokens") or int(os.environ["VERL_ON_CPU_MAX_TOKENS"])):
            output = self.model(input_ids=ids, past_key_values=cache, use_cache=True, **fields)
            cache, fields = output.past_key_values, {}
            logits = output.logits[0, -1] / (temperature or 1.0)
            allowed = logits.clone()
            allowed[self.suppressed] = -torch.inf
            if temperature:
                token = int(torch.multinomial(allowed.softmax(-1), 1, generator=generator))
            else:
                token = int(allowed.argmax())
            tokens.append(token)
            logps.append(float(logits.log_softmax(-1)[token]))
            if token in self.ends:
                break
            ids = torch.tensor([[token]])
        return tokens, logps

    async def generate(
        self, request_id: str, prompt_ids: Any, sampling_params: dict[str, Any], image_data: Any = None, **_: Any
    ) -> TokenOutput:
        async with self.lock:
            tokens, logps = self._sample(list(prompt_ids), sampling_params, image_data)
        return TokenOutput(
            token_ids=tokens,
            log_probs=logps,
            stop_reason="completed",
            num_preempted=0,
            extra_fields={"global_steps": self.global_steps},
        )

    async def wake_up(self, tags: Any = None) -> None: ...

    async def sleep(self) -> None: ...

    async def clear_kv_cache(self) -> None: ...

    async def abort_all_requests(self, reject_request: bool = False) -> None: ...

    async def resume_generation(self) -> None: ...

    async def release_kv_cache(self) -> None: ...

    async def resume_kv_cache(self) -> None: ...

    async def start_profile(self, **kwargs: Any) -> None: ...

    async def stop_profile(self) -> None: ...


class Replica(RolloutReplica):
    """One `Server` in place of an inference engine."""

    def rollout_worker_use_gpu(self) -> bool:
        return False

    async def launch_servers(self) -> None:
        name = f"verl_on_cpu_{self.replica_rank}{self.name_suffix}"
        server = ray.remote(Server).options(name=name, num_cpus=1, max_concurrency=64)
        server = server.remote(self.model_config.path, self.config.seed)
        await server.clear_kv_cache.remote()
        self.servers, self._server_handle, self._server_address = [server], server, name


class Rollout(BaseRollout):
    """The worker's end of weight synchronisation: new weights go to the `Server` of its group of ranks."""

    def __init__(self, config: Any, model_config: Any, device_mesh: Any, replica_rank: int = -1) -> None:
        super().__init__(config, model_config, device_mesh)
        self.replica_rank, self.rank_in_replica = divmod(int(os.environ["RANK"]), config.tensor_model_parallel_size)

    async def resume(self, tags: Any) -> None: ...

    async def release(self) -> None: ...

    @torch.no_grad()
    async def update_weights(self, weights: Any, global_steps: int | None = None, **_: Any) -> None:
        values = {name: value.detach().cpu().clone() for name, value in weights}  # every rank gathers
        if self.rank_in_replica:
            return
        server = ray.get_actor(f"verl_on_cpu_{self.replica_rank}")
        missing = await server.load_weights.remote(values, global_steps)
        if missing:
            raise RuntimeError(f"weights that the rollout did not get: {missing[:5]}")


_ROLLOUT_REGISTRY["cpu", "async"] = f"{__name__}.Rollout"
RolloutReplicaRegistry.register("cpu", lambda: Replica)


def _value_model(local_path: str, torch_dtype: Any, model_config: Any, trust_remote_code: bool) -> Any:
    """verl's own asks for flash attention, whatever the configuration says."""
    model_config._attn_implementation = "sdpa"
    return AutoModelForTokenClassification.from_pretrained(local_path, dtype=torch_dtype, config=model_config)


verl.utils.model.load_valuehead_model = _value_model

_offload = fsdp_engine.CPUOffloadPolicy
fsdp_engine.CPUOffloadPolicy = lambda pin_memory=True: _offload(pin_memory=False)
