"""For `mitmweb -s addons/jws_sign.py`: signs requests for a client that cannot do so yet; see docs/signing-proxy.md."""

from jwsgate.adapters.signer import addons

__all__ = ["addons"]
