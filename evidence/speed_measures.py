"""What the speed benchmark measures. Each measure runs with the code of two commits, so it calls only what both have.

    PYTHONPATH=src python evidence/speed_measures.py NAME FOLDER

prints the figures of one measure as a JSON object. Times are processor seconds unless a figure says otherwise.
"""

import inspect
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

STEPS = 25  # of a training run
COMMON = [
    *(f"trl.max_steps={STEPS}", "trl.save_steps=100000", "trl.learning_rate=5e-5"),
    *("evaluation.every=100000", "evaluation.problems=12"),
]


def repair_model(folder: Path) -> Path:
    """A repair model of the embedded world, trained by stage 1 once for all measures."""
    from difference_feedback.repair.sft import train_sft
    from difference_feedback.runs.folder import Run
    from difference_feedback.runs.loading import load_recipe
    from difference_feedback.runs.recipes import RepairSFTRecipe

    settings = ["drafts=200", "evaluation.problems=120", "trl.max_steps=40"]
    recipe = load_recipe("nano_repair_sft", RepairSFTRecipe, settings)
    run = Run(folder / "repair_model", recipe)
    if not run.finished:
        train_sft(recipe, run)
    return run.model_path


def _train(recipe_name: str, settings: list[str]) -> dict[str, Any]:
    """The summary of a short training run."""
    from difference_feedback.policy.train import train
    from difference_feedback.runs.folder import Run
    from difference_feedback.runs.loading import load_recipe
    from difference_feedback.runs.recipes import TrainRecipe

    recipe = load_recipe(recipe_name, TrainRecipe, [*COMMON, *settings])
    with tempfile.TemporaryDirectory() as folder:
        return train(recipe, Run(Path(folder) / "run", recipe))


def grpo(folder: Path) -> dict[str, float]:
    return {"a training step of GRPO, s": _train("nano_grpo", [])["cpu_seconds"] / STEPS}


def df_grpo(folder: Path) -> dict[str, float]:
    summary = _train("nano_df_grpo", [f"repair_model={repair_model(folder)}", "trl.num_repairs=1"])
    cost = summary["cost"]["cpu"]
    stages = {f"of it {stage}, s": seconds for stage, seconds in cost["stages"].items()}
    between = cost["measured"] - sum(cost["stages"].values())
    return {"a training step of DF-GRPO, s": cost["measured"], **stages, "of it between the stages, s": between}


def repairs(folder: Path) -> dict[str, float]:
    """Repairs of wrong drafts of the embedded world, as in a training step: 16 at a time."""
    import torch

    from difference_feedback.repair.local import LocalRepairer
    from difference_feedback.repair.quality import held_out_drafts
    from difference_feedback.world import sample_problems
    from difference_feedback.world.nano import load_base

    problems = sample_problems("rl", 120, seed=4)
    drafts = held_out_drafts(*load_base(), problems, seed=4, progress=None, max_new_tokens=64)
    requests = [draft.request for draft in drafts][:48]
    repairer = LocalRepairer.from_pretrained(repair_model(folder), style="nano", seed=3, batch_size=16)
    repairer.adopt(torch.device("cpu"), torch.float32, 64)
    repairer.repair(requests[:16])  # the first call is slower
    with passes(repairer.model) as count, seconds() as spent:
        written = [answers[0].token_ids for answers in repairer.repair(requests)]
    longest = [max(map(len, written[start : start + 16])) for start in range(0, len(written), 16)]
    return {
        "a repair of the embedded world, 16 at a time, ms": 1000 * spent() / len(requests),
        "passes for one token of the longest repair": count() / sum(longest),
    }


def long_repairs(folder: Path) -> dict[str, float]:
    """Answers of 1,000 tokens that copy drafts with 5 % edits, 4 at a time, by 10 million random weights."""
    import random

    import torch
    from transformers import Qwen2_5_VLForConditionalGeneration

    from difference_feedback.models.generate import generate
    from difference_feedback.world import nano, sample_problems

    torch.manual_seed(0)
    processor = nano.build_processor()
    config = nano._config(processor.tokenizer)
    text, length = config.text_config, 1000
    text.hidden_size, text.intermediate_size, text.num_hidden_layers, text.vocab_size = 256, 768, 8, 4096
    text.num_attention_heads, text.num_key_value_heads, text.layer_types = 8, 4, ["full_attention"] * 8
    text.rope_parameters["mrope_section"], config.vision_config.out_hidden_size = [4, 6, 6], 256
    model = Qwen2_5_VLForConditionalGeneration(config).eval()
    problems, rng = sample_problems("rl", 4, seed=0), random.Random(0)
    prompts, images = [problem.prompt for problem in problems], [list(problem.images) for problem in problems]
    call: Any = {"max_new_tokens": length, "temperature": 0}
    known = folder / "long_answers.json"
    if not known.is_file():
        known.write_text(json.dumps([of_row[0] for of_row in generate(model, processor, prompts, images, **call)]))
    answers = json.loads(known.read_text())
    drafts = [[rng.randrange(100, 4000) if rng.random() < 0.05 else i for i in answer] for answer in answers]
    if "proposals" in inspect.signature(generate).parameters:
        call["proposals"] = [[draft] for draft in drafts]
    with passes(model) as count, seconds() as spent:
        again = [of_row[0] for of_row in generate(model, processor, prompts, images, **call)]
    if again != answers:
        raise SystemExit("the answers differ from those of plain decoding")
    return {
        "an answer of 1,000 tokens with 5 % edits, 4 at a time, s": spent() / len(answers),
        "passes of it": float(count()),
    }


def projection(folder: Path) -> dict[str, float]:
    """A text repair in the tokens of its draft, of which 5 % of the words are edited."""
    from difference_feedback.repair.projection import projected_repair

    tokenizer, figures = byte_level_tokenizer(), {}
    for tokens in (1000, 2000, 4000):
        ids = tokenizer.encode(" ".join(words(tokens, tokens)), add_special_tokens=False)[:tokens]
        repair = " ".join(edited(tokens, tokenizer.decode(ids).split(" ")))
        times = []
        for _ in range(4):
            with seconds() as spent:
                projected_repair([*ids, tokenizer.eos_token_id], repair, tokenizer, [tokenizer.eos_token_id])
            times.append(1000 * spent())
        figures[f"a text repair of {tokens:,} tokens, ms"] = min(times[1:])
    return figures


def images(folder: Path) -> dict[str, float]:
    """A step of DF-GRPO with two JPEG files of 1024 x 768 pixels, 4 answers each, half of them wrong."""
    import copy

    import torch
    from transformers import TrainerCallback
    from transformers.image_processing_backends import TorchvisionBackend

    from difference_feedback.data import pictures
    from difference_feedback.data.dataset import load_data
    from difference_feedback.repair.local import LocalRepairer
    from difference_feedback.runs.sections import Data
    from difference_feedback.trl import DFGRPOConfig, DFGRPOTrainer
    from difference_feedback.world.nano import load_base

    steps, calls = 5, Counter()
    rows = photo_rows(folder, 2 * steps)
    model, processor = load_base()

    def every_second(completions: list[Any], **_: Any) -> list[float]:
        calls["graded"] += 1
        return [float(i % 2 == 0 or calls["graded"] % 2 == 0) for i in range(len(completions))]

    config = DFGRPOConfig(
        output_dir=str(folder / "images_run"),
        **{"per_device_train_batch_size": 8, "num_generations": 4, "max_steps": steps, "max_completion_length": 2},
        **{"report_to": "none", "save_strategy": "no", "use_cpu": True, "disable_tqdm": True, "num_repairs": 1},
    )
    repairer = LocalRepairer(copy.deepcopy(model), processor, style="nano", max_new_tokens=2)
    data = load_data(Data(path=str(rows))).for_training()
    trainer = DFGRPOTrainer(
        model, every_second, config, train_dataset=data, processing_class=processor, repairer=repairer
    )
    counted(pictures, "open_image", "opened", calls)
    counted(TorchvisionBackend, "process_image", "processed", calls)
    spent = counted(type(processor.image_processor), "preprocess", "calls", calls)
    first: dict[str, float] = {}

    class AfterTheFirst(TrainerCallback):
        """What a step costs once the processor is known."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if not first:
                first.update(calls, spent=spent["calls"])

    trainer.add_callback(AfterTheFirst())
    torch.manual_seed(0)
    trainer.train()
    return {
        "a step with 2 images and 8 answers: images opened": (calls["opened"] - first["opened"]) / (steps - 1),
        "images prepared by the processor": (calls["processed"] - first["processed"]) / (steps - 1),
        "seconds in the processor": (spent["calls"] - first["spent"]) / (steps - 1),
    }


def judge_images(folder: Path) -> dict[str, float]:
    """Forty questions about ten JPEG files of 1024 x 768 pixels, sent to a server on loopback."""
    from difference_feedback.data.dataset import load_data
    from difference_feedback.judges.chat import ChatClient, ChatRequest
    from difference_feedback.runs.sections import Data, Endpoint

    sizes: list[int] = []

    class Server(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            sizes.append(len(self.rfile.read(int(self.headers["Content-Length"]))))
            answer = json.dumps({"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Nothing is written."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    Thread(target=server.serve_forever, daemon=True).start()
    questions = load_data(Data(path=str(photo_rows(folder, 10)))).questions()
    client = ChatClient(Endpoint(url=f"http://127.0.0.1:{server.server_port}/v1", model="m", timeout=60.0))
    content = [{"type": "image"}, {"type": "text", "text": "Is it right?"}]
    requests = [ChatRequest([{"role": "user", "content": content}], question.images) for question in questions * 4]
    with seconds() as spent:
        answers = client.ask(requests)
    if any(answer.texts != ["yes"] for answer in answers):
        raise SystemExit(f"no answer: {answers[0].error}")
    server.shutdown()
    return {
        "40 questions to a judge about 10 images, s": spent(),
        "kB of a question": sum(sizes) / len(sizes) / 1000,
    }


def masks(folder: Path) -> dict[str, float]:
    """`difference-feedback mask` on pairs of 2,000 words."""
    figures = {}
    for count in (300, 1500):
        rows = folder / f"pairs_{count}.jsonl"
        if not rows.is_file():
            texts = ((i, words(i, 2000)) for i in range(count))
            write(rows, ({"id": i, "wrong": " ".join(t), "repaired": " ".join(edited(i, t))} for i, t in texts))
        figures |= command("mask", str(rows), str(folder / "masks.jsonl"), f"mask, {count:,} pairs of 2,000 words")
    return figures


def grades(folder: Path) -> dict[str, float]:
    """`difference-feedback grade` on answers of several kinds."""
    figures = {}
    for count in (20_000, 200_000):
        rows = folder / f"responses_{count}.jsonl"
        if not rows.is_file():
            write(rows, map(response, range(count)))
        figures |= command("grade", str(rows), str(folder / "graded.jsonl"), f"grade, {count:,} rows")
    return figures


# ---- inputs ----

WORDS = ["".join(random.Random(i).choices("etaoinshrdlucmfwypvbgk", k=2 + i % 8)) for i in range(3000)]
WEIGHTS = [1 / (i + 3) for i in range(len(WORDS))]


def words(seed: int, count: int) -> list[str]:
    """Words with the frequencies of a language, numbers and ends of lines among them."""
    rng = random.Random(seed)
    drawn = rng.choices(WORDS, WEIGHTS, k=count)
    return [str(rng.randrange(1000)) if i % 11 == 5 else f"{w}.\n" if i % 13 == 12 else w for i, w in enumerate(drawn)]


def edited(seed: int, text: list[str]) -> list[str]:
    """The words, of which 5 % are left out, changed, or followed by another one."""
    rng, result = random.Random(seed), []
    for word in text:
        edit = rng.random() * 60
        result += [] if edit < 1 else [rng.choice(WORDS)] if edit < 2 else [word, "then"] if edit < 3 else [word]
    return result


def response(i: int) -> dict[str, Any]:
    """A row to grade; four kinds in turns."""
    rng = random.Random(i)
    a, b = rng.randrange(1, 10), rng.randrange(1, 10)
    kinds: list[dict[str, Any]] = [
        {"response": f"The answer is {a}.", "answer": str(b)},
        {"response": f"So $x = \\boxed{{\\frac{{{a}}}{{7}}}}$", "answer": f"{b}/7"},
        {
            "response": f"{' '.join(words(i, 60))} Answer: ({'ABCD'[a % 4]})",
            "answer": "ABCD"[b % 4],
            "options": ["red", "blue", "3", "4"],
        },
        {"response": f"We get {a}.5 cm\nFinal answer: {a}.5 cm", "answer": f"{b}.5"},
    ]
    return {"id": i, **kinds[i % len(kinds)]}


def byte_level_tokenizer() -> Any:
    """A byte-level BPE tokenizer of 2,000 tokens, like those of the Qwen models."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=2000, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator((" ".join(words(i, 500)) for i in range(100)), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", clean_up_tokenization_spaces=False)


def photo_rows(folder: Path, count: int) -> Path:
    """Questions about JPEG files of 1024 x 768 pixels."""
    import numpy as np
    from PIL import Image

    rows = folder / f"photos_{count}.jsonl"
    if not rows.is_file():
        for i in range(count):
            coarse = np.random.default_rng(i).integers(0, 256, (24, 32, 3), dtype=np.uint8)
            photo = Image.fromarray(coarse).resize((1024, 768), Image.Resampling.BICUBIC)
            photo.save(folder / f"photo_{i}.jpg", quality=90)
        write(rows, ({"question": f"What is {i}?", "answer": str(i), "image": f"photo_{i}.jpg"} for i in range(count)))
    return rows


def write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


# ---- clocks ----


@contextmanager
def seconds() -> Iterator[Callable[[], float]]:
    """Processor seconds of the block."""
    start = time.process_time()
    spent: list[float] = []
    yield lambda: spent[0]
    spent.append(time.process_time() - start)


@contextmanager
def passes(model: Any) -> Iterator[Callable[[], int]]:
    """Forward passes of the block."""
    calls: list[None] = []
    hook = model.register_forward_hook(lambda *_: calls.append(None))
    yield lambda: len(calls)
    hook.remove()


def counted(owner: Any, name: str, label: str, calls: Counter[str]) -> dict[str, float]:
    """Count the calls of a function from now on, with their processor seconds."""
    function, spent = getattr(owner, name), {label: 0.0}

    def call(*args: Any, **kwargs: Any) -> Any:
        start = time.process_time()
        result = function(*args, **kwargs)
        spent[label] += time.process_time() - start
        calls[label] += 1
        return result

    setattr(owner, name, call)
    return spent


def command(name: str, rows: str, output: str, label: str) -> dict[str, float]:
    """Seconds and most memory of a command line. Its processes may use all cores."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    line = [sys.executable, "-m", "difference_feedback.cli", name, rows, "--output", output]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(line)}: exit code {process.returncode}")
    clock, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        f"{label}, s": spent,
        f"{label}, s on the clock": clock,
        f"{label}, MB of the largest process": usage.ru_maxrss * 1024 / 1e6,
    }


MEASURES: dict[str, Callable[[Path], dict[str, float]]] = {
    "repairs": repairs,
    "long_repairs": long_repairs,
    "grpo": grpo,
    "df_grpo": df_grpo,
    "projection": projection,
    "images": images,
    "judge_images": judge_images,
    "masks": masks,
    "grades": grades,
}

if __name__ == "__main__":
    print(json.dumps(MEASURES[sys.argv[1]](Path(sys.argv[2]))))
