"""Why a request was decided as it was, told step by step, with the client's mistake named. Decides nothing itself."""

from .explanation import Explanation, explain, render_text, to_json
from .meanings import MEANINGS, reason_link

__all__ = ["MEANINGS", "Explanation", "explain", "reason_link", "render_text", "to_json"]
