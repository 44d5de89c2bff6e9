"""Renders docs/placement.md from the rules file."""

from __future__ import annotations

import inspect
from collections.abc import Iterable

from kokoro_coreml.placement.operations import FACTS
from kokoro_coreml.placement.rules import ANY, Bound, Rule, Rules, Source

_HEAD = """\
# Placement

The tables below are generated from `kokoro_coreml/data/placement_rules.toml` by
`python tests/placement/placement_docs.py`; a test fails when this file is stale.

`kokoro-coreml inspect PACKAGE_OR_BUNDLE` reads a saved `.mlpackage` on any machine and says, for
every operation, its arithmetic, its bytes, the device it is predicted to run on and the rule that
decided, and then what in the package is unsafe for its compute units. A bundle's manifest says what
each package is meant for; elsewhere pass `--compute-units`. `--generation M1` (a chip or one of the
names below) asks about one Neural Engine; without it, all of them are asked and must agree.

## How to read it

**A prediction is what a device admits**, not what Core ML will choose: it weighs costs, and keeps
on the CPU what is too small to be worth a switch. `unknown` means that no public source covers the
operation, that sources contradict one another, that generations differ (`devices` then lists them,
and the text counts operations by generation), that nobody has shown a program of this size to
compile, or that the GPU is allowed and nothing public says which device Core ML prefers.

**A finding is `severe`** where the package must not ship for these compute units: it holds what
they cannot run, what is known to crash, what computes something else, or what this project keeps
out of every stage for the Neural Engine (`tile`). `warning` asks for a measurement; `note` is worth
knowing. With `--strict`, severe findings leave with exit code 12.

**Arithmetic** counts two operations for a multiply-add and one for each element and step of
everything else. Bytes are those of the declared types: constants as stored, operands and results
once each.

**On a Mac**, Core ML's own plan stands beside the prediction. `--save-plan FILE` keeps it, and
`--plan FILE` reads it anywhere. "Agreed" compares with the device Core ML prefers; "admissible"
asks only whether it supports the Neural Engine where that was predicted, and does not where the CPU
was.

**Confidence.** `documented`: by Apple or a maintainer. `measured by others`: a public measurement.
`reported`: an issue or a single observation, or sources that disagree. `measured here`: by this
project. A generation that none of a rule's sources measured, but that one of them infers it for,
from the compiler's tables or the order of the chips, is `inferred` and stands below with a `?`. The
list of sources names the chips that each of them measured. ANEForge and 751K's compiler
measurements are of the Neural Engine's compiler outside Core ML, unless the title says otherwise.
"""


def render(rules: Rules) -> str:
    """The whole page."""
    deciding = [r for r in rules.rules if r.verdict]
    finding = [r for r in rules.rules if r.severity]
    return "\n".join(
        [
            _HEAD,
            *_generations(rules),
            *_placements(deciding),
            *_findings(finding),
            *_facts(),
            *_sources(rules.sources),
        ]
    )


def _generations(rules: Rules) -> list[str]:
    lines = ["## Generations", "", "| generation | chips | by inference | sources |"]
    lines.append("| --- | --- | --- | --- |")
    for g in rules.generations:
        lines.append(
            f"| {g.name} | {', '.join(g.chips)} | {', '.join(g.inferred)} | {_ids(g.sources)} |"
        )
    return [*lines, ""]


def _placements(rules: Iterable[Rule]) -> list[str]:
    lines = [
        "## Where operations run",
        "",
        "Of the rules that match an operation, `cpu` counts before `not_neural_engine`, that",
        "before `unknown`, and that before `neural_engine`. A rule about the `program` matches a",
        "function as a whole, and its verdict is of every operation in there.",
        "",
        "| rule | operators | when | verdict | generations | confidence | sources |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in rules:
        lines.append(
            f"| `{r.id}` | {_operators(r)} | {_when(r)} | {r.verdict} "
            f"| {_generations_of(r)} | {r.confidence} | {_ids(r.sources)} |"
        )
    return [*lines, ""]


def _generations_of(rule: Rule) -> str:
    return ", ".join(f"{g}?" if g in rule.inferred else g for g in rule.holds_for)


def _findings(rules: Iterable[Rule]) -> list[str]:
    lines = [
        "## Findings",
        "",
        "| rule | operators | when | severity | generations | found | instead | confidence "
        "| sources |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in rules:
        severity = "<br>".join(f"{units}: {s}" for units, s in r.severity.items())
        systems = f" ({r.systems})" if r.systems else ""
        lines.append(
            f"| `{r.id}` | {_operators(r)} | {_when(r)} | {severity} "
            f"| {_generations_of(r)} | {r.found}{systems} | {r.expected} "
            f"| {r.confidence} | {_ids(r.sources)} |"
        )
    return [*lines, ""]


def _facts() -> list[str]:
    lines = ["## Numbers that rules use", "", "| name | meaning |", "| --- | --- |"]
    for name in sorted(FACTS):
        text = " ".join((inspect.getdoc(FACTS[name]) or "").split())
        lines.append(f"| `{name}` | {text} |")
    return [*lines, ""]


def _sources(sources: Iterable[Source]) -> list[str]:
    return ["## Sources", "", *(_source(s) for s in sources), ""]


def _source(source: Source) -> str:
    measured = f"; measured {', '.join(source.measured)}" if source.measured else ""
    return f"- `{source.id}`: [{source.title}]({source.url}){measured}"


def _operators(rule: Rule) -> str:
    if ANY not in rule.operators:
        return ", ".join(f"`{o}`" for o in rule.operators)
    but = ", ".join(f"`{o}`" for o in rule.excluding)
    return f"every one but {but}" if but else "every one"


def _when(rule: Rule) -> str:
    when = rule.when
    named = {
        "with": when.types,
        "of": when.operand_types,
        "gives": when.result_types,
        "constant": when.constant,
        "computed": when.computed,
        "units": when.units,
        "predicted": when.devices,
    }
    parts = [f"{word} {' or '.join(values)}" for word, values in named.items() if values]
    parts += [f"{name} {' or '.join(words)}" for name, words in when.choices.items()]
    return "; ".join([*parts, *(_bound(b) for b in when.bounds)])


def _bound(bound: Bound) -> str:
    words = {
        "above": bound.above,
        "below": bound.below,
        "=": bound.equals,
        "not": bound.differs_from,
        "no multiple of": bound.no_multiple_of,
    }
    parts = [f"{word} {value:,.6g}" for word, value in words.items() if value is not None]
    return f"`{bound.fact}` {' and '.join(parts)}"


def _ids(ids: Iterable[str]) -> str:
    return ", ".join(ids)
