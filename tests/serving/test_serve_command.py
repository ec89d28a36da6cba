"""`qa-accel serve` as it is typed: what it refuses before a model is loaded, and one whole life of the real process."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import processes
import pytest
from documented_commands import check_flags
from served import until
from speed import scaled
from toy import context_about, flags

import qa_accel.serving
from qa_accel import cli
from qa_accel.commands import serve
from qa_accel.serving import server

KEY = "0123456789abcdef-key"


def refusal(monkeypatch, capsys, *words: str) -> str:
    """What the command prints and leaves with code 2."""
    monkeypatch.setattr(sys, "argv", ["qa-accel", "serve", *words])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    return " ".join(capsys.readouterr().err.replace("│", "").split())  # the parser's own frame cuts lines


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "runs/a b"), "--model runs/a b: 'a b' cannot be a model's name"),
        (("--model", "../.."), "'..' cannot be a model's name"),
        (("--model", "runs/x", "other/x"), "two models have the name x; give another in front, as in x2=other/x"),
        (("--model", "x="), "--model x=: expected a folder behind the ="),
        (("--model", "x", "--port", "70000"), "--port must be at most 65535, got 70000"),
        (("--model", "x", "--deadline_seconds", "0"), "--deadline_seconds must be more than 0, got 0"),
        (("--model", "x", "--max_requests", "0"), "--max_requests must be at least 1, got 0"),
        (("--model", "x", "--api_key_file", "not there"), "--api_key_file not there: expected a key of at least 16"),
        (("--model", "x", "--host", "203.0.113.7"), "--host 203.0.113.7 --port 8000 cannot be opened"),
    ],
)
def test_what_cannot_work_is_refused_before_a_model_is_loaded(monkeypatch, capsys, words, message):
    assert message in refusal(monkeypatch, capsys, *words)


def test_a_port_in_use_is_refused(monkeypatch, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        said = refusal(monkeypatch, capsys, "--model", "x", "--port", port)
    assert f"--port {port} cannot be opened: Address already in use; choose another port, 0 for any free one" in said


def test_a_second_server_at_a_port_is_refused_before_it_loads_a_model():
    """Breaks if the port is only bound: two servers can, and the second one would find out after its models are loaded."""
    with server.bind("127.0.0.1", 0) as first, pytest.raises(ValueError, match="Address already in use"):
        server.bind("127.0.0.1", first.getsockname()[1])


def test_a_response_does_not_wait_for_the_acknowledgement_of_its_head():
    """Breaks if accepted connections keep Nagle's algorithm: every response was 40 ms late by it, and no figure else showed why."""

    async def option_of_an_accepted_connection() -> int:
        options = []

        async def accept(_, writer: asyncio.StreamWriter) -> None:
            options.append(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        opened = server.bind("127.0.0.1", 0)
        async with await asyncio.start_server(accept, sock=opened):
            reader, writer = await asyncio.open_connection(*opened.getsockname())
            await reader.read()
            writer.close()
        return options[0]

    assert asyncio.run(option_of_an_accepted_connection()) == 1


def test_a_missing_extra_is_named_with_the_way_out(monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("qa_accel.serving.")]:
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr(qa_accel.serving, name.rpartition(".")[2], raising=False)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    said = refusal(monkeypatch, capsys, "--model", "x")
    assert said == "serve: serve needs the package fastapi, which is not installed: pip install 'qa-accel[serve]'"


def test_the_server_itself_needs_no_torch(repository):
    """Breaks if it is imported before a model needs it: an exported one does not, and health would answer seconds later."""
    program = "import sys, qa_accel.commands.serve, qa_accel.serving.server; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_models_are_named_by_hand_or_by_their_folder():
    given = ("squad=runs/squad_v2", "runs/mine", "deepset/roberta", "a/b=c/model")
    assert serve.named_models(given) == {
        "squad": "runs/squad_v2",
        "mine": "runs/mine",
        "roberta": "deepset/roberta",
        "model": "a/b=c/model",
    }


def test_the_key_comes_from_a_file_or_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv(serve.KEY_VARIABLE, raising=False)
    assert serve.api_key(None) is None
    monkeypatch.setenv(serve.KEY_VARIABLE, KEY)
    assert serve.api_key(None) == KEY
    file = tmp_path / "key"
    file.write_text(f"{KEY}-of-the-file\n")
    assert serve.api_key(str(file)) == f"{KEY}-of-the-file"
    for bad in ("short", "", "x" * 20 + " y", "ü" * 20):
        monkeypatch.setenv(serve.KEY_VARIABLE, bad)
        with pytest.raises(ValueError, match="QA_ACCEL_API_KEY: expected a key of at least 16 ASCII") as error:
            serve.api_key(None)
        assert not bad or bad not in str(error.value)


def test_it_listens_on_this_machine_only_unless_it_is_given_an_address():
    assert serve.ServeConfig(model=("x",)).host == "127.0.0.1"


def life(script: Path, words: list[str], pid_file: Path) -> None:
    pid_file.write_text(str(os.getpid()))
    processes.script(script, words)


def test_a_whole_life(toy, repository, tmp_path):
    """A process of its own prints its address, answers, and ends with 0 by SIGTERM, even if that comes twice, when every
    accepted request is answered. Breaks if the command or its script is left half edited."""
    (tmp_path / "key").write_text(KEY)
    port = processes.free_port()
    words = flags(model=f"toy={toy.model}", device="cpu", port=port, api_key_file=tmp_path / "key")
    left: list[processes.Left] = []
    arguments = (life, repository / "scripts" / "serve.py", words, tmp_path / "pid")
    process = threading.Thread(target=lambda: left.extend(processes.run(*arguments)))
    process.start()
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(
        base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=scaled(30), trust_env=False
    ) as client:
        until(lambda: is_healthy(client), 60)
        # the four together take over a second, so that a busy machine sees them in flight
        long = {"question": "Where was Tess born?", "context": context_about("Tess") * 200}
        found: list[httpx.Response] = []
        threads = [threading.Thread(target=lambda: found.append(client.post("answer", json=long))) for _ in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: in_flight(client) == 4)
        for _ in range(2):
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
        for thread in threads:
            thread.join(scaled(30))
    process.join(scaled(30))
    assert [response.status_code for response in found] == [200] * 4
    assert left[0].code == 0
    assert left[0].output == f"serving toy at http://127.0.0.1:{port}/\n"


def is_healthy(client: httpx.Client) -> bool:
    try:
        return client.get("health").status_code == 200
    except httpx.ConnectError:
        return False


def in_flight(client: httpx.Client) -> float:
    lines = client.get("metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith("qa_requests_in_flight "))


def unit(repository: Path) -> str:
    return (repository / "deploy" / "qa-accel.service").read_text()


def test_the_unit_and_the_image_start_a_command_that_there_is(repository):
    """Breaks if a flag that they give is renamed in the settings."""
    [start] = [line for line in unit(repository).splitlines() if line.startswith("ExecStart=")]
    words = start.split()
    assert Path(words[0]).name == "qa-accel" and words[1] == "serve"
    assert check_flags("serve", words[2:]).api_key_file == "%d/api_key"
    image = (repository / "Dockerfile").read_text()
    entry, command = (
        json.loads(re.findall(rf"^{name} (\[.*\])$", image, re.MULTILINE)[-1]) for name in ("ENTRYPOINT", "CMD")
    )
    assert entry[:2] == ["qa-accel", "serve"]
    assert check_flags("serve", [*entry[2:], *command]).host == "0.0.0.0"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_takes_the_unit(repository, tmp_path):
    """Breaks with a directive that systemd does not know: it ignores those, and with them the hardening."""
    text = unit(repository).replace("/opt/qa-accel/.venv/bin/qa-accel", "/bin/true")
    (tmp_path / "qa-accel.service").write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", tmp_path / "qa-accel.service"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_the_image_copies_is_let_through(repository):
    """Breaks if .dockerignore keeps back a file that a COPY needs."""
    through = {line[1:] for line in (repository / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (.*) \S+$", (repository / "Dockerfile").read_text(), re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    assert names == through and all((repository / name).exists() for name in names)
