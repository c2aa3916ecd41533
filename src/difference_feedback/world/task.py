"""The interface of an embedded task: it draws problems and knows every right way to answer them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from difference_feedback.world.forms import Form
from difference_feedback.world.problem import ImageSplit, Problem


class Task(ABC):
    """A family of generated problems whose truth is known by construction."""

    name: ClassVar[str]

    @abstractmethod
    def sample(self, split: ImageSplit, rng: np.random.Generator) -> Problem:
        """Draw a problem whose images belong to `split` only."""

    @abstractmethod
    def caption(self, facts: Mapping[str, Any]) -> str:
        """What the image shows, in full."""

    @abstractmethod
    def forms(self, facts: Mapping[str, Any]) -> list[Form]:
        """Every correct surface form of the answer; each ends in `answer ...`."""

    @abstractmethod
    def unseen(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """`facts` with a name in place of each value that only the image shows.

        The forms of these facts say which place of the image each reading refers to. So readings can be matched between
        answers, and answers can be written, without seeing the image.
        """
