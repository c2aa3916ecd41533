"""Is the update stable?"""

from difference_feedback.report.metrics.metric import Metric, Topic

STABILITY = Topic(
    question="Is the update stable?",
    lead="What TRL logs about the loss is over the rows of the update; with pairs these are wrong answers and repairs.",
    metrics=(
        Metric(
            name="loss",
            kinds=("grpo", "df-grpo", "repair-sft", "repair-rl", "dpo", "bench"),
            unit="loss",
            text=(
                "The loss of the update. With groups its value says nothing: advantages add up to 0 in each group, so "
                "it is near 0 whatever is learnt. In `repair sft` (Eq. 1), DPO and `base` it is what is minimised."
            ),
            healthy=(
                "`repair sft`, embedded world: 0.35 falling to 0.10 in 60 updates. DPO: ln 2 = 0.69 at the start, "
                "falling. Groups: no range."
            ),
            remedy="Rising in `repair sft` or DPO: lower `trl.learning_rate`.",
        ),
        Metric(
            name="grad_norm",
            kinds=("grpo", "df-grpo", "repair-sft", "repair-rl", "dpo"),
            unit="norm",
            text="Norm of the gradient before clipping to `trl.max_grad_norm`.",
            healthy=(
                "Finite. Embedded world: 0.2 to 0.9 with GRPO, 0.7 to 2.5 with DF-GRPO, 2.6 falling to 0.5 in `repair "
                "sft`."
            ),
            remedy=(
                "Growing from step to step: lower `trl.learning_rate`. A run whose weights are no numbers ends with an"
                " error."
            ),
        ),
        Metric(
            name="learning_rate",
            kinds=("grpo", "df-grpo", "repair-sft", "repair-rl", "dpo"),
            unit="rate",
            text="Rate of the optimiser at this step. With a budget, the schedule runs over the budget.",
            healthy="What the recipe says.",
        ),
        Metric(
            name="entropy",
            kinds=("grpo", "df-grpo", "repair-sft", "repair-rl", "dpo"),
            unit="nats per token",
            text="Mean entropy of the model's distribution over the update's tokens.",
            healthy="Embedded world: 0.11 to 0.17 a step with GRPO, 0.13 to 0.23 with DF-GRPO.",
            remedy=(
                "Falling to nearly 0, the policy answers everything alike and explores no more: lower the rate, or "
                "raise the upper clipping range (`objective: dapo`). Rising steadily, it unlearns: lower the rate."
            ),
        ),
        Metric(
            name="kl",
            kinds=("grpo", "df-grpo", "repair-rl"),
            unit="nats per token",
            text="Divergence of the policy from the reference model, by Schulman's estimator k3. It has no weights.",
            healthy="From 0 on, growing slowly. Embedded world at the end of a run, from the base: 0.04 to 0.18.",
            remedy="Jumps: lower `trl.learning_rate`, or raise `trl.beta`.",
            when="`trl.beta` above 0",
        ),
        Metric(
            name="clip_ratio/{low_mean,low_min,high_mean,high_max,region_mean}",
            kinds=("grpo", "df-grpo", "repair-rl"),
            unit="share",
            text=(
                "Tokens (sequences, with GSPO) whose ratio left the clipping range: below it with a negative "
                "advantage, above it with a positive one, or either; the mean, the smallest and the largest of a "
                "sequence."
            ),
            healthy=(
                "0 where each batch serves one update (`num_iterations: 1`, the default), from the definition: the "
                "ratio is 1."
            ),
            remedy="With several updates a batch: where most tokens are clipped, fewer updates or a lower rate.",
            when="`objective` is grpo, gspo, dapo or dr_grpo",
        ),
        Metric(
            name="cispo_clip_ratio",
            kinds=("grpo", "df-grpo", "repair-rl"),
            unit="share",
            text="Tokens with a positive advantage whose weight CISPO cut at `epsilon_high`.",
            healthy="0 where each batch serves one update, from the definition.",
            remedy="As for `clip_ratio/*`.",
            when="`objective: cispo`",
        ),
        Metric(
            name="sampling/sampling_logp_difference/{mean,max}",
            kinds=("grpo", "df-grpo", "repair-rl"),
            unit="nats",
            text="Difference between vLLM and the trainer in the log-probability of a sampled token: mean and largest.",
            healthy=(
                "Mean up to 0.1; 0.01 is rounding. The nano base: 0.006 in bfloat16, 0.00002 in float32, and 0.69 with "
                "another prompt."
            ),
            remedy=(
                "vLLM has other weights, another prompt or another precision than the trainer. See [rollouts by"
                " vLLM](../trl.md#rollouts-by-vllm)."
            ),
            when="`trl.use_vllm`",
        ),
        Metric(
            name="sampling/importance_sampling_ratio/{min,mean,max}",
            kinds=("grpo", "df-grpo", "repair-rl"),
            unit="ratio",
            text="By how much the loss corrects for that difference.",
            healthy="Mean near 1, from the definition.",
            remedy="Near 0, as good as nothing is learnt: as for `sampling/sampling_logp_difference/*`.",
            when="`trl.use_vllm`",
        ),
        Metric(
            name="df/probs_diff_max",
            kinds=("verl",),
            unit="probability",
            text=(
                "Largest difference between rollout engine and actor in the probability of a token, without the "
                "repairs."
            ),
            healthy="1e-5 on the CPU in float32. In bfloat16 no range is known.",
            remedy="As for `sampling/sampling_logp_difference/*` on TRL.",
            when="`actor_rollout_ref.rollout.calculate_log_probs`",
        ),
        Metric(
            name="{policy_loss,entropy_coef,aux_loss}",
            kinds=("grpo", "dpo", "repair-sft", "repair-rl"),
            unit="as TRL",
            text=(
                "TRL's: the loss without its entropy bonus, the bonus's factor, and a router's balancing loss. Of each"
                " trainer those that it has; DF-GRPO has none."
            ),
            when="`entropy_coef`, or a mixture of experts",
        ),
    ),
)
