"""The `kokoro-coreml` command: parse, call one function, print; errors become exit codes here."""

from kokoro_coreml.cli import bench, goldens, placement, proof, sizes
from kokoro_coreml.cli.commands import app, main
from kokoro_coreml.cli.edge import exit_codes

__all__ = ["app", "bench", "exit_codes", "goldens", "main", "placement", "proof", "sizes"]
