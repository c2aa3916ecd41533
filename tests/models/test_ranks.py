"""One device a process, and the share of each rank."""

from itertools import chain
from pathlib import Path

import pytest
import torch
from transformers import TrainingArguments

from difference_feedback.models import ranks
from difference_feedback.models.generate import answer_questions
from difference_feedback.policy.train import host_config
from difference_feedback.repair.stage import Stage, stage_config
from difference_feedback.runs.folder import Run
from difference_feedback.runs.recipes import RepairSFTRecipe, TrainRecipe
from difference_feedback.world import sample_problems


@pytest.fixture
def eight_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only their number is pretended: it is what `Trainer` goes by."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # it would count them, too


@pytest.mark.usefixtures("eight_gpus")
def test_a_process_uses_one_of_several_devices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = TrainingArguments(output_dir=str(tmp_path))
    assert plain.n_gpu == 8, "Trainer would use nn.DataParallel"
    stage = stage_config(TrainingArguments, RepairSFTRecipe(), {"use_cpu": False}, output_dir=str(tmp_path))
    policy = host_config(TrainRecipe(trl={"use_cpu": False, "num_generations": 4}), tmp_path)
    for config in (stage, policy):
        assert config.n_gpu == 1
        assert config.train_batch_size == config.per_device_train_batch_size
    ranks.say_idle_devices()
    assert "accelerate launch --multi_gpu --num_processes 8" in capsys.readouterr().err


def test_a_machine_of_one_device_is_told_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    ranks.say_idle_devices()
    assert capsys.readouterr().err == ""


def test_a_stage_is_on_the_device_of_its_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks.ranks(), "device", torch.device("meta"))
    recipe = RepairSFTRecipe()
    stage = Stage(recipe, Run(tmp_path / "run", recipe), policy="nano")
    assert stage.model.device == torch.device("meta")


@pytest.mark.parametrize("count", [0, 1, 3, 7, 8, 9, 16])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_shares_are_a_partition(monkeypatch: pytest.MonkeyPatch, count: int, size: int) -> None:
    state = ranks.ranks()
    monkeypatch.setattr(state, "num_processes", size)
    shares, padded = [], []
    for rank in range(size):
        monkeypatch.setattr(state, "process_index", rank)
        shares.append(ranks.own_share(count))
        padded.append(ranks.own_share(count, equally_many=True))
    assert sorted(chain(*shares)) == list(range(count))
    assert {len(share) for share in padded} == {-(-count // size)}
    assert set(chain(*padded)) == set(range(count))


def test_a_batch_is_sampled_alike_whoever_answers_it(frozen) -> None:
    """So that several ranks sample what one samples: each batch has a random stream of its own."""
    questions = sample_problems("test", 9, seed=4)
    settings = {"max_new_tokens": 12, "batch_size": 3, "num_samples": 2, "seed": 5}
    answers = answer_questions(*frozen, questions, **settings)
    other = answer_questions(*frozen, questions, **settings | {"seed": 6})
    assert answers == answer_questions(*frozen, questions, **settings, over_ranks=True)
    assert all(a != b for a, b in zip(answers, other, strict=True))
