"""fork_client.py SOCKET SCRIPT FLAGS...: a launcher for tests; the script runs in a process that `sweeps.Trainings` forks.

It ends when the script does, with its exit code, and the script is killed when it is. Standard library only.
"""

import json
import os
import socket
import sys


def main(place: str, words: list[str]) -> int:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(place)
        request = json.dumps({"argv": words, "cwd": os.getcwd(), "environment": dict(os.environ)}).encode()
        socket.send_fds(connection, [len(request).to_bytes(8, "big")], [1])
        connection.sendall(request)
        answer = connection.recv(16)
    code = int(answer or b"1")
    if code < 0:  # as launchers write it
        print(f"died with <Signals.{-code}>", flush=True)
    return code if code >= 0 else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], sys.argv[2:]))
