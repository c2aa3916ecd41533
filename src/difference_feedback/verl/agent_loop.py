"""verl's agent loops, repairing each prompt's wrong answers as soon as its last answer is there. [DF, Eqs. 5-9, 13]

`actor_rollout_ref.rollout.agent.agent_loop_manager_class` is verl's own place for it. Rows go to the TransferQueue as
verl puts them; what is added is a field `df_weights` `(T,)`, a tag `df_role`, and rows for the repairs.
"""

from typing import Any

import numpy as np
import ray
import torch
import transfer_queue as tq
from tensordict import TensorDict
from verl.experimental.agent_loop import AgentLoopOutput
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ

from difference_feedback.errors import DataError
from difference_feedback.method.limits import Limits
from difference_feedback.method.repairs import Repair
from difference_feedback.models.vision_tokens import vision_token_ids
from difference_feedback.verl.prompt_pairs import Answer, PromptPairs, pair_prompt, references_of
from difference_feedback.verl.repair_actor import NAME, request
from difference_feedback.verl.settings import by_critic, settings_of

REPAIR_SESSION = 1_000_000
"""Added to the session of a wrong answer, it is the session of its repair: keys say what belongs together."""

_Worker: Any = AgentLoopWorkerTQ.__ray_metadata__.modified_class


class DFAgentLoopWorker(_Worker):
    """Collects the answers of a prompt; the last one to come repairs the wrong ones."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        settings = settings_of(self.config)
        assert settings is not None
        self.settings = settings
        self.by_critic = by_critic(self.config)
        self.repairer = ray.get_actor(NAME)
        model = self.model_config.hf_config
        rollout = self.config.actor_rollout_ref.rollout
        self.limits = Limits(
            vision_token_ids(model, self.tokenizer), model.get_text_config().vocab_size, rollout.response_length
        )
        self.answers: dict[str, dict[int, tuple[AgentLoopOutput, dict[str, Any]]]] = {}

    async def _agent_loop_postprocess(self, output: Any, validate: bool, **kwargs: Any) -> None:
        await super()._agent_loop_postprocess(output, validate, **kwargs)
        if validate:
            return
        outputs = output if isinstance(output, list) else [output]
        if len(outputs) != 1:
            raise DataError(
                f"an answer came in {len(outputs)} parts, and only answers of one can be repaired; "
                "use single_turn_agent"
            )
        uid = kwargs["uid"]
        group = self.answers.setdefault(uid, {})
        group[kwargs["session_id"]] = (outputs[0], kwargs)
        if len(group) == self.config.actor_rollout_ref.rollout.n:
            await self._repair(uid, self.answers.pop(uid))

    async def _repair(self, uid: str, group: dict[int, tuple[AgentLoopOutput, dict[str, Any]]]) -> None:
        """Ask for repairs, grade them, and put weights and repairs into the queue, before the prompt is finished."""
        # By content: sessions finish in any order, and the same answers are to be repaired in the same way.
        sessions = sorted(group, key=lambda session: (group[session][0].response_ids, session))
        answers = [self._answer(group[session][0]) for session in sessions]
        about = group[sessions[0]][1]
        place = [int(about["global_steps"]), int(about.get("index", 0))]
        truth = (about.get("reward_model") or {}).get("ground_truth")
        rng = np.random.default_rng([self.settings.reference_seed, *place])
        references = references_of(answers, None if truth is None else str(truth), self.settings, rng)
        images = (group[sessions[0]][0].multi_modal_data or {}).get("images") or []
        messages = list(about["raw_prompt"])
        requests = [request(messages, images, answers[i].token_ids, text) for i, text in references.items()]
        call = int(np.random.SeedSequence(place).generate_state(1)[0])
        found = await self.repairer.repair.remote(requests, call) if requests else []

        candidates: dict[int, list[Answer]] = {}
        refused = 0
        for i, repairs in zip(references, found, strict=True):
            usable = [repair for repair in repairs if self.limits.refusal(repair.token_ids) is None]
            refused += len(repairs) - len(usable)
            sampled, kwargs = group[sessions[i]]
            candidates[i] = [await self._grade(sampled, kwargs, repair) for repair in usable]
        pairs = pair_prompt(answers, candidates, self.settings, self._texts, self.by_critic)
        pairs.counts["refused"] = refused
        await self._put(uid, group, sessions, pairs)

    async def _put(self, uid: str, group: Any, sessions: list[int], pairs: PromptPairs) -> None:
        for row in pairs.rows:
            sampled, kwargs = group[sessions[row.index]]
            session = sessions[row.index]
            if row.is_repair:
                session += REPAIR_SESSION
                repair = pairs.repairs[row.index]
                assert repair.reward is not None
                written = self._as_output(sampled, repair.token_ids)
                written.reward_score = repair.reward
                if sampled.response_logprobs is not None:  # the trainer puts the policy's own in their place
                    written.response_logprobs = [0.0] * len(repair.token_ids)
                written.extra_fields["reward_extra_info"] = sampled.extra_fields.get("reward_extra_info", {})
                await super()._agent_loop_postprocess(written, False, **{**kwargs, "session_id": session})
            length = len(pairs.repairs[row.index].token_ids) if row.is_repair else len(sampled.response_ids)
            weights = torch.zeros(length) if row.weights is None else torch.from_numpy(row.weights)
            role = "left" if row.weights is None else "repair" if row.is_repair else "answer"
            tag: dict[str, Any] = {"df_role": role, "df_reward": sampled.reward_score}
            if row is pairs.rows[0]:
                tag |= {f"df_count/{name}": float(value) for name, value in pairs.counts.items()}
            fields = torch.nested.as_nested_tensor([weights], layout=torch.jagged)
            await tq.async_kv_batch_put(
                keys=[f"{uid}_{session}_0"],
                partition_id="train",
                fields=TensorDict({"df_weights": fields}, batch_size=1),
                tags=[tag],
            )

    async def _grade(self, sampled: AgentLoopOutput, kwargs: dict[str, Any], repair: Repair) -> Answer:
        written = self._as_output(sampled, repair.token_ids)
        await self._compute_score([written], kwargs=kwargs)
        return Answer(list(repair.token_ids), repair.text, written.reward_score)

    def _as_output(self, sampled: AgentLoopOutput, token_ids: list[int]) -> AgentLoopOutput:
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

    def _answer(self, output: AgentLoopOutput) -> Answer:
        text = self.tokenizer.decode(output.response_ids, skip_special_tokens=True)
        return Answer(list(output.response_ids), text, output.reward_score)

    def _texts(self, token_ids: Any) -> list[str]:
        return [self.tokenizer.decode([i]) for i in token_ids]


class DFAgentLoopManager(AgentLoopManagerTQ):
    """verl's manager with `DFAgentLoopWorker`s."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(DFAgentLoopWorker)
