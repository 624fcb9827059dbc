"""A call's arguments against the host orchestrator's signature."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pypto.errors import SignatureError, TypeMismatch
from pypto.runtime.manifest import Manifest, Parameter

ANY_DIMENSION = "?"  # a dimension that fits any size and is no other's equal


@dataclass(frozen=True, slots=True)
class Bound:
    """Arguments ready to run.

    Attributes:
        values: arrays and numbers in the order of the signature.
        results: what the call returns: None when the caller passed the outputs, else one array or a tuple of them.
        kind: ``"torch"`` if any argument is a torch tensor, else ``"numpy"``.
    """

    values: tuple[Any, ...]
    results: Any
    kind: str


# (shape, numpy's dtype name, "numpy" or "torch") → an array of zeros
Allocate = Callable[[tuple[int, ...], str, str], Any]


def bind(manifest: Manifest, args: Sequence[Any], kwargs: Mapping[str, Any], allocate: Allocate) -> Bound:
    """Match a call with the signature; outputs that were left out are allocated.

    Positional arguments are all parameters, or all but the ``Out`` ones; keywords name parameters.

    Raises:
        SignatureError: too many or too few arguments, an unknown name, an output whose size nothing tells.
        TypeMismatch: an argument that is no array, or has another dtype or shape than the signature says.
    """
    if (plain := _plain(manifest, args, kwargs, allocate)) is not None:
        return plain
    given = _by_name(manifest, args, kwargs)
    sizes: dict[str, tuple[int, str]] = {}  # dynamic dimension → its size, and which argument says so
    values: dict[str, Any] = {}
    kind = "numpy"
    for parameter in manifest.parameters:
        if parameter.name in given:
            value = given[parameter.name]
            if parameter.shape is None:
                values[parameter.name] = _scalar(manifest, parameter, value)
                continue
            values[parameter.name], is_torch = _array(manifest, parameter, value, sizes)
            kind = "torch" if is_torch else kind
    missing = [p for p in manifest.parameters if p.name not in values]
    shapes = {p.name: _resolved(manifest, p, sizes) for p in missing}  # all of them, before anything is allocated
    for parameter in missing:
        values[parameter.name] = allocate(shapes[parameter.name], parameter.dtype, kind)
    results = tuple(values[name] for name in manifest.results) if missing else None
    ordered = tuple(values[p.name] for p in manifest.parameters)
    return Bound(ordered, results[0] if results is not None and len(results) == 1 else results, kind)


def _plain(manifest: Manifest, args: Sequence[Any], kwargs: Mapping[str, Any], allocate: Allocate) -> Bound | None:
    """The most usual calls, without detours: by place, numpy arrays of the very types that are wanted.

    None where any of that is not so; what is wrong then, if anything, is found by looking closely.
    """
    numpy = sys.modules.get("numpy")
    if kwargs or numpy is None:
        return None
    missing = [p for p in manifest.parameters if p.direction == "Out"] if len(args) < len(manifest.parameters) else []
    given = [p for p in manifest.parameters if p.direction != "Out"] if missing else manifest.parameters
    if len(args) != len(given):
        return None
    sizes: dict[str, int] = {}
    for parameter, value in zip(given, args, strict=True):
        if type(value) is not numpy.ndarray or parameter.shape is None or value.dtype != _numpy_dtype(parameter.dtype):
            return None
        shape = value.shape
        if shape != parameter.shape:
            if len(shape) != len(parameter.shape):
                return None
            for dim, size in zip(parameter.shape, shape, strict=True):
                if size != (dim if isinstance(dim, int) else sizes.setdefault(dim, size)):
                    return None
        flags = value.flags
        if not flags.c_contiguous or not (flags.writeable or parameter.direction == "In"):
            return None
    if not missing:
        return Bound(tuple(args), None, "numpy")
    values = dict(zip((p.name for p in given), args, strict=True))
    for parameter in missing:
        assert parameter.shape is not None
        if not all(isinstance(dim, int) or dim in sizes for dim in parameter.shape):
            return None
    for parameter in missing:
        dims = tuple(dim if isinstance(dim, int) else sizes[dim] for dim in parameter.shape or ())
        values[parameter.name] = allocate(dims, parameter.dtype, "numpy")
    results = tuple(values[name] for name in manifest.results)
    ordered = tuple(values[p.name] for p in manifest.parameters)
    return Bound(ordered, results[0] if len(results) == 1 else results, "numpy")


@cache
def _numpy_dtype(name: str) -> Any:
    """numpy's dtype of that name; None where it has none, which no array's equals."""
    import numpy

    return None if name == "bfloat16" else numpy.dtype(name)


def made_up(manifest: Manifest) -> list[Any]:
    """Arguments for a trial run: small numbers, the same each time; outputs are left out.

    Raises SignatureError where the signature leaves a size open.
    """
    import numpy as np

    random = np.random.default_rng(0)
    values: list[Any] = []
    for parameter in manifest.parameters:
        if parameter.direction == "Out":
            continue
        shape = _resolved(manifest, parameter, {}) if parameter.shape is not None else ()
        values.append(random.integers(0, 2, shape).astype(parameter.dtype))
    return values


def signature(manifest: Manifest) -> str:
    """``L3DependencyProgram(a: float32[128, 128], …, out f: float32[128, 128])``."""
    words = {"In": "", "Out": "out ", "InOut": "inout "}
    return f"{manifest.name}({', '.join(words[p.direction] + str(p) for p in manifest.parameters)})"


def _by_name(manifest: Manifest, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    names = [p.name for p in manifest.parameters]
    needed = [p.name for p in manifest.parameters if p.direction != "Out"]
    unknown = [name for name in kwargs if name not in names]
    if unknown:
        raise SignatureError(f"{signature(manifest)} has no parameter {unknown[0]!r}", hint=_declared(manifest))
    positional = names if len(args) > len(needed) else needed
    if len(args) > len(positional) or (len(args) > len(needed) and len(args) + len(kwargs) < len(names)):
        raise _wrong_count(manifest, len(args) + len(kwargs), len(names), len(needed))
    given = dict(zip(positional, args, strict=False))
    twice = [name for name in kwargs if name in given]
    if twice:
        raise SignatureError(f"{signature(manifest)} got {twice[0]!r} twice", hint=_declared(manifest))
    given |= kwargs
    if any(name not in given for name in needed):
        raise _wrong_count(manifest, len(given), len(names), len(needed))
    return given


def _wrong_count(manifest: Manifest, got: int, all_of_them: int, needed: int) -> SignatureError:
    expected = (
        f"{all_of_them} arguments" if all_of_them == needed else f"{all_of_them} arguments, or {needed} without outputs"
    )
    return SignatureError(f"{signature(manifest)} takes {expected}; got {got}", hint=_declared(manifest))


def _declared(manifest: Manifest) -> str:
    return f"the signature is declared at {manifest.where}"


def _scalar(manifest: Manifest, parameter: Parameter, value: Any) -> Any:
    number = value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value
    wanted = float if "float" in parameter.dtype else int
    if not isinstance(number, (int, float) if wanted is float else int):
        found = f": expected a number of type {parameter.dtype}, got {type(value).__name__}"
        raise _mismatch(manifest, parameter, found)
    if wanted is int and not _fits(int(number), parameter.dtype):
        raise _mismatch(manifest, parameter, f": {number} does not fit {parameter.dtype}")
    return wanted(number)


def _fits(number: int, dtype: str) -> bool:
    if dtype == "bool":
        return number in (0, 1)
    bits = int(dtype.lstrip("uint"))
    return 0 <= number < 2**bits if dtype.startswith("u") else -(2 ** (bits - 1)) <= number < 2 ** (bits - 1)


def _array(manifest: Manifest, parameter: Parameter, value: Any, sizes: dict[str, tuple[int, str]]) -> tuple[Any, bool]:
    """``value`` as a numpy array or torch tensor that has been checked, and whether it is a torch tensor."""
    from simpler import SimplerError
    from simpler.arguments.arrays import describe, refused_by_chips

    try:
        info = describe(value)
    except SimplerError as error:
        wanted = str(parameter).partition(": ")[2]
        raise _mismatch(manifest, parameter, f": expected {wanted}: {error}") from error
    if info.tensor is None:
        wanted = str(parameter).partition(": ")[2]
        raise _mismatch(manifest, parameter, f": expected {wanted}, but it {refused_by_chips(info)}")
    name = info.dtype.name.lower()
    assert parameter.shape is not None
    fits = name == parameter.dtype and len(info.shape) == len(parameter.shape)
    also = ""
    for axis, (dim, size) in enumerate(zip(parameter.shape, info.shape, strict=False)):
        if isinstance(dim, int):
            fits = fits and dim == size
        elif fits and dim != ANY_DIMENSION:
            known = sizes.setdefault(dim, (size, f"dimension {axis} of {parameter.name}"))
            if known[0] != size:
                fits, also = False, f", where {dim} is {known[0]} ({known[1]})"
    if not fits:
        wanted, found = str(parameter).partition(": ")[2], f"{name}[{', '.join(map(str, info.shape))}]"
        raise _mismatch(manifest, parameter, f": expected {wanted}, got {found}{also}")
    if parameter.direction != "In" and not info.writable:
        raise _mismatch(manifest, parameter, " is written, but the array is read-only", f"pass {parameter.name}.copy()")
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return value.detach(), True
    import numpy as np

    return info.array if isinstance(info.array, np.ndarray) else np.asarray(info.array), False


def _mismatch(manifest: Manifest, parameter: Parameter, what: str, hint: str | None = None) -> TypeMismatch:
    where = f"argument {parameter.name} of {signature(manifest)}"
    return TypeMismatch(where + what, hint=hint or _declared(manifest))


def _resolved(manifest: Manifest, parameter: Parameter, sizes: Mapping[str, tuple[int, str]]) -> tuple[int, ...]:
    assert parameter.shape is not None
    for dim in parameter.shape:
        if not isinstance(dim, int) and dim not in sizes:
            raise SignatureError(
                f"{signature(manifest)} was called without {parameter.name}, and no argument tells its dimension {dim}",
                hint=f"pass an array for {parameter.name}",
            )
    return tuple(d if isinstance(d, int) else sizes[d][0] for d in parameter.shape)
