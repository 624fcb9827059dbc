from __future__ import annotations

import threading

import pytest
from simpler import RemoteError
from simpler.protocol import pack_failure, unpack_failure


class NeedsTwo(Exception):
    """Pickles, and cannot be rebuilt: its constructor takes more than its args hold."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(one)


class Unprintable(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __reduce__(self) -> tuple:
        raise RuntimeError("no pickle")


def there_and_back(error: BaseException, limit: int = 65536) -> tuple[BaseException, str]:
    try:
        raise error
    except BaseException as raised:
        packed = pack_failure(raised, limit)
    assert len(packed) <= limit
    return unpack_failure(packed)


def test_an_exception_arrives_with_its_type_its_message_and_its_traceback():
    error, text = there_and_back(ValueError("expected 5.0, got 4.0"))
    assert type(error) is ValueError
    assert str(error) == "expected 5.0, got 4.0"
    assert "there_and_back" in text
    assert "ValueError: expected 5.0, got 4.0" in text


def test_an_exception_defined_in_a_function_arrives():
    class Local(Exception):
        pass

    error, _ = there_and_back(Local("here"))
    assert type(error).__name__ == "Local"


@pytest.mark.parametrize("error", [ValueError(threading.Lock()), NeedsTwo(1, 2)])
def test_an_exception_that_cannot_be_sent_arrives_as_its_repr(error):
    arrived, text = there_and_back(error)
    assert type(arrived) is RemoteError
    assert type(error).__name__ in str(arrived)
    assert type(error).__name__ in text


def test_an_exception_without_repr_and_pickle_arrives_too():
    arrived, _ = there_and_back(Unprintable())
    assert type(arrived) is RemoteError
    assert "Unprintable" in str(arrived)


def test_an_exception_larger_than_a_message_arrives_shortened():
    arrived, text = there_and_back(ValueError("x" * 200_000))
    assert type(arrived) is RemoteError
    assert str(arrived).startswith("ValueError('xxx")
    assert text.endswith("x\n")


def test_a_chain_of_causes_arrives_as_text():
    error = ValueError("outer")
    error.__cause__ = KeyError("inner")
    _, text = there_and_back(error)
    assert "KeyError: 'inner'" in text
