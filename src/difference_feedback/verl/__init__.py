"""Host: Difference Feedback on verl's Ray trainer, as a plug-in. Start it by `python -m difference_feedback.verl.main_df`.

Nothing here is imported by the rest of the package: verl lives in an environment of its own, without TRL.
"""
