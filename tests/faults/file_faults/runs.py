"""The runs that are tried: two updates of the nano model each, a checkpoint after both, and small measurements."""

from pathlib import Path
from typing import Any

from faults.file_faults.checks import Work
from faults.file_faults.compare import contents
from PIL import Image

from difference_feedback.runs.jsonl import write_jsonl
from difference_feedback.world import sample_problems

SAVING = ("trl.max_steps=2", "trl.save_strategy=steps", "trl.save_steps=1", "trl.logging_steps=1")
BATCH = ("trl.per_device_train_batch_size=8", "trl.num_generations=4", "trl.max_completion_length=24")
MEASURING = ("evaluation.problems=2", "evaluation.batch_size=8")


def run(name: str, *words: str) -> Work:
    """A command that makes a run in the folder that `--output` names."""
    return Work(name, lambda folder: [*name.split(), *words, "--output", str(folder)])


TRAIN = run(
    "train",
    *("nano_df_grpo", "repair_model=oracle", "problems=8", "keep_wrong_answers=3", "trl.learning_rate=1e-3"),
    *("evaluation.every=1", "evaluation.max_new_tokens=4", *SAVING, *BATCH, *MEASURING),
)
REPAIR_SFT = run(
    "repair sft",
    *("nano_repair_sft", "drafts=4", "trl.per_device_train_batch_size=2", "trl.warmup_steps=0"),
    *("evaluation.max_new_tokens=4", *SAVING, *MEASURING),
)
REPAIR_RL = run(
    "repair rl",
    *("nano_repair_rl", "model=nano", "drafts=4", "evaluation.max_new_tokens=40", *SAVING, *BATCH, *MEASURING),
)
RUNS = (TRAIN, REPAIR_SFT, REPAIR_RL)

PLAN = """
kind: bench
seeds: [0]
budget_cpu_seconds: 1000000
evaluation: {problems: 6, curve_problems: 6, every: 1, max_new_tokens: 8}
repair_sft:
  drafts: 4
  evaluation: {problems: 2, max_new_tokens: 8}
  trl: {max_steps: 1, save_strategy: steps, save_steps: 1, per_device_train_batch_size: 2, warmup_steps: 0}
train:
  problems: 8
  trl: {max_steps: 2, save_steps: 1, per_device_train_batch_size: 8, num_generations: 4, max_completion_length: 24}
methods:
  base: {label: base, kind: base}
  df: {label: DF-GRPO, recipe: nano_df_grpo, repair_model: sft, against: [base]}
"""


def bench(folder: Path) -> list[str]:
    plan = folder.parent.parent / "plan.yaml"
    plan.write_text(PLAN, encoding="utf-8")
    return ["bench", str(plan), "--output", str(folder)]


BENCH = Work("bench", bench)


REWARD = """
def right(completions, answer, **_):
    return [float(c[-1]["content"].split()[-1:] == [truth]) for c, truth in zip(completions, answer)]
"""


def collect(folder: Path) -> list[str]:
    """Questions of the embedded world as a file of one's own, two rounds of sampling, and a reward of one's own."""
    data = folder.parent.parent / "questions"  # not on the disk that may be full
    if not data.exists():
        data.mkdir()
        rows = []
        for number, problem in enumerate(sample_problems("rl", 36, 0, ("digits-max",))):
            problem.images[0].save(data / f"{number}.png")
            rows.append(
                {"id": number, "question": problem.question, "image": f"{number}.png", "answer": problem.answer}
            )
        write_jsonl(data / "questions.jsonl", rows)
        (data / "reward.py").write_text(REWARD, encoding="utf-8")
    return [
        *("repair", "collect", str(data / "questions.jsonl"), f"reward={data / 'reward.py'}:right"),
        *("data.instruction=''", "--model", "nano", "--samples", "3", "--max-new-tokens", "32", "--items", "6"),
        *("--min-words", "1", "--output", str(folder)),
    ]


COLLECT = Work("repair collect", collect)


def annotate(folder: Path) -> None:
    """Wrong answers and audits for people to work on."""
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (28, 28), "red").save(folder / "images" / "a.png")
    item = {"question": "how many ?", "image": ["images/a.png"], "reference": "it is 9 . answer 9", "answer": "9"}
    item |= {"rule": "embedded"}
    items = [item | {"id": str(number), "draft": f"i see {number} . answer {number}"} for number in range(4)]
    write_jsonl(folder / "items.jsonl", items)
    audit = {
        "question": "how many ?",
        "image": ["images/a.png"],
        "draft": "a",
        "reference": "c",
        "reason": "",
        "step": 0,
    }
    audit |= {"verdict": "clean", "evidence": "", "auditor": "x"}
    write_jsonl(folder / "audits.jsonl", [audit | {"id": f"r{i}", "repair": f"b {i}"} for i in range(2)])


def annotated(folder: Path) -> dict[str, Any]:
    """What people did. Who has opened which item, in `items.claims.jsonl`, depends on how often they came back."""
    return {name: value for name, value in contents(folder).items() if "claims" not in name}


ANNOTATE = Work(
    "annotate", lambda folder: [str(folder)], "faults.file_faults.people:work", contents=annotated, prepare=annotate
)
