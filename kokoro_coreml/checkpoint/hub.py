"""Fetching the files of a model repository, and failing within seconds where no Hub is."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from huggingface_hub import (
    HfApi,
    ModelCard,
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from kokoro.model import KModel

from kokoro_coreml.errors import CheckpointError, NetworkError
from kokoro_coreml.progress import SILENT, Reporter

PROBE_SECONDS = 5.0
"""One request without retries tells whether a Hub is there; its own download retries for 23 s."""

WEIGHT_SUFFIXES = (".pth", ".safetensors")

NOT_FOUND = (RepositoryNotFoundError, RevisionNotFoundError, GatedRepoError, HFValidationError)

TRANSPORT: tuple[type[BaseException], ...] = (OSError, *HfHubHTTPError.__bases__)
"""What the Hub's client raises when nothing answers; its HTTP library changed twice."""

DISK = (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.EPERM)

COMMIT = re.compile(r"[0-9a-f]{40}")

KNOWN_LICENSES = dict.fromkeys(KModel.MODEL_NAMES, "Apache-2.0")
"""Where the model card cannot be read: hexgrad publishes both under Apache-2.0."""

SPDX = {"apache-2.0": "Apache-2.0", "mit": "MIT", "cc-by-4.0": "CC-BY-4.0"}


@dataclass(frozen=True)
class HubFiles:
    """The local copies of one repository's files at one commit."""

    config: Path
    weights: Path
    commit: str
    license: str


def fetch_checkpoint(
    repo: str, revision: str | None = None, *, reporter: Reporter = SILENT
) -> HubFiles:
    """Fetch `config.json` and the weights of `repo`, from the Hub's cache where it can be.

    `HF_ENDPOINT`, `HF_HUB_OFFLINE`, `HF_HOME` and tokens act as `huggingface_hub` documents.

    Args:
        repo: Hub id, `owner/name`.
        revision: branch, tag or commit; None is the main branch.

    Raises:
        NetworkError: the Hub cannot be reached and the files are not in its cache.
        CheckpointError: the repository, revision or file does not exist, or cannot be chosen.
    """
    config = fetch(repo, "config.json", revision, reporter=reporter)
    commit = config.parent.name
    name = KModel.MODEL_NAMES.get(repo) or _choose(repo, _listing(repo, commit, config.parent))
    weights = fetch(repo, name, commit, reporter=reporter)
    return HubFiles(config, weights, commit, _license(repo, commit))


def fetch(
    repo: str, name: str, revision: str | None = None, *, reporter: Reporter = SILENT
) -> Path:
    """Return the local copy of one file; raises as `fetch_checkpoint` does."""
    try:
        if revision and COMMIT.fullmatch(revision):
            hit = try_to_load_from_cache(repo, name, revision=revision)
            if isinstance(hit, str):
                return Path(hit)
        reachable = not constants.HF_HUB_OFFLINE and _answers(repo, name, revision)
        with reporter.step(f"Fetch {repo}/{name}"):
            path = Path(
                hf_hub_download(repo, name, revision=revision, local_files_only=not reachable)
            )
        if not reachable:
            reporter.warn(
                f"{repo}/{name}: the Hub was not asked or did not answer; "
                f"the copy cached at commit {path.parent.name} is used."
            )
        return path
    except NOT_FOUND as error:
        raise CheckpointError(
            f"{repo}@{revision or 'main'}: no such model repository or revision on the Hub, "
            f"or no access to it ({_brief(error)})"
        ) from error
    except LocalEntryNotFoundError as error:
        raise _unreachable(
            repo, name, "nothing answered, and the file is not in the local cache"
        ) from error
    except EntryNotFoundError as error:
        raise CheckpointError(f"{repo}@{revision or 'main'}: holds no file {name!r}") from error
    except TRANSPORT as error:
        if isinstance(error, OSError) and error.errno in DISK:
            raise CheckpointError(f"{repo}/{name}: cannot be stored ({error.strerror})") from error
        raise _unreachable(repo, name, _brief(error)) from error


def list_files(repo: str, revision: str | None = None) -> list[str]:
    """Return the names of all files of a repository; raises as `fetch_checkpoint` does."""
    try:
        return list(HfApi().list_repo_files(repo, revision=revision))
    except NOT_FOUND as error:
        raise CheckpointError(f"{repo}: no such model repository ({_brief(error)})") from error
    except TRANSPORT as error:
        raise _unreachable(repo, "the list of files", _brief(error)) from error


def _answers(repo: str, name: str, revision: str | None) -> bool:
    """Ask once, without retries; False where nothing answers, so that the cache is tried."""
    try:
        get_hf_file_metadata(hf_hub_url(repo, name, revision=revision), timeout=PROBE_SECONDS)
    except (*NOT_FOUND, EntryNotFoundError):
        raise
    except TRANSPORT:
        return False
    return True


def _listing(repo: str, commit: str, snapshot: Path) -> list[str]:
    try:
        return list_files(repo, commit)
    except NetworkError:
        return [path.name for path in snapshot.iterdir()]


def _choose(repo: str, names: list[str]) -> str:
    found = sorted(n for n in names if PurePosixPath(n).suffix in WEIGHT_SUFFIXES and "/" not in n)
    if len(found) != 1:
        what = f"several ({', '.join(found)})" if found else f"none among {sorted(names)[:10]}"
        raise CheckpointError(
            f"{repo}: expected exactly one {' or '.join(WEIGHT_SUFFIXES)} file, found {what}; "
            "download the one you want and pass it as a file"
        )
    return found[0]


def _license(repo: str, commit: str) -> str:
    known = KNOWN_LICENSES.get(repo, "unknown")
    try:
        card = ModelCard.load(fetch(repo, "README.md", commit))
    except (CheckpointError, ValueError):
        return known
    named = str(card.data.get("license") or "")
    return SPDX.get(named, named) or known


def _unreachable(repo: str, name: str, why: str) -> NetworkError:
    return NetworkError(
        f"{repo}/{name}: the model hub at {constants.ENDPOINT} cannot be reached ({why}); "
        "use the checkpoint 'packaged', or a folder with config.json and the weights"
    )


def _brief(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
