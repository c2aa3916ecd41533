"""Do the masks mark the right tokens?"""

from difference_feedback.report.metrics.metric import Metric, Topic

MASKS = Topic(
    question="Do the masks mark the right tokens?",
    lead=(
        "Outside the embedded world nobody knows the wrong tokens: look at some pairs with `difference-feedback "
        "report`, or `mask`, and let people or an auditor judge them."
    ),
    metrics=(
        Metric(
            name="df/weight_density/{wrong,repair}",
            kinds=("df-grpo",),
            unit="share",
            text=(
                "Sum of the weights over the number of tokens, in wrong answers and in repairs. With a mask: the share"
                " of marked tokens. [Eqs. 8-9]"
            ),
            healthy=(
                "Near `df/edit_cost`. Embedded world: 0.19 to 0.25 for masks, 0.1 for `log_ratio` and `doubt`. 1 with "
                "`weights: ones`."
            ),
            remedy=(
                "Above 0.5 the mask says little about where the error is: see `df/edit_cost`. With `sigma`, lower it."
            ),
        ),
        Metric(
            name="df/weight_density",
            kinds=("verl",),
            unit="share",
            text="Tokens with a weight above 0, among all tokens of the update's rows.",
            healthy="As on TRL.",
            remedy="As on TRL.",
        ),
        Metric(
            name="df/weighted_tokens",
            kinds=("verl",),
            unit="count",
            text="Tokens with a weight above 0 in the update.",
            healthy="Above 0.",
            remedy="0: no pair. See `df/pairs`.",
            low=1.0,
        ),
        Metric(
            name="df/doubted_share",
            kinds=("df-grpo",),
            unit="share",
            text="Tokens of wrong answers whose weight is at least 0.5.",
            when="`trl.weights` is `log_ratio` or `doubt`",
        ),
        Metric(
            name="mask/{drafts,tokens,weight,errors,marked,hits,first_hits}",
            kinds=("bench",),
            unit="sums",
            text=(
                "Of wrong answers in a known form, every five steps: answers, tokens, sum of weights, tokens that "
                "state a wrong value, tokens with a weight of at least 0.5, those of them that state a wrong value, "
                "and answers whose first wrong token is marked. Precision is `hits / marked`, recall `hits / errors`, "
                "F1 `2 hits / (marked + errors)`."
            ),
            healthy=(
                "F1 in the embedded world: 0.93 by the oracle, 0.83 by the blind rewriter, 0.77 by a trained repair "
                "model, 0.56 by another right answer as it is, 0.24 by random masks."
            ),
            remedy=(
                "Below a random mask's: wrong and repair are swapped, or the answers are not aligned by their own "
                "tokens."
            ),
            when="every five steps, of runs with pairs",
        ),
    ),
)
