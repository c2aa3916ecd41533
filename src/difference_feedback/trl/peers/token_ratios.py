"""What peers with an advantage for every token refuse."""

from trl import GRPOConfig

from difference_feedback.errors import ConfigError


def refuse_sequence_ratios(args: GRPOConfig) -> None:
    """Raise `ConfigError` for a ratio per sequence: it carries gradient into every token, whatever its advantage."""
    if args.importance_sampling_level == "sequence":
        raise ConfigError(
            "importance_sampling_level='sequence' (objective gspo): this method has an advantage for every token, and "
            "one ratio for all of them would mix these up: use an objective with a ratio per token, such as grpo."
        )
