"""What `--overwrite` would leave of a run: nothing, unless the run writes a file that no list knows."""

import shutil

from difference_feedback.runs.folder import Run

START = {"config.yaml", "versions.json", "checkpoints", ".lock", ".holder"}


def left_after_overwriting(run: Run) -> set[str]:
    """The paths that stay of a copy of the run's folder, besides those of any run that starts."""
    copy = run.folder.with_name(f"{run.folder.name}-overwritten")
    shutil.copytree(run.folder, copy)
    again = Run(copy, run.recipe, overwrite=True)
    assert not again.resumed
    left = {path.relative_to(copy).as_posix() for path in copy.rglob("*")}
    again.close()
    shutil.rmtree(copy)
    return left - START
