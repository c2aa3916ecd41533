"""What two people do on the annotation page, through the objects that the page itself calls."""

from pathlib import Path

from difference_feedback.annotate.items import find_work
from difference_feedback.annotate.projects import RepairProject
from difference_feedback.annotate.reviews import ReviewProject
from difference_feedback.errors import DifferenceFeedbackError


def work(folder: str) -> None:
    """Repair, skip and review until nothing is left. Prints a line for every save that the page would acknowledge."""
    try:
        _work(Path(folder))
    except DifferenceFeedbackError as error:
        print(f"Error: {error}")  # as the page shows it
        raise SystemExit(2) from None


def _work(folder: Path) -> None:
    repairs, audits = find_work(folder)
    assert repairs is not None
    assert audits is not None
    project, reviews = RepairProject(repairs), ReviewProject(audits)
    while (place := project.next("ada")) is not None:
        name = project.items[place]["id"]
        if name == "1":
            project.skip("ada", place)
        else:
            project.save("ada", place, f"i see 9 , not {name} . answer 9")
            print("saved", name, flush=True)
    while (place := reviews.next("eve")) is not None:
        reviews.save("eve", place, "clean", note="a note")
        print("reviewed", reviews.items[place]["id"], flush=True)
