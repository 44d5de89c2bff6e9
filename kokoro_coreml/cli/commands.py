"""The commands. Heavy libraries are imported inside them, so that `--help` is quick."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from kokoro_coreml import __version__
from kokoro_coreml.cli.edge import (
    DEFECT,
    Edge,
    StoppedError,
    exit_codes,
    require_writable,
    terminable,
    working,
    write_whole,
)
from kokoro_coreml.errors import KokoroError

SLOWEST, FASTEST = 0.5, 2.0
"""Range of --speed, which is also a recipe's."""

# typer bundles click from some version on, so its classes are reached through typer
_UsageError: Any = typer.BadParameter.__base__


def _epilog() -> str:
    lines = [f"{code:>3}  {meaning}" for code, meaning in exit_codes().items()]
    return "\b\nExit codes:\n" + "\n".join(lines)


class _Group(TyperGroup):
    """Names an interrupt before typer, whose versions treat it differently, sees it."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise StoppedError(error) from error


app = typer.Typer(
    cls=_Group,
    name="kokoro-coreml",
    help="Convert Kokoro text-to-speech checkpoints to Core ML, and prove the saved package.",
    epilog=_epilog(),
    add_completion=False,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show only warnings and errors.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and library messages.")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (see `exit_codes`)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # read before parsing, because a usage error has to be reported in the form asked for
    edge = Edge(
        json=_wants_json(given),
        quiet="--quiet" in given or "-q" in given,
        debug="--debug" in given,
    )
    try:
        with terminable():
            code = app(args=given, standalone_mode=False, obj=edge, prog_name="kokoro-coreml")
        return code if isinstance(code, int) else 0
    except (KokoroError, StoppedError) as error:
        return edge.failure(error, kind=error.title, message=str(error), code=error.exit_code)
    except _UsageError as error:
        message = f"{error.format_message()} See 'kokoro-coreml --help'."
        return edge.failure(error, kind="usage", message=message, code=error.exit_code)
    except Exception as error:
        hint = "" if edge.debug else "; run again with --debug and report the traceback"
        message = f"{type(error).__name__}: {error}{hint}"
        return edge.failure(error, kind="defect in kokoro-coreml", message=message, code=DEFECT)


def _wants_json(given: Sequence[str]) -> bool:
    """Whether standard output is to hold JSON; `verify` and `bench` take the file to write to."""
    command = next((word for word in given if not word.startswith("-")), "")
    if command not in ("verify", "bench"):
        return "--json" in given
    return "--json=-" in given or ("--json", "-") in itertools.pairwise(given)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


_Weights = Annotated[
    str | None,
    typer.Option(
        help="Weights to use instead of the recipe's: a Hub id, 'packaged', a folder, or a "
        ".pth, .safetensors or .onnx file."
    ),
]
_Voices = Annotated[
    list[str] | None,
    typer.Option(
        help="A voice by name, file or blend (af_heart*0.6+am_michael*0.4), instead of the "
        "recipe's; may be repeated. The first one speaks the sample."
    ),
]
_Compression = Annotated[
    str | None,
    typer.Option(
        help="Store every large weight in one way instead of the recipe's: none, exact, int8, "
        "palette8, palette6, palette4/16 and so on."
    ),
]
_Budget = Annotated[
    str | None,
    typer.Option(
        help="Size of all packages, as in 45MB; the bits of each weight are chosen by measured "
        "error. Instead of --compression."
    ),
]
_SaveCompression = Annotated[
    Path | None,
    typer.Option(help="Write the [compression] table that was used here, for a recipe."),
]


@app.command()
def convert(
    context: typer.Context,
    recipe: Annotated[
        str, typer.Argument(help="Name of a recipe, or the path of a TOML file.")
    ] = "kokoro-82m",
    checkpoint: _Weights = None,
    voice: _Voices = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the bundle [default: artifacts/BUNDLE].")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier bundle.")] = False,
    compression: _Compression = None,
    budget: _Budget = None,
    save_compression: _SaveCompression = None,
    quiet: Quiet = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Convert a checkpoint, check the saved package, and write a bundle."""
    edge: Edge = context.obj
    if compression is not None and budget is not None:
        raise typer.BadParameter("--compression and --budget exclude each other; give one of them")
    if save_compression is not None:
        require_writable(save_compression)
    with working(edge):
        from kokoro_coreml.compression.asked import parse_size, require_pipeline, save, uniform
        from kokoro_coreml.recipe import load_recipe

        limit = None if budget is None else parse_size(budget)
        chosen = load_recipe(recipe)
        if compression is not None:
            chosen = uniform(chosen, compression)
        if limit is not None:
            require_pipeline(chosen, "budget")
        from kokoro_coreml.conversion import convert as run

        result = run(
            chosen,
            checkpoint=checkpoint,
            voices=tuple(voice or ()),
            out=out or Path("artifacts") / chosen.bundle,
            force=force,
            budget=limit,
            reporter=edge.reporter,
        )
        if save_compression is not None:
            content = result.manifest.recipe.content
            write_whole(save_compression, lambda path: save(content, path))
    edge.result(result.to_dict(), f"Bundle: {result.bundle}")


def check_speed(value: float) -> float:
    """Refuse a speed out of range as a wrong command line."""
    # a range of typer's own would let NaN through
    if not SLOWEST <= value <= FASTEST:
        raise typer.BadParameter(f"expected a number from {SLOWEST} to {FASTEST}")
    return value


@app.command()
def say(
    context: typer.Context,
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    phonemes: Annotated[str, typer.Option(help="What to say, in the bundle's phonemes.")],
    voice: Annotated[
        str | None, typer.Option(help="A voice of the bundle [default: its sample's].")
    ] = None,
    speed: Annotated[
        float,
        typer.Option(callback=check_speed, help="1 is the voice's own pace, 2 twice as fast."),
    ] = 1.0,
    out: Annotated[Path, typer.Option(help="WAV file to write.")] = Path("speech.wav"),
    backend: Annotated[str, typer.Option(help="executor, or coreml on a Mac.")] = "executor",
    compute_units: Annotated[
        str | None, typer.Option(help="For coreml: ALL, CPU_ONLY, CPU_AND_GPU or CPU_AND_NE.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier file.")] = False,
    quiet: Quiet = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Speak with a bundle, without a Mac; timestamps of every phoneme come with --json."""
    edge: Edge = context.obj
    with working(edge):
        from kokoro_coreml.synthesis import Synthesizer, check_writable, write_speech

        check_writable(out, force=force)
        with Synthesizer(
            bundle, backend=backend, compute_units=compute_units, reporter=edge.reporter
        ) as synthesizer:
            speech = synthesizer.say(phonemes, voice=voice, speed=speed)
        write_speech(out, speech, force=force, reporter=edge.reporter)
    text = f"{out}: {speech.seconds:.3f} s, voice {speech.voice}, bucket {speech.bucket}"
    edge.result({"file": str(out), **speech.to_dict()}, text)


@app.command()
def recipes(context: typer.Context, json: Json = False, debug: Debug = False) -> None:
    """List the recipes that come with the project."""
    from kokoro_coreml.recipe import load_recipe, recipe_names

    edge: Edge = context.obj
    found = {name: load_recipe(name).description for name in recipe_names()}
    if edge.json:
        edge.output({"recipes": found})
        return
    for name, description in found.items():
        print(f"{name}  {description}")


@app.command()
def check(
    context: typer.Context,
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    quiet: Quiet = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Check that a bundle is whole: its manifest is valid and every file is as it was written."""
    from kokoro_coreml.bundle import verify_files

    edge: Edge = context.obj
    manifest = verify_files(bundle)
    record = {
        "bundle": str(bundle),
        "recipe": manifest.recipe.name,
        "files": len(manifest.files),
        "bytes": sum(f.bytes for f in manifest.files.values()),
        "parity": manifest.parity.verdict,
    }
    text = (
        f"{bundle}: whole; {record['files']} files, recipe {record['recipe']}, "
        f"parity {record['parity']}"
    )
    edge.result(record, text)
