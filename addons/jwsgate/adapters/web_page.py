"""mitmweb's page with room for what the gate says: its own gives a comment 150 pixels, and the path all the rest."""

from typing import Any, Final

from mitmproxy.tools.web.app import IndexHandler

__all__ = ["widen_comments"]

_STYLE: Final = b"<style>.flow-table table .col-comment{width:46%}</style>"
"""More specific than mitmweb's own rule; a width that somebody has dragged a column to is stronger still."""


class _Page(IndexHandler):
    def render_string(self, template_name: str, **more: Any) -> bytes:
        return super().render_string(template_name, **more).replace(b"</head>", _STYLE + b"</head>", 1)


def widen_comments(app: Any) -> None:
    """Give the comments of a mitmweb (its tornado application) the room that reasons need."""
    app.add_handlers(r".*", [(r"/", _Page)])
