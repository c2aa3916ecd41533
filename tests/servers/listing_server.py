"""A program that stands for vLLM in tests of how servers are started and stopped: it lists one model.

    python listing_server.py [--seconds N] [--fail] --port=P --served-model-name=NAME --model=FOLDER ...

It starts a child that does not heed SIGTERM, as an engine in trouble. `--seconds` is how long it takes to be up,
`--fail` lets it end at once. It prints its process id and its child's, its arguments and its environment.
"""

import json
import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"


class Lists(BaseHTTPRequestHandler):
    name = ""

    def do_GET(self):
        wanted = os.environ.get("VLLM_API_KEY")
        if wanted and self.headers.get("Authorization") != f"Bearer {wanted}":
            self.send_response(401)
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"object": "list", "data": [{"id": self.name}]}).encode())

    def log_message(self, *arguments):
        pass


def main(words):
    options = dict(word.removeprefix("--").split("=", 1) for word in words if "=" in word)
    if "--fail" in words:
        print("no room on this device", flush=True)
        sys.exit(3)
    child = subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE)
    child.stdout.readline()
    started = {"pid": os.getpid(), "child": child.pid, "words": words, "environment": dict(os.environ)}
    print(json.dumps(started), flush=True)
    time.sleep(float(options.get("seconds", 0)))
    Lists.name = options["served-model-name"]
    ThreadingHTTPServer((options["host"], int(options["port"])), Lists).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
