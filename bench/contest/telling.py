"""From what was found, as performance.json has it, to page and chart. Nothing else goes into either."""

import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy import Broken

from .contestants import ASGI, AUDITED, BARE, CONTESTANTS, ENVOY_AUTHN, ENVOY_KID, ENVOY_STATE, HAPROXY, NGINX, WORKERS

__all__ = ["Ratio", "around", "chart", "page", "ratios", "remake", "write"]

type Told = Mapping[str, Any]

MEASURED, END = "<!-- measured -->\n", "<!-- /measured -->\n"
MOST_GROWTH = 1.1


def _us(load: Told) -> float:
    """CPU time for a request, in microseconds."""
    return float(load["cpu"]) / load["requests"] * 1e6


def _rate(load: Told) -> float:
    return float(load["requests"]) / load["seconds"]


def _core(load: Told) -> float:
    return float(load["cpu"]) / load["seconds"]


def _over(row: Told, load: str, of: Callable[[Told], float]) -> list[float]:
    return [of(one[load]) for one in row["rounds"]]


def _median(row: Told, load: str, of: Callable[[Told], float]) -> float:
    return statistics.median(_over(row, load, of))


def _spread(values: Sequence[float], digits: int) -> str:
    """The median, with the least and the most."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def _cost(row: Told, load: str) -> str:
    values = _over(row, load, _us)
    return _spread(values, 1 if statistics.median(values) < 100 else 0)


def _times(one: Told, other: Told, load: str) -> list[float]:
    """How many times the requests of another one serves in a second of CPU time, in each round that both were in."""
    both = zip(one["rounds"], other["rounds"], strict=False)
    return [_us(theirs[load]) / _us(ours[load]) for ours, theirs in both]


def _table(part: Told) -> Iterator[str]:
    rows = {row["name"]: row for row in part["rows"]}
    yield from (f"### {part['clients']:,} clients", "")
    yield (
        "| | rounds | seen: requests/s | core | us | x bare | fresh: requests/s | core | us "
        "| 1 connection: p50, p99 ms | all: p50, p99 ms | peak MB | start s |"
    )
    yield "|---|" + "---:|" * 12
    for name in sorted(rows, key=list(CONTESTANTS).index):
        row = rows[name]
        bare = f"{statistics.median(_times(row, rows[BARE], 'seen')):.1f}" if BARE in rows else ""
        cells = [name, str(len(row["rounds"]))]
        for load in ("seen", "fresh"):
            cells += [f"{_median(row, load, _rate):,.0f}", f"{_median(row, load, _core):.0%}", _cost(row, load)]
            cells += [bare] if load == "seen" else []
        for load in ("single", "seen"):
            at = [_median(row, load, lambda one, which=which: one[which]) for which in ("p50", "p99")]
            cells.append(f"{at[0]:.2f}, {at[1]:.2f}")
        peak, start = (statistics.median(one[what] for one in row["rounds"]) for what in ("peak_mb", "start"))
        yield f"| {' | '.join([*cells, f'{peak:.0f}', f'{start:.1f}'])} |"
    yield ""


@dataclass(frozen=True, slots=True)
class Ratio:
    """What one contestant does in multiples of another, in each round."""

    what: str
    rounds: Sequence[float]
    least: float | None = None
    """What the median is to reach."""
    most: float | None = None
    """What the median is not to exceed."""

    @property
    def median(self) -> float:
        """Over the rounds."""
        return statistics.median(self.rounds)

    @property
    def is_missed(self) -> bool:
        """Whether the median is not where it is to be."""
        return (self.least is not None and self.median < self.least) or (
            self.most is not None and self.median > self.most
        )

    def __str__(self) -> str:
        """As the page has it."""
        bound = "" if self.least is None else f", target at least {self.least:g}"
        bound += "" if self.most is None else f", target at most {self.most:g}"
        return f"{self.what}: {_spread(self.rounds, 2)} over {len(self.rounds)} rounds{bound}"


COMPARED: tuple[tuple[str, str, dict[str, float]], ...] = (
    (NGINX, HAPROXY, {"seen": 1.0, "fresh": 0.5}),
    (NGINX, ENVOY_AUTHN, {"seen": 4.0}),
    (NGINX, ENVOY_STATE, {}),
    (NGINX, ENVOY_KID, {}),
    (AUDITED, NGINX, {}),
    (NGINX, ASGI["uvicorn"], {}),
    (NGINX, ASGI["granian"], {}),
)
"""Who is held against whom, and what the first is to reach at 10,000 clients."""

TARGETS_AT = 10_000


def _compared(part: Told) -> Iterator[Ratio]:
    rows = {row["name"]: row for row in part["rows"]}
    for one, other, targets in COMPARED:
        if one in rows and other in rows:
            for load in ("seen", "fresh"):
                least = targets.get(load) if part["clients"] == TARGETS_AT else None
                yield Ratio(f"{one}, {load}, over {other}", _times(rows[one], rows[other], load), least)


def _grown(growth: Sequence[Told]) -> Iterator[Ratio]:
    """The cost of the others in multiples of the first's."""
    base, *others = growth
    for row in others:
        for load in ("seen", "fresh"):
            most = MOST_GROWTH if row["name"] == NGINX else None
            yield Ratio(f"{_growth_name(row)}, {load}", _times(base, row, load), most=most)


def _growth_name(row: Told) -> str:
    return f"{row['clients']:,} clients, {'two workers' if row['name'] == WORKERS else 'one worker'}"


def ratios(told: Told) -> list[Ratio]:
    """All that is held against each other."""
    found = [ratio for part in told["parts"] if part["clients"] == TARGETS_AT for ratio in _compared(part)]
    return found + (list(_grown(told["growth"])) if told["growth"] else [])


def _growth(growth: Sequence[Told]) -> Iterator[str]:
    yield from ("### The cost as clients and workers grow", "")
    yield "`jwsgate serve` behind nginx; all workers on the one core."
    yield from ("", "| | rounds | seen, us | fresh, us | peak MB | start s |", "|---|" + "---:|" * 5)
    for row in growth:
        peak, start = (statistics.median(one[what] for one in row["rounds"]) for what in ("peak_mb", "start"))
        yield (
            f"| {_growth_name(row)} | {len(row['rounds'])} | {_cost(row, 'seen')} | {_cost(row, 'fresh')} "
            f"| {peak:.0f} | {start:.1f} |"
        )
    yield from ("", f"The CPU time of a request, in multiples of what it is with {_growth_name(growth[0])}:", "")
    yield from (f"- {ratio}" for ratio in _grown(growth))
    yield ""


def _memory(growth: Sequence[Told]) -> Iterator[str]:
    """What the service itself holds, by the applications that it knows and that call."""
    rows = [row for row in growth if row["name"] == NGINX]
    few, many = rows[0]["clients"], rows[-1]["clients"]
    few_held, held, called = (
        statistics.median(one[what] for one in row["rounds"])
        for row, what in ((rows[0], "started_mb"), (rows[-1], "started_mb"), (rows[-1], "called_mb"))
    )
    known = (held - few_held) / (many - few) * 1000
    yield (
        f"- **Memory of a worker** (`jwsgate serve` alone, resident): {few_held:.0f} MB with {few:,} applications and "
        f"{held:.0f} MB with {many:,} before the first request, that is {known:.2f} KB for each application known. "
        f"When each of the {many:,} has called with one JWS, {called:.0f} MB in all: "
        f"{(called - held) / many * 1000:.2f} KB in addition for each that called, its key and one remembered JWS."
    )


def _sizes(sizes: Told) -> Iterator[str]:
    count, octets, again = sizes["applications"], sizes["export_octets"], sizes["reload"]
    as_json, as_yaml = octets["json"] / 1e6, octets["yaml"] / 1e6
    yield (
        f"- **Export** of {count:,} applications with RSA certificates (2048 bits): {as_json:.1f} MB as JSON, "
        f"{as_json / count * 1000:.2f} KB for each; {as_yaml:.1f} MB as YAML."
    )
    yield (
        f"- **Reload** of that export (JSON, `jwsgate run` at 300 requests/s, as `bench/reload.py` has it): taken up "
        f"{again['seconds']:.1f} s after the file changed; p99 {again['reload_p99']:.1f} ms meanwhile, "
        f"{again['quiet_p99']:.1f} ms before; {again['lost']:.0f} of {again['requests']:,.0f} requests lost; "
        f"{again['before_mib']:.0f} MiB held before, {again['after_mib']:.0f} MiB after."
    )
    for way, (few, many) in sizes["finding_us"].items():
        yield (
            f"- **Routes**, {way} (`bench/decide.py`): {few:.2f} us among 10, {many:.2f} us among "
            f"{sizes['routes']:,}, {many / few:.2f} times as much."
        )


def _about(told: Told) -> Iterator[str]:
    run, machine, setup = told["run"], told["machine"], told["setup"]
    changed = ", with changes that are not committed" if run["changed"] else ""
    part = "" if run["whole"] else " A part of a run, not the whole."
    virtual = ", a virtual machine" if machine["virtual"] else ""
    yield (
        f"Measured on {run['date']} at commit {run['commit']}{changed}, in one run of {run['minutes']:.0f} minutes "
        f"(`{run['command']}`).{part} Measurements that were repeated because something else ran: {run['repeated']}."
    )
    yield ""
    yield f"- {machine['cpu']}, {machine['cores']} cores{virtual}, {machine['memory_gb']} GB, {machine['kernel']}"
    yield (
        f"- {setup['alg']}, {setup['keys']} different RSA keys of {setup['bits']} bits in turn; every client has a "
        "certificate, and in each contestant a key object, of its own"
    )
    yield (
        f"- {setup['connections']} connections that are kept alive, {setup['seconds']} s for a measurement; "
        "contestants are started anew for each round"
    )
    yield (
        f'- of the JWS of "seen" {_hits(told)} were known to those that remember any, as the metrics of jwsgate and '
        "the statistics of Envoy tell; HAProxy and the home-made gate remember none"
    )
    yield from ("", "| | version | signatures are verified by |", "|---|---|---|")
    yield from (f"| {' | '.join(line)} |" for line in told["software"])
    yield ""


def _hits(told: Told) -> str:
    """The share of JWS that were known, from the contestants that tell."""
    rounds = [one for part in told["parts"] for row in part["rows"] for one in row["rounds"]]
    found = [one["seen"]["hits"] for one in rounds if one["seen"]["hits"] is not None]
    if not found:
        return "an unknown number"
    return "100%" if min(found) == 1 else f"at least {min(found):.2%}"


def page(told: Told) -> str:
    """The measured part of performance.md."""
    lines = [*_about(told)]
    for part in told["parts"]:
        lines += _table(part)
        if found := list(_compared(part)):
            lines += ["Requests for a second of CPU time, in multiples of the other's:", ""]
            lines += [*(f"- {ratio}" for ratio in found), ""]
    if told["growth"]:
        lines += _growth(told["growth"])
    if told["growth"] or told["sizes"]:
        lines += ["### Memory, exports, reloads and routes", ""]
        lines += _memory(told["growth"]) if told["growth"] else []
        lines += _sizes(told["sizes"]) if told["sizes"] else []
    return "\n".join(lines).rstrip() + "\n"


def chart(told: Told) -> str:
    """Bars as SVG: requests for a second of CPU time with seen JWS, for each number of clients."""
    found = {
        part["clients"]: {row["name"]: 1e6 / _median(row, "seen", _us) for row in part["rows"]}
        for part in told["parts"]
    }
    names = [name for name in CONTESTANTS if any(name in rows for rows in found.values())]
    most = max(rate for rows in found.values() for rate in rows.values())
    shades, left, wide, bar = ["#9ecae1", "#4292c6", "#084594"], 330, 420, 14
    shapes, y = [], 40
    for name in names:
        bars = [(shade, rows[name]) for shade, rows in zip(shades, found.values(), strict=False) if name in rows]
        shapes.append(f'<text x="{left - 8}" y="{y + bar * len(bars) / 2 + 4}" text-anchor="end">{name}</text>')
        for shade, rate in bars:
            width = rate / most * wide
            shapes.append(f'<rect x="{left}" y="{y}" width="{width:.1f}" height="{bar - 2}" fill="{shade}"/>')
            shapes.append(f'<text x="{left + width + 4:.1f}" y="{y + bar - 4}">{rate:,.0f}</text>')
            y += bar
        y += 10
    legend = " · ".join(f"{clients:,}" for clients in found)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + wide + 70}" height="{y + 10}" '
        'font-family="sans-serif" font-size="11">\n'
        f'<text x="8" y="20">requests for a second of CPU time, JWS seen before; clients: {legend} '
        "(light to dark)</text>\n" + "\n".join(shapes) + "\n</svg>\n"
    )


def around(target: Path) -> tuple[str, str]:
    """What stands before and after the measured part of a page.

    Raises:
        Broken: when it has none.
        OSError: when it cannot be read.
    """
    before, _, rest = target.read_text("utf-8").partition(MEASURED)
    _, end, after = rest.partition(END)
    if not end:
        raise Broken(f"{target} has no place for what was measured")
    return before, after


def remake(folder: Path) -> None:
    """Make page and chart in a folder anew from performance.json there.

    Raises:
        Broken: when page or numbers do not fit.
        OSError: when they cannot be read or written.
    """
    kept, target = folder / "performance.json", folder / "performance.md"
    found = json.loads(kept.read_text("utf-8"))
    before, after = around(target)
    try:
        measured, bars = page(found), chart(found)
    except KeyError as error:
        raise Broken(f"{kept} has no {error}: measure anew") from None
    target.write_text(before + MEASURED + measured + END + after, "utf-8")
    (folder / "peers.svg").write_text(bars, "utf-8")


def write(folder: Path, told: Told) -> None:
    """Put a run into a folder in place of the one before: performance.json, and what is made of it."""
    around(folder / "performance.md")
    (folder / "performance.json").write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    remake(folder)
