"""Download of weights from the Hugging Face hub and from URLs, with a check of the files and the usual caches.

The hub's client determines the cache (``HF_HOME``), the token (``HF_TOKEN`` or ``hf auth login``) and offline mode
(``HF_HUB_OFFLINE=1``). Files of other URLs go to PyTorch's cache (``TORCH_HOME``).
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

#: The first digits of the SHA-256 in a file name, as PyTorch writes them: at least eight.
_HASH = re.compile(r"-([0-9a-f]{8,64})\.")


def fetch(repo: str, *, revision: str | None = None, refresh: bool = False) -> Path:
    """Find a repository's weights and description in the cache, or download them.

    Args:
        repo: ``org/name``, or ``org/name@revision``.
        revision: branch, tag or commit; None means the main branch.
        refresh: ask the hub for a newer commit of the branch. Otherwise a cached file is used without asking the hub.

    Returns:
        The folder of both files in the cache.

    Raises:
        ValueError: The repository, revision or file does not exist; or it is not cached and cannot be downloaded; or
            a cached file is damaged.
    """
    repo, _, pinned = repo.partition("@")
    revision = revision or pinned or None
    path = (None if refresh else _cached(repo, revision)) or _download_weights(repo, revision)
    _verify(path)
    if not (path.parent / MODEL_CONFIG_FILE).is_file() and not constants.HF_HUB_OFFLINE:
        # Some repositories hold only weights. The description must be of the same commit as the weights.
        with contextlib.suppress(EntryNotFoundError):
            hf_hub_download(repo, MODEL_CONFIG_FILE, revision=path.parent.name, library_name="volo")
    return path.parent


def cached(repo: str) -> bool:
    """Return True if the weights of a repository's main branch are in the cache."""
    return _cached(repo, None) is not None


def fetch_url(url: str) -> Path:
    """Download the file at a URL, or find it in PyTorch's cache.

    Raises:
        ValueError: The file is not cached and cannot be downloaded, or the hash in its name does not fit its content.
    """
    name = Path(urlparse(url).path).name
    # Two URLs may end in the same name; the hash of the URL keeps their files apart.
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{name}"
    if path.exists():
        check_weights_file(path)
        return path
    if constants.HF_HUB_OFFLINE:
        raise ValueError(f"{url} is not in the cache and HF_HUB_OFFLINE is set; unset it, or give a local file")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_write(path) as temporary:
            _download(url, temporary)
            hashed = _HASH.search(name)
            if hashed and not _sha256(temporary).startswith(hashed[1]):
                raise ValueError(f"{url} is damaged: its SHA-256 does not begin with {hashed[1]}, the hash in its name")
    except (OSError, HTTPException) as error:
        raise ValueError(f"{url} cannot be downloaded ({error}); download it elsewhere and give the file") from error
    return path


def _download(url: str, path: Path) -> None:
    request = Request(url, headers={"User-Agent": "volo"})
    with urlopen(request, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as response, path.open("wb") as file:
        shutil.copyfileobj(response, file, 1 << 20)
        length, received = response.headers.get("Content-Length"), file.tell()
    if length is not None and received != int(length):
        raise OSError(f"the connection ended after {received:,} of {int(length):,} bytes")


def _cached(repo: str, revision: str | None) -> Path | None:
    try:
        found = (try_to_load_from_cache(repo, name, revision=revision) for name in WEIGHTS_FILES)
        return next((Path(path) for path in found if isinstance(path, str)), None)
    except HFValidationError as error:
        raise ValueError(f"{repo!r} is not a repository name; give hf-hub:org/name") from error


def _download_weights(repo: str, revision: str | None) -> Path:
    at = f"{repo}@{revision}" if revision else repo
    try:
        for name in WEIGHTS_FILES:
            try:
                return Path(hf_hub_download(repo, name, revision=revision, library_name="volo"))
            except EntryNotFoundError as error:
                if isinstance(error, LocalEntryNotFoundError):  # the hub was not asked, so it may have the file
                    raise
        raise ValueError(f"{at} has neither {' nor '.join(WEIGHTS_FILES)}")
    except LocalEntryNotFoundError as error:
        reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the hub cannot be reached"
        raise ValueError(
            f"{at} is not in the cache ({constants.HF_HUB_CACHE}) and {reason}: go online and run "
            f"`volo weights download hf-hub:{at}`, or give a local file of these weights"
        ) from error
    except GatedRepoError as error:
        raise ValueError(f"{at} requires a token, and your consent on its web page: set HF_TOKEN") from error
    except RepositoryNotFoundError as error:
        raise ValueError(
            f"{repo} does not exist on the hub, or is private: set HF_TOKEN to a token with read access"
        ) from error
    except RevisionNotFoundError as error:
        raise ValueError(f"{repo} has no revision {revision!r}") from error
    except HfHubHTTPError as error:
        raise ValueError(f"{at} cannot be downloaded: {str(error).splitlines()[0]}") from error
    except OSError as error:
        raise ValueError(f"{at} cannot be downloaded: {error}") from error


def _verify(path: Path) -> None:
    """Compare a cached file with the SHA-256 under which the hub stores large files.

    A file name in the cache is a link to a blob, whose name is its hash. Systems without links and small files, whose
    blobs have Git hashes, give no SHA-256; those files are not checked.

    Raises:
        ValueError: The hashes differ.
    """
    blob = path.readlink().name if path.is_symlink() else ""
    if not re.fullmatch("[0-9a-f]{64}", blob):
        return
    if _sha256(path) != blob:
        raise ValueError(
            f"{path} is damaged: its SHA-256 is not the hub's; delete {path.resolve()} and download it again"
        )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
