"""Where a failure was made: the first stage, the first operation, or the input that is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from kokoro_coreml.executor import Operation
from kokoro_coreml.executor.graph import names_read
from kokoro_coreml.parity.results import Leg, OperationError, StageResult, Suspect
from kokoro_coreml.parity.trials import Trial

SOUND_DB = 80.0
"""A float32 operation fed the reference's inputs is closer, or it is another operation."""

HALF_DB = 45.0
"""The same for one declared in half precision, whose rounding leaves about 74 dB."""

INPUTS_UPSTREAM = "inputs = upstream"
"""Leg: the package is given what upstream would be given."""


def input_faults(trials: Sequence[Trial]) -> list[Suspect]:
    """Token ids and voice rows that are not those upstream would take."""
    suspects = []
    for trial in trials:
        where = f"case {trial.case.id}"
        if trial.upstream_ids != trial.utterance.ids:
            at = _first_difference(trial.upstream_ids, trial.utterance.ids)
            evidence = f"token ids differ from upstream's at index {at}"
            suspects.append(Suspect(INPUTS_UPSTREAM, f"{where}, input_ids", None, evidence))
        if not np.array_equal(trial.upstream_row, trial.utterance.ref_s):
            off = float(np.abs(trial.upstream_row - trial.utterance.ref_s).max())
            row = len(trial.case.phonemes) - 1
            evidence = f"not row {row} of the voice pack: off by up to {off:.3g}"
            suspects.append(Suspect(INPUTS_UPSTREAM, f"{where}, ref_s", None, evidence))
    return suspects


def stage_faults(stages: Iterable[StageResult]) -> list[Suspect]:
    """The first module out of bounds of every leg; those behind it only pass the error on."""
    first: dict[str, StageResult] = {}
    for stage in stages:
        if stage.verdict == "failed":
            first.setdefault(stage.leg, stage)
    return [
        Suspect(
            leg,
            f"stage {stage.name}",
            None,
            f"{stage.snr_db:.1f} dB on {stage.case}, at least {stage.bound:g} dB expected",
        )
        for leg, stage in first.items()
    ]


def operation_faults(
    leg: str,
    compared: Sequence[OperationError],
    operations: Sequence[Operation],
) -> list[Suspect]:
    """The first operation that goes wrong on right inputs, in program order.

    Args:
        leg: that failed.
        compared: operations that have a counterpart in the reference.
        operations: all of the program; those without a counterpart that feed a wrong value are
            named with it, since one of them may be the guilty one.
    """
    for found in compared:
        sound_db = HALF_DB if found.declared.startswith("fp16") else SOUND_DB
        if found.local_snr_db < sound_db:
            evidence = (
                f"{found.local_snr_db:.1f} dB when fed the reference's own inputs "
                f"({found.declared}, at least {sound_db:g} dB expected); what is in front of it "
                "keeps to its type"
            )
            between = _between({o.name for o in compared}, operations, found)
            if between:
                names = ", ".join(f"{o.type} '{o.name}'" for o in between)
                evidence += f"; computed from values without a counterpart: {names}"
            name = f"operation {found.position}, {found.type} '{found.name}'"
            return [Suspect(leg, found.module or "no module known", name, evidence)]
    return []


def _between(
    known: set[str], operations: Sequence[Operation], found: OperationError
) -> list[Operation]:
    """Operations that reach `found` without passing a compared value, in program order."""
    by_name = {name: o for o in operations for name, _ in o.outputs}
    reached: dict[int, Operation] = {}
    waiting = [by_name[found.name]]
    while waiting:
        for name in names_read(waiting.pop()):
            operation = by_name.get(name)
            if operation is None or name in known or operation.type == "const":
                continue
            if operation.position not in reached:
                reached[operation.position] = operation
                waiting.append(operation)
    return [reached[position] for position in sorted(reached)]


def unlocated(legs: Sequence[Leg], suspects: Sequence[Suspect]) -> list[Suspect]:
    """A suspect for the first failed leg that nothing explains.

    Legs stand in the order in which an error travels, so what was located in one explains those
    behind it.
    """
    known = {suspect.leg for suspect in suspects}
    for leg in legs:
        if leg.name in known:
            return []
        if leg.verdict == "failed":
            return [Suspect(leg.name, "not located", None, leg.detail or "no detail")]
    return []


def _first_difference(a: Sequence[int], b: Sequence[int]) -> int:
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(a), len(b)))
