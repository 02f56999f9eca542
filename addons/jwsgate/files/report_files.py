"""Reports in files, or on standard output."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .problems import Unfit
from .report_formats import FORMATS, report_target
from .tally import Report

__all__ = ["STANDARD_OUTPUT", "prepare_targets", "write_reports"]

STANDARD_OUTPUT: Final = "-"


def prepare_targets(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Formats and paths of reports; their files are emptied, so that no earlier run's report is taken for this one's.

    Raises:
        Unfit: when one does not tell its format, or cannot be written.
    """
    targets = [report_target(text) for text in texts]
    for _, path in targets:
        if path != STANDARD_OUTPUT:
            try:
                Path(path).write_bytes(b"")
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or "is no file name"
                raise Unfit(f"the report {path!r} cannot be written: {why}", "name a file that can be") from None
    return targets


def write_reports(report: Report, targets: Sequence[tuple[str, str]]) -> list[str]:
    """Write a report in all its formats; returns what went wrong."""
    faults = []
    for form, path in targets:
        text = FORMATS[form](report)
        try:
            if path == STANDARD_OUTPUT:
                sys.stdout.write(text)
                sys.stdout.flush()
            else:
                Path(path).write_text(text, encoding="utf-8")
        except OSError as error:
            faults.append(f"the report {path!r} cannot be written: {error.strerror}")
    return faults
