"""A Python parent with a Rust child.

The parent lays series into shared memory with numpy. The child, a small Rust program (src/main.rs), smooths them there:
each value depends on the one before, a loop that numpy has no fast way to write. Half-way the child is killed, to show
what happens: the parent is told and starts another one, which goes on with what the first has not answered.

python examples/ipc/rust_child/parent.py        compiles the child first, which needs cargo
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np

# --8<-- [start:memory]
from simpler_ipc import SHUTDOWN, TASK, HeapRing, Mailbox, MailboxClient, Peer, PeerDied, Region

DEPTH, FRAME_BYTES = 8, 64
RING_BYTES = 1 << 26

# One region with all that both processes need: the mailbox, and behind it the ring with the series.
RING_OFFSET = Mailbox.required_bytes(DEPTH, FRAME_BYTES)
region = Region(RING_OFFSET + HeapRing.required_bytes(RING_BYTES), label="series")
mailbox = Mailbox(region, depth=DEPTH, frame_bytes=FRAME_BYTES)
ring = HeapRing(region, offset=RING_OFFSET, nbytes=RING_BYTES, name="series")
# --8<-- [end:memory]

SERIES, COUNT, WEIGHT = 200, 20_000, 0.1


def build() -> str:
    """Compile the child: the path of its program."""
    if shutil.which("cargo") is None:
        sys.exit("this example compiles a Rust program, for which cargo is missing: see https://rustup.rs")
    manifest = Path(__file__).with_name("Cargo.toml")
    command = ["cargo", "build", "--release", "--manifest-path", manifest, "--message-format=json-render-diagnostics"]
    built = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if built.returncode != 0:
        sys.exit("the child was not compiled; cargo says why above")
    messages = [json.loads(line) for line in built.stdout.splitlines()]
    return str(next(message["executable"] for message in messages if message.get("executable")))


# --8<-- [start:parent]
def start(program: str) -> subprocess.Popen[bytes]:
    # The number of the descriptor is the same in the child.
    arguments = [region.fd, os.getpid(), DEPTH, FRAME_BYTES]
    return subprocess.Popen([program, *map(str, arguments)], pass_fds=[region.fd])


def rows(address: int) -> np.ndarray:
    """The two rows of a block, in place: the values, and what the child makes of them."""
    return region.numpy("float64", (2, COUNT), address - region.address)


def ask(client: MailboxClient, address: int) -> int:
    """Ask for the block at an address: the ticket of the request, which is written into its frame."""
    with client.request(TASK) as frame:
        struct.pack_into("<QQd", frame, 0, address - region.address, COUNT, WEIGHT)  # its addresses differ from ours
        frame.nbytes = 24
    assert frame.ticket is not None
    return frame.ticket


def smooth(program: str) -> None:
    rng = np.random.default_rng(1)
    client = mailbox.client()
    child = start(program)
    peer = Peer(child.pid, reap=False)  # that is left to `child`
    client.watch(peer)
    asked: dict[int, int] = {}  # the blocks of the requests in flight
    made = answered = 0
    killed = False
    try:
        while answered < SERIES:
            while client.free and made < SERIES:
                address = ring.alloc(2 * COUNT * 8)
                rows(address)[0] = rng.standard_normal(COUNT).cumsum()
                asked[ask(client, address)] = address
                made += 1
            if made > SERIES // 2 and not killed:
                child.kill()
                killed = True

            try:
                client.wait(timeout=30)
            except PeerDied as died:  # and no reply of its is left
                if died.signal is None:
                    raise  # it ended by itself, and so would the next
                print(f"{died}; {client.in_flight} requests go to its successor")
                client.forget(peer)
                child.wait()
                child = start(program)
                peer = Peer(child.pid, reap=False)
                client.watch(peer)
                continue

            reply = client.poll()
            assert reply is not None
            address = asked.pop(reply.ticket)
            last = np.frombuffer(reply.result(), "<f8")[0]
            values, smoothed = rows(address)
            assert smoothed[-1] == last
            assert abs(smoothed).max() <= abs(values).max()
            ring.release(address)
            answered += 1

        client.call(SHUTDOWN, b"", timeout=30)
        print(f"{answered} series of {COUNT} values smoothed; the child: exit status {child.wait(timeout=30)}")
    finally:
        child.kill()  # nothing happens if it has ended
        child.wait()


# --8<-- [end:parent]


if __name__ == "__main__":
    try:
        smooth(build())
    except KeyboardInterrupt:
        sys.exit(130)
