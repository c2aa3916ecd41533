"""The first rank does it for all. Here without `torchrun`, whose agent would hold the ranks' store."""

import os
import socket
import subprocess
import sys
from pathlib import Path

CODE = """
import sys
from difference_feedback.errors import ConfigError
from difference_feedback.runs.first_rank import on_first_rank

def work():
    with open(sys.argv[1], "a") as file:
        file.write("once ")
    return {"made": 1}

def refuse():
    raise ConfigError("no such folder: make it")

print(on_first_rank(work), on_first_rank(lambda: None))
try:
    on_first_rank(refuse)
except ConfigError as error:
    print(error)
on_first_rank(lambda: None)
"""


def test_all_ranks_have_its_result_or_its_error(tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = str(server.getsockname()[1])
    ranks = []
    for rank in range(3):
        launch = {"RANK": str(rank), "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        command = [sys.executable, "-c", CODE, str(tmp_path / "calls")]
        ranks.append(subprocess.Popen(command, env=os.environ | launch, stdout=subprocess.PIPE, text=True))
    outputs = [rank.communicate(timeout=120)[0].splitlines() for rank in ranks]
    assert outputs == [["{'made': 1} None", "no such folder: make it"]] * 3
    assert (tmp_path / "calls").read_text() == "once "
