"""`parity.html`: one self-contained page that shows a `Report` and lets one listen to it."""

from kokoro_coreml.parity.report.audio import Listening
from kokoro_coreml.parity.report.html import render_html, write_html

__all__ = ["Listening", "render_html", "write_html"]
