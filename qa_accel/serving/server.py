"""A service at an address, from its first line to its exit code.

0: stopped by SIGTERM or SIGINT, after all accepted requests were answered. 1: the worker ended, or did not let go. A
second SIGINT ends the process at once; a second SIGTERM, which launchers may pass on twice, does not. Models that cannot be loaded raise their ValueError here.
"""

import asyncio
import contextlib
import math
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator

import uvicorn

from qa_accel.serving.app import make_app
from qa_accel.serving.gate import SEND_SECONDS
from qa_accel.serving.service import Service
from qa_accel.terminal import visible_lines

SIGNALS = (signal.SIGINT, signal.SIGTERM)
BACKLOG = 2048
TICK = 0.05
"""Seconds between two looks at the worker."""
KEEP_ALIVE = 75
"""Seconds of an idle connection: longer than clients and proxies keep one (60), who would else send into a closed door."""
LAST_WORDS = 1.0
"""Seconds in which responses still go out when the worker has ended."""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are `run`'s: uvicorn would close the door before what was accepted is answered."""
        yield


def bind(host: str, port: int) -> socket.socket:
    """An open socket. Raises ValueError for an address that cannot be had; port 0 is any free one."""
    try:
        [(family, kind, _, _, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        # asyncio turns off Nagle's algorithm only where the protocol is named; else each response waits 40 ms for an ACK
        opened = socket.socket(family, kind, socket.IPPROTO_TCP)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(
            BACKLOG
        )  # here, where a second server at this port is refused, and not while the models are loaded
    except OSError as error:
        raise ValueError(
            f"--host {host} --port {port} cannot be opened: {error.strerror or error}; choose another port, 0 for any free "
            "one, or an address of this machine"
        ) from error
    return opened


def address_of(opened: socket.socket) -> str:
    host, port = opened.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(service: Service, opened: socket.socket, on_ready: Callable[[], None]) -> int:
    """Serve until a signal or the worker's end; the exit code. Signals come to the main thread only."""
    code = asyncio.run(_run(service, opened, on_ready))
    if not service.worker.stop(seconds=5):
        sys.stderr.flush()
        loading = not service.worker.ready
        os._exit(code if loading else 1)  # a batch that never ends
    error = service.worker.error
    if error is not None:
        if not service.worker.readers and isinstance(error, (ValueError, OSError)):
            raise error
        # with its message: a forward pass sees numbers, and cannot quote a text
        lines = "".join(traceback.format_exception(error))
        print(f"serve: the worker ended:\n{visible_lines(lines)}", end="", file=sys.stderr)
    return code


async def _run(service: Service, opened: socket.socket, on_ready: Callable[[], None]) -> int:
    config = uvicorn.Config(
        make_app(service),
        http="h11",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=5,
    )
    server = _Server(config)

    def stop(number: signal.Signals) -> None:
        if service.stopping and number == signal.SIGINT:
            os._exit(128 + number)
        service.stopping = True

    loop = asyncio.get_running_loop()
    if threading.current_thread() is threading.main_thread():  # no other gets signals
        for number in SIGNALS:
            loop.add_signal_handler(number, stop, number)
    service.worker.start()
    serving = asyncio.ensure_future(server.serve(sockets=[opened]))
    try:
        return await _watch(service, server, on_ready)
    finally:
        server.should_exit = True
        await serving
        service.texts.shutdown(wait=False, cancel_futures=True)


async def _watch(service: Service, server: uvicorn.Server, on_ready: Callable[[], None]) -> int:
    """Return the exit code when it is time to close the door."""
    said, last = False, math.inf
    while True:
        if service.state == "dead":
            service.worker.fail_all()  # by itself it does, unless the thread was ended from outside
            await asyncio.sleep(LAST_WORDS if service.worker.readers else 0)
            return 1
        if service.worker.ready and server.started and not said:
            said = True
            on_ready()
        if service.stopping and service.in_flight == 0:
            return 0
        if service.stopping:
            last = min(last, time.monotonic() + service.limits.deadline_seconds + SEND_SECONDS)
            if time.monotonic() > last:
                return 1
        await asyncio.sleep(TICK)
