"""Where the gate meets mitmproxy, Redis, and whatever else runs it."""
