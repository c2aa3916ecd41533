"""The side of lmms-eval: a script that the harness's own Python runs. It imports nothing of this package.

One JSON object a line comes in on stdin, `{"do": ..., ...}`, and one goes out for each: `names` finds tasks, `load`
writes what a task asks to its folder, `score` reads the answers there and has the harness score them. What cannot be
done comes back as `{"refused": what, "why": ...}`. All that the harness prints goes to stderr.

While answers are scored no server is asked but `judge`. Where the harness would ask another, or the judge fails, its
score is left out: tasks take a judge that failed for the verdict "wrong".
"""

import argparse
import difflib
import hashlib
import json
import os
import socket
import sys
import traceback
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

REQUESTS, ANSWERS, IMAGES = "requests.jsonl", "answers.jsonl", "images"
THINKING = '[["<think>", "</think>"]]'
LONGEST = 1024  # tokens, where a task sets no limit, as in the harness's own models
HUB_SECONDS = 10.0
ID_COLUMNS = ("id", "pid", "sample_index", "index", "question_id", "questionId", "idx")
VERDICTS = ("true_false", "score", "scores", "correct", "is_correct")
FORMS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".arrow": "arrow"}


class Refused(Exception):
    """What cannot be done, and why."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(why)
        self.what = what


class Recorded(BaseException):
    """A task's requests are written, and the harness need not go on."""


class JudgeNeeded(BaseException):
    """A task was about to ask a server. No `Exception`, since tasks catch those and take the answer for wrong."""


class Guard:
    """While `closed`, the process connects to the `allowed` hosts and ports alone."""

    def __init__(self, judge: str | None) -> None:
        self.closed, self.asked = False, ""
        urls = [judge, *urllib.request.getproxies().values()] if judge else []
        parts = [urlsplit(url if "://" in url else f"http://{url}") for url in urls]
        self.allowed: set[tuple[Any, Any]] = {
            (part.hostname, part.port or {"https": 443}.get(part.scheme, 80)) for part in parts
        }
        connect, look_up = socket.socket.connect, socket.getaddrinfo

        def guarded_connect(one: socket.socket, address: Any) -> None:
            if one.family != socket.AF_UNIX:
                self.check(*address[:2])
            connect(one, address)

        def guarded_look_up(host: Any, port: Any, *rest: Any, **named: Any) -> Any:
            self.check(host, port)
            found = look_up(host, port, *rest, **named)
            if self.closed:
                self.allowed |= {entry[4][:2] for entry in found}
            return found

        socket.socket.connect = guarded_connect  # type: ignore[method-assign, assignment]
        socket.getaddrinfo = guarded_look_up

    def check(self, host: Any, port: Any) -> None:
        host = host.decode() if isinstance(host, bytes) else host
        if self.closed and (host, int(port or 0)) not in self.allowed:
            self.asked = f"{host}:{port}"
            raise JudgeNeeded(self.asked)


class JudgeWatch:
    """What the harness asks its judge by `requests` and by `httpx`, and what failed there.

    Some tasks post to the base url where others add the route; the watch adds it.
    """

    def __init__(self, judge: str) -> None:
        import httpx
        import requests

        self._base = judge.rstrip("/")
        self.failures: dict[Any, str] = {}
        """The body of each question that got no answer -> why. A later attempt that goes well takes it out."""
        send_request, send, send_async = requests.Session.send, httpx.Client.send, httpx.AsyncClient.send

        def watched_request(session: Any, request: Any, **named: Any) -> Any:
            request.url = self._with_route(request.url)
            with self._noting(request.url, request.body) as note:
                return note(send_request(session, request, **named))

        def watched(client: Any, request: Any, **named: Any) -> Any:
            request.url = httpx.URL(self._with_route(str(request.url)))
            with self._noting(str(request.url), request.read()) as note:
                return note(send(client, request, **named))

        async def watched_async(client: Any, request: Any, **named: Any) -> Any:
            request.url = httpx.URL(self._with_route(str(request.url)))
            with self._noting(str(request.url), await request.aread()) as note:
                return note(await send_async(client, request, **named))

        requests.Session.send = watched_request  # type: ignore[method-assign, assignment]
        httpx.Client.send = watched  # type: ignore[method-assign, assignment]
        httpx.AsyncClient.send = watched_async  # type: ignore[method-assign, assignment]

    def _with_route(self, url: str) -> str:
        return f"{self._base}/chat/completions" if url.rstrip("/") == self._base else url

    @contextmanager
    def _noting(self, url: str, body: Any) -> Iterator[Callable[[Any], Any]]:
        """`note` takes the reply, and returns it."""
        failed = "no answer"

        def note(reply: Any) -> Any:
            nonlocal failed
            failed = f"HTTP {reply.status_code}" if reply.status_code >= 400 else ""
            return reply

        try:
            yield note
        except Exception as error:
            failed = type(error).__name__
            raise
        finally:
            if failed and url.startswith(self._base):
                self.failures[body] = failed
            else:
                self.failures.pop(body, None)


class Worker:
    """The tasks that were loaded, and what is asked about them."""

    def __init__(self, judge: str | None) -> None:
        from lmms_eval.tasks import TaskManager

        self.guard = Guard(judge)
        self.watch = JudgeWatch(judge) if judge else None
        self.manager = TaskManager()
        self.tasks: dict[str, Any] = {}
        self.hub: str | None = None

    def names(self, names: Sequence[str]) -> dict[str, Any]:
        """Names of tasks, groups and tags -> the tasks that they stand for, each with its data set."""
        index = self.manager.task_index
        found: dict[str, dict[str, Any]] = {}
        for name in names:
            if name not in index:
                near = difflib.get_close_matches(name, list(index), n=5, cutoff=0.5)
                hint = f" Nearest: {', '.join(near)}." if near else ""
                raise Refused("tasks", f"{name!r} is no task of lmms-eval.{hint}")
            for leaf in self._leaves(name):
                config = self._config(leaf)
                kind = config.get("output_type", "generate_until")
                if "class" in config or kind != "generate_until":
                    raise Refused("tasks", f"{leaf} asks for {config.get('class', kind)}, and not for a written answer")
                path = config.get("dataset_path")
                found.setdefault(
                    leaf, {"task": leaf, "name": name, "dataset": path, "part": config.get("dataset_name")}
                )
        return {"tasks": list(found.values())}

    def _leaves(self, name: str) -> Iterator[str]:
        entry = self.manager.task_index[name]
        if entry["type"] in ("task", "python_task"):
            yield name
            return
        parts = entry["task"] if entry["type"] == "tag" else self._config(name)["task"]
        for part in parts:
            yield from self._leaves(part["task"] if isinstance(part, dict) else part)

    def _config(self, name: str) -> dict[str, Any]:
        from lmms_eval import utils

        return dict(utils.load_yaml_config(self.manager.task_index[name]["yaml_path"], mode="full"))

    def load(self, task: str, folder: str, data: str | None, model_type: str, limit: int | None) -> dict[str, Any]:
        """Load a task's data, and write its requests unless they are there. The number of both."""
        import tenacity
        from lmms_eval.api.task import ConfigurableMessagesTask

        config = self._config(task)
        options = dict(config.get("dataset_kwargs") or {})
        if data is None:
            options = self._for_the_hub(options)
        if data is not None or self.hub:  # what is not there will not come
            ConfigurableMessagesTask.download.retry.stop = tenacity.stop_after_attempt(1)
        config["dataset_kwargs"] = options
        split = str(config.get("test_split") or config.get("validation_split"))
        try:
            with local_data(data, config.get("dataset_name"), split):
                self.tasks[task] = ConfigurableMessagesTask(config=config, model_name=model_type)
        except Refused:
            raise
        except Exception as error:
            raise Refused("data", self._why_not(config, data, error)) from error
        recorder = Recorder(Path(folder), self.tasks[task])
        if not (Path(folder) / REQUESTS).is_file():
            try:
                self._evaluate(task, recorder, limit, folder)
            except Recorded:
                pass
            except Exception as error:
                raise Refused("data", self._why_not(config, data, error)) from error
        with (Path(folder) / REQUESTS).open(encoding="utf-8") as file:
            return {"requests": sum(1 for _ in file)}

    def _for_the_hub(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options to load from the hub or its cache: without the user's token where there is none."""
        from huggingface_hub import constants, get_token

        if self.hub is None:
            try:
                urllib.request.urlopen(constants.ENDPOINT, timeout=HUB_SECONDS).close()
                self.hub = ""
            except OSError as error:
                self.hub = f"the hub cannot be reached ({getattr(error, 'reason', error)})"
                constants.HF_HUB_OFFLINE = True
                import datasets

                datasets.config.HF_HUB_OFFLINE = True
        return options if get_token() else {name: value for name, value in options.items() if name != "token"}

    def _why_not(self, config: Mapping[str, Any], data: str | None, error: BaseException) -> str:
        """Why a task's data cannot be used, in one line."""
        attempt = getattr(error, "last_attempt", None)  # of the harness's retries
        cause = (attempt.exception() if attempt else None) or error
        traceback.print_exception(cause)
        if isinstance(cause, ImportError):
            raise Refused("harness", f"{type(cause).__name__}: {cause}") from error
        if isinstance(cause, KeyError):
            reason = f"its rows have no column {cause.args[0]!r}"
        else:
            lines = str(cause).strip().splitlines()
            reason = f"{type(cause).__name__}: {lines[0] if lines else ''}"
        source = data or config.get("dataset_path")
        return f"{source}: {reason}" + (f"; {self.hub}" if self.hub and data is None else "")

    def score(self, task: str, folder: str, limit: int | None) -> dict[str, Any]:
        """The harness's own scores of the answers in the folder; without them `left_out` says why."""
        recorder = Recorder(Path(folder), self.tasks[task], answers=read_answers(Path(folder)))
        self.guard.closed, self.guard.asked = True, ""
        failures = self.watch.failures if self.watch else {}
        failures.clear()
        process = self.tasks[task].process_results

        def guarded(*arguments: Any, **named: Any) -> Any:
            values = process(*arguments, **named)
            if self.guard.asked:  # by a thread that kept the refusal to itself
                raise JudgeNeeded(self.guard.asked)
            return values

        self.tasks[task].process_results = guarded
        try:
            results = self._evaluate(task, recorder, limit, folder)
        except JudgeNeeded:
            return {"left_out": "it asks a judge"}
        except Exception as error:
            traceback.print_exc()
            return {"left_out": f"it failed with {type(error).__name__}: {str(error).strip().splitlines()[:1]}"}
        finally:
            self.guard.closed = False
            self.tasks[task].process_results = process
        if failures:
            why = next(iter(failures.values()))
            return {"left_out": f"its judge failed ({why}; without an answer: {len(failures)})"}
        return chosen_metric(list(self.tasks[task].aggregation()), results["results"][task], results["samples"][task])

    def _evaluate(self, task: str, recorder: Any, limit: int | None, folder: str) -> Any:
        from lmms_eval.evaluator import simple_evaluate

        arguments = argparse.Namespace(output_path=folder, process_with_media=False, reasoning_tags=THINKING)
        return simple_evaluate(
            model=recorder.as_model(),
            tasks=[self.tasks[task]],
            limit=limit,
            task_manager=self.manager,
            bootstrap_iters=0,
            process_docs_parallel=1,
            cli_args=arguments,
        )


class Recorder:
    """Stands for the model: it writes what it is asked, or gives the answers that are there."""

    def __init__(self, folder: Path, task: Any, answers: Mapping[int, str] | None = None) -> None:
        self.folder, self.task, self.answers = folder, task, answers

    def as_model(self) -> Any:
        """An instance of the harness's class of models."""
        from lmms_eval.api.model import lmms

        recorder = self

        class Model(lmms):
            is_simple = False

            def generate_until(self, requests: Any) -> list[str]:
                return recorder.generate_until(requests)

            def generate_until_multi_round(self, requests: Any) -> list[str]:
                raise NotImplementedError

            def loglikelihood(self, requests: Any) -> Any:
                raise NotImplementedError

        return Model()

    def generate_until(self, requests: Any) -> list[str]:
        if self.answers is not None:
            return [self.answers[i] for i in range(len(requests))]
        with whole_file(self.folder / REQUESTS) as file:
            for key, request in enumerate(requests):
                row = json.dumps(self._row(key, request), ensure_ascii=False, default=str)
                file.write((row + "\n").encode("utf-8", "backslashreplace"))
        raise Recorded

    def _row(self, key: int, request: Any) -> dict[str, Any]:
        _, doc_to_messages, generation, doc_id, _, split = request.args
        images: list[str] = []
        messages = doc_to_messages(self.task.dataset[split][doc_id])
        row = columns(self.task.eval_docs_no_media[doc_id])
        number = next((row[name] for name in ID_COLUMNS if row.get(name) not in (None, "")), doc_id)
        until = generation.get("until") or []
        # The harness's models of the Qwen family do not stop at an empty line either.
        stops = [text for text in ([until] if isinstance(until, str) else until) if text.strip()]
        return {
            "key": key,
            "doc_id": doc_id,
            "id": str(number),
            "conversation": [
                {"role": message["role"], "content": self._parts(message["content"], images)} for message in messages
            ],
            "images": images,
            "target": self.task.doc_to_target(row),
            "max_new_tokens": int(generation.get("max_new_tokens") or LONGEST),
            "temperature": float(generation.get("temperature") or 0.0),
            "until": stops,
            "row": row,
        }

    def _parts(self, content: Any, images: list[str]) -> list[dict[str, str]]:
        parts = []
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if part["type"] == "text":
                parts.append({"type": "text", "text": part["text"]})
            elif part["type"] == "image":
                images.append(self._save(part["url"]))
                parts.append({"type": "image"})
            else:
                raise Refused("tasks", f"{self.task.config.task} shows {part['type']}; only images can be shown")
        return parts

    def _save(self, image: Any) -> str:
        """The image's file below the folder, named by its pixels, since tasks show an image many times."""
        from PIL import Image

        if isinstance(image, str):
            image = Image.open(image)
        image = image.convert("RGB")
        name = hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()[:20]
        path = self.folder / IMAGES / f"{name}.png"
        if not path.is_file():
            path.parent.mkdir(exist_ok=True)
            with whole_file(path) as file:
                image.save(file, format="PNG", compress_level=1)
        return f"{IMAGES}/{path.name}"


@contextmanager
def whole_file(path: Path) -> Iterator[Any]:
    """A file to write, which is called `path` once it is whole."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with partial.open("xb") as file:
            yield file
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def local_data(path: str | None, part: str | None, split: str) -> Iterator[None]:
    """Meanwhile `datasets.load_dataset` gives the data at `path`, whatever it is asked for."""
    import datasets

    if path is None:
        yield
        return
    load = datasets.load_dataset
    copy = read_data(path, part, split)
    datasets.load_dataset = lambda *_, **__: copy
    try:
        yield
    finally:
        datasets.load_dataset = load


def read_data(path: str, part: str | None, split: str) -> Any:
    """A folder of `save_to_disk`, a file, a folder with files, or a copy of the hub's repository -> its splits."""
    import datasets

    place = Path(path)
    if (place / "dataset_dict.json").is_file() or (place / "state.json").is_file():
        data = datasets.load_from_disk(path)
    elif place.is_file():
        if place.suffix not in FORMS:
            raise Refused("data", f"{path}: the file is none of {', '.join(FORMS)}")
        data = datasets.load_dataset(FORMS[place.suffix], data_files=path)
    else:
        try:
            data = datasets.load_dataset(path, name=part)
        except ValueError:
            data = datasets.load_dataset(path)
    splits = data if isinstance(data, dict) else {split: data}
    if split not in splits:
        if len(splits) > 1:
            raise Refused("data", f"{path}: it has no split {split!r}, but {', '.join(map(repr, splits))}")
        splits = {split: next(iter(splits.values()))}
    return datasets.DatasetDict(splits)


def columns(document: Mapping[str, Any]) -> dict[str, Any]:
    """A row's columns without images, sounds and bytes."""
    from lmms_eval.utils import is_multimodal_content

    return {name: value for name, value in document.items() if not is_multimodal_content(value)}


def read_answers(folder: Path) -> dict[int, str]:
    """Number of the request -> the answer."""
    with (folder / ANSWERS).open(encoding="utf-8") as file:
        return {row["key"]: row["response"] for row in map(json.loads, file)}


def chosen_metric(
    names: Sequence[str], aggregated: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The metric that stands for a task: one that judges every row, the average first, or else one that is a number.

    Its `value` is the harness's; `rows` are its verdicts by row, where it has some.
    """
    values = {
        key: value for key, value in aggregated.items() if isinstance(value, int | float) and "_stderr" not in key
    }
    verdicts = {name: {int(row["doc_id"]): as_verdict(row.get(name)) for row in samples} for name in names}
    whole = [name for name in names if None not in verdicts[name].values()]
    whole.sort(key=lambda name: name not in ("average", "overall"))
    for name in [*whole, *names]:
        key = next((key for key in values if key.partition(",")[0] == name), None)
        if key is not None or name in whole:
            rows = verdicts[name] if name in whole else {}
            value = values[key] if key is not None else sum(rows.values()) / len(rows)  # type: ignore[arg-type]
            return {"metric": name, "value": value, "rows": rows, "all": values}
    return {"left_out": "its answers are not public", "no_answers": True}


def as_verdict(value: Any) -> float | None:
    """What the harness logged for one row, as a number from 0 to 1; None where it is no verdict."""
    if isinstance(value, dict):
        value = next((value[name] for name in VERDICTS if name in value), None)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return float(value) if isinstance(value, bool | int | float) and 0 <= value <= 1 else None


def main() -> None:
    """Answer line by line until stdin ends."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    settings = json.loads(sys.stdin.readline())
    worker = Worker(settings["judge"])
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = getattr(worker, asked.pop("do"))(**asked)
        except Refused as error:
            answer = {"refused": error.what, "why": str(error)}
        out.write(json.dumps(answer, default=str) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
