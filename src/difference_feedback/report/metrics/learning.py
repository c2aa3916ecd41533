"""Does the policy learn?"""

from difference_feedback.report.metrics.metric import Kind, Metric, Topic

MEASURED: tuple[Kind, ...] = ("grpo", "df-grpo", "verl", "evaluate")

LEARNING = Topic(
    question="Does the policy learn?",
    lead="Accuracy on held-out questions decides. The reward is taken on the questions that are trained on.",
    metrics=(
        Metric(
            name="accuracy",
            kinds=MEASURED,
            unit="share",
            text=(
                "Right answers among the judged ones, on held-out questions: before the first step, every "
                "`evaluation.every` steps, and at the end. One greedy answer a question."
            ),
            healthy="Rises. Differences smaller than `interval` mean nothing.",
            remedy=(
                "Where it falls while `reward` rises, the policy learns to please the grader: read "
                "`predictions.jsonl`. Where both stay, look at `frac_reward_zero_std` and `df/pairs`, then raise "
                "`trl.learning_rate`."
            ),
        ),
        Metric(
            name="cut_off",
            kinds=MEASURED,
            unit="count",
            text="Held-out answers that reached the limit of tokens before their end, in a summary; null on verl.",
            healthy="Below one in twenty. They have no final answer, so most of them count as wrong.",
            remedy="Raise `evaluation.max_new_tokens`.",
        ),
        Metric(
            name="interval",
            kinds=MEASURED,
            unit="pair of shares",
            text="Wilson's 95 % interval of `accuracy`.",
            healthy="Narrower than the difference that you look for: 500 questions at 60 % leave 4 points.",
            remedy="Measure on more questions: `evaluation.problems`, or a larger `test_data`.",
        ),
        Metric(
            name="problems",
            kinds=MEASURED,
            unit="count",
            text="Held-out questions whose answer was judged.",
            healthy=(
                "Equal in all rows of a curve but the last, which may be of more questions "
                "(`evaluation.curve_problems`)."
            ),
            remedy="Where it changes, the judge failed on some answers.",
        ),
        Metric(
            name="tasks",
            kinds=MEASURED,
            unit="share by task",
            text="`accuracy` of each task of the questions.",
            remedy="Where one task alone falls, its questions are rare in the training data, or its grader is wrong.",
        ),
        Metric(
            name="task_intervals",
            kinds=("evaluate",),
            unit="pairs of shares by task",
            text="Wilson's 95 % interval of each of `tasks`. In `summary.json`.",
            healthy="Each narrow enough for the comparison that you make.",
            remedy="Measure on more questions of that task.",
        ),
        Metric(
            name="reward",
            kinds=("grpo", "df-grpo", "verl", "repair-rl"),
            unit="reward",
            text=(
                "Mean reward of the sampled answers: before any repair, and without the unjudged. In `repair rl` it is"
                " that of Eq. 4, factors and edit costs included."
            ),
            healthy=(
                "Rises over tens of steps; single steps scatter. With rewards of 0 and 1 it is one minus "
                "`df/wrong_share`."
            ),
            remedy=(
                "At 0 from the start: the grader and the answers have different forms; see `difference-feedback grade`."
            ),
        ),
        Metric(
            name="reward_std",
            kinds=("grpo", "df-grpo", "repair-rl"),
            unit="reward",
            text="Standard deviation of the rewards of all answers of a step, over all groups.",
            healthy="With rewards of 0 and 1 at most 0.5, and there where half of the answers are right.",
            remedy="At 0 all answers are equally good: nothing is learnt. Choose other questions.",
        ),
        Metric(
            name="rewards/<function>/{mean,std}",
            kinds=("grpo", "df-grpo", "repair-rl"),
            unit="reward",
            text="Mean and standard deviation of one reward function, before its weight.",
            remedy="Where one function rises and another falls, their weights decide: see `reward` and its weights.",
        ),
        Metric(
            name="eval_<metric>",
            kinds=("grpo", "df-grpo", "dpo"),
            unit="as the metric",
            text="The metric in TRL's own evaluation during training, of an `eval_dataset`.",
            when="a trainer made by hand has an `eval_dataset`",
        ),
        Metric(
            name="df/reward_of_answers",
            kinds=("verl",),
            unit="reward",
            text=(
                "Mean reward of the policy's own judged answers. `reward` is a copy of it. verl's own "
                "`critic/score/mean` is that of the optimisation group, 0.5 by construction where pairs stand in it."
            ),
            healthy="As `reward`.",
            remedy="As `reward`.",
        ),
    ),
)
