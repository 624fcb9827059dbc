"""SubWorkers stay Python: their source is cut out of the class, and what it refers to is looked up at compile time."""

from __future__ import annotations

import ast
import builtins
import symtable
import sys
import sysconfig
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from types import FunctionType, ModuleType

from pypto.errors import SyntaxUnsupported, UnboundVariable
from pypto.ir.nodes import Function, Program, Span, SubWorkerSource
from pypto.ops.registry import did_you_mean
from pypto.source.files import Source
from pypto.source.namespace import MISSING, Namespace


def sub_worker_source(function: FunctionType, node: ast.FunctionDef, source: Source, name: str) -> SubWorkerSource:
    """The Python of a SubWorker, as a function of its own: no decorator, annotations or ``self``.

    Raises SyntaxUnsupported where it uses ``self`` or is a generator.
    """
    self_name = node.args.args[0].arg if node.args.args else node.args.posonlyargs[0].arg
    _check(node, source, self_name)
    text = _standalone(node, source, name)
    free = tuple((name, _first_use(node, source, name)) for name in sorted(_free_names(text, source, node)))
    return SubWorkerSource(text, free=free, function=function)


def resolve_program(program: Program) -> Program:
    """``program`` with what its SubWorkers capture. Raises UnboundVariable at a name that exists nowhere."""
    return replace(program, functions=tuple(_resolve(f) for f in program.functions))


def _resolve(function: Function) -> Function:
    captured = function.sub_worker
    if captured is None:
        return function
    found: dict[str, object] = {}
    for name, span in captured.free:
        value = _lookup(captured.function, name)
        if value is MISSING:
            known = Namespace(captured.function).names() if isinstance(captured.function, FunctionType) else ()
            raise UnboundVariable(
                f"SubWorker {function.name} uses {name!r}, which is not defined{did_you_mean(name, known)}",
                span,
                f"define or import {name} in the module, or make it a parameter",
            )
        if getattr(builtins, name, MISSING) is not value:
            found[name] = value
    modules = _modules(captured.source, found)
    captured = replace(
        captured,
        globals=tuple(sorted(found.items())),
        uses_torch="torch" in modules,
        uses_numpy="numpy" in modules,
    )
    return replace(function, sub_worker=captured)


def _lookup(function: object, name: str) -> object:
    if isinstance(function, FunctionType):
        return Namespace(function).find(name)
    return getattr(builtins, name, MISSING)


def _check(node: ast.FunctionDef, source: Source, self_name: str) -> None:
    for child in _own_nodes(node):
        if isinstance(child, (ast.Yield, ast.YieldFrom, ast.Await)):
            raise SyntaxUnsupported(f"SubWorker {node.name} is a generator: it would never run", source.span(child))
        if isinstance(child, ast.Return) and child.value is not None and not _is_none(child.value):
            raise SyntaxUnsupported(
                f"SubWorker {node.name} gives no result",
                source.span(child),
                "write it to a parameter: result: pl.Out[pl.Tensor[...]]",
            )
    for statement in node.body:
        for child in ast.walk(statement):
            if isinstance(child, ast.Name) and child.id in (self_name, "super", "__class__"):
                raise SyntaxUnsupported(
                    f"a SubWorker runs in a process of its own and has no {child.id}",
                    source.span(child),
                    "use parameters, or names of the module",
                )


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function's body that are not inside a function or class within it."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            yield from _own_nodes(child)


def _standalone(node: ast.FunctionDef, source: Source, name: str) -> str:
    """``def name(params):`` and the body as it is written, comments included."""
    arguments = [a.arg for a in (*node.args.posonlyargs, *node.args.args)[1:]]
    head = f"def {name}({', '.join(arguments)}):\n"
    wanted = [ast.dump(statement) for statement in node.body]
    first, last = node.body[0].lineno, node.body[-1].end_lineno or node.body[-1].lineno
    while source.line(first - 1).strip()[:1] in ("", "#"):  # comments before the first statement
        first -= 1
    body = textwrap.dedent("\n".join(source.line(number) for number in range(first, last + 1))).lstrip("\n")
    text = head + textwrap.indent(body, "    ") + "\n"
    # A body on the line of its def, or strings over several lines, don't survive that: then the tree is printed.
    try:
        (parsed,) = ast.parse(text).body
    except (SyntaxError, ValueError):
        pass
    else:
        if isinstance(parsed, ast.FunctionDef) and [ast.dump(statement) for statement in parsed.body] == wanted:
            return text
    bare = ast.arguments([], [ast.arg(name) for name in arguments], None, [], [], None, [])
    function = ast.FunctionDef(name=name, args=bare, body=node.body, decorator_list=[], lineno=1)
    return ast.unparse(function) + "\n"


def _free_names(text: str, source: Source, node: ast.FunctionDef) -> set[str]:
    """Names the function uses that are not its own."""
    try:
        module = symtable.symtable(text, source.file, "exec")
    except SyntaxError as error:  # nonlocal
        raise SyntaxUnsupported(f"SubWorker {node.name}: {error.msg}", source.span_of_name(node)) from None
    names: set[str] = set()
    tables = list(module.get_children())
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            if symbol.is_global() and symbol.is_referenced():
                names.add(symbol.get_name())
    return names


def _first_use(node: ast.FunctionDef, source: Source, name: str) -> Span:
    uses = [
        child
        for statement in node.body
        for child in ast.walk(statement)
        if isinstance(child, ast.Name) and child.id == name
    ]
    first = min(uses, key=lambda use: (use.lineno, use.col_offset), default=None)
    return source.span(first) if first is not None else source.span_of_name(node)


def _modules(text: str, found: dict[str, object]) -> set[str]:
    """Top-level names of the modules that a SubWorker refers to, itself or through helpers of the user's modules."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules.add(node.module.partition(".")[0])
    pending, seen = list(found.values()), set[int]()
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        modules |= _modules_of(value)
        if isinstance(value, FunctionType) and not _is_installed(value):
            pending += [value.__globals__[n] for n in value.__code__.co_names if n in value.__globals__]
            pending += [Namespace(value).find(name) for name in value.__code__.co_freevars]
    return modules


def _is_installed(function: FunctionType) -> bool:
    """True for functions of Python and of installed packages: what they use inside is their own business."""
    file = function.__code__.co_filename
    return "site-packages" in file or file.startswith((sysconfig.get_path("stdlib"), "<frozen"))


def _modules_of(value: object) -> set[str]:
    """Top-level names of the modules that define ``value`` or its type."""
    named = value if isinstance(value, ModuleType) else None
    origins = [getattr(named, "__name__", ""), getattr(value, "__module__", ""), type(value).__module__]
    modules = {str(origin).partition(".")[0] for origin in origins}
    for name in ("torch", "numpy"):  # their compiled functions don't say where they are from
        module = sys.modules.get(name)
        if module is not None and vars(module).get(str(getattr(value, "__name__", ""))) is value:
            modules.add(name)
    return modules
