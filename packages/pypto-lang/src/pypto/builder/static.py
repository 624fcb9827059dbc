"""Expressions that Python itself evaluates while a program is parsed: constants, dtypes, shapes, annotations."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from pypto.errors import PyptoError, SyntaxUnsupported, UnboundVariable, UnknownOp
from pypto.ir.nodes import Span
from pypto.language.operations import unknown
from pypto.ops.registry import did_you_mean
from pypto.source.files import Source

BINARY: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
    ast.MatMult: "@",
}


def evaluate(node: ast.expr, names: Mapping[str, object], source: Source) -> object:
    """The value of an annotation, or of an expression in one.

    Raises UnboundVariable for a name that isn't in ``names``, and the language's errors at the place of ``node``.
    """
    for name in ast.walk(node):
        if isinstance(name, ast.Name) and name.id not in names:
            raise UnboundVariable(f"name {name.id!r} is not defined{did_you_mean(name.id, names)}", source.span(name))
    code = compile(ast.Expression(node), source.file, "eval")
    try:
        return eval(code, {"__builtins__": {}}, names)
    except PyptoError as error:
        raise type(error)(error.message, source.span(node), error.hint) from None
    except Exception as error:
        raise SyntaxUnsupported(f"this can't be evaluated: {error}", source.span(node)) from error


def attribute(base: object, name: str, span: Span) -> object:
    """``base.name``. Raises UnknownOp for the language module, UnboundVariable for anything else."""
    try:
        return getattr(base, name)
    except AttributeError:
        if getattr(base, "__name__", None) == "pypto.language":
            error: PyptoError = unknown(name, list(getattr(base, "__all__", ())))
            raise UnknownOp(error.message, span, error.hint) from None
        what = getattr(base, "__name__", None) or type(base).__name__
        raise UnboundVariable(f"{what} has no attribute {name!r}{did_you_mean(name, dir(base))}", span) from None
