"""Do preference pairs teach? What DF-DPO logs."""

from difference_feedback.report.metrics.metric import Metric, Topic

PREFERENCES = Topic(
    question="Do preference pairs teach? (DF-DPO)",
    lead="`DFDPOTrainer` logs what TRL's `DPOTrainer` does. Weights count inside the log-ratios.",
    metrics=(
        Metric(
            name="df/weight_density/{chosen,rejected}",
            kinds=("dpo",),
            unit="share",
            text="Sum of the weights over the number of tokens of each side.",
            healthy=(
                "As `df/weight_density/*` of repairs. Near 1, the two answers were written apart: make repairs first."
            ),
            remedy="`repair_preferences` puts a repair of `rejected` in the place of `chosen`.",
            high=0.5,
        ),
        Metric(
            name="df/identical_pairs",
            kinds=("dpo",),
            unit="count",
            text="Pairs of a batch whose two answers are the same. They teach nothing.",
            healthy="0.",
            remedy="Leave them out of the data.",
            high=0.0,
        ),
        Metric(
            name="rewards/{chosen,rejected}",
            kinds=("dpo",),
            unit="reward",
            text="`beta` times the weighted log-ratio of policy and reference, the mean of each side.",
            healthy="`chosen` above `rejected`. Both may fall.",
            remedy="Where `chosen` falls far, lower the rate.",
        ),
        Metric(
            name="rewards/accuracies",
            kinds=("dpo",),
            unit="share",
            text="Pairs whose chosen reward is above the rejected one.",
            healthy="From 0 (all equal, before the first update) to above 0.5, which is chance.",
            remedy="At 0.5: the pairs do not differ in what the model can see, or `beta` and rate are too small.",
        ),
        Metric(
            name="rewards/margins",
            kinds=("dpo",),
            unit="reward",
            text="Chosen reward minus rejected reward, the mean.",
            healthy="Rises from 0.",
            remedy="Negative: lower the rate.",
        ),
        Metric(
            name="logps/{chosen,rejected}",
            kinds=("dpo",),
            unit="nats",
            text="Weighted sum of the log-probabilities of an answer, the mean of each side.",
        ),
        Metric(
            name="logits/{chosen,rejected}",
            kinds=("dpo",),
            unit="logits",
            text="TRL's mean of all logits over the tokens of each side.",
        ),
    ),
)
