"""Functions sent to workers: results, edges, options."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from chia.base.ChiaFunction import ChiaCallRemote, ChiaFunction, chia_actor, get
from chia.errors import NodeError, NothingToWaitFor
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.usefixtures("cluster")]

OFFSET = 100


@ChiaFunction
def add(a: int, b: int = 1) -> int:
    return a + b


@ChiaFunction
def through_another(value: int) -> int:
    return add.chia_remote_blocking(value, OFFSET)


@ChiaFunction(num_cpus=1)
def fibonacci(n: int) -> int:
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


@ChiaFunction
def here() -> int:
    return os.getpid()


@ChiaFunction(num_cpus=0.5, resources={"fpga": 1})
def assigned() -> dict[str, float]:
    return dict(ray.get_runtime_context().get_assigned_resources())


def test_a_remote_call_returns_a_reference_to_what_another_process_computes() -> None:
    ref = here.chia_remote()
    assert isinstance(ref, ray.ObjectRef)
    assert get(ref) != os.getpid()
    assert here() == os.getpid()


def test_a_blocking_call_returns_the_value() -> None:
    assert add.chia_remote_blocking(2, b=3) == 5
    assert add.chia_remote_blocking(2) == 3


def test_the_functional_form_is_the_same_call() -> None:
    assert get(ChiaCallRemote(add, 2, b=3)) == 5


def test_references_are_edges_as_positional_and_as_keyword_arguments() -> None:
    one = add.chia_remote(0)
    assert get(add.chia_remote(one, b=add.chia_remote(one, one))) == 3
    assert add.chia_remote_blocking(a=one, b=one) == 2


def test_a_reference_inside_a_container_stays_a_reference() -> None:
    @ChiaFunction
    def kind(values: list[Any]) -> list[str]:
        return [type(value).__name__ for value in values]

    assert kind.chia_remote_blocking([1, add.chia_remote(1)]) == ["int", "ObjectRef"]


@ChiaFunction(deep_refs=True)
def flattened(values: Any, **named: Any) -> list[Any]:
    found: list[Any] = []
    for value in (values, *named.values()):
        if isinstance(value, dict):
            found += flattened(list(value.values()))
        elif isinstance(value, (list, tuple, set)):
            for item in value:
                found += flattened(item)
        else:
            found.append(value)
    return found


def test_references_inside_containers_arrive_as_values_where_that_is_asked_for() -> None:
    def nested() -> dict[str, Any]:
        one = add.chia_remote(0)
        return {"a": [one, (add.chia_remote(1), 3)], "b": {add.chia_remote(3)}, "c": {"d": one}}

    assert flattened.chia_remote_blocking(nested(), more=[add.chia_remote(4)]) == [1, 2, 3, 4, 1, 5]
    assert flattened(nested(), more=[add.chia_remote(4)]) == [1, 2, 3, 4, 1, 5]
    plain = [1, [2]]
    assert ChiaFunction(deep_refs=True)(lambda value: value)(plain) is plain, "nothing to replace, nothing copied"


def test_a_direct_call_gets_values_for_references_at_top_level_and_leaves_the_others() -> None:
    one = add.chia_remote(0)
    assert add(one, b=one) == 2
    assert ChiaFunction(lambda values: values)([one]) == [one]


def test_async_functions_and_generators_run_on_workers() -> None:
    @ChiaFunction
    async def slow(value: int) -> int:
        await asyncio.sleep(0)
        return value + await asyncio.to_thread(int, "1")

    @ChiaFunction
    async def count(n: int) -> AsyncIterator[int]:
        for number in range(n):
            await asyncio.sleep(0)
            yield number
        if n > 2:
            raise ValueError("too many")

    assert slow.chia_remote_blocking(add.chia_remote(1)) == 3
    assert list(count.chia_remote_blocking(2)) == [0, 1]
    values = count.chia_remote_blocking(3)
    assert [next(values) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="too many"):
        next(values)
    with pytest.raises(StopIteration):
        next(values)


@pytest.mark.parametrize("end", ["closed", "collected", "left by an exception"])
def test_a_blocking_generator_that_is_not_read_to_its_end_cancels_its_task(end: str) -> None:
    @ChiaFunction(resources={"fpga": 2})
    def count() -> Iterator[int]:
        for number in itertools.count():
            yield number
            time.sleep(0.01)  # on the worker: it yields no more than somebody might want

    values = count.chia_remote_blocking()
    assert next(values) == 0
    if end == "closed":
        values.close()
        assert list(values) == []
    elif end == "collected":
        del values
        gc.collect()
    else:
        with pytest.raises(KeyError), values:
            raise KeyError
    # What it had is free again.
    assert get(here.options(resources={"fpga": 2}).chia_remote(), timeout=60) != os.getpid()


def test_an_actor_is_called_like_a_node() -> None:
    @ray.remote(num_cpus=0)
    class Store:
        def __init__(self) -> None:
            self.values: dict[str, int] = {}

        def write(self, key: str, value: int) -> int:
            self.values[key] = value
            return len(self.values)

        def both(self) -> tuple[int, int]:
            return 1, 2

    store = chia_actor(Store.remote())
    assert get(store.write.chia_remote("a", add.chia_remote(1))) == 1
    assert store.write.chia_remote_blocking("b", value=2) == 2
    assert get(store.both.options(num_returns=2).chia_remote()) == [1, 2]

    @ChiaFunction
    def write_from_there(actor: Any) -> int:
        return actor.write.chia_remote_blocking("c", 3)

    assert write_from_there.chia_remote_blocking(store) == 3
    ray.kill(store.actor)
    with pytest.raises(NodeError, match="takes the handle of a Ray actor, not 3"):
        chia_actor(3)  # type: ignore[arg-type]


def test_a_task_waits_for_what_it_depends_on(gate: Any) -> None:
    reached, opened = gate.reached_path, gate.open_path

    @ChiaFunction
    def held() -> str:
        with open(reached, "w"):
            pass
        with open(opened) as pipe:
            return pipe.read()

    @ChiaFunction
    def shout(text: str) -> str:
        return text + "!"

    result = shout.chia_remote(held.chia_remote())
    gate.wait_until_reached()
    assert ray.wait([result], timeout=0)[0] == []
    gate.open()
    assert get(result, timeout=60) == "go!"


def test_a_chain_of_fifty_references_ends_in_one_value() -> None:
    ref = add.chia_remote(0)
    for _ in range(49):
        ref = add.chia_remote(ref)
    assert get(ref, timeout=60) == 50


def test_many_calls_in_flight_come_back_in_order() -> None:
    refs = [add.chia_remote(number, number) for number in range(200)]
    assert get(refs, timeout=60) == [2 * number for number in range(200)]
    assert get(tuple(refs[:3]), timeout=60) == [0, 2, 4]


def test_an_empty_list_of_references_is_an_empty_list_of_values() -> None:
    assert get([]) == []


def test_a_node_dispatches_others_from_a_worker() -> None:
    assert through_another.chia_remote_blocking(5) == 105


def test_a_node_that_calls_itself_runs_on_a_worker() -> None:
    assert fibonacci.chia_remote_blocking(10) == 55


def test_a_lambda_and_a_closure_are_nodes_too() -> None:
    factor = 3
    assert ChiaFunction(lambda value: value * factor).chia_remote_blocking(5) == 15


def test_a_node_travels_as_an_argument() -> None:
    @ChiaFunction
    def apply(function: Any, value: int) -> int:
        return function(value)

    assert apply.chia_remote_blocking(add, 4) == 5


def test_decorator_options_reach_the_scheduler() -> None:
    assert assigned.chia_remote_blocking() == {"CPU": 0.5, "fpga": 1.0}


def test_an_override_changes_what_it_names_for_one_dispatch_only() -> None:
    assert assigned.options(num_cpus=1).chia_remote_blocking() == {"CPU": 1.0, "fpga": 1.0}
    assert assigned.options(resources={}).chia_remote_blocking() == {"CPU": 0.5}
    assert get(assigned.options(resources={"fpga": 2}).chia_remote()) == {"CPU": 0.5, "fpga": 2.0}
    assert assigned.chia_remote_blocking() == {"CPU": 0.5, "fpga": 1.0}


def test_scheduling_strategies_by_name_and_by_object_are_overrides() -> None:
    node_id = ray.get_runtime_context().get_node_id()
    by_object = NodeAffinitySchedulingStrategy(node_id, soft=False)
    for strategy in ("SPREAD", "DEFAULT", by_object):
        assert add.options(scheduling_strategy=strategy).chia_remote_blocking(1, 1) == 2


def test_a_dispatch_can_be_kept_and_used_again() -> None:
    dispatch = add.options(num_cpus=1)
    assert get([dispatch.chia_remote(1, 1), dispatch.chia_remote(2, 2)]) == [2, 4]


def test_several_results_are_several_references() -> None:
    @ChiaFunction(num_returns=2)
    def halves(text: str) -> tuple[str, str]:
        return text[: len(text) // 2], text[len(text) // 2 :]

    left, right = halves.chia_remote("abcd")
    assert get([right, left]) == ["cd", "ab"]
    assert halves.chia_remote_blocking("abcd") == ["ab", "cd"]


def test_no_result_cannot_be_waited_for() -> None:
    dispatch = add.options(num_returns=0)
    with pytest.raises(NothingToWaitFor, match="nothing to wait for"):
        dispatch.chia_remote_blocking(1)


def test_a_generator_yields_values_as_they_arrive() -> None:
    @ChiaFunction
    def count(n: int) -> Iterator[int]:
        for number in range(n):
            yield 10 * number

    assert [get(ref) for ref in count.chia_remote(3)] == [0, 10, 20]  # type: ignore[attr-defined]
    values = count.chia_remote_blocking(3)
    assert next(values) == 0
    assert list(values) == [10, 20]


def test_a_task_whose_worker_dies_is_run_again(tmp_path: Path) -> None:
    marker = str(tmp_path / "tried")

    @ChiaFunction(max_retries=1)
    def dies_once() -> str:
        if not os.path.exists(marker):
            open(marker, "w").close()
            os._exit(1)
        return "alive"

    assert dies_once.chia_remote_blocking() == "alive"
    os.remove(marker)
    with pytest.raises(ray.exceptions.WorkerCrashedError):
        dies_once.options(max_retries=0).chia_remote_blocking()


def test_arguments_that_do_not_fit_are_refused_at_the_call() -> None:
    for dispatch in (add.chia_remote, add.chia_remote_blocking, add.options(num_cpus=1).chia_remote):
        with pytest.raises(TypeError, match="missing a required argument: 'a'") as caught:
            dispatch()
        assert "test_dispatch.add" in caught.value.__notes__[0]
    with pytest.raises(TypeError, match="too many positional"):
        add.chia_remote(1, 2, 3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'c'"):
        add.chia_remote(1, c=3)


def test_an_argument_that_cannot_be_pickled_is_refused_at_the_call() -> None:
    import threading

    with pytest.raises(TypeError, match="lock") as caught:
        add.chia_remote(threading.Lock())
    assert "test_dispatch.add" in caught.value.__notes__[0]


def test_what_is_no_reference_cannot_be_got() -> None:
    with pytest.raises(ValueError, match="int"):
        get(5)  # type: ignore[call-overload]


def test_each_node_is_exported_to_the_cluster_once() -> None:
    @ChiaFunction(num_cpus=1)
    def fresh() -> None: ...

    def exported() -> int:
        keys = ray.experimental.internal_kv._internal_kv_list("RemoteFunction", namespace="fun")
        return len(keys)

    fresh.chia_remote_blocking()
    before = exported()
    for cpus in (1, 1.0, 0.5, 2):
        fresh.options(num_cpus=cpus).chia_remote_blocking()
    assert exported() == before > 0
