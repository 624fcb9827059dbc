"""Turns, rounds and goals: how figures are taken on a machine that changes its pace from one second to the next.

Where a host places two CPUs decides what a round trip between them takes, and it moves them. So everything is measured
in short turns, one of each a round, and before and after each turn the machine is probed by the ping-pong of floor.c.
A turn counts if the two probes agree, and if nobody else had a CPU that it was waiting for; else it is taken again, a
few times. Ratios are taken within a round, never between runs; what is printed is the
median of the rounds and, behind it, the middle half of them.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from types import FrameType

from support.machine import Floor, Placement, Stage, Unavailable, cpus

PROBE_TRIPS = 4000
"""At most; no more than there are messages in a turn."""
AGREE = 1.25
"""The machine kept its pace if its probes before and after differ by no more."""
NEAR = 200e-9
"""A round trip of the C ping-pong takes less than that between CPUs that are well placed, and much more otherwise."""
UNDISTURBED = 0.05
"""The part of a turn that its processes may have waited for a CPU, where they never have to."""
TRIES = 4
"""How often a turn is taken in a round until it counts."""
PAUSE = 0.05
"""Seconds before another try, and longer each time: whoever has the CPU may be done by then."""
ENOUGH = 3
"""Rounds that a judgement needs at least."""
FLOOR = "C ping-pong"


@dataclass(frozen=True)
class Sample:
    """What a turn took (seconds for one of whatever it did), and the probes around it."""

    seconds: float
    before: float
    after: float
    waited: float
    """The part of the turn in which its processes waited for a CPU, where they never have to."""

    @property
    def probe(self) -> float:
        return (self.before + self.after) / 2

    @property
    def steady(self) -> bool:
        """Whether it counts."""
        agree = max(self.before, self.after) <= AGREE * min(self.before, self.after)
        return agree and self.waited <= UNDISTURBED

    @property
    def near(self) -> bool:
        return self.steady and max(self.before, self.after) < NEAR

    @property
    def far(self) -> bool:
        return self.steady and min(self.before, self.after) >= NEAR


@dataclass(frozen=True)
class Kind:
    """A kind of turn."""

    where: Placement
    turn: Callable[[], float]
    alone: bool
    """Whether it counts only where its processes never waited for a CPU."""


@dataclass(frozen=True)
class Verdict:
    """A goal beside what was measured."""

    what: str
    limit: float
    unit: str
    at_least: bool
    found: list[float]
    note: str = ""

    @property
    def value(self) -> float | None:
        return median(self.found) if self.found else None

    @property
    def met(self) -> bool | None:
        """None where it cannot be said."""
        if self.value is None or len(self.found) < ENOUGH:
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        word = {True: "met", False: "NOT MET", None: "not judged"}[self.met]
        value = "–" if self.value is None else f"{self.value:.3g} {self.unit}"
        limit = f"{'≥' if self.at_least else '≤'} {self.limit:g} {self.unit}"
        note = self.note if len(self.found) >= ENOUGH else f"only {len(self.found)} rounds were undisturbed"
        return f"{self.what:58} {limit:>9} {value:>10} {middle(self.found):>15}  {word:10} {note}".rstrip()


def middle(values: Sequence[float]) -> str:
    """The middle half."""
    if len(values) < ENOUGH:
        return ""
    low, _, high = quantiles(values, n=4)
    return f"({low:.3g} – {high:.3g})"


class Study:
    """Turns of many kinds, their samples, and the goals judged by them."""

    def __init__(self, title: str, options: argparse.Namespace, stage: Stage, floor: Floor) -> None:
        self.title = title
        self.options = options
        self.stage = stage
        self.floor = floor
        self.turns: dict[str, Kind] = {}
        self.samples: dict[str, list[Sample]] = {}
        self.verdicts: list[Verdict] = []
        self.missing: dict[str, str] = {}

    def add(
        self,
        name: str,
        prepare: Callable[[], Callable[[], float]],
        where: Placement = Placement.APART,
        *,
        alone: bool | None = None,
    ) -> None:
        """A kind of turn: `prepare` starts what it needs and returns what measures it, seconds for one.

        `alone`: count it only where its processes never waited for a CPU; unless told, where each has one of its own.
        Whoever sleeps waits for a CPU whenever it wakes: nothing tells there whether another process had it.
        """
        if self.options.only is not None and self.options.only.lower() not in name.lower():
            return
        try:
            self.turns[name] = Kind(where, prepare(), where is Placement.APART if alone is None else alone)
        except Unavailable as error:
            self.missing[name] = str(error)

    def run(self) -> None:
        """All rounds; each begins with another kind of turn."""
        names = list(self.turns)
        self.samples = {name: [] for name in names}
        for kind in self.turns.values():
            self.stage.place(kind.where)
            kind.turn()  # what is done for the first time is not what is measured
        for number in range(self.options.rounds):
            if sys.stderr.isatty():
                print(f"\r{self.title}: round {number + 1} of {self.options.rounds}", end="", file=sys.stderr)
            first = number % len(names) if names else 0
            for name in names[first:] + names[:first]:
                self.samples[name].append(self._sample(self.turns[name]))
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr)

    def _sample(self, kind: Kind) -> Sample:
        trips = min(PROBE_TRIPS, self.options.messages)
        for attempt in range(TRIES):
            time.sleep(PAUSE * attempt)
            before = self.floor.spin(trips)
            self.stage.place(kind.where)
            waited, start = self.stage.waited(), time.perf_counter()
            seconds = kind.turn()
            share = (self.stage.waited() - waited) / (time.perf_counter() - start)
            after = self.floor.spin(trips)
            sample = Sample(seconds, before, after, share if kind.alone else 0.0)
            if sample.steady:
                break
        return sample

    def _rounds(self, *names: str) -> list[tuple[Sample, ...]]:
        """The rounds in which the machine was steady during all those turns."""
        if not all(name in self.samples for name in names):
            return []
        together = zip(*(self.samples[name] for name in names), strict=True)
        return [samples for samples in together if all(sample.steady for sample in samples)]

    def ratios(self, name: str, to: str) -> list[float]:
        """Round by round, what one took over what the other did."""
        return [ours.seconds / theirs.seconds for ours, theirs in self._rounds(name, to)]

    def seconds(self, name: str) -> list[float]:
        """What it took, in the steady rounds."""
        return [sample.seconds for (sample,) in self._rounds(name)]

    def goal(self, what: str, limit: float, unit: str, found: list[float], *, at_least: bool = False) -> None:
        """Judge by the median of the steady rounds."""
        self.verdicts.append(Verdict(what, limit, unit, at_least, found))

    def goal_near(
        self, what: str, name: str, limit: float, unit: str, of: Callable[[float], float], *, at_least: bool = False
    ) -> None:
        """Judge by the rounds in which the CPUs were near each other; by all of them where they never were."""
        steady = [sample for (sample,) in self._rounds(name)]
        near = [of(sample.seconds) for sample in steady if sample.near]
        found, note = near, f"{len(near)} rounds were well placed"
        if len(near) < ENOUGH and steady:
            pace = in_unit(median(sample.probe for sample in steady)).strip()
            found, note = [of(sample.seconds) for sample in steady], f"badly placed: {FLOOR} {pace}"
        self.verdicts.append(Verdict(what, limit, unit, at_least, found, note))

    def goals_over_floor(self, name: str, near: float, far: float) -> None:
        """Judge what it took over the C ping-pong around it: where the CPUs were near each other, and where not.

        Apart, as the host decides which of the two it is, and ratios differ between them.
        """
        samples = [sample for (sample,) in self._rounds(name)]
        for what, limit, chosen in (
            ("well placed", near, [sample for sample in samples if sample.near]),
            ("badly placed", far, [sample for sample in samples if sample.far]),
        ):
            note = f"{len(chosen)} rounds"
            if chosen:
                note += f", {FLOOR} {in_unit(median(sample.probe for sample in chosen)).strip()}"
            found = [sample.seconds / sample.probe for sample in chosen]
            self.verdicts.append(Verdict(f"{name}: over the C ping-pong, {what}", limit, "×", False, found, note))

    def report(self, beside: dict[str, str] | None = None) -> None:
        """Print the figures, each of `beside` over another, and the goals; write all of it where --json says."""
        probes = [probe for samples in self.samples.values() for s in samples for probe in (s.before, s.after)]
        print(f"{self.title}: median of {self.options.rounds} rounds (and the middle half of them)")
        if probes:
            print(f"{FLOOR + ', two CPUs, spinning':44} {in_unit(median(probes))}   {middle_in_unit(probes)}")
        for name, samples in self.samples.items():
            steady = [sample.seconds for sample in samples if sample.steady] or [sample.seconds for sample in samples]
            over = self.ratios(name, beside[name]) if beside is not None and name in beside else []
            ratio = f"{median(over):7.3g} × ours" if over else ""
            kept = sum(sample.steady for sample in samples)
            print(f"{name:44} {in_unit(median(steady))}   {middle_in_unit(steady):22} {ratio:16} {kept} count".rstrip())
        for name, why in self.missing.items():
            print(f"{name:44} not measured: {why} is missing")
        if self.verdicts and self.options.only is None:
            print(f"\n{'goal':58} {'must be':>9} {'is':>10}")
            for verdict in self.verdicts:
                print(verdict)
        if self.options.json is not None:
            found = {
                "title": self.title,
                "samples": {name: [asdict(sample) for sample in samples] for name, samples in self.samples.items()},
                "missing": self.missing,
                "goals": [asdict(verdict) | {"value": verdict.value, "met": verdict.met} for verdict in self.verdicts],
            }
            Path(self.options.json).write_text(json.dumps(found, indent=1) + "\n")


UNITS = ((1e-6, "ns", 1e9), (1e-3, "µs", 1e6), (float("inf"), "ms", 1e3))


def in_unit(seconds: float) -> str:
    unit, scale = next((unit, scale) for below, unit, scale in UNITS if seconds < below)
    return f"{seconds * scale:8.3g} {unit}"


def middle_in_unit(values: Sequence[float]) -> str:
    if len(values) < ENOUGH:
        return ""
    low, _, high = quantiles(values, n=4)
    return f"({in_unit(low).strip()} – {in_unit(high).strip()})"


def options(text: str | None, rounds: int, messages: int) -> argparse.Namespace:
    """The options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"turns of each kind ({rounds})")
    parser.add_argument(
        "--messages", type=int, default=messages, help=f"messages in a turn of the fastest ({messages})"
    )
    parser.add_argument("--only", metavar="WORD", help="only what has this word in its name")
    parser.add_argument("--json", metavar="FILE", help="also write every sample and goal there")
    return parser.parse_args()


def study(title: str, options: argparse.Namespace, body: Callable[[Study], None]) -> int:
    """Run one: the exit status."""
    signal.signal(signal.SIGTERM, terminated)
    try:
        with Stage(*cpus()) as stage:
            body(Study(title, options, stage, Floor(stage)))
    except Unavailable as error:
        print(f"{title}: not measured: {error} is missing")
    except subprocess.CalledProcessError as error:
        print(f"{title}: not measured: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def terminated(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
