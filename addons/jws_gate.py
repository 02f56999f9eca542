"""For `mitmdump -s addons/jws_gate.py`: hands mitmproxy the addon, and does nothing else."""

from jwsgate.adapters.addon import addons

__all__ = ["addons"]
