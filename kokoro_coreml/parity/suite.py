"""Suites: the utterances a bundle is judged on, one TOML file each, with their phonemes and voices.

The phonemes stand in the file, so that a verification needs no grapheme-to-phoneme tool; the voices
that are not shipped with the package stand beside the suites, as `voices/NAME.bin`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from kokoro_coreml.config import ModelConfig
from kokoro_coreml.errors import RecipeError, VoiceError
from kokoro_coreml.progress import SILENT, Reporter
from kokoro_coreml.resources import locate, suites_folder
from kokoro_coreml.tables import Limits, decode
from kokoro_coreml.voices import VoicePack, load_voice, parse_blend

SLOWEST, FASTEST = 0.5, 2.0
"""Speeds a case may ask for."""

RECOGNISED_LANGUAGE = "en"
"""The speech recogniser knows English alone (`parity.recognition`)."""

Name = Annotated[
    str, Limits(pattern=r"[a-z0-9][a-z0-9._-]*", meaning="a name of a-z, 0-9, '.', '_' and '-'")
]
Text = Annotated[str, Limits(minimum=1)]
Language = Annotated[
    str, Limits(pattern=r"[a-z]{2,3}(-[a-z]{2})?", meaning="a language such as 'fr' or 'en-us'")
]


class SuiteError(RecipeError):
    """A suite is unknown or unreadable, or holds an unknown key or a wrong value."""

    title = "suite"


@dataclass(frozen=True)
class SuiteCase:
    """One utterance of a suite."""

    id: Name
    language: Language
    """As upstream's `kokoro.pipeline.LANG_CODES` names it."""
    text: Text
    phonemes: Text
    """What upstream's G2P made of the text; one token per character."""
    voice: Text
    """A name, a path or a blend, as `load_voice` reads it."""
    speed: Annotated[float, Limits(minimum=SLOWEST, maximum=FASTEST)] = 1.0
    recognise: bool = False
    """Whether speech recognition must hear the same words in both audios; English only."""


@dataclass(frozen=True)
class Suite:
    """Utterances to judge a bundle on."""

    name: Name
    description: Text
    cases: Annotated[tuple[SuiteCase, ...], Limits(minimum=1)]


def load_suite(name_or_path: str | Path) -> Suite:
    """Read a suite by name (`smoke`) or by path (anything with a slash or ending in `.toml`).

    Raises:
        SuiteError: it is unknown or unreadable, or a key or value in it is wrong; the message names
            the key, its place, and the nearest known key.
    """
    path = locate(name_or_path, folder=suites_folder(), what="suite", error=SuiteError)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteError(f"cannot read the suite {name_or_path}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise SuiteError(f"{path.name} is not valid TOML: {error}") from error
    return parse_suite(raw, document=path.name)


def parse_suite(raw: Mapping[str, Any], *, document: str) -> Suite:
    """Check a parsed suite; raises as `load_suite` does."""
    suite = decode(Suite, raw, document=document, error=SuiteError)
    _check(suite, document)
    return suite


def suite_names() -> list[str]:
    """Names of the suites that come with the project, sorted."""
    return sorted(path.stem for path in suites_folder().glob("*.toml"))


def suite_voices_folder() -> Path:
    """Folder of the voices that come with the suites."""
    return suites_folder() / "voices"


def suite_voice(
    case: SuiteCase,
    config: ModelConfig,
    *,
    search: Sequence[Path] = (),
    hub: str | None = None,
    revision: str | None = None,
    sha256: Mapping[str, str] | None = None,
    reporter: Reporter = SILENT,
) -> VoicePack:
    """Load the voice of a case, or its blend.

    Args:
        case: names the voice.
        config: gives the expected shape.
        search: folders to look in after the suites' own, such as a bundle's `voices`.
        hub: Hub id of the model whose voices may be fetched; None asks no Hub.
        revision: of that repository.
        sha256: digest by file name for what comes from the Hub.
        reporter: told of every step.

    Raises:
        VoiceError: unknown or unreadable, of the wrong shape, or a blend that cannot be parsed.
        NetworkError: the Hub is the only place left and cannot be reached.
    """
    return load_voice(
        case.voice,
        config=config,
        search=[suite_voices_folder(), *search],
        hub=hub,
        revision=revision,
        sha256=sha256,
        reporter=reporter,
    )


def _check(suite: Suite, document: str) -> None:
    ids = [case.id for case in suite.cases]
    twice = [name for i, name in enumerate(ids) if name in ids[:i]]
    if twice:
        raise SuiteError(f"{document}: two cases have the id '{twice[0]}'")
    for case in suite.cases:
        if case.recognise and case.language.split("-")[0] != RECOGNISED_LANGUAGE:
            raise SuiteError(
                f"{document}: case '{case.id}' asks for 'recognise', but its language is "
                f"'{case.language}' and the recogniser knows English alone"
            )
        try:
            parse_blend(case.voice)
        except VoiceError as error:
            raise SuiteError(f"{document}: case '{case.id}': {error}") from error
