"""Does the update rest on enough rows?"""

from difference_feedback.report.metrics.metric import Metric, Topic

ROWS = Topic(
    question="Does the update rest on enough rows?",
    lead=(
        "All counts are of one batch of rollouts over all ranks. With `logging_steps` above 1 they are means over "
        "batches."
    ),
    metrics=(
        Metric(
            name="df/wrong_share",
            kinds=("df-grpo",),
            unit="share",
            text="Wrong answers among the judged ones: `p_err` of Eq. 29.",
            healthy=(
                "0.05 to 0.95, from the definition: at either end only a third of groups of eight has both a right and"
                " a wrong answer. Embedded world: 0.48 falling to 0.43."
            ),
            remedy=(
                "Near 1: easier questions, a better start, or annotated answers as references (`trl.answer_column`). "
                "Near 0: harder questions."
            ),
            low=0.05,
            high=0.95,
        ),
        Metric(
            name="{df/unjudged,unjudged}",
            kinds=("grpo", "df-grpo", "verl", "repair-rl", "evaluate"),
            unit="count",
            text=(
                "Answers without a verdict: of the batch, on TRL and as `df/unjudged` on both hosts; in a summary, of "
                "the held-out questions. They are neither right nor wrong, and leave the update."
            ),
            healthy="0.",
            remedy="The judge fails or does not understand: read its log, and see [judges.md](../judges.md).",
            high=0.0,
        ),
        Metric(
            name="judge/unjudged",
            kinds=("grpo", "df-grpo"),
            unit="share",
            text="Answers that the language model which judges left without a verdict.",
            healthy="0.",
            remedy="As for `unjudged`.",
            high=0.0,
            when="`reward: llm-judge`",
        ),
        Metric(
            name="df/pairs",
            kinds=("df-grpo", "verl"),
            unit="count",
            text="Pairs of a wrong answer and its right repair. The update has two rows for each. [Eq. 16]",
            healthy="Embedded world, 64 answers with 31 wrong: 3 to 21 a batch.",
            remedy=(
                "0 in many batches: no update is made there. See `df/feasible_share` and `df/skipped/*`; more answers "
                "a batch (`trl.generation_batch_size`)."
            ),
            low=1.0,
        ),
        Metric(
            name="df/skipped/{no_reference,no_wrong_answer,no_feasible_repair,unjudged}",
            kinds=("df-grpo",),
            unit="count",
            text=(
                "Prompts that bring no pair: no right answer to serve as reference; all right; no right repair; no "
                "verdict."
            ),
            healthy=(
                "Their sum below the number of prompts. Embedded world, 8 prompts: 1.4 to 2.0, 1.8 to 2.4, and 0.6."
            ),
            remedy=(
                "`no_reference`: as for a `df/wrong_share` near 1. `no_wrong_answer`: harder questions. "
                "`no_feasible_repair`: as for `df/feasible_share`."
            ),
        ),
        Metric(
            name="df/{answers,wrong}",
            kinds=("verl",),
            unit="count",
            text="Answers of the step, and the wrong ones among them; `df/wrong_share` on TRL is their ratio.",
            healthy="A share of 0.05 to 0.95, as there.",
            remedy="As there.",
        ),
        Metric(
            name="df/answers_of_failed_prompts",
            kinds=("verl",),
            unit="count",
            text="Answers of prompts that failed. verl goes on without them; a batch of these alone ends the run.",
            healthy="0.",
            remedy="Look in verl's log for 'Error in _run_prompt'.",
            high=0.0,
        ),
        Metric(
            name="df/{rows,padding_rows}",
            kinds=("verl",),
            unit="count",
            text="Rows of the update, and those that pad them to whole micro-batches, with weights of 0.",
            healthy="Few padding rows: they cost time, and change no gradient.",
            remedy="Lower `ppo_micro_batch_size_per_gpu`, or use dynamic batches.",
        ),
        Metric(
            name="df/filler_rows",
            kinds=("df-grpo",),
            unit="count",
            text="Rows without tokens that make the ranks' batches equal.",
            healthy=(
                "At most a few a rank, with the default of `leave_out_rows`; a third to a half of all rows without it."
            ),
            remedy="See [rows without a gradient](../trl.md#rows-without-a-gradient).",
        ),
        Metric(
            name="rows_without_gradient",
            kinds=("grpo", "df-grpo", "repair-rl"),
            unit="count",
            text=(
                "Rows of the batch whose gradient is exactly 0, which the update leaves out: an advantage of 0, "
                "weights that are all 0, or no tokens."
            ),
            healthy="Below the number of rows. Embedded world: 49 % of GRPO's rows.",
            remedy="As for `frac_reward_zero_std`.",
            when="`leave_out_rows` is in force",
        ),
        Metric(
            name="frac_reward_zero_std",
            kinds=("grpo", "df-grpo", "repair-rl"),
            unit="share",
            text="Prompts whose answers all have the same reward: their advantages are 0.",
            healthy="Below 1, where a step has no gradient. Embedded world: 0.43 to 0.50.",
            remedy=(
                "Questions that are neither solved by all answers nor by none, or more answers to each "
                "(`trl.num_generations`)."
            ),
            high=0.99,
        ),
        Metric(
            name="completions/{mean,min,max}_{length,terminated_length}",
            kinds=("grpo", "df-grpo", "repair-rl"),
            unit="tokens",
            text="Lengths of the sampled answers: of all, and of those that ended by themselves (0 where none did).",
            healthy="The longest below `trl.max_completion_length`.",
            remedy="Where lengths grow without a better reward, or shrink to nothing, the reward invites it.",
        ),
        Metric(
            name="completions/clipped_ratio",
            kinds=("grpo", "df-grpo", "repair-rl"),
            unit="share",
            text="Answers that reached `trl.max_completion_length` without an end.",
            healthy=(
                "0 in the embedded world. A cut-off answer has no final answer, so it counts as wrong; repairs cannot "
                "mend that."
            ),
            remedy="Raise `trl.max_completion_length`, or ask for shorter answers (`system_prompt`).",
        ),
    ),
)
