"""How a metric's name and value are written for a reader."""

from __future__ import annotations

from kokoro_coreml.parity.results import CAP, Better

UNITS = {
    "db": "dB",
    "hz": "Hz",
    "cents": "cents",
    "percent": "%",
    "ms": "ms",
    "seconds": "s",
    "samples": "samples",
    "frames": "frames",
    "positions": "positions",
}
"""Last word of a metric's name to the unit it stands for."""

CAPITALS = {"snr": "SNR", "f0": "F0", "rms": "RMS", "rmse": "RMSE", "wer": "WER"}

MORE_IS_BETTER = {"snr", "cosine", "correlation"}
"""Words in the name of a metric that grows with likeness."""

MINUS = "\N{MINUS SIGN}"


def unit(metric: str) -> str:
    """Unit of a metric such as `audio_snr_db`, or an empty string."""
    return UNITS.get(metric.rpartition("_")[2], "")


def label(metric: str) -> str:
    """A metric's name in words, without its unit: `Audio SNR`."""
    words = metric.split("_")
    if len(words) > 1 and words[-1] in UNITS:
        words.pop()
    first, *rest = (CAPITALS.get(word, word) for word in words)
    return " ".join([first[:1].upper() + first[1:], *rest])


def direction(metric: str) -> Better:
    """Which way a metric without a threshold is better."""
    return "higher" if MORE_IS_BETTER & set(metric.split("_")) else "lower"


def amount(
    metric: str, value: float, better: Better | None = None, *, precise: bool = False
) -> str:
    """A value with its unit; the caps that stand for infinity and NaN are written out.

    Args:
        metric: its name, which ends in the unit.
        value: a finite number.
        better: of its threshold; guessed from the name where there is none.
        precise: five digits, for a value that must not look equal to its bound.
    """
    if abs(value) != CAP:
        text = significant(value) if precise or _counts(metric) else number(value)
        return f"{text} {unit(metric)}".rstrip()
    higher = (better or direction(metric)) == "higher"
    if higher == (value > 0):
        return "∞" if higher else f"{MINUS}∞"
    if higher:
        return f"NaN or {MINUS}∞"
    # a large count may have been capped, while no measured level comes near the cap
    return f"NaN or ≥ {CAP:g} {unit(metric)}".rstrip() if _counts(metric) else "NaN or ∞"


def number(value: float) -> str:
    """A measured number: about three digits, and a real minus sign."""
    if value == 0.0:
        text = "0"
    elif 0.01 <= abs(value) < 1e4:
        text = f"{value:.{1 if abs(value) >= 10 else 2}f}"
    else:
        text = f"{value:.2g}"
    return text.replace("-", MINUS)


def significant(value: float) -> str:
    """Five significant digits; more where these would make a whole number of another one."""
    texts = [f"{value:.{digits}g}" for digits in (5, 6, 7, 8, 9)]
    honest = [t for t in texts if not float(t).is_integer() or float(value).is_integer()]
    return (honest or texts)[0].replace("-", MINUS)


def _counts(metric: str) -> bool:
    return unit(metric) in ("", "samples", "frames", "positions")


def bound(metric: str, value: float, better: Better) -> str:
    """A threshold: `≥ 35 dB`."""
    sign = "≥" if better == "higher" else "≤"
    return f"{sign} {significant(value)} {unit(metric)}".rstrip()


def duration(seconds: float) -> str:
    """A span of time, from milliseconds to minutes."""
    if seconds < 1.0:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 120.0:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"


def plural(count: int, noun: str) -> str:
    """`1 case`, `2 cases`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
