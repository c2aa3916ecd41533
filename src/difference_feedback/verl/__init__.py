"""Host: Difference Feedback on verl's Ray trainer, as a plug-in: `python -m difference_feedback.verl.main_df`.

Of the rest of the package only `commands` imports it, for `host: verl`: verl needs its own environment, without TRL.
"""
