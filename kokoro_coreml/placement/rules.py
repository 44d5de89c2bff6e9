"""The rules of placement and safety: data, each with its public source.

`data/placement_rules.toml`, schema 1, holds generations of the Neural Engine, sources, and rules. A
rule says which operations it matches and for which generations; it decides where they run
(`verdict`), or what is wrong with them for a choice of compute units (`severity`), or both.
"""

from __future__ import annotations

import string
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from kokoro_coreml.errors import PlacementError
from kokoro_coreml.placement.facts import FACTS
from kokoro_coreml.resources import data_file
from kokoro_coreml.tables import Limits, decode, nearest

SCHEMA = 1
"""Version of the rules file this code reads."""

RULES_FILE = "placement_rules.toml"

MEASURED = "measured by others"
"""The confidence of a rule whose generations its sources measured."""

ANY = "*"
"""Stands for every operation in a rule's `operators`."""

PROGRAM, INPUT, OUTPUT = "program", "input", "output"
"""In a rule's `operators`: the function as a whole, what an app passes to it, and what it gets."""

Severity = Literal["severe", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("severe", "warning", "note")

Units = Literal["ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE"]

Verdict = Literal["neural_engine", "not_neural_engine", "cpu", "unknown"]
"""The Neural Engine takes it; it does not; only the CPU takes it; sources disagree or end here."""

Text = Annotated[str, Limits(minimum=1)]
Identifier = Annotated[
    str, Limits(pattern=r"[a-z0-9]+(-[a-z0-9]+)*", meaning="words of a-z and 0-9, joined by '-'")
]


@dataclass(frozen=True)
class Generation:
    """One generation of the Neural Engine, by the name its compiler uses."""

    name: Annotated[str, Limits(pattern=r"H[0-9]+", meaning="H and a number, such as H16")]
    chips: Annotated[tuple[Text, ...], Limits(minimum=1)]
    inferred: tuple[Text, ...]
    """Chips that no source has read the name from; they follow from the order of the others."""
    sources: Annotated[tuple[Identifier, ...], Limits(minimum=1)]


@dataclass(frozen=True)
class Source:
    """Where something is published."""

    id: Identifier
    title: Text
    url: Annotated[str, Limits(pattern=r"https://\S+", meaning="an https address")]
    measured: tuple[Text, ...]
    """Chips it measured; empty for documentation, and where it names none."""


@dataclass(frozen=True)
class Bound:
    """A condition on one number of an operation (see `facts`); all that are set must hold."""

    fact: Text
    above: float | None = None
    below: float | None = None
    equals: float | None = None
    differs_from: float | None = None
    no_multiple_of: Annotated[int, Limits(minimum=2)] | None = None

    def holds(self, value: float | None) -> bool:
        """Whether the condition is met; an unknown number meets none."""
        return value is not None and not (
            (self.above is not None and not value > self.above)
            or (self.below is not None and not value < self.below)
            or (self.equals is not None and value != self.equals)
            or (self.differs_from is not None and value == self.differs_from)
            or (self.no_multiple_of is not None and value % self.no_multiple_of == 0)
        )


@dataclass(frozen=True)
class When:
    """What must hold of an operation for a rule to match; nothing set matches all."""

    types: tuple[Text, ...] = ()
    """An operand that is no constant, or a result, has one of these element types."""
    operand_types: tuple[Text, ...] = ()
    """As `types`, of operands alone."""
    result_types: tuple[Text, ...] = ()
    """As `types`, of results alone."""
    constant: tuple[Text, ...] = ()
    """All of these parameters are bound to constants."""
    computed: tuple[Text, ...] = ()
    """One of these parameters is bound to a value computed at run time."""
    choices: Mapping[str, tuple[Text, ...]] = field(default_factory=dict)
    """By parameter, words of which it has one."""
    units: tuple[Units, ...] = ()
    """The compute units asked for are one of these."""
    devices: tuple[Literal["CPU", "GPU", "NeuralEngine"], ...] = ()
    """Its predicted device is one of these."""
    bounds: tuple[Bound, ...] = ()


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        id: unique.
        operators: MIL's names, or `program`, `input`, `output`; `*` is every operation.
        found: what is the matter, in which `{fact}` stands for a number.
        confidence: how the source knows.
        sources: at least one.
        generations: it holds for, as `confidence` says; empty where the generation plays no part.
        inferred: generations that the sources did not measure, but infer it for.
        verdict: where the operation runs.
        severity: of the finding, by compute units; none where they are missing.
        expected: what to do instead; required with a severity.
        systems: operating systems it was seen on, where that matters.
        excluding: operations that `*` does not mean.
        when: further conditions.
    """

    id: Identifier
    operators: Annotated[tuple[Text, ...], Limits(minimum=1)]
    found: Text
    confidence: Literal["documented", "measured by others", "reported", "measured here"]
    sources: Annotated[tuple[Identifier, ...], Limits(minimum=1)]
    generations: tuple[Text, ...] = ()
    inferred: tuple[Text, ...] = ()
    verdict: Verdict | None = None
    severity: Mapping[Units, Severity] = field(default_factory=dict)
    expected: str | None = None
    systems: str | None = None
    excluding: tuple[Text, ...] = ()
    when: When = field(default_factory=When)

    @property
    def holds_for(self) -> tuple[str, ...]:
        """Generations, measured or inferred, in order; empty where they play no part."""
        return tuple(sorted((*self.generations, *self.inferred)))

    def confidence_of(self, generations: Iterable[str]) -> str:
        """How the source knows, of some generations, in words."""
        asked = set(generations)
        inferred = [g for g in self.inferred if g in asked]
        if not inferred:
            return self.confidence
        if not asked & set(self.generations):
            return "inferred"
        return f"{self.confidence}, inferred for {' and '.join(inferred)}"


@dataclass(frozen=True)
class Rules:
    """The whole file."""

    schema: Literal[1]
    generations: Annotated[tuple[Generation, ...], Limits(minimum=1)]
    sources: Annotated[tuple[Source, ...], Limits(minimum=1)]
    rules: Annotated[tuple[Rule, ...], Limits(minimum=1)]

    def generation_of(self, name: str) -> Generation:
        """A generation by its name or by a chip's, such as `H16`, `A15` or `M4 Pro`.

        Raises:
            PlacementError: no generation has it; the nearest known one is named.
        """
        wanted = _plain(name).lower()
        names = {g.name.lower(): g for g in self.generations}
        for generation in self.generations:
            names |= {c.lower(): generation for c in (*generation.chips, *generation.inferred)}
        if wanted not in names:
            hint = nearest(wanted.upper(), [n.upper() for n in names])
            raise PlacementError(f"unknown generation {name!r}; {hint}")
        return names[wanted]

    def urls(self, ids: Iterable[str]) -> tuple[str, ...]:
        """Addresses of sources, in the order asked for."""
        by_id = {source.id: source.url for source in self.sources}
        return tuple(by_id[i] for i in ids)


@cache
def load_rules() -> Rules:
    """The rules that come with the project; see `read_rules` for errors."""
    return read_rules(data_file(RULES_FILE))


def read_rules(path: Path) -> Rules:
    """Read a rules file.

    Raises:
        PlacementError: it is not TOML, or something in it is missing, unknown, of the wrong type or
            contradictory.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PlacementError(f"cannot read the rules '{path}': {error}") from error
    return parse_rules(raw, document=path.name)


def parse_rules(raw: object, *, document: str) -> Rules:
    """Check parsed rules; raises `PlacementError` as `read_rules` does."""
    version = raw.get("schema") if isinstance(raw, Mapping) else None
    if type(version) is int and version != SCHEMA:
        raise PlacementError(
            f"{document}: rules of schema {version}, but this version of kokoro-coreml reads "
            f"{SCHEMA}"
        )
    rules = decode(Rules, raw, document=document, error=PlacementError)
    for problem in _problems(rules):
        raise PlacementError(f"{document}: {problem}")
    return rules


def _problems(rules: Rules) -> list[str]:
    problems = [
        *_repeated("rule", [r.id for r in rules.rules]),
        *_repeated("source", [s.id for s in rules.sources]),
        *_repeated("generation", [g.name for g in rules.generations]),
    ]
    used = {i for rule in rules.rules for i in rule.sources}
    used |= {i for generation in rules.generations for i in generation.sources}
    problems += [f"no rule uses the source '{s.id}'" for s in rules.sources if s.id not in used]
    for generation in rules.generations:
        where = f"generation '{generation.name}'"
        problems += _unknown(where, "source", generation.sources, [s.id for s in rules.sources])
    for rule in rules.rules:
        problems += _problems_of(rule, rules)
    chips = [chip for g in rules.generations for chip in (*g.chips, *g.inferred)]
    for source in rules.sources:
        named = [_plain(chip) for chip in source.measured]
        problems += _unknown(f"source '{source.id}'", "chip", named, chips)
    return problems or [p for rule in rules.rules for p in _unmeasured(rule, rules)]


def _problems_of(rule: Rule, rules: Rules) -> list[str]:
    where = f"rule '{rule.id}'"
    names = [g.name for g in rules.generations]
    used = [*(b.fact for b in rule.when.bounds), *_placeholders(rule.found)]
    problems = [
        *_unknown(where, "source", rule.sources, [s.id for s in rules.sources]),
        *_unknown(where, "generation", rule.holds_for, names),
        *_unknown(where, "fact", used, list(FACTS)),
    ]
    if rule.verdict is None and not rule.severity:
        problems.append(f"{where} has neither a verdict nor a severity")
    if rule.severity and not rule.expected:
        problems.append(f"{where} has a severity, but does not say what is expected")
    if rule.verdict is not None and not rule.holds_for:
        problems.append(f"{where} has a verdict, but names no generation")
    if rule.verdict is not None and rule.when.devices:
        problems.append(f"{where} decides the device that it depends on")
    problems += [
        f"{where} has the generation '{name}' twice"
        for name in rule.generations
        if name in rule.inferred
    ]
    return problems


def _unmeasured(rule: Rule, rules: Rules) -> list[str]:
    """What a rule that says it was measured claims beyond its sources' chips."""
    if rule.confidence != MEASURED:
        return []
    where = f"rule '{rule.id}'"
    chips = [c for s in rules.sources if s.id in rule.sources for c in s.measured]
    if not chips:
        return [f"{where} was measured by others, but none of its sources measured a chip"]
    measured = {rules.generation_of(chip).name for chip in chips}
    return [
        f"{where} was measured by others, but none of its sources measured {name}"
        for name in rule.generations
        if name not in measured
    ]


def _plain(chip: str) -> str:
    """An M chip without its variant: its Neural Engine is that of the plain one."""
    name = chip.strip()
    for variant in (" ultra", " max", " pro"):
        if name.lower().startswith("m") and name.lower().endswith(variant):
            return name[: -len(variant)].strip()
    return name


def _placeholders(template: str) -> list[str]:
    return [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]


def _unknown(where: str, kind: str, used: Sequence[str], known: list[str]) -> list[str]:
    return [
        f"{where} names the unknown {kind} '{name}'; {nearest(name, known)}"
        for name in used
        if name not in known
    ]


def _repeated(kind: str, names: list[str]) -> list[str]:
    return [
        f"the {kind} '{n}' occurs twice" for n in sorted({n for n in names if names.count(n) > 1})
    ]


def message(rule: Rule, facts: Mapping[str, float | None]) -> str:
    """The rule's text with its numbers, thousands separated."""
    return rule.found.format_map({k: _number(facts[k]) for k in _placeholders(rule.found)})


def _number(value: float | None) -> str:
    if value is None:
        return "an unknown number"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.6g}"
