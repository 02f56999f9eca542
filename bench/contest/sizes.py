"""What docs/scaling.md reckons with and no load shows: the size of an export, its reload, and the cost of routes."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import decide
import portal
import reload

__all__ = ["measure"]


def measure(applications: int, routes: int, rounds: int, quiet: float) -> dict[str, Any]:
    """Octets of the export, seconds and latencies of its reload, microseconds to find a route."""
    with tempfile.TemporaryDirectory(prefix="jwsgate-sizes-") as folder:
        as_yaml, as_json = portal.write(Path(folder), applications)
        octets = {"yaml": as_yaml.stat().st_size, "json": as_json.stat().st_size}
        as_yaml.unlink()
        taken_up = asyncio.run(reload.bench(Path(folder), as_json, 300, quiet))
    paths, found = decide.measure_routes(routes, rounds)
    return {
        "applications": applications,
        "export_octets": octets,
        "reload": {name: round(value, 2) for name, value in taken_up.items()},
        "routes": routes,
        "paths": paths,
        "finding_us": {way: [round(medians[str(of)], 3) for of in (10, routes)] for way, medians in found.items()},
    }
