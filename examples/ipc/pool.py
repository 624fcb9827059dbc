"""A pool of Python children.

The workers draw a picture of the Mandelbrot set, each in an interpreter of its own: they are spawned, and get the
mailbox and the memory of the picture pickled as arguments. The parent waits for all of them at once. One worker is
killed half-way, to show what happens: another one takes its mailbox over, with the requests that were not answered.

python examples/ipc/pool.py
python examples/ipc/pool.py --workers 4 --rows 4000        Ctrl-C ends it at any time
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import struct
import sys

import numpy as np

# --8<-- [start:worker]
from simpler_ipc import (
    SHUTDOWN,
    TASK,
    Doorbell,
    Mailbox,
    MailboxClient,
    Peer,
    PeerDied,
    Region,
    Request,
    WaitSet,
    exit_with,
)

COLUMNS, BAND = 256, 8  # a task is a band of that many rows


def work(parent_id: int, mailbox: Mailbox, doorbell: Doorbell, picture: Region, rows: int) -> None:
    """What a worker does. It rings the doorbell, where the parent waits, so that is an argument too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides
    parent = Peer(parent_id)
    if os.getppid() != parent_id:
        return  # it has ended meanwhile, and its id may be another process's
    exit_with(parent)  # however the parent ends

    pixels = picture.numpy("uint8", (rows, COLUMNS))

    def draw(request: Request) -> bytes:
        (first,) = struct.unpack("<Q", request.payload)
        last = min(first + BAND, rows)
        y, x = np.mgrid[first:last, 0:COLUMNS]
        c = (x / COLUMNS * 3 - 2.25) + 1j * (y / rows * 2 - 1)
        z, count = np.zeros_like(c), np.zeros(c.shape, "uint8")
        for _ in range(100):
            inside = abs(z) < 2
            z[inside] = z[inside] ** 2 + c[inside]
            count += inside
        pixels[first:last] = count  # in place: drawn twice, it is the same; and the reply carries nothing
        return b""

    mailbox.server().serve(draw)  # until SHUTDOWN


# --8<-- [end:worker]


# --8<-- [start:pool]
class Lane:
    """A mailbox, and the worker at its other end."""

    def __init__(self, region: Region, offset: int, doorbell: Doorbell, picture: Region, rows: int) -> None:
        self.mailbox = Mailbox(region, offset=offset, depth=2, frame_bytes=100)
        self.client: MailboxClient = self.mailbox.client(doorbell)
        self.arguments = (os.getpid(), self.mailbox, doorbell, picture, rows)
        self.start()

    def start(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.process = spawn.Process(target=work, args=self.arguments, daemon=True)
        self.process.start()
        assert self.process.pid is not None
        self.peer = Peer(self.process.pid, reap=False)  # that is left to the process object


def draw(workers: int, rows: int) -> np.ndarray:
    lane_bytes = Mailbox.required_bytes(2, 100)
    region = Region(Doorbell.NBYTES + workers * lane_bytes, label="lanes")
    doorbell = Doorbell(region)
    picture = Region(rows * COLUMNS, label="picture")
    waiting = list(range(0, rows, BAND))
    half = len(waiting) // 2
    lanes: list[Lane] = []
    done = 0
    with WaitSet(doorbell) as wait_set:
        try:
            for number in range(workers):
                lane = Lane(region, Doorbell.NBYTES + number * lane_bytes, doorbell, picture, rows)
                lanes.append(lane)
                wait_set.add(lane.client)
                wait_set.watch(lane.peer)
            print(f"{workers} workers", flush=True)

            while waiting or any(lane.client.in_flight for lane in lanes):
                for lane in lanes:
                    while waiting and lane.client.free:
                        lane.client.send(TASK, struct.pack("<Q", waiting.pop(0)))
                try:
                    replies = wait_set.harvest(timeout=60)
                except PeerDied as died:
                    if died.signal is None:
                        raise  # it ended by itself, and so would the next
                    lane = next(lane for lane in lanes if lane.peer.pid == died.pid)
                    print(f"{died}; {lane.client.in_flight} requests go to its successor", flush=True)
                    wait_set.forget(lane.peer)
                    lane.process.join()
                    lane.start()
                    wait_set.watch(lane.peer)
                    continue
                for _client, reply in replies:
                    reply.result()  # raises what the worker says went wrong
                    done += 1
                    if done == half:
                        lanes[0].process.kill()

            for lane in lanes:
                lane.client.call(SHUTDOWN, b"", timeout=60)
                lane.process.join(timeout=60)
        finally:
            for lane in lanes:
                lane.process.kill()  # nothing happens to one that has ended
                lane.process.join()
    return picture.numpy("uint8", (rows, COLUMNS))


# --8<-- [end:pool]


def main() -> None:
    parser = argparse.ArgumentParser(description="Draws with a pool of Python children.")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rows", type=int, default=512)
    chosen = parser.parse_args()
    picture = draw(chosen.workers, chosen.rows)
    for row in picture[np.linspace(0, chosen.rows - 1, 24).astype(int), ::4]:
        print("".join(" .:-=+*#%@"[min(int(count) // 10, 9)] for count in row))


if __name__ == "__main__":  # a spawned worker imports this file
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
