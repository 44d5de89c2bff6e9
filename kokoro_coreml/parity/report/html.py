"""Renders the page from `data/parity.html.j2`, `parity.css` and `parity.js`.

The page asks for nothing from outside, and its Content-Security-Policy forbids it to: style and
script are allowed by their hashes, pictures and sound as data alone.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from kokoro_coreml.errors import ParityError
from kokoro_coreml.parity.report import figures, graph, numbers, view
from kokoro_coreml.parity.report.audio import Listening
from kokoro_coreml.parity.report.listening import ListeningView, listening_view
from kokoro_coreml.parity.results import Report
from kokoro_coreml.resources import data_file

TEMPLATE, STYLE, SCRIPT = "parity.html.j2", "parity.css", "parity.js"

MARKS = {"passed": "✓", "failed": "✗", "not run": "–", "waived": "○"}
"""Says a verdict without colour."""


def render_html(report: Report, listenings: Sequence[Listening]) -> str:
    """The page as one self-contained document.

    Args:
        report: what was found.
        listenings: audio of the cases, at most one each; a case may have none.

    Raises:
        ParityError: a listening belongs to no case of the report, or there are more of a name than
            cases.
    """
    style, script = (data_file(name).read_text(encoding="utf-8") for name in (STYLE, SCRIPT))
    text = data_file(TEMPLATE).read_text(encoding="utf-8")
    stage_legs, stage_rows = view.stages(report)
    page = (
        _environment()
        .from_string(text)
        .render(
            report=report,
            style=Markup(style),
            script=Markup(script),
            policy=_policy(style, script),
            sentence=view.sentence(report),
            contradictions=view.contradictions(report),
            legs=view.legs(report),
            cases=view.cases(report),
            overview=view.overview_metrics(report),
            bounds=view.case_bounds(report),
            stage_legs=stage_legs,
            stage_rows=stage_rows,
            timings=view.timings(report),
            unused=view.unused_thresholds(report),
            chart=graph.chart(report.operations) if report.operations else None,
            graph=graph,
            listenings=_of_cases(report, listenings),
            finding_kinds=view.finding_kinds(report),
            findings=view.findings(report),
            colour_scale=figures.colour_scale_uri(),
            range_db=figures.RANGE_DB,
        )
    )
    return str(page)


def write_html(path: Path, report: Report, listenings: Sequence[Listening]) -> None:
    """Write the page; raises as `render_html` does, or OSError."""
    text = render_html(report, listenings)
    # a lone surrogate in a case's text must not cost the whole report
    path.write_bytes(text.encode("utf-8", errors="replace"))


def _environment() -> Environment:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        label=numbers.label,
        amount=numbers.amount,
        bound=numbers.bound,
        duration=numbers.duration,
        decibel=graph.decibel,
        number=numbers.number,
        significant=numbers.significant,
    )
    environment.globals.update(plural=numbers.plural, mark=MARKS, language=_language)
    return environment


def _of_cases(
    report: Report, listenings: Sequence[Listening]
) -> list[ListeningView | Literal["unclear"] | None]:
    """What there is to hear of every case; several cases of one name are taken in order."""
    names = [case.name for case in report.cases]
    heard = [listening.case for listening in listenings]
    for name in heard:
        if name not in names:
            raise ParityError(f"audio of '{name}', which is no case of the report: {names}")
        if heard.count(name) > names.count(name):
            raise ParityError(f"the audio of case '{name}' was given {heard.count(name)} times")
    waiting = {name: iter([h for h in listenings if h.case == name]) for name in heard}
    found: list[ListeningView | Literal["unclear"] | None] = []
    for name in names:
        clear = heard.count(name) == names.count(name)
        if name not in waiting:
            found.append(None)
        else:
            found.append(listening_view(next(waiting[name])) if clear else "unclear")
    return found


def _policy(style: str, script: str) -> str:
    return "; ".join(
        [
            "default-src 'none'",
            "img-src data:",
            "media-src data:",
            f"style-src '{_hash(style)}'",
            f"script-src '{_hash(script)}'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"sha256-{b64encode(digest).decode('ascii')}"


def _language(code: str) -> str:
    """A `lang` attribute; what is not a language tag becomes the tag for an unknown one."""
    return code if re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", code) else "und"
