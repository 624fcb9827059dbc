"""What chia raises itself. All derive from ChiaError, and from the builtin that Python raises for the like.

What a task raised, and what Ray raises, arrives as it is: see ``get``.
"""

from __future__ import annotations


class ChiaError(Exception):
    """Base of every error of this package.

    Attributes:
        explains_itself: its message is written for the user; a command line shows that, without a traceback.
    """

    explains_itself = True


class NodeError(ChiaError, TypeError):
    """What ``@ChiaFunction`` decorates cannot become a node, or what is to be dispatched is none."""


class OptionError(ChiaError, ValueError):
    """Ray has no such option for tasks."""


class InstanceMissing(ChiaError, TypeError):
    """A method was dispatched without its instance, or with two of them."""


class InstanceAmbiguous(ChiaError, TypeError):
    """A bound method was dispatched with its own instance as the first argument, which it could mean in two ways."""


class HookError(ChiaError, TypeError):
    """A ``_chia_`` keyword of a call does not exist or has a wrong value."""


class NothingToWaitFor(ChiaError, ValueError):
    """A call that returns nothing (``num_returns=0``) was to be waited for."""
