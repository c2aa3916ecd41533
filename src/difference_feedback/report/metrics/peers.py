"""Does PRIME's process reward model learn?"""

from difference_feedback.report.metrics.metric import Kind, Metric, Topic

PLAIN: tuple[Kind, ...] = ("grpo",)
WHEN = "`method: prime`"

PEERS = Topic(
    question="Does PRIME's process reward model learn?",
    lead="PRIME (`method: prime`) trains a second model beside the policy, from the grades of answers.",
    metrics=(
        Metric(
            name="prime/prm_loss",
            kinds=PLAIN,
            unit="nats an answer",
            text="Cross-entropy of the process reward model's verdict on the grades of the batch.",
            healthy="Falls from 0.69, which knows nothing.",
            remedy="Where it stays there, raise `trl.prm_learning_rate`, or `trl.prm_beta` for short answers.",
            when=WHEN,
        ),
        Metric(
            name="prime/ordered_share",
            kinds=PLAIN,
            unit="share",
            text=(
                "Pairs of a right and a wrong answer to one question of which the right one has the higher process "
                "reward. Ties count half."
            ),
            healthy="Above 0.5, which is chance.",
            remedy="As for `prime/prm_loss`. At 0.5 its rewards are noise beside the outcomes.",
            when=WHEN,
        ),
        Metric(
            name="prime/prompts_left_out",
            kinds=PLAIN,
            unit="count",
            text="Questions of the batch whose share of right answers is outside of the range that PRIME trains on.",
            healthy="At most half of the batch's questions.",
            remedy="Widen `trl.prompt_accuracy_low` and `trl.prompt_accuracy_high`, or sample more answers a question.",
            when=WHEN,
        ),
    ),
)
