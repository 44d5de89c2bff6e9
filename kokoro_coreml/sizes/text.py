"""A table of sizes for a person to read, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kokoro_coreml.bench.text import table
from kokoro_coreml.parity.bounds import SAME_SOURCE
from kokoro_coreml.recipe import PIPELINE
from kokoro_coreml.sizes.results import Comparison, Quality, Row, RowSizes, SizeReport

NONE = "-"

SHOWN = (
    ("length_difference_samples", "length, samples", ".0f"),
    ("audio_snr_db", "SNR, dB", ".1f"),
    (SAME_SOURCE, "same source, dB", ".1f"),
    ("log_spectral_distance_db", "LSD, dB", ".2f"),
    ("log_mel_cosine", "mel cosine", ".6f"),
    ("f0_error_hz", "F0, Hz", ".2f"),
)
"""Metrics that are shown as median and worst case, with heading and format."""

HEAD = (
    "weights stored as",
    "weights",
    "packages",
    "wrong durations",
    *(title for _, title, _ in SHOWN),
    "word errors",
    "same words",
    "no metric tells it from uncompressed",
    "as near as upstream's second run",
)

FROM_8_BITS = (
    "The weights come from an 8-bit export: `exact` and the 8-bit rows find its grid again. With "
    "weights that were never quantised, they would lose more, and `exact` would take more."
)

Cells = Sequence[str]


def render(report: SizeReport) -> str:
    """The whole text: the table, what it was measured on, and what was not measured and why."""
    title = f"Sizes of {report.recipe}, weights {report.weights}"
    blocks = [table(title, HEAD, _rows(report)), "\n".join(f"  {t}" for t in explanations(report))]
    stages = [(row.name, *_stages(row.sizes)) for row in report.rows if row.sizes is not None]
    if stages:
        blocks.append(table("Weights by stage", ("weights stored as", *PIPELINE), stages))
    failed = [f"  {row.name}: {row.reason}" for row in report.rows if row.reason]
    if failed:
        blocks.append("\n".join(["Failed", *failed]))
    told = [f"  {row.name}: {_told(row)}" for row in report.rows if _told(row)]
    if told:
        blocks.append("\n".join(["Told from uncompressed by", *told]))
    if report.not_measured:
        lines = [f"  {one.what}: {one.reason}" for one in report.not_measured]
        blocks.append("\n".join(["Not measured", *lines]))
    return "\n\n".join(blocks)


def markdown(report: SizeReport) -> str:
    """The table and what it was measured on, for a document."""
    rows = [HEAD, ["---"] + ["---:"] * (len(HEAD) - 1), *_rows(report)]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    failed = [f"`{row.name}` failed: {row.reason}" for row in report.rows if row.reason]
    missing = [f"Not measured: {one.what}: {one.reason}." for one in report.not_measured]
    return "\n\n".join(["\n".join(lines), *explanations(report), *failed, *missing]) + "\n"


def line(row: Row) -> str:
    """One row, as soon as it is there."""
    if row.verdict == "failed":
        return f"{row.name}: failed: {row.reason}"
    return ", ".join(
        f"{title} {cell}" if title else cell
        for title, cell in zip(("", *HEAD[1:]), _cells(row), strict=True)
    )


def explanations(report: SizeReport) -> list[str]:
    """What a reader of the numbers must know."""
    cases = ", ".join(one.case for one in report.said)
    listened = sum(one.heard is not None for one in report.said)
    sentences = [
        f"Suite {report.suite}, {len(report.said)} cases ({cases}), executed at {report.precision} "
        f"precision at {report.tokens} tokens x {report.frames} frames, against upstream under the "
        "same noise. Metrics are the median over the cases, in brackets the worst.",
        "Sizes are of the weight files and of all files of the packages at that one bucket; all "
        "buckets of the recipe share the weights and add only programs.",
        f"Words: {report.recogniser}, {listened} cases."
        if report.recogniser
        else "Words were not recognised.",
        f"Smallest that no metric tells from uncompressed: {report.smallest or 'no row'}.",
    ]
    return [*sentences, FROM_8_BITS] if report.weights_from_8_bits else sentences


def _rows(report: SizeReport) -> list[Cells]:
    quality = report.variation.quality
    second = ("upstream's second run", NONE, NONE, *_quality(quality), _same(quality), NONE, NONE)
    return [*map(_cells, report.rows), second]


def _cells(row: Row) -> Cells:
    if row.sizes is None or row.quality is None:
        return (row.name, *["failed"] * 2, *[NONE] * (len(HEAD) - 3))
    return (
        row.name,
        _bytes(row.sizes.weight_bytes),
        _bytes(row.sizes.package_bytes),
        *_quality(row.quality),
        _same(row.quality),
        _holds(row.against_uncompressed),
        _holds(row.against_variation),
    )


def _stages(sizes: RowSizes) -> Iterator[str]:
    found = {one.stage: one.weight_bytes for one in sizes.stages}
    return (_bytes(found[name]) if name in found else NONE for name in PIPELINE)


def _quality(quality: Quality) -> Iterator[str]:
    share = quality.duration_errors_percent
    yield NONE if share is None else f"{quality.duration_errors} ({share:.2g} %)"
    for metric, _, form in SHOWN:
        spread = quality.spreads.get(metric)
        yield NONE if spread is None else f"{spread.median:{form}} ({spread.worst:{form}})"
    yield NONE if quality.word_errors is None else f"{quality.word_errors} of {quality.words}"


def _same(quality: Quality) -> str:
    return NONE if quality.word_errors is None else _yes(quality.word_errors == 0)


def _holds(comparison: Comparison | None) -> str:
    return NONE if comparison is None else _yes(comparison.holds)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _told(row: Row) -> str:
    """Metrics that tell the row from the uncompressed one, and in how many cases."""
    worse = row.against_uncompressed.worse if row.against_uncompressed else ()
    metrics = [one.metric for one in worse]
    return ", ".join(f"{metric} in {metrics.count(metric)}" for metric in dict.fromkeys(metrics))


def _bytes(value: int) -> str:
    return f"{value / 1e6:.1f} MB"
