"""100 bytes to a forked Python process and back: simpler_ipc beside multiprocessing.Pipe.

The two take turns in one run, so that both meet the same machine; medians over the turns, and their ratio.

    python benchmarks/round_trip.py [--rounds 15] [--messages 5000]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import simpler_ipc as ipc

PAYLOAD = bytes(100)


def fork(body: Callable[[], None]) -> ipc.Peer:
    """A child that runs `body` and ends with this process at the latest."""
    me = ipc.Peer(os.getpid())
    pid = os.fork()
    if pid == 0:
        try:
            ipc.exit_with(me)
            body()
        finally:
            os._exit(0)
    return ipc.Peer(pid)


def serve_mailbox(mailbox: ipc.Mailbox) -> None:
    server = mailbox.server()
    while True:
        server.reply(0, server.recv().payload)


def serve_pipe(connection: Connection) -> None:
    while True:
        connection.send_bytes(connection.recv_bytes())


def microseconds(round_trip: Callable[[], object], messages: int) -> float:
    start = time.perf_counter()
    for _ in range(messages):
        round_trip()
    return (time.perf_counter() - start) / messages * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="turns of each")
    parser.add_argument("--messages", type=int, default=5000, help="round trips in a turn")
    options = parser.parse_args()

    mailbox = ipc.Mailbox(ipc.Region(ipc.Mailbox.required_bytes(1, 256)), frame_bytes=256)
    client = mailbox.client()
    here, there = multiprocessing.Pipe()
    children = [fork(lambda: serve_mailbox(mailbox)), fork(lambda: serve_pipe(there))]
    client.watch(children[0])

    def through_mailbox() -> None:
        client.call(ipc.TASK, PAYLOAD)

    def through_pipe() -> None:
        here.send_bytes(PAYLOAD)
        here.recv_bytes()

    ours, theirs = [], []
    for _ in range(options.rounds):
        ours.append(microseconds(through_mailbox, options.messages))
        theirs.append(microseconds(through_pipe, options.messages))
    for child in children:
        child.kill()
        child.wait()

    print(f"round trip of {len(PAYLOAD)} bytes, median of {options.rounds} turns of {options.messages}")
    mailbox_median, pipe_median = statistics.median(ours), statistics.median(theirs)
    print(f"  simpler_ipc           {mailbox_median:8.2f} µs")
    print(f"  multiprocessing.Pipe  {pipe_median:8.2f} µs  {pipe_median / mailbox_median:.1f}×")


if __name__ == "__main__":
    main()
