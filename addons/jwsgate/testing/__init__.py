"""For tests of clients, and of what stands behind the gate: applications with keys, and a real gate.

With pytest the fixtures of `jwsgate.pytest_plugin` are there by themselves; other test runners use these classes.
"""

from .applications import ClientApplication, portal_export
from .gate import DEFAULT_POLICY, Answer, Gate, GateFailed, start_gate
from .pool import GatePool
from .serving import App, serve

__all__ = [
    "DEFAULT_POLICY",
    "Answer",
    "App",
    "ClientApplication",
    "Gate",
    "GateFailed",
    "GatePool",
    "portal_export",
    "serve",
    "start_gate",
]
