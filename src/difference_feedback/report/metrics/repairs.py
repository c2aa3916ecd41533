"""Are the repairs good?"""

from difference_feedback.report.metrics.metric import Metric, Topic

REPAIRS = Topic(
    question="Are the repairs good?",
    lead=(
        "Of the repairs of each batch's wrong answers, in the training of the policy. What makes a repair model good, "
        "and how to measure one before the training, says [repair.md](../repair.md)."
    ),
    metrics=(
        Metric(
            name="df/feasible_share",
            kinds=("df-grpo", "verl"),
            unit="share",
            text=(
                "Wrong answers that got a pair, among those for which repairs were requested: at least one of K "
                "repairs is right and within the limits. [Eqs. 6-7]"
            ),
            healthy=(
                "From 0.4 on: below it was not measured, and few pairs are left. How many of the right repairs are "
                "clean decides more, and no metric says it: `difference-feedback repair check` measures it."
            ),
            remedy=(
                "Raise `trl.num_repairs`; train the repair model longer, or on drafts of this policy; or use "
                "`trl.sibling_repairs`. Where it falls during the run, the repair model no longer knows the policy's "
                "errors."
            ),
            low=0.4,
        ),
        Metric(
            name="df/edit_cost",
            kinds=("df-grpo", "verl"),
            unit="share",
            text="Mean edit cost of the chosen repairs, `Lev(y, ỹ) / max(|y|, |ỹ|)` in tokens. [Eq. 2]",
            healthy=(
                "Embedded world, answers of 20 to 30 tokens: 0.17 to 0.30 a step, for the oracle as for a trained "
                "model. Above 0.5 more tokens change than stay: that is another answer, by the definition."
            ),
            remedy=(
                "Set `trl.max_edit_cost`, raise `edit_cost_weight` (λ) in stage 2, or train stage 1 on repairs "
                "with fewer edits."
            ),
            high=0.5,
        ),
        Metric(
            name="df/requested",
            kinds=("df-grpo", "verl"),
            unit="count",
            text="Wrong answers of the batch for which repairs were requested: those with a reference.",
            healthy="`df/wrong_share` of the answers, without those of prompts that nobody solved.",
            remedy="Far fewer: most prompts have no right answer; see `df/skipped/no_reference`.",
        ),
        Metric(
            name="df/refused/{empty,vision_token,steering_token,out_of_range,too_long,wrapped,unreadable,missing}",
            kinds=("df-grpo",),
            unit="count",
            text=(
                "Repairs that the policy cannot be trained on, by reason: no token; image or video tokens; other "
                "special tokens; ids that the policy has not; longer than `max_completion_length`; text around the "
                "repair that cannot be cut off; nothing readable from a server; fewer repairs than requested, as "
                "where the prompt does not fit. With `log_ratio` and `doubt`: `missing` alone, the answers that were "
                "not scored."
            ),
            healthy="0 in the embedded world. Each one is a repair that was paid for.",
            remedy=(
                "`too_long`: raise `trl.max_completion_length`. `missing`: lower `max_prompt_length`, or look at the "
                "server's log. `wrapped`: `repairs.style`. Others: the repair model was trained in another form than "
                "it is asked in."
            ),
            high=0.0,
        ),
        Metric(
            name="df/refused",
            kinds=("verl",),
            unit="count",
            text="The sum of `df/refused/*` on TRL.",
            healthy="0, as there.",
            remedy="As there.",
            high=0.0,
        ),
        Metric(
            name="df/projected",
            kinds=("df-grpo",),
            unit="count",
            text=(
                "Repairs that came as text and were put into the policy's tokens: they are not the tokens that were "
                "sampled."
            ),
            healthy=(
                "0 with a repair model in this process or behind `via: vllm`, from the definition; all repairs with "
                "`via: endpoint`."
            ),
            remedy="To avoid it, serve a model with the policy's tokenizer by `via: vllm`.",
        ),
        Metric(
            name="df/implausible",
            kinds=("df-grpo", "verl"),
            unit="count",
            text="Right repairs with a token to which the policy gives less than `min_probability`; they are not used.",
            healthy="Embedded world, 0.05: 29 % of right repairs by the base, 44 % by a trained model.",
            remedy="Where nearly all are, lower `trl.min_probability`: pairs are lost for nothing.",
            when="`trl.min_probability` above 0",
        ),
        Metric(
            name="df/repair_tokens_per_pass",
            kinds=("df-grpo",),
            unit="tokens",
            text="Tokens of repairs that one forward pass of the repair model writes, by speculation from the draft.",
            healthy="At least 1, which plain decoding writes.",
            remedy="Near 1, speculation costs more than it saves: `repairs.speculate=false`.",
            low=1.0,
            when="a repair model in this process speculates",
        ),
        Metric(
            name="df/scored",
            kinds=("df-grpo",),
            unit="count",
            text="Wrong answers that the repair model scored in place of a repair.",
            healthy="`df/requested`.",
            remedy="Fewer: their repair prompts do not fit into its context.",
            when="`trl.weights` is `log_ratio` or `doubt`",
        ),
        Metric(
            name="df/draft_logp/{repair,policy}",
            kinds=("df-grpo",),
            unit="nats",
            text=(
                "Mean log-probability of the wrong answers' tokens under the repair model with its prompt, and under "
                "the policy with its own (`log_ratio` alone)."
            ),
            healthy="The repair model's is the lower one, or it doubts nothing.",
            remedy="Where both are equal, the repair model does not see the errors: train it, or use a better one.",
            when="`trl.weights` is `log_ratio` or `doubt`",
        ),
    ),
)
