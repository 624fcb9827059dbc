"""Plain text for people: sizes, ages, aligned columns."""

from __future__ import annotations

from collections.abc import Sequence


def size(nbytes: int | None) -> str:
    """A number of bytes in three digits or so; a question mark if nobody knows."""
    if nbytes is None:
        return "?"
    if nbytes < 1024:
        return f"{nbytes} B"
    power = 1
    while power < 6 and nbytes >= 1000 * 1024**power:
        power += 1
    return f"{nbytes / 1024**power:.3g} {'KMGTPE'[power - 1]}iB"


def age(seconds: float) -> str:
    """A time span in its largest unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def duration(microseconds: float) -> str:
    """A latency in three digits."""
    if microseconds < 1:
        return f"{microseconds * 1000:.0f} ns"
    return f"{microseconds:.3g} µs" if microseconds < 1000 else f"{microseconds / 1000:.3g} ms"


def printable(text: str) -> str:
    """The text in one line, with nothing in it that a terminal would obey."""
    return "".join(character if character.isprintable() else "?" for character in text)


def columns(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Rows with their cells below each other; those columns aligned to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
