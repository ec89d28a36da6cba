"""python tests/studies/serving_load.py --model FOLDER --test_file dev.json

What a server bears on this machine. It is started as a process of its own, and asked distinct questions of a SQuAD file over
loopback: by wrk (Debian: apt-get install wrk) for the rate that it can bear, then at half of that rate, at twice that rate
among clients that misbehave, again at half, and into a SIGTERM. Each answer is compared with the one that the model gives without a
server. Prints a table in Markdown; leaves with 1 if an answer is wrong, or a request that must be answered is not.
"""

import support_path  # noqa: F401

# isort: split

import argparse
import asyncio
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":  # under pytest, conftest.py does this
    os.environ.update({"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"})

import httpx
from load import Row, direct_answers, same
from processes import free_port
from speed import scaled

REPOSITORY = Path(__file__).resolve().parents[2]
WRK = """local lines, number = {}, 0
for line in io.lines("%s") do lines[#lines + 1] = line end
wrk.headers["Content-Type"] = "application/json"
request = function()
  number = number %% #lines + 1
  return wrk.format("POST", "/answer", nil, lines[number])
end"""
AT_ONCE = 32
"""Connections of wrk: enough for full batches."""


@dataclass
class Phase:
    """What a time of load gave."""

    name: str
    rate: float
    """Requests sent per second."""
    seconds: float
    counts: Counter[int] = field(default_factory=Counter)
    """Of each status; 0: no response."""
    latencies: list[float] = field(default_factory=list)
    """Seconds, of the answered ones."""
    wrong: int = 0
    memory: list[int] = field(default_factory=list)
    """MiB of the server, once a second."""

    def quantile(self, share: float) -> float:
        ordered = sorted(self.latencies) or [float("nan")]
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def row(self) -> str:
        others = ", ".join(f"{count} x {status}" for status, count in sorted(self.counts.items()) if status != 200)
        cells = [
            self.name,
            f"{self.rate:.1f}",
            str(self.counts[200]),
            others or "none",
            str(self.wrong),
            f"{1000 * self.quantile(0.5):.0f}",
            f"{1000 * self.quantile(0.99):.0f}",
            f"{min(self.memory)} to {max(self.memory)}" if self.memory else "",
        ]
        return "| " + " | ".join(cells) + " |"


HEAD = """| load | requests/s | answered | others | wrong | p50, ms | p99, ms | memory, MiB |
| --- | --- | --- | --- | --- | --- | --- | --- |"""


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of a fine-tuned model")
    parser.add_argument("--test_file", required=True, help="questions in SQuAD's nested form")
    parser.add_argument("--questions", type=int, default=600, help="so many of them, drawn by chance")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each time of load")
    parser.add_argument("--device", default="cpu", help="as torch names it")
    parser.add_argument("--rate", type=float, help="requests/s that it can bear; found by wrk if not given")
    return parser.parse_args()


def read_rows(path: str, count: int) -> list[Row]:
    data = json.loads(Path(path).read_text(encoding="utf-8"))["data"]
    rows = [
        {"question": entry["question"], "context": paragraph["context"]}
        for article in data
        for paragraph in article["paragraphs"]
        for entry in paragraph["qas"]
    ]
    return random.Random(0).sample(rows, min(count, len(rows)))


class Server:
    """The process, on a free port."""

    def __init__(self, model: str, device: str):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        words = [
            sys.executable,
            "scripts/serve.py",
            "--model",
            f"model={model}",
            "--port",
            str(port),
            "--device",
            device,
        ]
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        self.process = subprocess.Popen(words, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL)
        end = time.monotonic() + scaled(120)
        while not self._is_healthy():
            assert self.process.poll() is None and time.monotonic() < end, "the server did not come up"
            time.sleep(0.1)

    def _is_healthy(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def memory(self) -> int:
        """MiB of resident memory."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS"))) // 1024


def bearable_rate(url: str, rows: list[Row], seconds: float) -> float:
    """Requests a second that wrk gets answered when it always has AT_ONCE on their way."""
    with tempfile.TemporaryDirectory() as folder:
        bodies, script = Path(folder, "bodies"), Path(folder, "ask.lua")
        bodies.write_text("\n".join(map(json.dumps, rows)))
        script.write_text(WRK % bodies)
        words = ["wrk", "-t1", f"-c{AT_ONCE}", f"-d{seconds:.0f}s", "--timeout", "30s", "-s", str(script), url]
        said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    requests, refused = (re.search(pattern, said) for pattern in (r"(\d+) requests in ([\d.]+)s", r"Non-2xx.*: (\d+)"))
    assert requests is not None, said
    answered = int(requests[1]) - (int(refused[1]) if refused else 0)
    assert answered > AT_ONCE, said
    return answered / float(requests[2])


async def load(
    server: Server, rows: list[Row], expected: list[list[Row]], phase: Phase, *, stop_after: float | None = None
) -> None:
    """Send at this rate, at random moments, whether answers come or not; compare each. `stop_after`: SIGTERM in between."""
    rng, sending = random.Random(1), []
    began = time.monotonic()

    async def ask(place: int) -> None:
        sent = time.monotonic()
        try:
            found = await client.post("/answer", json=rows[place])
        except httpx.TransportError:
            phase.counts[0] += 1
            return
        phase.counts[found.status_code] += 1
        if found.status_code == 200:
            phase.latencies.append(time.monotonic() - sent)
            phase.wrong += not same(expected[place], found.json())

    async def look() -> None:
        while True:
            phase.memory.append(server.memory())
            await asyncio.sleep(1)

    limits = httpx.Limits(max_connections=1000, max_keepalive_connections=200)
    async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits, trust_env=False) as client:
        looking = asyncio.ensure_future(look())
        due, number = began, rng.randrange(len(rows))
        while due - began < phase.seconds:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if stop_after is not None and time.monotonic() - began > stop_after:
                server.process.send_signal(signal.SIGTERM)
                looking.cancel()
                stop_after = None
            sending.append(asyncio.ensure_future(ask(number % len(rows))))
            number += 1
            due += rng.expovariate(phase.rate)
        await asyncio.gather(*sending)
        looking.cancel()


async def misbehave(url: str, seconds: float) -> int:
    """Clients that send half a body, go away while they are answered, send what is not JSON, or too much. How many."""
    port, count, end = httpx.URL(url).port, 0, time.monotonic() + seconds
    head = b"POST /answer HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    body = json.dumps({"question": "Who goes away?", "context": "nobody " * 3000}).encode()
    bad = [
        head % len(body) + body,
        head % 1000 + b'{"question": ',
        head % 9 + b"{{{{{{{{{",
        b"GET\r\n\r\n",
        head % 10**9 + b" " * 10**6,
    ]
    while time.monotonic() < end:
        for pieces in bad:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(pieces)
            await asyncio.sleep(0.05)
            writer.close()
            count += 1
    return count


def main() -> int:
    arguments = read_arguments()
    from qa_accel import Reader  # before the server's process, which wants the cores for itself

    rows = read_rows(arguments.test_file, arguments.questions)
    reader = Reader(arguments.model, device=arguments.device)
    expected = direct_answers(reader, rows)
    server = Server(arguments.model, arguments.device)
    try:
        if arguments.rate is None and shutil.which("wrk") is None:
            raise SystemExit("wrk is not installed (Debian: apt-get install wrk); or give --rate")
        rate = arguments.rate or bearable_rate(server.url, rows, max(5.0, arguments.seconds / 2))
        print(f"{len(rows)} questions; bearable: {rate:.1f} requests/s\n\n{HEAD}", flush=True)
        seconds = arguments.seconds
        half, twice = Phase("half", rate / 2, seconds), Phase("twice, among bad clients", 2 * rate, seconds)
        after, into = (
            Phase("half, right after it", rate / 2, seconds / 3),
            Phase("SIGTERM under load", rate, seconds / 3),
        )

        async def at_twice() -> int:
            _, count = await asyncio.gather(load(server, rows, expected, twice), misbehave(server.url, seconds))
            return count

        asyncio.run(load(server, rows, expected, half))
        print(half.row(), flush=True)
        bad = asyncio.run(at_twice())
        print(twice.row(), flush=True)
        asyncio.run(load(server, rows, expected, after))
        print(after.row(), flush=True)
        answered = metric(server.url)
        asyncio.run(load(server, rows, expected, into, stop_after=into.seconds / 2))
        print(into.row())
        code = server.process.wait(scaled(60))
        print(f"\n{bad} bad clients; exit code after SIGTERM {code}; answered before it {answered:.0f}")
    finally:
        server.process.kill()
        server.process.wait()
    right = not any(phase.wrong for phase in (half, twice, after, into))
    kept = half.counts.keys() | after.counts.keys() == {200} and twice.counts.keys() <= {200, 429}
    return 0 if right and kept and into.counts.keys() <= {200, 503, 0} and code == 0 else 1


def metric(url: str) -> float:
    lines = httpx.get(f"{url}/metrics", trust_env=False).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("qa_questions_total"))


if __name__ == "__main__":
    raise SystemExit(main())
