"""A class marked with ``@pl.program`` becomes a Program."""

from __future__ import annotations

import ast
import inspect
import linecache
from collections.abc import Mapping
from types import FrameType

from pypto.errors import SignatureError, SyntaxUnsupported
from pypto.ir.nodes import Function, FunctionKind, Program, Span
from pypto.language.decorators import FunctionDeclaration
from pypto.parser.expressions import Expressions
from pypto.parser.namespace import Namespace
from pypto.parser.scope import Scope
from pypto.parser.signature import Signatures
from pypto.parser.source import caller_span, definition_of
from pypto.parser.statements import Statements
from pypto.parser.sub_worker import sub_worker_source


def program_from_class(cls: type, frame: FrameType) -> Program:
    """The typed program of ``cls``.

    Args:
        frame: where the class is defined; its locals are seen by annotations that Python doesn't evaluate.

    Raises the language's errors at what is wrong in the program.
    """
    from pypto import passes

    return passes.checked(parse_class(cls, frame.f_locals))


def parse_class(cls: type, enclosing: Mapping[str, object]) -> Program:
    """The program of ``cls`` as it is written, before any pass."""
    if not isinstance(cls, type):
        raise SignatureError(f"@pl.program marks a class, not {cls!r}", caller_span())
    if cls.__bases__ != (object,):
        raise SyntaxUnsupported(f"program {cls.__name__} has a base class", caller_span(), "a program is one class")
    declared = {name: value for name, value in vars(cls).items() if isinstance(value, FunctionDeclaration)}
    members = {name: value for name, value in vars(cls).items() if not name.startswith("__") and name not in declared}
    for name, value in members.items():
        if inspect.isfunction(value) or isinstance(value, (staticmethod, classmethod, property)):
            raise SignatureError(
                f"{cls.__name__}.{name} isn't marked",
                _span_of(value) or caller_span(),
                "mark it with @pl.function(...), or move it out of the class",
            )
    if not declared:
        raise SignatureError(
            f"program {cls.__name__} has no functions", caller_span(), "mark its methods with @pl.function(...)"
        )
    parameters = {name: _parameter_names(declaration) for name, declaration in declared.items()}
    functions = [_function(declaration, parameters, enclosing, members) for declaration in declared.values()]
    span = _class_span(cls.__name__, next(iter(declared.values()))) or functions[0].span
    return Program(cls.__name__, tuple(functions), span, inspect.cleandoc(cls.__doc__ or ""))


def parse_text(text: str, name: str = "program.py") -> Program:
    """The first program in Python source ``text``, such as the printer writes.

    The text is executed: it must be trusted. ``name`` is the file name that errors show.
    Raises SignatureError where it defines no program.
    """
    file = f"<{name}>"
    previous = linecache.cache.get(file)
    # Without a time of modification, linecache doesn't look for a file of that name.
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    names: dict[str, object] = {"__name__": "__pypto_text__"}
    try:
        exec(compile(text, file, "exec"), names)
    finally:
        linecache.cache.pop(file)
        if previous is not None:
            linecache.cache[file] = previous
    for value in names.values():
        if isinstance(value, Program):
            return value
    raise SignatureError(f"{name} defines no program", Span(file, 1, 0, 1, 0))


def _function(
    declaration: FunctionDeclaration,
    parameters: Mapping[str, list[str]],
    enclosing: Mapping[str, object],
    members: Mapping[str, object],
) -> Function:
    python, kind = declaration.function, declaration.kind
    source, node = definition_of(python)
    namespace = Namespace(python, enclosing, members)
    if not (node.args.posonlyargs or node.args.args):
        raise SignatureError(f"{node.name} has no parameter self", source.span_of_name(node), "write def f(self, ...)")
    self_name = (node.args.posonlyargs + node.args.args)[0].arg
    signatures = Signatures(python, node, kind, source, namespace)
    params, results = signatures.parameters(), signatures.results()
    span, doc = source.span_of_name(node), ast.get_docstring(node) or ""
    if kind is FunctionKind.SUB_WORKER:
        captured = sub_worker_source(python, node, source)
        return Function(node.name, kind, params, (), (), span, captured, doc)
    scope = Scope([param.name for param in params], node.body)
    expressions = Expressions(source, namespace, scope, self_name, parameters)
    body = Statements(source, scope, expressions, signatures.local).body(node.body)
    return Function(node.name, kind, params, results, body, span, None, doc)


def _parameter_names(declaration: FunctionDeclaration) -> list[str]:
    code = declaration.function.__code__
    return list(code.co_varnames[1 : code.co_argcount])


def _class_span(name: str, declaration: FunctionDeclaration) -> Span | None:
    source, function = definition_of(declaration.function)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ClassDef) and node.name == name and function in node.body:
            return source.span_of_name(node)
    return None


def _span_of(value: object) -> Span | None:
    function = inspect.unwrap(value) if inspect.isfunction(value) else getattr(value, "__func__", None)
    if not inspect.isfunction(function):
        return None
    source, node = definition_of(function)
    return source.span_of_name(node)
