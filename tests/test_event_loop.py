"""The sidecar's event loop takes the task factory that mitmproxy sets, and is the one that serves."""

from __future__ import annotations

import asyncio

import pytest
import uvloop
from mitmproxy.utils import asyncio_utils

from jwsgate.adapters.event_loop import new_event_loop


@pytest.mark.parametrize("name", [None, "spoken of"])
def test_tasks_begin_at_once(name: str | None) -> None:
    """As mitmproxy wants them, and with what they return, raise and are called."""

    async def main() -> list[str]:
        assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
        done = []

        async def step() -> str:
            done.append("begun")
            await asyncio.sleep(0)
            return "ended"

        with asyncio_utils.set_eager_task_factory():
            task = asyncio.create_task(step(), name=name)
            assert done == ["begun"]
            assert name is None or task.get_name() == name
            done.append(await task)
        lazy = asyncio.create_task(step())
        assert done == ["begun", "ended"]
        return [*done, await lazy]

    assert asyncio.run(main(), loop_factory=new_event_loop) == ["begun", "ended", "ended"]
