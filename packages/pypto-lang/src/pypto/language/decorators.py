"""``@pl.program``: a class becomes a program."""

from __future__ import annotations

import sys

from pypto.errors import PyptoError
from pypto.ir.nodes import Program
from pypto.language.declarations import FunctionDeclaration, function

__all__ = ["FunctionDeclaration", "function", "program"]


def program(cls: type) -> Program:
    """Makes a program of a class whose methods are marked with ``@pl.function``.

    The methods' source becomes IR here, and types are checked, so that a wrong program is an error where it is
    written: a PyptoError with file, line and column. SubWorkers stay Python; what they refer to is looked up when the
    program is compiled.

    Returns the Program, which ``pypto.ir.compile`` takes.
    """
    from pypto.builder.program import program_from_class

    try:
        return program_from_class(cls, sys._getframe(1))
    except PyptoError as error:
        # The compiler's own frames say nothing to a user: the place in the program is in the error.
        raise error.with_traceback(None) from None
