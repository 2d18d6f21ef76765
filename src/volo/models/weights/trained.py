"""A trained model with what one must know to use it, and giving it to others."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from volo.color import Color
from volo.files import atomic_write
from volo.models.segmentation import SegmentationModel
from volo.models.volo import VOLO
from volo.models.weights.card import model_card
from volo.models.weights.model_folder import save_model

CARD_FILE = "README.md"


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A model and what one must know to use it.

    Attributes:
        model: the network, in evaluation mode.
        class_names: what its outputs mean, in order.
        preprocessing: the fields of :class:`volo.data.Preprocessing`.
    """

    model: VOLO
    class_names: tuple[str, ...]
    preprocessing: dict[str, Any]

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        results: Mapping[str, Any] | None = None,
        license: str | None = None,
        notes: str = "",
    ) -> None:
        """Write ``model.safetensors``, ``config.json`` and a model card, ``README.md``, into ``folder``.

        Args:
            folder: made where it does not exist; these files in it are replaced.
            results: scores for the card, as in a run's ``results.json`` or an evaluation's ``summary()``.
            license: for the card, in the hub's words, such as apache-2.0.
            notes: Markdown with which the card ends.

        Raises:
            ValueError: there is not one name for each class.
        """
        self._save(Path(folder), Path(folder).resolve().name, results, license, notes)

    def push_to_hub(
        self,
        repo: str,
        *,
        results: Mapping[str, Any] | None = None,
        license: str | None = None,
        notes: str = "",
        private: bool | None = None,
        token: str | None = None,
        message: str = "A VOLO, with how to use it",
    ) -> str:
        """Send what :meth:`save_pretrained` writes to the Hugging Face hub, where ``hf-hub:org/name`` then finds it.

        Args:
            repo: ``org/name``; made where it does not exist.
            results: see :meth:`save_pretrained`.
            license: see :meth:`save_pretrained`.
            notes: see :meth:`save_pretrained`.
            private: of a repository that is made: whether others cannot see it; None leaves it to the hub.
            token: None takes that of ``HF_TOKEN`` or ``hf auth login``.
            message: of the commit.

        Returns:
            The address of the commit.

        Raises:
            ValueError: what is asked for is not possible, a missing token among it. RuntimeError: the hub failed.
        """
        with TemporaryDirectory() as folder:
            self._save(Path(folder), f"hf-hub:{repo}", results, license, notes)
            return _send(Path(folder), repo, private=private, token=token, message=message)

    def _save(
        self, folder: Path, source: str, results: Mapping[str, Any] | None, license: str | None, notes: str
    ) -> None:
        config = self.model.config
        if len(self.class_names) != config.num_classes:
            raise ValueError(f"class_names must be {config.num_classes} names, not {len(self.class_names)}")
        card = model_card(
            source,
            config,
            parameters=sum(parameter.numel() for parameter in self.model.parameters()),
            class_names=self.class_names,
            preprocessing=self.preprocessing,
            results=results,
            license=license,
            notes=notes,
        )
        folder.mkdir(parents=True, exist_ok=True)
        save_model(
            folder,
            config,
            self.model.state_dict(),
            class_names=self.class_names,
            preprocessing=self.preprocessing,
        )
        with atomic_write(folder / CARD_FILE) as temporary:
            temporary.write_text(str(card), encoding="utf-8")


def _send(folder: Path, repo: str, *, private: bool | None, token: str | None, message: str) -> str:
    """Commit the files of a folder to a repository of the hub."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    if constants.HF_HUB_OFFLINE:
        raise ValueError(
            f"HF_HUB_OFFLINE is set, so nothing can be sent to {repo}: unset it, or save_pretrained(folder) now and "
            f"send the folder later with `hf upload {repo} folder`"
        )
    api = HfApi(token=token, library_name="volo")
    try:
        name = api.create_repo(repo, private=private, exist_ok=True).repo_id
        return str(api.upload_folder(repo_id=name, folder_path=folder, commit_message=message).commit_url)
    except HFValidationError as error:
        raise ValueError(f"{repo!r} is no name of a repository; one is org/name") from error
    except LocalTokenNotFoundError as error:
        raise ValueError(f"{repo} wants a token: run `hf auth login`, or set HF_TOKEN") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status in (401, 403):
            raise ValueError(f"the token may not write to {repo}: give one that may in HF_TOKEN") from error
        raise RuntimeError(f"the hub did not take {repo}: {str(error).splitlines()[0]}") from error
    except Exception as error:  # the client's own libraries for the network raise theirs, by version
        raise RuntimeError(f"{repo} is not sent: {error or type(error).__name__}") from error


@dataclass(frozen=True, kw_only=True)
class TrainedSegmenter:
    """A segmentation model and what one must know to use it.

    Attributes:
        model: the network, in evaluation mode.
        class_names: what its outputs mean, in order.
        class_colors: (red, green, blue) of each class, 0–255.
        ignore_index: the index of pixels that counted for nothing.
        preprocessing: the fields of :class:`volo.data.Preprocessing`; ``size`` is the crop that it was trained on.
        short_side: pixels along the shorter side of the images that it was trained on, before they were scaled at
            random; others are resized to it. None takes images as they are.
    """

    model: SegmentationModel
    class_names: tuple[str, ...]
    class_colors: tuple[Color, ...]
    ignore_index: int
    preprocessing: dict[str, Any]
    short_side: int | None
