"""`ls` and `clean`: the names of regions, who owns them, and which ones a dead process left behind."""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import time
from typing import Any

from simpler_ipc import NamedRegion, clean_names, named_regions
from simpler_ipc.tools import text

COMMAND_WIDTH = 60


def add_to(commands: Any) -> None:
    ls = commands.add_parser("ls", help="list the named regions of this user", description=ls_command.__doc__)
    ls.add_argument("--json", action="store_true", help="for programs")
    ls.set_defaults(run=ls_command)
    clean = commands.add_parser(
        "clean", help="remove names that dead processes left", description=clean_command.__doc__
    )
    clean.add_argument("names", nargs="*", metavar="NAME", help="look at these only (default: all)")
    clean.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    clean.set_defaults(run=clean_command)


def ls_command(options: argparse.Namespace) -> int:
    """List the named regions of this user: sizes, owners, and whether the owners are alive."""
    described = [describe(region) for region in named_regions()]
    if options.json:
        print(json.dumps(described, indent=2))
    elif described:
        header = ("NAME", "SIZE", "RESIDENT", "OWNER", "AGE", "STATE", "COMMAND")
        rows = [header, *map(row, described)]
        print(text.columns(rows, right=(1, 2, 3, 4)))
    else:
        print("no named regions")
    return 0


def clean_command(options: argparse.Namespace) -> int:
    """Remove names whose owner is dead. Names in use stay, and so does what cannot be judged from here."""
    chosen = set(options.names)
    there = [region for region in named_regions() if not chosen or region.name in chosen]
    if options.dry_run:
        gone = [region for region in there if region.alive is False]
    else:
        gone = clean_names(options.names or None)
    verb = "would remove" if options.dry_run else "removed"
    for region in gone:
        print(f"{verb} {region.name}: {region.note}")
    if not gone and not chosen:
        print("nothing to remove")
    kept = chosen - {region.name for region in gone}
    known = {region.name: region for region in there}
    for name in sorted(kept):
        print(f"{text.printable(name)} stays: {reason_to_stay(known.get(name))}", file=sys.stderr)
    return 1 if kept else 0


def reason_to_stay(region: NamedRegion | None) -> str:
    if region is None:
        return "there is no region of that name"
    if region.alive:
        return f"process {region.pid} owns it and is alive"
    return region.note


def describe(region: NamedRegion) -> dict[str, Any]:
    return {
        "name": region.name,
        "nbytes": region.nbytes,
        "resident": region.resident,
        "pid": region.pid,
        "command": command_of(region.pid) if region.alive else None,
        "age": max(time.time() - region.created, 0.0),
        "alive": region.alive,
        "note": region.note,
    }


def row(described: dict[str, Any]) -> tuple[str, ...]:
    state = {True: "alive", False: "stale", None: "unknown"}[described["alive"]]
    command = described["command"] or f"({described['note'] or 'its command line cannot be read'})"
    if described["alive"]:  # the program's name tells people more than the folders before it
        program, *arguments = command.split(" ", 1)
        command = " ".join([program.rpartition("/")[2], *arguments])
    command = text.printable(command)
    if described["alive"] and len(command) > COMMAND_WIDTH:
        command = command[: COMMAND_WIDTH - 1] + "…"
    return (
        text.printable(described["name"]),
        text.size(described["nbytes"]),
        "-" if described["alive"] is False else text.size(described["resident"]),
        "?" if described["pid"] is None else str(described["pid"]),
        text.age(described["age"]),
        state,
        command,
    )


def command_of(pid: int | None) -> str | None:
    """The command line of a process; None if it cannot be read any more."""
    try:
        line = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None
    return line.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace") or None
