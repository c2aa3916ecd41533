"""Work that one process of a machine does for the others of its launch, and leaves in a folder.

`runs.first_rank` passes small results through the launch's store. Rows of data go through files.
"""

import atexit
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from difference_feedback.errors import ConfigError
from difference_feedback.runs.kernel_lock import KernelLock
from difference_feedback.runs.outputs import TEMPORARY, naming


def once_a_machine(key: Any, write: Callable[[Path], None]) -> Path | None:
    """The folder that `write` has filled in the first process that came; None where there is a single process.

    It is None, too, where the file system has no locks: then each process does the work itself.

    Processes of one launch have the same parent and the same `MASTER_PORT`; `key` tells apart what they make. The
    folder is removed when the process that filled it ends. Where `write` raises, the next process tries again.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    launch = [os.getppid(), os.environ.get("MASTER_PORT"), os.environ.get("TORCHELASTIC_RESTART_COUNT")]
    name = hashlib.sha256(json.dumps([launch, key], default=str).encode()).hexdigest()[:24]
    base = Path(tempfile.gettempdir()) / f"{TEMPORARY}{os.getuid()}"
    base.mkdir(mode=0o700, exist_ok=True)
    if base.stat().st_uid != os.getuid():
        raise ConfigError(f"{base} belongs to somebody else: set TMPDIR to a folder of your own.")
    folder = base / name
    with KernelLock(base / f"{name}.lock") as is_locked:
        if not is_locked:
            return None
        if not (folder / "done").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            atexit.register((base / f"{name}.lock").unlink, missing_ok=True)
            with naming(folder):
                write(folder)
            (folder / "done").touch()
    return folder
