"""The texts that a recipe puts around every question: the system message, and the format prompt."""

import os.path
from collections.abc import Callable
from dataclasses import dataclass

from difference_feedback.errors import ConfigError
from difference_feedback.runs.model_folder import local_path
from difference_feedback.runs.text_file import read_text

TEXT_FILES = (".txt", ".md")
TEMPLATE = ".jinja"
PLACE = "{question}"
_PROBE = "What does the image show?"


@dataclass(frozen=True)
class PromptForm:
    """How a question becomes a prompt. Without settings, the question and its data set's instruction."""

    system: str | None = None
    """The system message."""
    fill: Callable[[str], str] | None = None
    """The format prompt: the question's text -> the text of the user's turn. It replaces the instruction."""

    def question(self, text: str, instruction: str = "") -> str:
        """The text of the user's turn; marks of images in `text` stay where they are."""
        if self.fill is not None:
            return self.fill(text)
        return f"{text}\n{instruction}" if instruction else text


def prompt_form(system_prompt: str | None, format_prompt: str | None = None) -> PromptForm:
    """The form that a recipe's keys ask for.

    Raises `ConfigError` for a file that cannot be read, and for a format without exactly one place for the question.
    """
    system = None if system_prompt is None else _text(system_prompt, "system_prompt", TEXT_FILES)
    if system is not None and not system.strip():
        raise ConfigError("system_prompt is empty: give a text, or leave it out.")
    return PromptForm(system, None if format_prompt is None else _filler(format_prompt))


def _filler(format_prompt: str) -> Callable[[str], str]:
    text = _text(format_prompt, "format_prompt", (*TEXT_FILES, TEMPLATE))
    if _is_file_name(format_prompt, (TEMPLATE,)):
        fill = _template(text, format_prompt)
    else:

        def fill(question: str) -> str:
            return text.replace(PLACE, question)  # `str.format` would read the braces of \boxed{} as fields

    places = fill(_PROBE).count(_PROBE)
    if places != 1:
        wanted = "{{ content }}" if _is_file_name(format_prompt, (TEMPLATE,)) else PLACE
        raise ConfigError(
            f"format_prompt has {places} places for the question: write {wanted} once, where the question goes."
        )
    if "<image>" in fill(_PROBE):
        raise ConfigError("format_prompt holds the mark <image>: leave it out, the question brings its own images.")
    return fill


def _template(text: str, name: str) -> Callable[[str], str]:
    """A jinja template of `content` (as EasyR1 calls the question's text) or `question`."""
    from jinja2 import StrictUndefined, TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    try:
        template = ImmutableSandboxedEnvironment(undefined=StrictUndefined).from_string(text)
        template.render(content=_PROBE, question=_PROBE)
    except TemplateError as error:
        raise ConfigError(f"format_prompt: {name}: {error}: the question's text is {{{{ content }}}}.") from None
    return lambda question: template.render(content=question, question=question)


def _text(value: str, key: str, suffixes: tuple[str, ...]) -> str:
    path = local_path(value)
    if not _is_file_name(value, suffixes):
        if value.strip() and os.path.exists(path):
            what = "a folder" if os.path.isdir(path) else "a file"
            raise ConfigError(f"{key}: {value} is {what}: give a text, or a text file ({', '.join(suffixes)}).")
        return value
    return read_text(path, f"{key}: {value}").strip()


def _is_file_name(value: str, suffixes: tuple[str, ...]) -> bool:
    return "\n" not in value and value.endswith(suffixes)
