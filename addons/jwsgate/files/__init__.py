"""From files to a snapshot, and every problem on the way."""
