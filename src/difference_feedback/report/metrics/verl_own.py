"""What verl logs itself, and what of it to read with pairs in the batch."""

from difference_feedback.report.metrics.metric import Metric, Topic

VERL_OWN = Topic(
    question="What verl logs itself",
    lead=(
        "With pairs, all but the first rows of this table are over wrong answers and repairs. verl's "
        "[documentation](https://verl.readthedocs.io/) has the details."
    ),
    metrics=(
        Metric(
            name="critic/{score,rewards,advantages,returns,values}/{mean,max,min}",
            kinds=("verl",),
            unit="reward",
            text=(
                "Of the optimisation group. With pairs, `critic/score/mean` is 0.5 by construction: see "
                "`df/reward_of_answers`."
            ),
            healthy="`score/mean` 0.5 with pairs.",
        ),
        Metric(
            name="critic/{loss,vf_loss,vf_clipfrac,vpred_mean,vf_explained_var,grad_norm,lr}",
            kinds=("verl",),
            unit="as verl",
            text=(
                "The critic's update: losses, clipped values, mean value, the share of the returns' variance that it "
                "explains."
            ),
            healthy=(
                "`vf_explained_var` rises to above 0, from the definition: at 0 the critic is as good as a constant."
            ),
            remedy="Below 0: a higher rate for the critic, or more warm-up steps (`trainer.critic_warmup`).",
            when="`objective: ppo`",
        ),
        Metric(
            name="actor/{loss,pg_loss,ppo_kl,entropy,grad_norm,lr,kl_loss,kl_coef}",
            kinds=("verl",),
            unit="as verl",
            text=(
                "The actor's update, as `loss`, `entropy`, `grad_norm` and `learning_rate` on TRL; `ppo_kl` is the "
                "divergence from the policy that sampled."
            ),
            healthy="`ppo_kl` 0 where a batch serves one update, from the definition.",
            remedy="As on TRL.",
        ),
        Metric(
            name="actor/{pg_clipfrac,pg_clipfrac_lower}",
            kinds=("verl",),
            unit="share",
            text="Tokens whose ratio was clipped.",
            healthy="0 where a batch serves one update, from the definition.",
            remedy="As `clip_ratio/*` on TRL.",
        ),
        Metric(
            name="rollout_corr/<measure>",
            kinds=("verl",),
            unit="as verl",
            text="How far the rollout engine is from the actor: perplexities, divergences, chi-squared.",
            healthy="Divergences near 0.",
            remedy="As `df/probs_diff_max`.",
        ),
        Metric(
            name=(
                "training/{rollout_probs_diff_max,rollout_probs_diff_mean,rollout_probs_diff_std,rollout_probs_diff_valid,rollout_actor_probs_pearson_corr}"
            ),
            kinds=("verl",),
            unit="probability",
            text=(
                "verl's own comparison of engine and actor. The engine never sampled the repairs, so with pairs these "
                "are large and mean nothing."
            ),
            healthy="None with pairs; read `df/probs_diff_max`.",
        ),
        Metric(
            name="{response_length,response_length_non_aborted,prompt_length}/{mean,max,min,clip_ratio}",
            kinds=("verl",),
            unit="tokens; share",
            text="Lengths of the update's rows, and the share of them at the limit.",
            healthy="`clip_ratio` near 0.",
            remedy="Raise `data.max_response_length`.",
        ),
        Metric(
            name="response/aborted_ratio",
            kinds=("verl",),
            unit="share",
            text="Answers without a token.",
            healthy="0.",
            remedy="Look at the engine's log.",
            high=0.0,
        ),
        Metric(
            name="val-{core,aux}/<source>/<value>/<measure>",
            kinds=("verl",),
            unit="as verl",
            text=(
                "verl's validation, by the source of the data. Unjudged answers count as 0 there; `accuracy` leaves "
                "them out."
            ),
        ),
        Metric(
            name="{num_turns,training/num_turns,val-aux/num_turns}/{mean,max,min}",
            kinds=("verl",),
            unit="count",
            text="Turns of the conversations.",
            healthy="2: a question and its answer.",
        ),
        Metric(
            name="{timing_s,timing_per_token_ms}/<timer>",
            kinds=("verl",),
            unit="seconds; ms a token",
            text="verl's timers. `df/seconds/*` is made of them.",
        ),
        Metric(
            name="{perf,actor/perf,critic/perf,perf/mfu}/<measure>",
            kinds=("verl",),
            unit="as verl",
            text="Throughput, memory, and the share of the hardware's peak that is used.",
        ),
        Metric(
            name="global_seqlen/<measure>",
            kinds=("verl",),
            unit="tokens",
            text="How evenly tokens are spread over the ranks.",
        ),
        Metric(
            name="training/{epoch,global_step}",
            kinds=("verl",),
            unit="count",
            text="As `epoch` and `step`.",
        ),
        Metric(
            name="training/off_policy/<measure>/{mean,max,min}",
            kinds=("verl",),
            unit="count",
            text="How many updates old the policy was that sampled.",
            healthy="`trajectory_staleness` 0, since the trainer is synchronous.",
        ),
    ),
)
