"""Runs command lines inside a container: `python in_container.py [PREFIX...] <lines.json >answers.json`.

A program of its own that needs nothing but Python, since one call of a container's costs as much as a line. A
line is {"argv", "directory", "stdin", "environment"}; an answer {"stdout", "stderr", "status"}; bytes in Latin-1.
Before the command stand PREFIX's words, {} in them replaced by the directory.
"""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

LIMIT_S = 120.0


def answer(line: dict[str, object]) -> dict[str, object]:
    directory = str(line["directory"])
    argv = [word.replace("{}", directory) for word in sys.argv[1:]] + list(line["argv"])  # type: ignore[call-overload]
    with subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/tmp" if sys.argv[1:] else directory,
        env={name: value for name, value in os.environ.items() if name.startswith("FARCALL_")}
        | dict(line["environment"]),  # type: ignore[call-overload]
        start_new_session=True,
    ) as process:
        try:
            stdout, stderr = process.communicate(str(line["stdin"]).encode("latin-1"), LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            stdout, stderr = process.communicate()
            stderr += b"ended by the test\n"
    code = process.returncode
    status = code if code >= 0 else 128 - code  # as farcall's own
    return {"stdout": stdout.decode("latin-1"), "stderr": stderr.decode("latin-1"), "status": status}


if __name__ == "__main__":
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        json.dump(list(pool.map(answer, json.load(sys.stdin))), sys.stdout)
