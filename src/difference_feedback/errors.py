"""Errors that a user can act on: each message names the place, what is wrong there, and the remedy."""


class DifferenceFeedbackError(Exception):
    """Base of every error this package raises on purpose."""


class DataError(DifferenceFeedbackError, ValueError):
    """Data that cannot be used. The message names the row, the field and the remedy."""


class FieldError(DataError):
    """A field of a row that cannot be used; the caller adds the row's line."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field

    def __reduce__(self) -> tuple[type["FieldError"], tuple[str, str]]:
        return type(self), (self.field, str(self))  # for the processes that it passes between


class ConfigError(DifferenceFeedbackError, ValueError):
    """A recipe, option or combination of options that cannot work. The message says what to use instead."""
