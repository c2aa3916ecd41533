"""Ctrl+C on the page's server while a model drafts: the drafting ends first, then the figures come."""

import os
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from difference_feedback.runs.file_names import beside
from difference_feedback.runs.jsonl import read_rows, write_jsonl
from difference_feedback.world.nano import load_base

pytest.importorskip("gradio")

# A suite in a shell's background inherits that SIGINT is ignored.
COMMAND = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from difference_feedback.cli import main
main()
"""
ITEMS = 400  # many more than are drafted before the signal


def test_ctrl_c_while_a_model_drafts_ends_the_drafting_and_shows_the_figures(tmp_path):
    model, processor = load_base()
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    Image.new("RGB", (28, 28)).save(tmp_path / "dots.png")
    question = {"question": "how many dots ?", "image": "dots.png", "answer": "9", "rule": "embedded"}
    wrong = "i see 3 and 4 . i see 2 . i see 5 . answer 4"
    items = tmp_path / "items.jsonl"
    write_jsonl(items, ({"id": str(i), "draft": wrong} | question for i in range(ITEMS)))
    saved = {"id": "0", "draft": wrong, "drafted": "answer 9", "repaired": "see 9 . answer 9", "annotator": "ada"}
    write_jsonl(beside(items, "annotated"), [saved | question | {"drafted_by": "a model"}])
    words = ["annotate", str(items), "--port", "0", "--draft-from", str(tmp_path / "model")]
    server = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        deadline = time.monotonic() + 120
        while not read_rows(beside(items, "drafted")):
            assert server.poll() is None, server.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        server.send_signal(signal.SIGINT)
        _, said = server.communicate(timeout=60)
    finally:
        server.kill()
    assert server.returncode == 0, said
    assert "Drafted by a model: people changed 1 of 1 repairs" in said
    assert len(read_rows(beside(items, "drafted"))) < ITEMS - 1
    assert "No repair of" not in said  # what was given up is drafted at the next start
