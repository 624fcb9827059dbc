"""The order of tasks follows from tags and overlapping ranges: whatever is submitted ends like a serial execution."""

from __future__ import annotations

import numpy as np
import pytest
import simpler
from hypothesis import given, settings
from hypothesis import strategies as st
from simpler import IN, INOUT, OUT, OUTPUT_EXISTING, TaskArgs

CELLS = 12
TAGS = (INOUT, OUT, OUTPUT_EXISTING)


def mix(args: simpler.SubTaskArgs) -> None:
    """Order matters to every cell it writes: new = 31 * old (0 if it overwrites) + what it read + its number."""
    number, writes = args.scalar(0), args.scalar(1)
    arrays = args.arrays()
    read = sum(int(values.sum()) for values in arrays[writes:])
    for values in arrays[:writes]:
        if TAGS[number % 3] is INOUT:
            values *= 31
        else:
            values[...] = 0
        values += (read + number) % 1009


def mix_serially(base: np.ndarray, number: int, written, read) -> None:
    seen = sum(int(base[cut].sum()) for cut in read)
    for cut in written:
        base[cut] *= 31 if TAGS[number % 3] is INOUT else 0
        base[cut] += (seen + number) % 1009


def apart(cut: slice, others: list[slice]) -> bool:
    cells = set(range(CELLS)[cut])
    return all(cells.isdisjoint(range(CELLS)[other]) for other in others)


cuts = st.builds(
    lambda start, size, step: slice(start, min(CELLS, start + size), step),
    st.integers(0, CELLS - 1),
    st.integers(1, 6),
    st.sampled_from([1, 1, 1, 2, 3]),
)
disjoint = st.lists(cuts, max_size=3).map(lambda found: [c for i, c in enumerate(found) if apart(c, found[:i])])


@st.composite
def tasks(draw):
    """Views a task writes and reads; what it reads is apart from what it writes, so that serial has one meaning."""
    written = draw(disjoint)
    read = [cut for cut in draw(st.lists(cuts, max_size=3)) if apart(cut, written)]
    return draw(st.integers(0, 2)), written, read, draw(st.integers(-1, 1))


@pytest.fixture(scope="module")
def crew():
    with simpler.Worker(device_ids=[], num_sub_workers=2, heap_ring_size=1 << 20) as worker:
        yield worker, worker.register(mix)


@settings(max_examples=150)
@given(st.lists(tasks(), max_size=60))
def test_random_graphs_end_like_serial_execution(crew, program):
    """Three buffers, one of them shared; overlapping views with and without gaps; pinned tasks."""
    worker, handle = crew
    bases = [np.arange(CELLS, dtype=np.uint64), np.arange(CELLS, dtype=np.uint64), worker.zeros(CELLS, "uint64")]
    expected = [base.copy() for base in bases]

    def orchestration(orch, args, config):
        for number, (which, written, read, pin) in enumerate(program):
            args = TaskArgs()
            for cut in written:
                args.add_tensor(bases[which][cut], TAGS[number % 3])
            for cut in read:
                args.add_tensor(bases[which][cut], IN)
            orch.submit_sub(handle, args.add_scalar(number).add_scalar(len(written)), worker=pin)

    worker.run(orchestration)
    for number, (which, written, read, _) in enumerate(program):
        mix_serially(expected[which], number, written, read)
    for base, wanted in zip(bases, expected, strict=True):
        np.testing.assert_array_equal(base, wanted)


@pytest.mark.parametrize(
    ("first", "second", "waits"),
    [
        (OUT, IN, True),  # read after write
        (IN, OUT, True),  # write after read
        (OUT, OUT, True),  # write after write
        (INOUT, INOUT, True),
        (OUTPUT_EXISTING, IN, True),
        (IN, OUTPUT_EXISTING, True),
        (IN, IN, False),
        (OUT, simpler.NO_DEP, False),
        (simpler.NO_DEP, IN, False),
    ],
)
def test_tags_decide_who_waits_for_whom(make_worker, make_gate, first, second, waits):
    """The first task is held at its gate while the other worker has nothing to do but the second."""
    worker = make_worker(num_sub_workers=2)
    gates = [make_gate(), make_gate(), make_gate()]
    base, order = worker.zeros(8, "int32"), worker.zeros(3, "int32")

    def work(args):
        number = args.scalar(0)
        gates[number].wait()
        log = args.array(0)
        log[number] = log[2]
        log[2] += 1

    handle = worker.register(work)

    def orchestration(orch, args, config):
        for number, tag in enumerate((first, second)):
            task = TaskArgs().add_tensor(order, simpler.NO_DEP).add_tensor(base[2 * number : 6], tag)
            orch.submit_sub(handle, task.add_scalar(number), worker=number)
        gates[0].arrived()
        if waits:
            gates[1].open()
            # A task that waits for nothing, behind the second one's place: it comes first nevertheless.
            orch.submit_sub(handle, TaskArgs().inout(worker.zeros(3, "int32")).add_scalar(2), worker=1)
            gates[2].arrived()
            gates[2].open()
        else:
            gates[1].arrived()
            gates[1].open()
        gates[0].open()

    worker.run(orchestration)
    if waits:  # else the two change the log at the same time, and that they both came to their gates is the proof
        assert order.tolist() == [0, 1, 2]


def test_ranges_that_only_touch_do_not_wait(make_worker, make_gate):
    worker = make_worker(num_sub_workers=2)
    gates = [make_gate(), make_gate()]
    base = worker.zeros(8, "int32")

    def work(args):
        gates[args.scalar(0)].wait()

    handle = worker.register(work)

    def orchestration(orch, args, config):
        for number in range(2):
            half = base[4 * number : 4 * number + 4]
            orch.submit_sub(handle, TaskArgs().out(half).add_scalar(number), worker=number)
        for one in gates:
            one.arrived()
        for one in gates:
            one.open()

    worker.run(orchestration)
    assert base.shape == (8,)
