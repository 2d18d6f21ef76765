"""Weights from the Hugging Face hub and from web addresses: fetched once, checked, kept in the usual caches.

The hub's client decides about the cache (``HF_HOME``), the token (``HF_TOKEN`` or ``hf auth login``) and being
offline (``HF_HUB_OFFLINE=1``); files of other addresses go to PyTorch's cache (``TORCH_HOME``).
"""

import contextlib
import hashlib
import re
import shutil
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import Request, urlopen

import torch
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from volo.files import atomic_write
from volo.models.weights.model_folder import MODEL_CONFIG_FILE, WEIGHTS_FILES
from volo.models.weights.read import check_weights_file

#: The beginning of its SHA-256 in the name of a file, as PyTorch writes it: at least eight digits.
_HASH = re.compile(r"-([0-9a-f]{8,64})\.")


def fetch(repo: str, *, revision: str | None = None, refresh: bool = False) -> Path:
    """Find a repository's weights and description in the cache, or fetch them.

    Args:
        repo: ``org/name``, or ``org/name@revision``.
        revision: branch, tag or commit; None means the main branch.
        refresh: ask the hub whether the branch has moved on since; without this, what is cached is taken, and the
            hub not asked.

    Returns:
        The folder that holds both, in the cache.

    Raises:
        ValueError: there is no such repository, revision or file, or it is not cached and cannot be fetched, or
            a file in the cache is not what the hub said it is.
    """
    repo, _, pinned = repo.partition("@")
    revision = revision or pinned or None
    path = (None if refresh else _cached(repo, revision)) or _download_weights(repo, revision)
    _verify(path)
    if not (path.parent / MODEL_CONFIG_FILE).is_file() and not constants.HF_HUB_OFFLINE:
        # A repository may hold weights alone; its description is of the same commit as they are.
        with contextlib.suppress(EntryNotFoundError):
            hf_hub_download(repo, MODEL_CONFIG_FILE, revision=path.parent.name, library_name="volo")
    return path.parent


def cached(repo: str) -> bool:
    """Whether the weights of a repository's main branch are in the cache."""
    return _cached(repo, None) is not None


def fetch_url(url: str) -> Path:
    """Fetch the file at a web address, or find it in PyTorch's cache.

    Raises:
        ValueError: it is not cached and cannot be fetched, or its content is not what a hash in its name says.
    """
    name = Path(urlparse(url).path).name
    # Two addresses may end in the same name: the cache tells them apart.
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{name}"
    if path.exists():
        check_weights_file(path)
        return path
    if constants.HF_HUB_OFFLINE:
        raise ValueError(f"{url} is not in the cache and HF_HUB_OFFLINE is set; unset it, or give a file of your own")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_write(path) as temporary:
            _download(url, temporary)
            hashed = _HASH.search(name)
            if hashed and not _sha256(temporary).startswith(hashed[1]):
                raise ValueError(f"{url} is damaged: its SHA-256 does not begin with {hashed[1]}, as its name says")
    except (OSError, HTTPException) as error:
        raise ValueError(f"{url} cannot be fetched ({error}); fetch it elsewhere and give the file") from error
    return path


def _download(url: str, path: Path) -> None:
    request = Request(url, headers={"User-Agent": "volo"})
    with urlopen(request, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as response, path.open("wb") as file:
        shutil.copyfileobj(response, file, 1 << 20)
        promised, came = response.headers.get("Content-Length"), file.tell()
    if promised is not None and came != int(promised):
        raise OSError(f"the connection ended after {came:,} of {int(promised):,} bytes")


def _cached(repo: str, revision: str | None) -> Path | None:
    try:
        found = (try_to_load_from_cache(repo, name, revision=revision) for name in WEIGHTS_FILES)
        return next((Path(path) for path in found if isinstance(path, str)), None)
    except HFValidationError as error:
        raise ValueError(f"{repo!r} is no name of a repository; one is hf-hub:org/name") from error


def _download_weights(repo: str, revision: str | None) -> Path:
    at = f"{repo}@{revision}" if revision else repo
    try:
        for name in WEIGHTS_FILES:
            try:
                return Path(hf_hub_download(repo, name, revision=revision, library_name="volo"))
            except EntryNotFoundError as error:
                if isinstance(error, LocalEntryNotFoundError):  # not that the hub has none, but that it is not asked
                    raise
        raise ValueError(f"{at} holds none of {', '.join(WEIGHTS_FILES)}")
    except LocalEntryNotFoundError as error:
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the hub cannot be reached"
        raise ValueError(
            f"{at} is not in the cache ({constants.HF_HUB_CACHE}) and {why}: go online and run "
            f"`volo weights fetch hf-hub:{at}`, or give a file of these weights in its place"
        ) from error
    except GatedRepoError as error:
        raise ValueError(f"{at} wants your consent on its page, and a token: set HF_TOKEN") from error
    except RepositoryNotFoundError as error:
        raise ValueError(
            f"there is no {repo} on the hub, or it is private: set HF_TOKEN to a token that may"
        ) from error
    except RevisionNotFoundError as error:
        raise ValueError(f"{repo} has no revision {revision!r}") from error
    except HfHubHTTPError as error:
        raise ValueError(f"{at} cannot be fetched: {str(error).splitlines()[0]}") from error
    except OSError as error:
        raise ValueError(f"{at} cannot be fetched: {error}") from error


def _verify(path: Path) -> None:
    """Compare a file of the cache with the SHA-256 under which the hub stores large files.

    The cache links a file's name to a blob that is called by its hash; where the system has no links, or the
    file is small (a Git hash), nothing is known and nothing compared.
    """
    blob = path.readlink().name if path.is_symlink() else ""
    if not re.fullmatch("[0-9a-f]{64}", blob):
        return
    if _sha256(path) != blob:
        raise ValueError(f"{path} is damaged: its SHA-256 is not the hub's; delete {path.resolve()} and fetch it again")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
