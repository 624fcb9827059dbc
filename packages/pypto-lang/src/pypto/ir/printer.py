"""Prints IR as the Python it could have been written as: parsed again, it gives the same IR."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from pypto.ir import walk
from pypto.ir.nodes import (
    ANY_DIM,
    Assign,
    Binary,
    Call,
    Const,
    Dim,
    DimExpr,
    DimVar,
    Direction,
    Eval,
    Expr,
    ExprTuple,
    For,
    Function,
    FunctionKind,
    If,
    Invoke,
    NoneType,
    Not,
    Param,
    Program,
    Return,
    ScalarType,
    Stmt,
    TensorType,
    TileType,
    TupleType,
    Type,
    Var,
    While,
    Yield,
)
from pypto.ops import registry

_DECORATORS = {
    FunctionKind.INCORE: "type=pl.FunctionType.InCore",
    FunctionKind.CHIP_ORCHESTRATION: "type=pl.FunctionType.Orchestration",
    FunctionKind.HOST_ORCHESTRATION: "level=pl.Level.HOST, role=pl.Role.Orchestrator",
    FunctionKind.SUB_WORKER: "level=pl.Level.HOST, role=pl.Role.Worker",
}

_INDENT = "    "


def print_program(program: Program) -> str:
    """The whole program as a Python module."""
    names = _dimension_names(program)
    lines = ["import pypto.language as pl"]
    if names:
        lines += ["", *(f'{name} = pl.dynamic("{dim}")' for dim, name in names.items())]
    lines += ["", "", "@pl.program", f"class {program.name}:"]
    printer = Printer(names)
    body: list[str] = _docstring(program.doc)
    for function in program.functions:
        body += ["", *printer.function(function)]
    lines += [_INDENT + line if line else "" for line in (body if program.doc else body[1:])]
    return "\n".join(lines) + "\n"


def print_function(function: Function) -> str:
    """One function, without the class around it."""
    return "\n".join(Printer().function(function)) + "\n"


def print_expr(expr: Expr) -> str:
    """One expression."""
    return Printer().expr(expr)


def print_type(type_: Type) -> str:
    """A type as it is written in a signature."""
    return Printer().type(type_)


class Printer:
    """Prints parts of a program.

    A value that a loop carries is printed as one Python variable that is assigned again; so is what an ``if`` gives.

    Args:
        dims: what dynamic dimensions are called in the text; their own names by default.
    """

    def __init__(self, dims: Mapping[str, str] | None = None) -> None:
        self._dims = dims or {}
        self._names: dict[str, str] = {}  # variable → its name in the text, where that is another's

    def function(self, function: Function) -> list[str]:
        """The lines of a function with its decorator."""
        params = "".join(f", {self._param(param)}" for param in function.params)
        head = f"def {function.name}(self{params}){self._results(function)}:"
        lines = [f"@pl.function({_DECORATORS[function.kind]})", head]
        if function.sub_worker is not None:
            return lines + function.sub_worker.source.rstrip("\n").split("\n")[1:]
        body = self.body(function.body, own=[param.name for param in function.params])
        return lines + [_INDENT + line for line in _docstring(function.doc) + (body or ["pass"])]

    def body(self, body: Sequence[Stmt], into: Sequence[str] = (), own: Iterable[str] = ()) -> list[str]:
        """The lines of statements.

        Args:
            into: the names that the values of their Yield get.
            own: variables that are defined for this body alone.
        """
        here = {*own, *(var.name for stmt in body for var in walk.defines(stmt))}
        uses = [_uses(stmt) for stmt in body]
        last = {name: index for index, names in enumerate(uses) for name in names}
        self._share_names(body, last, into)
        lines: list[str] = []
        for index, stmt in enumerate(body):
            match stmt:
                case For(carried=carried) | While(carried=carried):
                    for c in carried:
                        dies = (
                            isinstance(c.init, Var)
                            and c.init.name in here
                            and last[c.init.name] == index
                            and not self._inside(stmt, c.init)
                        )
                        name = self._name(c.init.name) if dies and isinstance(c.init, Var) else self._name(c.param.name)
                        if not dies:
                            lines.append(f"{name} = {self.expr(c.init)}")
                        self._names[c.param.name] = self._names[c.result.name] = name
                    lines += self._loop(stmt)
                case If():
                    lines += self._if(stmt)
                case Yield(values=values):
                    pairs = [(n, t) for n, t in zip(into, map(self.expr, values), strict=True) if n != t]
                    if pairs:
                        lines.append(f"{', '.join(n for n, _ in pairs)} = {', '.join(t for _, t in pairs)}")
                case _:
                    lines += self.stmt(stmt)
        return lines

    def stmt(self, stmt: Stmt) -> list[str]:
        """The lines of a statement."""
        match stmt:
            case Assign(target=target, value=value):
                return [f"{self._name(target.name)} = {self.expr(value)}"]
            case Eval(value=value):
                return [self.expr(value)]
            case Return(values=values):
                return [f"return {', '.join(self.expr(value) for value in values)}".rstrip()]
        return self.body((stmt,))

    def _loop(self, loop: For | While) -> list[str]:
        names = [self._name(c.param.name) for c in loop.carried]
        if isinstance(loop, While):
            head = f"while {self.expr(loop.condition)}:"
        else:
            bounds = ", ".join(self.expr(bound) for bound in (loop.start, loop.stop, loop.step))
            head = f"for {self._name(loop.var.name)} in pl.range({bounds}):"
        own = [var.name for var in walk.parameters(loop)]
        return [head, *(_INDENT + line for line in self.body(loop.body, names, own) or ["pass"])]

    def _if(self, stmt: If) -> list[str]:
        names = [self._name(result.name) for result in stmt.results]
        head = f"if {self.expr(stmt.condition)}:"
        then, otherwise = self.body(stmt.then, names), self.body(stmt.otherwise, names)
        lines = [head, *(_INDENT + line for line in then or ["pass"])]
        return lines + (["else:", *(_INDENT + line for line in otherwise)] if otherwise else [])

    def _share_names(self, body: Sequence[Stmt], last: Mapping[str, int], into: Sequence[str]) -> None:
        """Let what is yielded have the name it is yielded into, where the name's value is not needed any more."""
        final = body[-1] if body and isinstance(body[-1], Yield) else None
        holders: dict[str, int] = {}  # until when a name's value is needed
        for variable, index in last.items():
            holders[self._name(variable)] = max(index, holders.get(self._name(variable), -1))
        defined = {var.name: index for index, stmt in enumerate(body) for var in walk.defines(stmt)}
        taken: set[str] = set()
        for name, value in zip(into, final.values if final else (), strict=True):
            if not isinstance(value, Var) or value.name not in defined or value.name in self._names:
                continue
            index = defined[value.name]
            alone = len(walk.defines(body[index])) == 1 and isinstance(body[index], (Assign, If))
            if alone and holders.get(name, -1) <= index and name not in taken:
                self._names[value.name] = name
                taken.add(name)

    def _inside(self, stmt: Stmt, var: Var) -> bool:
        """True where a loop's body or condition uses a variable."""
        loop_uses = {name for body in walk.bodies(stmt) for name in _uses_of(body)}
        if isinstance(stmt, While):
            loop_uses |= set(walk.variables(stmt.condition))
        return var.name in loop_uses

    def _name(self, variable: str) -> str:
        return self._names.get(variable, variable)

    def expr(self, expr: Expr) -> str:
        """An expression."""
        match expr:
            case Var(name=name):
                return self._name(name)
            case DimExpr(name=name):
                return self._dims.get(name, name)
            case Const(value=value):
                return _number(value)
            case Binary(op="min" | "max" as op, lhs=lhs, rhs=rhs):
                return f"pl.{op}({self.expr(lhs)}, {self.expr(rhs)})"
            case Binary(op=op, lhs=lhs, rhs=rhs):
                return f"{self._operand(lhs)} {op} {self._operand(rhs)}"
            case Not(operand=operand):
                return f"not {self._operand(operand)}"
            case ExprTuple(items=items):
                return f"[{', '.join(self.expr(item) for item in items)}]"
            case Call():
                return self._call(expr)
            case Invoke(function=function, args=args, device=device):
                arguments = [self.expr(arg) for arg in args]
                if device is not None:
                    arguments.append(f"device={self.expr(device)}")
                return f"self.{function}({', '.join(arguments)})"
        raise AssertionError(f"no expression: {expr!r}")

    def type(self, type_: Type) -> str:
        """A type."""
        match type_:
            case TensorType(shape=shape, dtype=dtype):
                return f"pl.Tensor[[{', '.join(self._dim(dim) for dim in shape)}], {dtype!r}]"
            case TileType(shape=shape, dtype=dtype):
                return f"pl.Tile[[{shape[0]}, {shape[1]}], {dtype!r}]"
            case ScalarType(dtype=dtype):
                return f"pl.Scalar[{dtype!r}]"
            case TupleType(items=items):
                return f"tuple[{', '.join(self.type(item) for item in items)}]"
            case NoneType():
                return "None"
        raise AssertionError(f"no type: {type_!r}")

    def _operand(self, expr: Expr) -> str:
        text = self.expr(expr)
        bare = not isinstance(expr, Binary | Not) or (isinstance(expr, Binary) and expr.op in ("min", "max"))
        return text if bare else f"({text})"

    def _call(self, call: Call) -> str:
        op = registry.get(call.op)
        args, attrs, texts = list(call.args), dict(call.attrs), list[str]()
        previous: Expr | None = None
        for param in op.params:
            if param.name in attrs:
                keyword = "" if isinstance(attrs[param.name], int) else f"{param.name}="
                texts.append(f"{keyword}{attrs[param.name]!r}")
                continue
            arg = args.pop(0)
            if not (param.optional and arg == previous):
                texts.append(self.expr(arg))
            previous = arg
        return f"pl.{op.spelling}({', '.join(texts)})"

    def _param(self, param: Param) -> str:
        text = self.type(param.type)
        if param.direction is not Direction.IN:
            text = f"pl.{param.direction.value}[{text}]"
        return f"{param.name}: {text}"

    def _results(self, function: Function) -> str:
        results = function.results or ()
        if any(isinstance(r, TensorType) and ANY_DIM in r.shape for r in results) or not results:
            return ""
        if len(results) == 1:
            return f" -> {self.type(results[0])}"
        return f" -> {self.type(TupleType(results))}"

    def _dim(self, dim: Dim) -> str:
        return self._dims.get(dim.name, dim.name) if isinstance(dim, DimVar) else str(dim)


def _uses(stmt: Stmt) -> set[str]:
    """The variables that a statement uses, its bodies too."""
    found = {name for value in walk.values(stmt) for name in walk.variables(value)}
    for body in walk.bodies(stmt):
        found |= _uses_of(body)
    return found


def _uses_of(body: Iterable[Stmt]) -> set[str]:
    return {name for stmt in body for name in _uses(stmt)}


def _number(value: int | float | bool) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        # Written as literals: a name such as `inf` would have to be imported.
        return "(1e999 - 1e999)" if math.isnan(value) else "1e999" if value > 0 else "-1e999"
    return repr(value)


def _docstring(doc: str) -> list[str]:
    if not doc:
        return []
    text = doc.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return f'"""{text}"""'.split("\n") if not text.endswith('"') else f'"""{text} """'.split("\n")


def _dimension_names(program: Program) -> dict[str, str]:
    """For every dynamic dimension a name that no variable of the program has."""
    taken = {"pl", "self"}
    dims: list[str] = []
    for function in program.functions:
        taken |= {param.name for param in function.params} | walk.names(function.body) | {function.name}
        dims += _dims_of(param.type for param in function.params)
        dims += _dims_of(function.results or ())
    return {dim: walk.fresh(dim, taken) if dim in taken else dim for dim in dict.fromkeys(dims)}


def _dims_of(types: Iterable[Type]) -> list[str]:
    shapes = [type_.shape for type_ in types if isinstance(type_, TensorType)]
    return [dim.name for shape in shapes for dim in shape if isinstance(dim, DimVar) and dim != ANY_DIM]
