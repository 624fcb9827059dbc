from __future__ import annotations

import threading

import pytest
from simpler import CallableKind, RegistrationFailed, UnknownCallable
from simpler.tasks.callables import Registry


def add(args: object) -> None:
    """Something to register."""


def twice(factor: int):
    def scale(args: object) -> int:
        return factor

    return scale


def register(registry: Registry, target: object):
    return registry.add(registry.identify(target))


def test_equal_content_has_an_equal_digest_of_32_bytes():
    registry = Registry()
    one, other = register(registry, add), register(registry, add)
    assert one.digest == other.digest
    assert len(one.digest) == 32
    assert one is not other
    assert register(Registry(), add).digest == one.digest


def test_different_content_has_different_digests():
    registry = Registry()
    digests = {register(registry, target).digest for target in (add, twice(2), twice(3), print)}
    assert len(digests) == 4


def test_equal_closures_are_equal_content():
    registry = Registry()
    assert register(registry, twice(2)).digest == register(registry, twice(2)).digest


def test_a_reloaded_function_is_not_the_one_it_replaces():
    registry = Registry()
    before = register(registry, add)
    code = add.__code__
    try:
        add.__code__ = (lambda args: 1).__code__
        after = register(registry, add)
    finally:
        add.__code__ = code
    assert before.digest != after.digest


def test_two_handles_to_one_content_are_two_lifetimes():
    registry = Registry()
    one, other = register(registry, add), register(registry, add)
    assert registry.remove(one) is None
    assert registry.resolve(other).target is add
    with pytest.raises(UnknownCallable, match=r"add .* was unregistered"):
        registry.resolve(one)
    assert registry.remove(other) is not None
    assert registry.entries == {}


def test_a_handle_cannot_be_removed_twice():
    registry = Registry()
    handle = register(registry, add)
    registry.remove(handle)
    with pytest.raises(UnknownCallable, match="was unregistered"):
        registry.remove(handle)


def test_a_handle_of_another_worker_is_refused():
    handle = register(Registry(), add)
    with pytest.raises(UnknownCallable, match="registered with another worker"):
        Registry().resolve(handle)


@pytest.mark.parametrize("thing", [add, 3, None, b"digest"])
def test_what_is_no_handle_is_refused(thing):
    with pytest.raises(UnknownCallable, match="is not a handle"):
        Registry().resolve(thing)


@pytest.mark.parametrize("thing", [3, "name", None, [add]])
def test_what_cannot_be_called_cannot_be_registered(thing):
    with pytest.raises(RegistrationFailed, match="neither a ChipCallable nor a function"):
        Registry().identify(thing)


def test_a_function_that_cannot_be_pickled_is_identified_by_itself():
    lock = threading.Lock()
    registry = Registry()
    one = register(registry, lambda args: lock)
    other = register(registry, lambda args: lock)
    assert one.digest != other.digest
    assert registry.resolve(one).content is None


def test_a_handle_says_what_it_is_and_cannot_be_pickled():
    handle = register(Registry(), add)
    assert handle.kind is CallableKind.PYTHON_FUNCTION
    assert repr(handle) == f"<CallableHandle add (python function) {handle.digest.hex()[:12]}>"
    with pytest.raises(TypeError, match="belongs to the worker"):
        handle.__reduce__()


def test_callable_objects_and_methods_can_be_registered():
    registry = Registry()
    names = [
        register(registry, target).name for target in ([].append, str.upper, type("Thing", (), {"__call__": add})())
    ]
    assert names == ["list.append", "str.upper", "Thing"]
