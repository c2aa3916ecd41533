"""verl's agent loops, which repair a prompt's wrong answers as soon as its last answer is complete. [DF, Eqs. 5-9, 13]

verl loads them by `actor_rollout_ref.rollout.agent.agent_loop_manager_class`. Rows go to the TransferQueue as verl puts
them, with a field `df_weights` `(T,)` and a tag `df_role`, and repairs get rows of their own.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import ray
import torch
import transfer_queue as tq
from tensordict import TensorDict
from verl.experimental.agent_loop import AgentLoopOutput
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ

from difference_feedback.data.conversations import bare
from difference_feedback.errors import DataError
from difference_feedback.method.groups import split_by_reward
from difference_feedback.method.masks import FloatArray
from difference_feedback.method.pairs import Answer, PromptPairs, References, choose_references, pair_prompt
from difference_feedback.method.repairs import Limits, Repair, RepairRequest, usable_repairs
from difference_feedback.method.token_texts import token_texts
from difference_feedback.models.end_tokens import end_ids, written_end
from difference_feedback.models.images_once import images_once
from difference_feedback.models.outside_text import special_steering_tokens
from difference_feedback.models.vision_tokens import vision_token_ids
from difference_feedback.verl.repair_queue import NAME
from difference_feedback.verl.settings import settings_of

REPAIR_SESSION = 1_000_000
"""A repair's session is that of its wrong answer plus this number, so that keys tell which rows form a pair."""

_Worker: Any = AgentLoopWorkerTQ.__ray_metadata__.modified_class


class DFAgentLoopWorker(_Worker):
    """Collects the answers of a prompt; when the last one arrives, it repairs the wrong ones."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        settings = settings_of(self.config)
        assert settings is not None
        self.settings = settings
        self.repairer = ray.get_actor(NAME) if settings.needs_repairer else None
        model = self.model_config.hf_config
        rollout = self.config.actor_rollout_ref.rollout
        self.limits = Limits(
            vision_token_ids(model, self.tokenizer),
            model.get_text_config().vocab_size,
            rollout.response_length,
            end_ids(self.tokenizer, self.model_config.generation_config) | {written_end(self.tokenizer)},
            frozenset(special_steering_tokens(self.tokenizer).values()),
        )
        self.answers: dict[str, dict[int, tuple[AgentLoopOutput, dict[str, Any]]]] = {}

    async def _run_prompt(self, *args: Any, **kwargs: Any) -> None:
        with images_once():  # verl calls the processor twice for each of the prompt's answers, once for each repair
            await super()._run_prompt(*args, **kwargs)

    async def _agent_loop_postprocess(self, output: Any, validate: bool, **kwargs: Any) -> None:
        await super()._agent_loop_postprocess(output, validate, **kwargs)
        if validate:
            return
        outputs = output if isinstance(output, list) else [output]
        if len(outputs) != 1:
            raise DataError(
                f"an answer has {len(outputs)} parts, and only answers of one part can be repaired: set "
                "actor_rollout_ref.rollout.agent.default_agent_loop=single_turn_agent"
            )
        uid = kwargs["uid"]
        group = self.answers.setdefault(uid, {})
        group[kwargs["session_id"]] = (outputs[0], kwargs)
        if len(group) == self.config.actor_rollout_ref.rollout.n:
            await self._repair(self.answers.pop(uid))

    async def _repair(self, group: dict[int, tuple[AgentLoopOutput, dict[str, Any]]]) -> None:
        """Sample and grade repairs, and put weights and repairs into the queue, before the prompt is finished."""
        # By content: sessions finish in any order, and the order must not change the repairs.
        sessions = sorted(group, key=lambda session: (group[session][0].response_ids, session))
        outputs = [group[session][0] for session in sessions]
        token_ids = [list(output.response_ids) for output in outputs]
        texts = self.tokenizer.batch_decode(token_ids, skip_special_tokens=True)
        rewards = [_reward(output) for output in outputs]
        answers = [Answer(*answer) for answer in zip(token_ids, rewards, texts, strict=True)]
        about = group[sessions[0]][1]
        place = [int(about["global_steps"]), int(about.get("index", 0))]
        truth = (about.get("reward_model") or {}).get("ground_truth")
        settings, references = self.settings, References({}, None)
        if settings.makes_pairs:
            rng = np.random.default_rng([settings.reference_seed, *place])
            references = choose_references(rewards, texts, None if truth is None else str(truth), settings, rng)
        candidates: dict[int, list[Answer]] = {}
        refused = 0
        if self.repairer is not None and references.texts:
            images = list((outputs[0].multi_modal_data or {}).get("images") or [])
            messages = bare(list(about["raw_prompt"]))  # image parts may hold the images themselves
            seeds = map(int, np.random.SeedSequence(place).generate_state(len(references.texts)))
            requests = [
                RepairRequest(messages, images, token_ids[i], text, seed)
                for (i, text), seed in zip(references.texts.items(), seeds, strict=True)
            ]
            sampled = await self.repairer.repair.remote(requests)
            for i, repairs in zip(references.texts, sampled, strict=True):
                usable, reasons = usable_repairs(repairs, settings.num_repairs, self.limits, token_ids[i])
                refused += reasons.total()
                candidates[i] = [await self._grade(*group[sessions[i]], repair) for repair in usable]
        pairs = pair_prompt(answers, references, candidates, settings, token_texts(self.tokenizer), place)
        split = split_by_reward(rewards, settings.reward_threshold)
        counts = {"answers": len(answers), "wrong": len(split.wrong), "unjudged": len(split.unjudged)}
        counts |= {"requested": len(references.texts), "refused": refused}
        await self._put([group[session] for session in sessions], pairs, counts)

    async def _put(
        self, group: list[tuple[AgentLoopOutput, dict[str, Any]]], pairs: PromptPairs, counts: dict[str, int]
    ) -> None:
        """Weights for every answer, zeros for those that leave, and the repairs that enter as rows of their own."""
        members = {(member.row, member.is_repair): member for member in pairs.members}
        for i, (sampled, kwargs) in enumerate(group):
            stays = members.get((i, False))
            tag: dict[str, Any] = {"df_role": "answer" if stays else "left", "df_reward": _reward(sampled)}
            if i in pairs.pairs:
                tag["df_edit_cost"] = pairs.pairs[i].edit_cost
            if i == 0:
                tag |= {f"df/{name}": float(value) for name, value in counts.items()}
            weights = stays.weights if stays else np.zeros(len(sampled.response_ids), np.float32)
            await self._put_row(kwargs, weights, tag)
            repair = members.get((i, True))
            if repair is None:
                continue
            written = self._as_output(sampled, repair.token_ids)
            written.reward_score = pairs.pairs[i].repair.reward
            if sampled.response_logprobs is not None:  # the trainer puts the policy's own in their place
                written.response_logprobs = [0.0] * len(repair.token_ids)
            written.extra_fields["reward_extra_info"] = sampled.extra_fields.get("reward_extra_info", {})
            of_repair = {**kwargs, "session_id": kwargs["session_id"] + REPAIR_SESSION}
            await super()._agent_loop_postprocess(written, False, **of_repair)
            await self._put_row(of_repair, repair.weights, {"df_role": "repair"})

    async def _put_row(self, kwargs: dict[str, Any], weights: FloatArray, tag: dict[str, Any]) -> None:
        key = f"{kwargs['uid']}_{kwargs['session_id']}_0"
        fields = torch.nested.as_nested_tensor([torch.from_numpy(weights)], layout=torch.jagged)
        await tq.async_kv_batch_put(
            keys=[key], partition_id="train", fields=TensorDict({"df_weights": fields}, batch_size=1), tags=[tag]
        )

    async def _grade(self, sampled: AgentLoopOutput, kwargs: dict[str, Any], repair: Repair) -> Answer:
        written = self._as_output(sampled, repair.token_ids)
        await self._compute_score([written], kwargs=kwargs)
        return Answer(repair.token_ids, _reward(written))

    def _as_output(self, sampled: AgentLoopOutput, token_ids: Sequence[int]) -> AgentLoopOutput:
        """A repair as verl's own output: the policy's prompt and images, another response."""
        return AgentLoopOutput(
            prompt_ids=sampled.prompt_ids,
            response_ids=list(token_ids),
            response_mask=[1] * len(token_ids),
            multi_modal_data=sampled.multi_modal_data,
            mm_processor_kwargs=sampled.mm_processor_kwargs,
            num_turns=sampled.num_turns,
            metrics=sampled.metrics.model_copy(),
            extra_fields={**sampled.extra_fields},
        )


def _reward(output: AgentLoopOutput) -> float | None:
    """An answer's reward; None where `verl.reward` says that it is unjudged, for which verl itself has no value."""
    return None if output.extra_fields.get("reward_extra_info", {}).get("unjudged") else output.reward_score


class DFAgentLoopManager(AgentLoopManagerTQ):
    """verl's manager with `DFAgentLoopWorker`s."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(DFAgentLoopWorker)
