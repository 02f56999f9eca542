"""What bench/peers.py is made of.

`clients` makes the clients and their JWS, `engines` the configurations of HAProxy and Envoy, `contestants` starts
whatever is compared, `measuring` measures one of them once, `sizes` measures what takes no load, `machine` says what it
ran on, and `telling` makes page and chart of what was found.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
