"""Does the repair model learn, in its two stages?"""

from difference_feedback.report.metrics.metric import Kind, Metric, Topic

STAGES: tuple[Kind, ...] = ("repair-sft", "repair-rl")

REPAIR_MODEL = Topic(
    question="Does the repair model learn?",
    lead="Stage 1 (`repair sft`), stage 2 (`repair rl`), and the measurements before, between and after them.",
    metrics=(
        Metric(
            name="mean_token_accuracy",
            kinds=("repair-sft", "dpo"),
            unit="share",
            text="Tokens of the repair (DPO: of the chosen answer) that the model finds the most probable.",
            healthy="Rises. Embedded world: 0.91 to 0.97 in 60 updates; most tokens are copied from the draft.",
            remedy="At 1 with a bad `accuracy_at_1`: it only copies, or has learnt the set by heart: more repairs.",
        ),
        Metric(
            name="repair/correct",
            kinds=("repair-rl",),
            unit="share",
            text="Right repairs among the sampled ones that were judged.",
            healthy=(
                "Rises; the run may stop where it no longer does (`stop_at_plateau`). Embedded world: 0.45 to 0.52."
            ),
            remedy="Falling: lower the rate. 3e-4 in place of 1e-4 cost the nano model 8 points.",
        ),
        Metric(
            name="repair/edit_cost",
            kinds=("repair-rl",),
            unit="share",
            text="Mean edit cost of all sampled repairs, right or wrong. [Eq. 2]",
            healthy="Embedded world: 0.25. At 0 the drafts are copied.",
            remedy="Falling to 0 with `repair/correct`: λ is too large (`edit_cost_weight`).",
        ),
        Metric(
            name="repair/factor_<name>",
            kinds=("repair-rl",),
            unit="share",
            text=(
                "Mean of a factor of the reward, `visual` (`g_vis`, Eq. 3) or `audit` (`g_audit`, Eq. 4): repairs that"
                " keep theirs."
            ),
            healthy="Embedded world: 0.81 and 0.69.",
            remedy=(
                "Near 0, hardly any repair is rewarded: choose questions that need their image, or look at what the "
                "auditor says."
            ),
            when="the factor is on",
        ),
        Metric(
            name="repair/reward_without_factors",
            kinds=("repair-rl",),
            unit="reward",
            text="`R - λ C_edit`, the mean; `reward` is with the factors. [Eq. 4]",
            healthy="At most 1, from the definition.",
        ),
        Metric(
            name="repair/blind_correct",
            kinds=("repair-rl",),
            unit="share",
            text="Right repairs among those made from a blank or noise image and without the reference.",
            healthy="Low. Embedded world: 0.09 to 0.11.",
            remedy="High: the questions can be answered by guessing; leave them out (`text_only`).",
            when="`visual_factor.enabled`",
        ),
        Metric(
            name="repair/audited",
            kinds=("repair-rl",),
            unit="count",
            text="Right repairs of the batch on which the auditor gave a verdict.",
            healthy="The right repairs, times `audit.rate`. Equal repairs of a draft count once.",
            remedy="0: see `repair/audit_outages`.",
            when="`audit.enabled`",
        ),
        Metric(
            name="repair/audit_outages",
            kinds=("repair-rl",),
            unit="count",
            text="Repairs without a verdict, because the auditor failed. They keep the factor 1.",
            healthy="0.",
            remedy="Look at the auditor's server; `audit.when_down=stop` ends the run instead.",
            high=0.0,
            when="`audit.enabled`",
        ),
        Metric(
            name="repair/audit_{clean,unseen_evidence,template_shortcut,mask_hallucination}",
            kinds=("repair-rl",),
            unit="share",
            text=(
                "Audited repairs by verdict: honest; evidence that is not seen; a template in place of a repair; edits"
                " that do not touch the error."
            ),
            healthy="`clean` rises. Embedded world: 0.16 to 0.22.",
            remedy="Review some of `audits.jsonl` with `annotate`: is the auditor right?",
            when="`audit.enabled`",
        ),
        Metric(
            name="repair_quality",
            kinds=("repair-rl",),
            unit="mapping",
            text=(
                "The measurement of `evaluation.every`, with the figures below. `before` and `after` in "
                "`summary.json`, also of `repair sft`, have the same."
            ),
            when="`evaluation.every` above 0",
        ),
        Metric(
            name="repair_quality/{drafts,num_samples,mask_drafts}",
            kinds=STAGES,
            unit="count",
            text=(
                "Held-out drafts, repairs of each, and drafts whose wrong tokens are known and that have a right "
                "repair."
            ),
            healthy="At least some 200 drafts: 111 leave an uncertainty of 5 points.",
            remedy="Raise `evaluation.problems`.",
        ),
        Metric(
            name="repair_quality/{accuracy_at_1,accuracy_at_2,feasible_share}",
            kinds=STAGES,
            unit="share",
            text="Right repairs among all; drafts with a right one among the first two; among all samples. [Eq. 6]",
            healthy="From 0.4 on, as `df/feasible_share`. Embedded world: 0.55 to 0.62 for one, 0.67 to 0.75 for two.",
            remedy="More hand-made repairs, more steps of stage 2, a larger model.",
        ),
        Metric(
            name="repair_quality/{edit_cost,oracle_edit_cost}",
            kinds=STAGES,
            unit="share",
            text="Mean edit cost of the chosen repairs, and of the oracle's of the same drafts. [Eq. 2]",
            healthy="Close to each other. Embedded world: 0.23 and 0.21.",
            remedy="Raise `edit_cost_weight` (λ), or train on repairs with fewer edits.",
        ),
        Metric(
            name="repair_quality/{mask,oracle_mask}",
            kinds=STAGES,
            unit="mapping",
            text=(
                "Precision, recall and F1 of the marked tokens against those that state a wrong value. The embedded "
                "world alone."
            ),
            healthy="F1 0.77 to 0.84 by trained models, 0.93 by the oracle.",
            remedy="See [the factors of the reward](../repair.md#what-each-factor-of-the-reward-is-worth).",
        ),
        Metric(
            name="repair_quality/{blind_share,visual_survival}",
            kinds=STAGES,
            unit="share",
            text=(
                "Drafts that are repaired right without image and reference; right repairs whose `g_vis` is 1. [Eq. 3]"
            ),
            healthy="Few and many. Embedded world: 0.17 to 0.22 of the drafts.",
            remedy="Leave questions out that the text alone answers (`text_only`).",
        ),
        Metric(
            name="repair_quality/{audit_survival,audit_hits}",
            kinds=STAGES,
            unit="share; counts",
            text="Right repairs that the auditor finds clean, and the number of the others by failure mode. [Eq. 4]",
            healthy="Embedded world: 0.34 to 0.39 of the right repairs.",
            remedy="See [how good is a repair](../repair.md#what-each-factor-of-the-reward-is-worth).",
        ),
        Metric(
            name="repair_quality/cpu_seconds",
            kinds=STAGES,
            unit="seconds",
            text="Processor seconds in the repair model for this measurement; they are not billed.",
        ),
    ),
)
