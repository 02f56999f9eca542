#!/usr/bin/env python
"""The gate's forms and its peers side by side: requests/s, CPU time, latency, memory and start-up, in one run.

    .venv/bin/python bench/peers.py --write docs        (the whole run, some 40 minutes)
    .venv/bin/python bench/peers.py [--clients 100,1000,10000] [--only WORD,WORD] [--own] [--quick] [--json FILE]
    .venv/bin/python bench/peers.py --remake docs       (page and chart anew from performance.json there)

Needs Linux, two cores, `pip install '.[bench]'`, and the Debian packages wrk, nginx-light and haproxy. All processes of
a contestant share one core; wrk, and nginx as the upstream, which answers from memory, share the other. Each round
starts every contestant anew, one after the other, in turn forwards and backwards: two starts of the same program differ
by where their memory happens to lie. Contestants that a target hangs on are measured in more rounds than the others.

"Seen" is one JWS for each client, all sent before the measurement, then drawn at random; "fresh" are JWS that the
process has not met. "requests/s" is what was observed, "core" the share of its core that the contestant used for it:
where that is less than all, wrk and the upstream set the pace, as they have but one core. What contestants do is
therefore compared by "us", the CPU time of all their processes for a request, in microseconds. Of several rounds the
median is told, with the least and the most; a ratio is the median of the ratios of each round. A measurement in which
neither core was busy is repeated, as something else then ran.

What each peer checks differs: jwsgate everything that its policy says (claims, times, certificate, look-alike headers);
Envoy jwt_authn the signature, issuer, audience and times, and by kid not that the key is the client's; the home-made
gate signature, audience and times; HAProxy jwt_verify the signature only.

Besides, `jwsgate serve` behind nginx is measured at 100 and at 100,000 clients, and with two workers (alone: --own),
and what an export, its reload and routes cost. --write DIR puts all of it in place of the run before, into
DIR/performance.json, performance.md and peers.svg; only a whole run is taken. --check exits with 1 when a target is
missed. Nothing is told of a run in which an answer was not what it had to be, a forged JWS passed, or the upstream saw
another number of requests than were allowed.
"""

import argparse
import contextlib
import json
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from contest import machine, sizes, telling
from contest.clients import ALG, BITS, new_keys
from contest.contestants import ASGI, AUDITED, CONTESTANTS, ENVOY_AUTHN, HAPROXY, NGINX, WORKERS, missing
from contest.measuring import CONNECTIONS, Bench, bench_of
from proxy import Broken, note

type Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of what is measured."""

    clients: Mapping[int, int] = field(default_factory=lambda: {100: 3, 1_000: 2, 10_000: 3})
    """How many clients, and the rounds with so many."""
    names: Sequence[str] = tuple(name for name in CONTESTANTS if name != WORKERS)
    once: Sequence[str] = tuple(ASGI.values())
    """Those that are measured at the least number of clients only."""
    target_rounds: int = 7
    """For those in `targets`, at the number of clients at which targets hold."""
    targets: Sequence[str] = (NGINX, HAPROXY, ENVOY_AUTHN)
    growth: Sequence[tuple[int, str]] = ((100, NGINX), (100, WORKERS), (100_000, NGINX))
    growth_rounds: int = 5
    seconds: int = 2
    fresh: int = 40_000
    """JWS made for one measurement: more than the fastest takes."""
    keys: int = 100
    least_core: float = 0.9
    stops: bool = False
    """See `Bench` for these two."""
    applications: int = 100_000
    """Of the export whose size and reload are measured; 0 for none."""
    routes: int = 10_000
    quiet: float = 10.0


QUICK = Plan(
    clients={20: 1},
    names=(NGINX, AUDITED, HAPROXY, *(name for name in CONTESTANTS if name.startswith("Envoy")), *ASGI.values()),
    target_rounds=1,
    growth=((20, NGINX), (20, WORKERS), (40, NGINX)),
    growth_rounds=1,
    seconds=1,
    fresh=2_000,
    keys=10,
    least_core=0.0,
    stops=True,
    applications=100,
    routes=100,
    quiet=1.0,
)
"""The fast contestants, just to see that all works."""


def measured(
    cells: Sequence[tuple[int, str]], bench: Callable[[int], Bench], rounds: Callable[[int, str], int]
) -> dict[tuple[int, str], Row]:
    """Measure each, in turn; `rounds` says in how many rounds one takes part."""
    found: dict[tuple[int, str], Row] = {(count, name): {"name": name, "rounds": []} for count, name in cells}
    for number in range(max((rounds(*cell) for cell in cells), default=0)):
        for cell in cells if number % 2 == 0 else reversed(cells):
            count, name = cell
            if number < rounds(count, name):
                note(f"{count} clients, round {number + 1} of {rounds(count, name)}: {name}")
                found[cell]["rounds"].append(bench(count).measure(name, number).told())
    note("")
    return found


def run(plan: Plan, place: Path) -> tuple[dict[str, Any], int]:
    """All that a plan has; and how many measurements had to be repeated."""
    keys = new_keys(plan.keys)
    told: dict[str, Any] = {"parts": [], "growth": [], "sizes": None}
    if plan.applications:
        note(f"an export of {plan.applications} applications, its reload, and {plan.routes} routes")
        told["sizes"] = sizes.measure(plan.applications, plan.routes, 15, plan.quiet)
    benches: dict[int, Bench] = {}
    with contextlib.ExitStack() as stack:

        def bench(count: int) -> Bench:
            if count not in benches:
                note(f"{count} clients: certificates and JWS")
                benches[count] = stack.enter_context(
                    bench_of(place / str(count), count, plan.fresh, keys, plan.seconds, plan.least_core, plan.stops)
                )
            return benches[count]

        def rounds(count: int, name: str) -> int:
            return plan.target_rounds if count == telling.TARGETS_AT and name in plan.targets else plan.clients[count]

        for count in plan.clients:
            names = [name for name in plan.names if count == min(plan.clients) or name not in plan.once]
            rows = measured([(count, name) for name in names], bench, rounds)
            told["parts"].append({"clients": count, "rows": list(rows.values())})
        grown = measured(plan.growth, bench, lambda *_: plan.growth_rounds)
        told["growth"] = [{"clients": count, **row} for (count, _), row in grown.items()]
    return told, sum(each.repeated for each in benches.values())


def planned(arguments: argparse.Namespace) -> Plan:
    """What the arguments ask for."""
    plan = QUICK if arguments.quick else Plan()
    if arguments.clients:
        plan = replace(plan, clients=dict.fromkeys(arguments.clients, max(plan.clients.values())))
    if arguments.only:
        words = arguments.only.split(",")
        plan = replace(plan, names=[name for name in plan.names if any(word in name for word in words)])
    if arguments.own:
        plan = replace(plan, clients={})
    if (arguments.clients or arguments.only) and not arguments.own:
        plan = replace(plan, growth=())
    if arguments.clients or arguments.only or arguments.own:
        plan = replace(plan, applications=0)
    return plan


def _counts(text: str) -> list[int]:
    for one in text.split(","):
        if not one.isascii() or not one.isdigit() or int(one) < 2:
            raise argparse.ArgumentTypeError(f"{one!r} is no number of clients from 2 on")
    return [int(one) for one in text.split(",")]


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=_counts, help="only these numbers of clients, with commas")
    parser.add_argument("--only", default="", help="only contestants whose names hold one of these words, with commas")
    parser.add_argument("--own", action="store_true", help="only the cost at 100 and 100,000 clients and of workers")
    parser.add_argument("--quick", action="store_true", help="only see that it works; the numbers mean nothing")
    parser.add_argument("--write", type=Path, metavar="DIR", help="put what a whole run finds into the folder's files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="put what is found into a file")
    parser.add_argument("--remake", type=Path, metavar="DIR", help="measure nothing; make page and chart anew")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")
    arguments = parser.parse_args()
    try:
        if arguments.remake:
            telling.remake(arguments.remake)
            return
        if arguments.write:
            telling.around(arguments.write / "performance.md")
    except (Broken, OSError, ValueError) as error:
        sys.exit(f"bench/peers.py: {error}")
    whole = not (arguments.clients or arguments.only or arguments.own or arguments.quick)
    if arguments.write and not whole:
        parser.error("--write takes a whole run: without --clients, --only, --own and --quick (--json takes any)")
    plan = planned(arguments)
    if not plan.names:
        parser.error(f"no contestant has any of {arguments.only} in its name")
    if lacking := missing([*plan.names, *(name for _, name in plan.growth)]):
        sys.exit(
            f"bench/peers.py: not installed: {', '.join(lacking)} (pip install '.[bench]', or leave out by --only)"
        )
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("bench/peers.py: ended by a signal"))
    about = machine.run(shlex.join(["bench/peers.py", *sys.argv[1:]]), whole=whole)
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="jwsgate-peers-") as place:
            told, repeated = run(plan, Path(place))
    except (Broken, AssertionError, OSError) as error:
        note("")
        sys.exit(f"bench/peers.py: no numbers from a broken run: {error}")
    told = {
        "run": {**about, "minutes": round((time.monotonic() - began) / 60, 1), "repeated": repeated},
        "machine": machine.machine(),
        "software": machine.software(),
        "setup": {
            **{"alg": ALG, "bits": BITS, "keys": plan.keys, "connections": CONNECTIONS, "seconds": plan.seconds},
        },
        **told,
    }
    print(telling.page(told), end="")
    if arguments.json:
        arguments.json.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    if arguments.write:
        telling.write(arguments.write, told)
    missed = [ratio for ratio in telling.ratios(told) if ratio.is_missed]
    for ratio in missed:
        print(f"missed: {ratio}")
    if arguments.check and missed:
        sys.exit(1)


if __name__ == "__main__":
    main()
