"""What kernels and chip orchestrations have in common in C++: parameters, index arithmetic, loops."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from pypto.codegen.queries import dimensions
from pypto.codegen.writer import Names, Writer
from pypto.ir.dtypes import BOOL, FP32, INDEX, DType
from pypto.ir.nodes import (
    Assign,
    Binary,
    Call,
    Carried,
    Const,
    DimExpr,
    Eval,
    Expr,
    ExprTuple,
    For,
    Function,
    If,
    Not,
    Param,
    Return,
    ScalarType,
    Span,
    Stmt,
    TensorType,
    Var,
    While,
    Yield,
)
from pypto.ops import registry

# Keywords, what the headers define as macros, and what every generated file uses.
_WORDS = """
alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t char32_t class
co_await co_return co_yield compl concept const const_cast consteval constexpr constinit continue decltype default
delete do double dynamic_cast else enum explicit export extern false float for friend goto if inline int long
mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public register
reinterpret_cast requires return short signed sizeof static static_assert static_cast struct switch template this
thread_local throw true try typedef typeid typename union unsigned using virtual void volatile wchar_t while xor
xor_eq linux unix int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t size_t args simpler kernel
orchestrate NULL va_list va_start va_end va_arg va_copy
"""
_RESERVED = frozenset(_WORDS.split())

# Index arithmetic with Python's meaning. Only what a function uses is written into its file.
_HELPERS = {
    "floor_div": """\
// Division that rounds towards minus infinity.
template <class Place> int64_t floor_div(Place &place, int64_t a, int64_t b, const char *where) {
  if (b == 0)
    place.fail(where, "integer division by zero");
  return b == -1 ? int64_t(0 - uint64_t(a)) : a / b - (a % b != 0 && (a < 0) != (b < 0));
}""",
    "floor_mod": """\
// Remainder with the sign of the divisor.
template <class Place> int64_t floor_mod(Place &place, int64_t a, int64_t b, const char *where) {
  if (b == 0)
    place.fail(where, "integer modulo by zero");
  return b == -1 ? 0 : a % b + (a % b != 0 && (a < 0) != (b < 0) ? b : 0);
}""",
    "wrap_add": """\
// Sums, differences and products that go beyond 64 bits wrap around.
inline int64_t wrap_add(int64_t a, int64_t b) { return int64_t(uint64_t(a) + uint64_t(b)); }""",
    "wrap_sub": "inline int64_t wrap_sub(int64_t a, int64_t b) { return int64_t(uint64_t(a) - uint64_t(b)); }",
    "wrap_mul": "inline int64_t wrap_mul(int64_t a, int64_t b) { return int64_t(uint64_t(a) * uint64_t(b)); }",
    "same_region": """\
// Operands of one operation are valid in the same region.
template <class Core, class A, class B>
void same_region(Core &core, const A &a, const B &b, const char *where) {
  if (a.rows != b.rows || a.cols != b.cols)
    core.fail(where, "the valid regions of the operands are %dx%d and %dx%d; they must be equal", a.rows, a.cols,
              b.rows, b.cols);
}""",
    "smaller": "template <class T> T smaller(T a, T b) { return b < a ? b : a; }",
    "larger": "template <class T> T larger(T a, T b) { return a < b ? b : a; }",
}
_HELPER_OF = {"//": "floor_div", "%": "floor_mod", "min": "smaller", "max": "larger"}


def string_literal(text: str) -> str:
    """``text`` as a C++ string literal."""
    safe = "".join(c if c.isascii() and c.isprintable() else "?" for c in text)
    return '"' + safe.replace("\\", "\\\\").replace('"', '\\"') + '"'


def constant(value: int | float | bool, dtype: DType) -> str:
    """A number as a C++ expression of the element type ``dtype``."""
    if dtype == BOOL:
        return "true" if value else "false"
    if dtype.is_float:
        number = _float(float(value))
        return number if dtype == FP32 else f"static_cast<{dtype.cpp}>({number})"
    number = str(int(value))
    if int(value) == -(2**63):  # its digits alone are no int64
        number = f"({number[:-1]}7ll - 1)"
    elif not -(2**31) < int(value) < 2**31:
        number += "ull" if int(value) >= 2**63 else "ll"
    return number if dtype == INDEX else f"static_cast<{dtype.cpp}>({number})"


def _float(value: float) -> str:
    if math.isnan(value):
        return '__builtin_nanf("")'
    if math.isinf(value):
        return "__builtin_inff()" if value > 0 else "-__builtin_inff()"
    return f"{value!r}f"


def _op_helper_names() -> list[str]:
    """What operations call the C++ that they bring."""
    return [f"{op.spelling}_elements" for op in registry.all_ops() if op.helper]


class CppFunction:
    """Writes one function of a program as one C++ file.

    A subclass names what C++ calls the core or graph (``place``), the header (``include``) and the entry (``entry``),
    and says what assignments and calls become.
    """

    place: str
    include: str
    entry: str

    def __init__(self, function: Function, program_name: str) -> None:
        self.function = function
        self.program_name = program_name
        self.out = Writer("  ")
        self.names = Names([*_RESERVED, *_HELPERS, *_op_helper_names(), self.place])
        self._helpers: set[str] = set()
        self.op_helpers: dict[str, str] = {}  # operation → C++ that it needs
        self._ranges: dict[str, tuple[int, int]] = {}  # integer variable → its least and greatest value
        self._commented = ""

    # --- the file -------------------------------------------------------------------------------------------------

    def text(self) -> str:
        """The whole file."""
        with self.out.block(f'extern "C" void {self.entry} {{', "}"):
            self._parameters()
            self.statements(self.function.body)
        function = self.function
        title = function.kind.value
        parts = [
            f"// The {title} {function.name} of {self.program_name} ({function.span.where}), generated by pypto.\n"
            f'#include "{self.include}"\n'
        ]
        helpers = [helper for name, helper in _HELPERS.items() if name in self._helpers]
        helpers += [self.op_helpers[name] for name in sorted(self.op_helpers)]
        if helpers:
            parts.append("namespace {\n\n" + "\n\n".join(helpers) + "\n\n} // namespace\n")
        return "\n".join([*parts, self.out.text()])

    def _parameters(self) -> None:
        tensors = scalars = 0
        for param in self.function.params:
            if isinstance(param.type, TensorType):
                name = self.names.define(param.name)
                self.out.line(f"const simpler::ContinuousTensor &{name} = args.tensors[{tensors}];")
                tensors += 1
            elif isinstance(param.type, ScalarType):
                self._scalar_parameter(param, param.type.dtype, scalars)
                scalars += 1
        for dim, (tensor, axis) in dimensions(self.function).items():
            name = self.names.define(dim, key=("dim", dim))
            self.out.line(f"const int64_t {name} = {self.names[tensor]}.shapes[{axis}];")

    def _scalar_parameter(self, param: Param, dtype: DType, index: int) -> None:
        bits = f"args.scalars[{index}]"
        if dtype.is_float:  # travels as the bits of a double
            bits = f"static_cast<{dtype.cpp}>(__builtin_bit_cast(double, {bits}))"
        type_ = cpp_scalar(dtype)
        self.out.line(f"const {type_} {self.names.define(param.name)} = static_cast<{type_}>({bits});")

    # --- statements -----------------------------------------------------------------------------------------------

    def statements(self, stmts: tuple[Stmt, ...], into: Sequence[Var] = ()) -> None:
        """Write a body in the scope that is open; what it yields goes to the variables ``into``."""
        for stmt in stmts:
            self.comment(stmt.span)
            match stmt:
                case Assign(target=target, value=value) if isinstance(target.type, ScalarType):
                    text, low, high = self._number(value)
                    self._ranges[target.name] = (low, high)
                    name = self.names.define(target.name)
                    self.out.line(f"const {cpp_scalar(target.type.dtype)} {name} = {text};")
                case Assign():
                    self.assign(stmt)
                case Eval(value=value):
                    self.evaluate(value)
                case For():
                    self._for(stmt)
                case While():
                    self._while(stmt)
                case If():
                    self._if(stmt)
                case Yield(values=values):
                    self._yield(values, into)
                case Return():
                    pass  # every value is a parameter that has been written
                case _:
                    raise AssertionError(f"no code for {type(stmt).__name__}: a pass should have removed it")

    def assign(self, stmt: Assign) -> None:
        """Write an assignment to a tile or tensor."""
        raise NotImplementedError

    def declare(self, var: Var, span: Span) -> None:
        """Make a place for a tile that a loop carries or a branch gives."""
        raise NotImplementedError

    def extra_carried(self, var: Var, value: Expr) -> tuple[str, str, str] | None:
        """What else goes with a carried tile: C++ type, key of the name, and what it is with ``value``."""
        return None

    def evaluate(self, value: Expr) -> None:
        """Write an expression that stands for its effect."""
        raise NotImplementedError

    def comment(self, span: Span) -> None:
        """Say which line of the user's source comes now, once."""
        text = f"// {span.where}: {span.text.strip()}"
        if text != self._commented:
            self._commented = text
            self.out.line(text + " ." if text.endswith("\\") else text)  # a backslash would join the next line

    @contextmanager
    def scope(self, head: str) -> Iterator[None]:
        """A block of C++ whose names end with it."""
        outer = self.names
        with self.out.block(head, "}"):
            self.names = Names(parent=outer)
            try:
                yield
            finally:
                self.names = outer

    # --- loops and branches -----------------------------------------------------------------------------------------

    def _carry(self, carried: Sequence[Carried]) -> list[Var]:
        """Declare what a loop carries; gives its variables."""
        for c in carried:
            if isinstance(c.param.type, ScalarType):
                name = self.names.define(c.param.name)
                self.out.line(f"{cpp_scalar(c.param.type.dtype)} {name} = {self.expression(c.init)};")
                self.names.alias(c.result.name, name)
            else:
                self.declare(c.param, c.param.span)
                self.declare(c.result, c.param.span)
                if (extra := self.extra_carried(c.param, c.init)) is not None:
                    type_, key, value = extra
                    name = self.names.define(f"{c.param.name}_{key}", key=(key, c.param.name))
                    self.out.line(f"{type_} {name} = {value};")
                    self.names.alias((key, c.result.name), name)
        return [c.param for c in carried]

    def _yield(self, values: tuple[Expr, ...], into: Sequence[Var]) -> None:
        """Assign what is yielded, all at once."""
        moves: list[tuple[str, str, str]] = []  # C++ type, name, value
        for var, value in zip(into, values, strict=True):
            if isinstance(var.type, ScalarType):
                moves.append((cpp_scalar(var.type.dtype), self.names[var.name], self.expression(value)))
            elif (extra := self.extra_carried(var, value)) is not None:
                moves.append((extra[0], self.names[(extra[1], var.name)], extra[2]))
        moves = [move for move in moves if move[1] != move[2]]
        if len(moves) == 1:
            self.out.line(f"{moves[0][1]} = {moves[0][2]};")
            return
        nexts = [self.names.define(f"{name}_next", key=("next", name)) for _, name, _ in moves]
        for (type_, _, text), new in zip(moves, nexts, strict=True):
            self.out.line(f"const {type_} {new} = {text};")
        for (_, name, _), new in zip(moves, nexts, strict=True):
            self.out.line(f"{name} = {new};")

    def _for(self, loop: For) -> None:
        into = self._carry(loop.carried)
        start, low, _ = self._number(loop.start)
        stop, _, high = self._number(loop.stop)
        step = self.expression(loop.step)
        name = loop.var.name
        up = isinstance(loop.step, Const) and loop.step.value > 0
        if up:
            self._ranges[name] = (low, max(low, high - 1))
        if not isinstance(loop.step, Const):
            step = self._step(name, step, loop.span)
        outer, self.names = self.names, Names(parent=self.names)
        counter = self.names.define(name)
        init = f"int64_t {counter} = {start}"
        if not isinstance(loop.stop, Const):
            end = self.names.define(f"{name}_stop", key="stop")
            init += f", {end} = {stop}"
            stop = end
        rising, falling = f"{counter} < {stop}", f"{counter} > {stop}"
        if isinstance(loop.step, Const):
            condition = rising if loop.step.value > 0 else falling
        else:
            condition = f"{step} > 0 ? {rising} : {falling}"
        with self.out.block(f"for ({init}; {condition}; {counter} += {step}) {{", "}"):
            self.statements(loop.body, into)
        self.names = outer

    def _while(self, loop: While) -> None:
        into = self._carry(loop.carried)
        with self.scope(f"while ({self.expression(loop.condition)}) {{"):
            self.statements(loop.body, into)

    def _if(self, stmt: If) -> None:
        for result in stmt.results:
            if isinstance(result.type, ScalarType):
                self.out.line(f"{cpp_scalar(result.type.dtype)} {self.names.define(result.name)};")
            else:
                self.declare(result, stmt.span)
                if (extra := self.extra_carried(result, result)) is not None:
                    name = self.names.define(f"{result.name}_{extra[1]}", key=(extra[1], result.name))
                    self.out.line(f"{extra[0]} {name} = false;")
        with self.scope(f"if ({self.expression(stmt.condition)}) {{"):
            self.statements(stmt.then, stmt.results)
        if stmt.otherwise:
            with self.scope("else {"):
                self.statements(stmt.otherwise, stmt.results)

    def _step(self, name: str, text: str, span: Span) -> str:
        """A variable for a step that is known at run time, and what happens if it is zero."""
        step = self.names.define(f"{name}_step", key=("step", name, span))
        self.out.line(f"const int64_t {step} = {text};")
        self.out.line(f"if ({step} == 0)")
        self.out.line(f'  {self.place}.fail({string_literal(span.where)}, "the step of a range is zero");')
        return step

    # --- expressions ----------------------------------------------------------------------------------------------

    def expression(self, expr: Expr, *, nested: bool = False) -> str:
        """A scalar or tensor as a C++ expression; ``nested``: in parentheses where it is made of parts."""
        return self._number(expr, nested=nested)[0]

    def _number(self, expr: Expr, *, nested: bool = False) -> tuple[str, int, int]:
        """An expression in C++, and between what bounds its value is if it is an integer."""
        low, high = _limits(expr)
        match expr:
            case Const(value=value, type=ScalarType(dtype=dtype)):
                text = constant(value, dtype)
                return f"({text})" if nested and text.startswith("-") else text, low, high
            case Var(name=name):
                low, high = self._ranges.get(name, (low, high))
                return self.names[name], low, high
            case DimExpr(name=name):
                return self.names[("dim", name)], low, high
            case Binary():
                return self._binary(expr, nested)
            case Not(operand=operand):
                return f"!{self.expression(operand, nested=True)}", low, high
            case ExprTuple(items=items):
                return ", ".join(map(self.expression, items)), low, high
            case Call(op=op, args=args):
                return registry.get(op).cpp(expr, [self.expression(a) for a in args], None), low, high
        raise AssertionError(f"no C++ expression for {type(expr).__name__}")

    def _binary(self, expr: Binary, nested: bool) -> tuple[str, int, int]:
        helper = _HELPER_OF.get(expr.op)
        lhs, low_a, high_a = self._number(expr.lhs, nested=helper is None)
        rhs, low_b, high_b = self._number(expr.rhs, nested=helper is None)
        assert isinstance(expr.type, ScalarType)
        is_index = expr.type.dtype == INDEX
        if is_index and expr.op in _BOUNDS:
            low, high = _BOUNDS[expr.op]((low_a, high_a), (low_b, high_b))
            if low < _LOWEST or high > _HIGHEST:
                helper = {"+": "wrap_add", "-": "wrap_sub", "*": "wrap_mul"}[expr.op]
                self._helpers.add(helper)
                return f"{helper}({lhs}, {rhs})", _LOWEST, _HIGHEST
        else:
            low, high = _LOWEST, _HIGHEST
            if is_index and expr.op == "min":
                low, high = min(low_a, low_b), min(high_a, high_b)
            if is_index and expr.op == "max":
                low, high = max(low_a, low_b), max(high_a, high_b)
            if is_index and expr.op == "//" and low_b > 0:
                low, high = min(low_a, 0), max(high_a, 0)
            if is_index and expr.op == "%" and low_b > 0:
                low, high = 0, high_b
        if helper is None:
            op = {"and": "&&", "or": "||"}.get(expr.op, expr.op)
            text = f"{lhs} {op} {rhs}"
            return f"({text})" if nested else text, low, high
        self._helpers.add(helper)
        if expr.op in ("//", "%"):
            return f"{helper}({self.place}, {lhs}, {rhs}, {string_literal(expr.span.where)})", low, high
        return f"{helper}<{cpp_scalar(expr.type.dtype)}>({lhs}, {rhs})", low, high


_LOWEST, _HIGHEST = -(2**63), 2**63 - 1
_Range = tuple[int, int]
_BOUNDS: dict[str, Callable[[_Range, _Range], _Range]] = {
    "+": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "-": lambda a, b: (a[0] - b[1], a[1] - b[0]),
    "*": lambda a, b: (min(x * y for x in a for y in b), max(x * y for x in a for y in b)),
}


def _limits(expr: Expr) -> _Range:
    """Between what bounds an integer is, as far as its kind tells."""
    match expr:
        case Const(value=int() as value):
            return value, value
        case DimExpr() | Call(op="tensor.dim"):
            return 0, 2**32 - 1
        case Var(type=ScalarType(dtype=dtype)) if dtype.is_int and dtype != INDEX:
            bits = 8 * dtype.itemsize
            if bits < 64:
                return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dtype.is_signed else (0, 2**bits - 1)
    return _LOWEST, _HIGHEST


def cpp_scalar(dtype: DType) -> str:
    """What numbers of a dtype are in C++ while they are computed with: all integers have 64 bits, all floats 32."""
    if dtype == BOOL:
        return "bool"
    return "float" if dtype.is_float else "int64_t"
