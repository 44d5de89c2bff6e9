"""Packages to damage, ways to damage them, and a child process that survives what they do.

Run as a script it is that child: it damages packages by the seeds it is given, loads and runs them
with a limit on memory, and writes one line for every seed that breaks the rule.
"""

import json
import random
import resource
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np

from kokoro_coreml.errors import PackageError
from kokoro_coreml.executor import Program

MEMORY = 2**30
"""Bytes a damaged package may take beyond what the process already has."""

INTEGERS = (0, 1, 2, 3, 7, 64, 65, 255, 10**6, 10**9, 2**31 - 1, 2**31, 2**32, 10**12, 2**63 - 1)
FLOATS = (0.0, -1.0, 1e-30, 1e30, float("nan"), float("inf"), -float("inf"))


def model_path(package):
    return package / "Data" / "com.apple.CoreML" / "model.mlmodel"


def weight_path(package):
    return package / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"


def arrays_for(program):
    """Inputs as declared; PackageError if the declaration is damaged beyond small arrays."""
    made = {}
    for name, spec in program.inputs.items():
        shape = tuple(3 if d is None else d for d in spec.shape)
        if int(np.prod(shape, dtype=object)) > 10**6:
            raise PackageError("an input is declared absurdly large")
        made[name] = np.ones(shape, spec.numpy_dtypes[0])
    return made


def load_and_run(package, function):
    """A PackageError, or results of the declared shapes: the rule for every package."""
    try:
        program = Program.load(package, function)
        found = program(arrays_for(program))
    except PackageError:
        return False
    assert set(found) == set(program.outputs)
    for name, spec in program.outputs.items():
        assert spec.admits_shape(found[name].shape), f"{name}: {spec}, {found[name].shape}"
    return True


def damage_bytes(raw, rng):
    raw = bytearray(raw)
    if rng.random() < 0.7:
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        return bytes(raw)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(raw) + 1)
        kind = rng.randrange(6)
        if kind == 0:
            del raw[place:]
        elif kind == 1:
            raw[place:place] = rng.randbytes(rng.randint(1, 9))
        elif kind == 2:
            del raw[place : place + rng.randint(1, 40)]
        elif place + 8 < len(raw):
            new = rng.randbytes(rng.randint(1, 8))
            if kind == 3:
                new = struct.pack("<Q", rng.choice(INTEGERS))
            raw[place : place + len(new)] = new
    return bytes(raw)


def messages(message, found):
    """All messages below `message`, by type."""
    found.setdefault(message.DESCRIPTOR.full_name, []).append(message)
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            inner = field.message_type.fields_by_name["value"].message_type
            children = list(value.values()) if inner is not None else []
        else:
            children = list(value) if field.is_repeated else [value]
        for child in children:
            messages(child, found)
    return found


def damage_model(model, rng):
    """Change one field, or put a part where another of its type stands."""
    found = messages(model, {})
    parts = [m for group in found.values() for m in group if m.ListFields()]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        part = rng.choice(parts)
        if rng.random() < 0.25:
            donor = rng.choice(found[part.DESCRIPTOR.full_name])
            if donor is not part:
                part.CopyFrom(type(donor).FromString(donor.SerializeToString()))
            continue
        fields = part.ListFields() or [(f, None) for f in part.DESCRIPTOR.fields]
        field = rng.choice(fields)[0]
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            damage_map(getattr(part, field.name), rng)
        elif field.is_repeated:
            damage_repeated(getattr(part, field.name), field, found, rng)
        elif field.message_type is not None:
            part.ClearField(field.name)
        else:
            assign(part, field, scalar(field, found, rng))


def assign(part, field, value):
    try:
        setattr(part, field.name, value)
    except (ValueError, TypeError):
        part.ClearField(field.name)


def damage_map(entries, rng):
    keys = sorted(entries)
    if not keys:
        return
    key = rng.choice(keys)
    if rng.random() < 0.5 or entries.GetEntryClass().DESCRIPTOR.fields_by_name["value"].type != 11:
        del entries[key]
    else:
        entries[rng.choice([*keys, "axis", "x", "shape", "weight"])].CopyFrom(entries[key])


def damage_repeated(items, field, found, rng):
    kind = rng.randrange(4)
    if kind == 0 and len(items):
        del items[rng.randrange(len(items))]
    elif kind == 1 and len(items):
        items.append(items[rng.randrange(len(items))])
    elif kind == 2 and len(items) > 1:
        one, two = rng.sample(range(len(items)), 2)
        kept = items[one]
        if field.message_type is None:
            items[one], items[two] = items[two], kept
        else:
            kept = type(kept).FromString(kept.SerializeToString())
            items[one].CopyFrom(items[two])
            items[two].CopyFrom(kept)
    elif field.message_type is None and len(items):
        try:
            items[rng.randrange(len(items))] = scalar(field, found, rng)
        except (ValueError, TypeError):
            del items[:]


def scalar(field, found, rng):
    if field.cpp_type == field.CPPTYPE_STRING:
        if field.type == field.TYPE_BYTES:
            return rng.randbytes(rng.choice((0, 1, 4, 64)))
        operations = found.get("CoreML.Specification.MILSpec.Operation", [])
        names = [o.name for op in operations for o in op.outputs] + [op.type for op in operations]
        extra = ["", "x", "same", "valid", "int32", "fp16", "tile", "fill", "gather", "einsum"]
        return rng.choice([*names, *extra])
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return rng.choice(FLOATS)
    if field.cpp_type == field.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if field.cpp_type == field.CPPTYPE_ENUM:
        return rng.choice([v.number for v in field.enum_type.values] + [99])
    number = rng.choice(INTEGERS)
    signed = field.type not in (field.TYPE_UINT32, field.TYPE_UINT64)
    return -number if signed and rng.random() < 0.3 else number


def damage(package, intact, how, rng):
    """Damage the copy at `package` of what `intact` holds."""
    from coremltools.proto import Model_pb2

    weights = weight_path(package)
    if how == "weights" and "weights" in intact:
        weights.write_bytes(damage_bytes(intact["weights"], rng))
    elif how == "bytes":
        model_path(package).write_bytes(damage_bytes(intact["model"], rng))
    else:
        model = Model_pb2.Model.FromString(intact["model"])
        damage_model(model, rng)
        model_path(package).write_bytes(model.SerializeToString())


def restore(package, intact):
    model_path(package).write_bytes(intact["model"])
    if "weights" in intact:
        weight_path(package).write_bytes(intact["weights"])


def limit_memory():
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return  # not Linux: damage is still tried, its memory is not limited
    used = int(statm.read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, -1))


def main():
    """`task`: packages with their functions, the ways of damage, seeds, and the log to write."""
    task = json.loads(Path(sys.argv[1]).read_text())
    log = Path(task["log"])
    import torch

    torch.set_num_threads(1)
    for path, function in task["packages"]:
        assert load_and_run(Path(path), function), f"{path} does not run before it is damaged"
    limit_memory()
    survived = broken = 0
    for path, function in task["packages"]:
        package = Path(path)
        intact = {"model": model_path(package).read_bytes()}
        if weight_path(package).exists():
            intact["weights"] = weight_path(package).read_bytes()
        for how in task["ways"]:
            for seed in range(*task["seeds"]):
                case = f"{package.stem} {how} {seed}"
                log.write_text(case)
                damage(package, intact, how, random.Random(case))
                try:
                    ran = load_and_run(package, function)
                except Exception as error:
                    print(f"{case}: {type(error).__name__}: {error}"[:500])
                    if task.get("trace"):
                        import traceback

                        traceback.print_exc()
                else:
                    survived, broken = survived + ran, broken + (not ran)
                restore(package, intact)
    print(f"survived {survived}, refused {broken}")


def run_child(folder, packages, ways, seeds, *, seconds=600, trace=False):
    """Damage copies of `packages` in a child process.

    Returns:
        What it wrote. A crash, a hang and a breach of the rule name the seed.
    """
    copies = []
    for package, function in packages:
        copy = shutil.copytree(package, folder / package.name)
        copies.append((str(copy), function))
    log = folder / "log"
    task = {"packages": copies, "ways": ways, "seeds": seeds, "log": str(log), "trace": trace}
    (folder / "task.json").write_text(json.dumps(task))
    command = [sys.executable, __file__, str(folder / "task.json")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"hangs at: {log.read_text()}") from error
    assert done.returncode == 0, f"{done.returncode} at {log.read_text()}: {done.stderr[-2000:]}"
    return done.stdout, done.stderr


if __name__ == "__main__":
    main()
