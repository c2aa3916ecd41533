"""What does it cost?"""

from difference_feedback.report.metrics.metric import Kind, Metric, Topic

TRAINERS: tuple[Kind, ...] = ("grpo", "df-grpo", "repair-sft", "repair-rl", "dpo")

COST = Topic(
    question="What does it cost?",
    lead="`method/cost.py` defines the terms. Held-out measurements are not counted.",
    metrics=(
        Metric(
            name="cpu_seconds",
            kinds=TRAINERS,
            unit="seconds",
            text=(
                "Processor seconds of all ranks so far, those of the repair model's training (`setup_cpu_seconds`) "
                "included. `StopAtBudget` logs it. Null in the summary of a run on verl, where nothing measures it."
            ),
            healthy="Up to `budget_cpu_seconds`.",
            remedy="Set a budget.",
        ),
        Metric(
            name="gpu_seconds",
            kinds=("grpo", "df-grpo", "verl", "repair-sft", "repair-rl"),
            unit="seconds",
            text=(
                "Wall seconds so far, times the GPUs that the run holds: its ranks', its servers', and an endpoint's "
                "`billed_gpus`."
            ),
            healthy="Up to `budget_gpu_seconds`.",
            remedy="Set a budget.",
            when="GPUs are held",
        ),
        Metric(
            name="wall_seconds",
            kinds=("verl",),
            unit="seconds",
            text="Wall seconds of the steps so far, without validation.",
        ),
        Metric(
            name="evaluation_cpu_seconds",
            kinds=("evaluate",),
            unit="seconds",
            text="Processor seconds of an `evaluate` run, over all ranks. In `summary.json`.",
        ),
        Metric(
            name="df/{seconds,cpu_seconds,gpu_seconds}/{rollout,repair,align,update,total}",
            kinds=("df-grpo",),
            unit="seconds",
            text=(
                "Wall, processor and GPU seconds of a batch: sampling, repairs with their grading, alignment and "
                "pairing, the updates on it, and everything between two batches."
            ),
            healthy=(
                "`repair` is no more than `rollout` where the repair model has the policy's size and K is 1; `align` "
                "is next to nothing (below 1 % in the embedded world); the parts make up nearly all of `total`."
            ),
            remedy=(
                "`repair` high: `repairs.speculate`, `via: vllm`, fewer `num_repairs`. `total` far above the parts: "
                "images or data are slow to load."
            ),
            when="`gpu_seconds` where GPUs are held",
        ),
        Metric(
            name="df/{seconds,gpu_seconds}/{rollout,repair,align,update,total}",
            kinds=("verl",),
            unit="seconds",
            text=(
                "The same of a step on verl, from its timers. `df/seconds/repair` is the wall time in which at least "
                "one copy of the repair model works."
            ),
            healthy="As on TRL.",
            remedy="As on TRL; more copies (`repairs.replicas`).",
        ),
        Metric(
            name="df/repair_batches",
            kinds=("verl",),
            unit="count",
            text="Batches that the copies of the repair model worked on.",
            healthy="Few large ones: `df/requested / batch_size` a copy, at least.",
            remedy=(
                "Many small ones: prompts end one by one; that costs little as long as `rollout` is longer than "
                "`repair`."
            ),
        ),
        Metric(
            name="df/eq29/{answers,judged,wrong,repaired,steps}",
            kinds=("df-grpo", "verl"),
            unit="count",
            text=(
                "Of the batch: answers, those judged, the wrong ones, those for which repairs were requested; and "
                "optimiser steps."
            ),
        ),
        Metric(
            name="df/eq29/p_err",
            kinds=("df-grpo", "verl"),
            unit="share",
            text="`p_err` of Eq. 29: wrong answers over judged answers.",
            healthy="As `df/wrong_share`.",
            remedy="As there.",
        ),
        Metric(
            name="df/eq29/num_repairs",
            kinds=("df-grpo", "verl"),
            unit="count",
            text=(
                "`K` of Eq. 29: repairs sampled for a wrong answer. 1 with `log_ratio` and `doubt`, 0 with siblings "
                "alone."
            ),
            healthy="The paper uses 2.",
            remedy="Raise it where `df/feasible_share` is low; each one costs `C_repair`.",
        ),
        Metric(
            name="df/eq29/{wall,cpu,gpu}/{base,repair,predicted,measured}",
            kinds=("df-grpo", "verl"),
            unit="seconds",
            text=(
                "Eq. 29 for one optimiser step on each clock: `C_base` times its answers, `C_repair` of one repair, "
                "what the formula says, and what was billed."
            ),
            healthy=(
                "`predicted / measured` is 0.94 to 1.23 in the embedded world: above 1, because no repair is requested"
                " of wrong answers without a reference."
            ),
            remedy="Far below 1: something outside of the stages takes the time, such as loading images or saving.",
            when="`gpu` where GPUs are held; `cpu` on TRL",
        ),
        Metric(
            name="flops/{forward,backward,generated_tokens}",
            kinds=("bench",),
            unit="operations; tokens",
            text=(
                "Floating-point operations and generated tokens so far: compute that does not depend on the machine's "
                "speed."
            ),
            healthy="The same in each repetition of a cell's steps.",
        ),
        Metric(
            name="num_tokens",
            kinds=TRAINERS,
            unit="tokens",
            text="Tokens that TRL has processed so far, prompts included.",
        ),
        Metric(
            name="step_time",
            kinds=("grpo", "df-grpo", "repair-rl"),
            unit="seconds",
            text="TRL's wall seconds of a step.",
            remedy="Growing: answers get longer (`completions/mean_length`), or the machine is shared.",
        ),
        Metric(
            name="{train_runtime,train_samples_per_second,train_steps_per_second,train_loss,total_flos}",
            kinds=TRAINERS,
            unit="as transformers",
            text=(
                "The last row, once: wall seconds, rates, mean loss, and the operations by transformers' estimate, 0 "
                "for most of these models. A resumed run's seconds and rates are those since it was resumed."
            ),
        ),
        Metric(
            name="{step,epoch}",
            kinds=("grpo", "df-grpo", "repair-sft", "repair-rl", "dpo", "verl", "bench"),
            unit="count",
            text="Optimiser steps so far (on verl: training steps), and passes over the questions.",
        ),
        Metric(
            name="stage",
            kinds=("bench",),
            unit="text",
            text="`warm start` or `upper bound`: which part of `base` the row's `loss` is of.",
        ),
    ),
)
