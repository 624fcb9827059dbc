"""A class marked with ``@pl.program`` becomes a Program."""

from __future__ import annotations

import ast
import inspect
import linecache
from collections.abc import Mapping
from types import FrameType

from pypto.builder.expressions import Expressions
from pypto.builder.infer import inferred
from pypto.builder.signature import Signatures
from pypto.builder.state import Frame, State
from pypto.builder.statements import Statements, returned
from pypto.builder.values import _AlreadyTold, already_told
from pypto.errors import PyptoError, SignatureError, SyntaxUnsupported
from pypto.ir.nodes import Direction, Function, FunctionKind, Param, Program, Return, Span, TensorType, Type, Var
from pypto.language.declarations import FunctionDeclaration
from pypto.passes.capture import sub_worker_source
from pypto.source.files import Source, caller_span, definition_of
from pypto.source.namespace import Namespace


def program_from_class(cls: type, frame: FrameType) -> Program:
    """The program of ``cls``, checked to the end.

    Args:
        frame: where the class is defined; its locals are seen by annotations that Python doesn't evaluate.

    Raises the language's errors at what is wrong in the program: the first of them, with the ``others``.
    """
    from pypto import passes

    return passes.checked(build_class(cls, frame.f_locals))


def build_class(cls: type, enclosing: Mapping[str, object]) -> Program:
    """The program of ``cls``, before any pass."""
    if not isinstance(cls, type):
        raise SignatureError(f"@pl.program marks a class, not {cls!r}", caller_span())
    if cls.__bases__ != (object,):
        raise SyntaxUnsupported(f"program {cls.__name__} has a base class", caller_span(), "a program is one class")
    declared = {name: value for name, value in vars(cls).items() if isinstance(value, FunctionDeclaration)}
    members = {name: value for name, value in vars(cls).items() if not name.startswith("__") and name not in declared}
    for name, value in members.items():
        if isinstance(value, Program):
            raise SignatureError(f"{cls.__name__}.{name} is a program", caller_span(), "name one of its functions")
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
    methods = {
        name: _Method(name, declaration, enclosing, members, parameters) for name, declaration in declared.items()
    }
    functions = _build_all(methods)
    span = _class_span(cls.__name__, next(iter(declared.values()))) or functions[0].span
    doc = inspect.cleandoc(cls.__doc__ or "")
    return Program(cls.__name__, tuple(functions), span, doc, declared=declared)


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


class _Method:
    """One function of a class: its source, and what becomes of it."""

    def __init__(
        self,
        name: str,
        declaration: FunctionDeclaration,
        enclosing: Mapping[str, object],
        members: Mapping[str, object],
        parameters: Mapping[str, list[str]],
    ) -> None:
        self.name = name
        self.kind = declaration.kind
        self.python = declaration.function
        self.source: Source
        self.source, self.node = definition_of(self.python)
        self.namespace = Namespace(self.python, enclosing, members)
        self.parameters = parameters
        arguments = self.node.args.posonlyargs + self.node.args.args
        if not arguments:
            place = self.source.span_of_name(self.node)
            raise SignatureError(f"{self.node.name} has no parameter self", place, "write def f(self, ...)")
        self.self_name = arguments[0].arg

    def calls(self) -> list[tuple[str, ast.Call]]:
        """The functions of the program that it calls, in the order they are written."""
        if self.kind is FunctionKind.SUB_WORKER:
            return []
        found: list[tuple[str, ast.Call]] = []
        for node in ast.walk(self.node):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                base, name = node.func.value, node.func.attr
                if isinstance(base, ast.Name) and base.id == self.self_name and name in self.parameters:
                    found.append((name, node))
        return sorted(found, key=lambda item: (item[1].lineno, item[1].col_offset))

    def build(self, callees: Mapping[str, Function], results: dict[str, tuple[int, ...]]) -> Function:
        """The function. Raises what is wrong with it; several mistakes as the ``others`` of the first."""
        node, span = self.node, self.source.span_of_name(self.node)
        signatures = Signatures(self.python, node, self.kind, self.source, self.namespace)
        params, declared = signatures.parameters(), signatures.results()
        doc = ast.get_docstring(node) or ""
        if self.kind is FunctionKind.SUB_WORKER:
            results[self.name] = ()
            captured = sub_worker_source(self.python, node, self.source, self.name)
            return Function(self.name, self.kind, params, (), (), span, captured, doc)
        params = inferred(self.name, node, self.self_name, params, self.parameters, callees, self.source)
        state = State(self.name, self.kind, params, self.parameters, callees, results, _names_in(node))
        frame = Frame(self.source, self.namespace, self.self_name)
        frame.env = {param.name: Var(param.name, param.type, param.span) for param in params}
        state.frames.append(frame)
        Statements(state, Expressions(state), signatures.local).function(node)
        last = None
        if not state.incomplete:
            with state.forgiving([]):
                last = returned(state, span)
                _check_results(self.name, declared, last, span)
        for param in params if not state.incomplete else ():
            with state.forgiving([]):
                _check_written(self.name, self.kind, param, state.written)
        if state.errors:
            raise together(state.errors)
        if state.incomplete:
            already_told()
        if last is not None:
            state.emit(last)
        names = [param.name for param in params]
        values = last.values if last is not None else ()
        results[self.name] = tuple(names.index(value.name) for value in values if isinstance(value, Var))
        types = tuple(value.type for value in values)
        return Function(self.name, self.kind, params, types, tuple(state.body), span, None, doc)


def _build_all(methods: Mapping[str, _Method]) -> list[Function]:
    """Every function, callees before their callers."""
    done: dict[str, Function] = {}
    results: dict[str, tuple[int, ...]] = {}
    errors: list[PyptoError] = []
    for method in _callees_first(methods):
        try:
            done[method.name] = method.build(done, results)
        except _AlreadyTold:
            pass
        except PyptoError as error:
            errors += [error, *error.others]
    if errors:
        raise together(errors)
    return [done[name] for name in methods]


def together(errors: list[PyptoError]) -> PyptoError:
    """The error that stands first in the source, with the others."""
    first, *others = sorted(errors, key=lambda error: (error.line or 0, error.column or 0))
    for error in others:
        error.others = ()
    first.others = tuple(others)
    return first


def _callees_first(methods: Mapping[str, _Method]) -> list[_Method]:
    """The functions, each after those it calls. Raises SignatureError where one calls itself."""
    done: dict[str, _Method] = {}
    path: list[str] = []

    def visit(method: _Method) -> None:
        if method.name in done:
            return
        path.append(method.name)
        for name, call in method.calls():
            if name in path:
                cycle = " → ".join([*path[path.index(name) :], name])
                raise SignatureError(f"functions call each other in a circle: {cycle}", method.source.span(call))
            visit(methods[name])
        path.pop()
        done[method.name] = method

    for method in methods.values():
        visit(method)
    return list(done.values())


def _check_results(name: str, declared: tuple[Type, ...] | None, last: Return | None, span: Span) -> None:
    from pypto.errors import TypeMismatch
    from pypto.ir.calls import same_type

    if declared is None:
        return
    found = tuple(value.type for value in last.values) if last is not None else ()
    place = last.span if last is not None else span
    if len(declared) != len(found):
        raise SignatureError(f"{name} declares {_count(declared)} and returns {_count(found)}", place)
    for want, have in zip(declared, found, strict=True):
        if not same_type(want, have):
            raise TypeMismatch(f"{name} declares the result {want} and returns {have}", place)


def _check_written(name: str, kind: FunctionKind, param: Param, written: set[str]) -> None:
    """Raises SignatureError where an Out parameter is not written on every path; a loop counts as a path through it."""
    if param.direction is not Direction.OUT or not isinstance(param.type, TensorType) or param.name in written:
        return
    hint = "store to it (pl.store(tile, offsets, {0}))" if kind is FunctionKind.INCORE else "pass {0} to what writes it"
    raise SignatureError(
        f"Out parameter {param.name!r} of {name} is not written on every path",
        param.span,
        hint.format(param.name) + " wherever the function may go, or declare it pl.InOut[...]",
    )


def _count(results: tuple[Type, ...]) -> str:
    return {0: "no result", 1: "one result"}.get(len(results), f"{len(results)} results")


def _names_in(node: ast.AST) -> set[str]:
    return {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}


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
