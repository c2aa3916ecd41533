"""The interface of an embedded task: draw a problem, and know every right way to answer it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from difference_feedback.world.forms import Form
from difference_feedback.world.problem import Problem, Split


class Task(ABC):
    """A family of generated problems, its truth known by construction."""

    name: ClassVar[str]

    @abstractmethod
    def sample(self, split: Split, rng: np.random.Generator) -> Problem:
        """Draw a problem whose images belong to `split` alone."""

    @abstractmethod
    def caption(self, facts: Mapping[str, Any]) -> str:
        """What the image shows, in full."""

    @abstractmethod
    def forms(self, facts: Mapping[str, Any]) -> list[Form]:
        """Every correct surface form of the answer, each ending in `answer ...`."""

    @abstractmethod
    def unseen(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """`facts` with a name in place of each value that the image shows: what is known with closed eyes.

        Its forms tell which reading of one is which of another, and write answers from given readings alone.
        """
