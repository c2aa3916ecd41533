"""Programs that this one starts look for no module in the working folder.

There, a file `json.py` or `torch.py` would be executed, or would silently change results. Python puts the folder first
on its path for `python -m` and `python -c`, and so for every process that `multiprocessing` spawns.
"""

import os
from collections.abc import Mapping

_VARIABLE = "PYTHONSAFEPATH"


def use_safe_path() -> None:
    """All Python processes that are started from now on leave the working folder, or their script's, off their path."""
    os.environ[_VARIABLE] = "1"


def without_safe_path(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for a script that somebody names on purpose: it may import its neighbours."""
    return {name: value for name, value in environment.items() if name != _VARIABLE}
