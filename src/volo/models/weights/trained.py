"""Trained models together with the data to use them, and functions to save and share them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from volo.color import Color
from volo.files import atomic_write, created_folder
from volo.models.segmentation import SegmentationModel
from volo.models.volo import VOLO
from volo.models.weights.card import model_card
from volo.models.weights.model_folder import MODEL_CONFIG_FILE, WEIGHTS_FILE, save_model, save_segmenter
from volo.outputs import SAVED_MODEL, check_model_folder, mark_folder

CARD_FILE = "README.md"


@dataclass(frozen=True, kw_only=True)
class _Shareable(ABC):
    """The common part of trained models of both tasks: saving to a folder, and uploading to the hub."""

    model: VOLO | SegmentationModel
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
            folder: created if it does not exist. Files of these names are replaced only if this method wrote them.
            results: scores for the card, as in a run's ``results.json`` or an evaluation's ``summary()``.
            license: for the card: the hub's identifier, such as apache-2.0.
            notes: Markdown for the end of the card.

        Raises:
            ValueError: The number of class names, or of class colors, is not the number of classes; or the folder holds
                a file of these names that this method did not write.
        """
        folder = Path(folder)
        check_model_folder(folder, (MODEL_CONFIG_FILE, WEIGHTS_FILE, CARD_FILE))
        self._save(folder, folder.resolve().name, results, license, notes)
        mark_folder(folder, SAVED_MODEL)

    def push_to_hub(
        self,
        repo: str,
        *,
        results: Mapping[str, Any] | None = None,
        license: str | None = None,
        notes: str = "",
        private: bool | None = None,
        token: str | None = None,
        message: str = "Upload a VOLO with its model card",
    ) -> str:
        """Upload the files of :meth:`save_pretrained` to the Hugging Face hub; ``hf-hub:org/name`` then loads them.

        Args:
            repo: ``org/name``; created if it does not exist.
            results: see :meth:`save_pretrained`.
            license: see :meth:`save_pretrained`.
            notes: see :meth:`save_pretrained`.
            private: whether a new repository is hidden from others; None takes the hub's default.
            token: access token; None takes ``HF_TOKEN`` or the token of ``hf auth login``.
            message: commit message.

        Returns:
            The URL of the commit.

        Raises:
            ValueError: The upload is not possible: offline, a wrong repository name, or a token that is missing or
                has no write access.
            RuntimeError: The hub failed or could not be reached.
        """
        with TemporaryDirectory() as folder:
            self._save(Path(folder), f"hf-hub:{repo}", results, license, notes)
            return _upload(Path(folder), repo, private=private, token=token, message=message)

    def _save(
        self, folder: Path, source: str, results: Mapping[str, Any] | None, license: str | None, notes: str
    ) -> None:
        classes = self.model.num_classes
        if len(self.class_names) != classes:
            raise ValueError(f"class_names must be {classes} names, not {len(self.class_names)}")
        card = model_card(
            source,
            self.model.config,
            parameters=sum(parameter.numel() for parameter in self.model.parameters()),
            class_names=self.class_names,
            preprocessing=self._card_settings(),
            results=results,
            license=license,
            notes=notes,
        )
        with created_folder(folder):
            self._save_model(folder)
            with atomic_write(folder / CARD_FILE) as temporary:
                temporary.write_text(str(card), encoding="utf-8")

    def _card_settings(self) -> dict[str, Any]:
        """Return the settings of image preprocessing that the card lists."""
        return self.preprocessing

    @abstractmethod
    def _save_model(self, folder: Path) -> None:
        """Write the weights and their description into ``folder``."""


@dataclass(frozen=True, kw_only=True)
class TrainedModel(_Shareable):
    """A trained classifier with the data to use it.

    Attributes:
        model: the network, in evaluation mode.
        class_names: the class of each output, in order.
        preprocessing: the fields of :class:`volo.data.Preprocessing`.
    """

    model: VOLO

    def _save_model(self, folder: Path) -> None:
        save_model(
            folder,
            self.model.config,
            self.model.state_dict(),
            class_names=self.class_names,
            preprocessing=self.preprocessing,
        )


@dataclass(frozen=True, kw_only=True)
class TrainedSegmenter(_Shareable):
    """A trained segmentation model with the data to use it.

    Attributes:
        model: the network, in evaluation mode.
        class_names: the class of each output, in order.
        class_colors: (red, green, blue) of each class, 0–255.
        ignore_index: the mask value of pixels that training and evaluation ignored.
        preprocessing: the fields of :class:`volo.data.Preprocessing`; ``size`` is the size of the training crops.
        short_side: the shorter side, in pixels, of the training images before random scaling; new images are resized
            to it. None keeps the size of images.
    """

    model: SegmentationModel
    class_colors: tuple[Color, ...]
    ignore_index: int
    short_side: int | None

    def _card_settings(self) -> dict[str, Any]:
        return self.preprocessing if self.short_side is None else self.preprocessing | {"short_side": self.short_side}

    def _save_model(self, folder: Path) -> None:
        save_segmenter(
            folder,
            self.model.config,
            self.model.state_dict(),
            class_names=self.class_names,
            class_colors=self.class_colors,
            ignore_index=self.ignore_index,
            preprocessing=self.preprocessing,
            short_side=self.short_side,
        )


def _upload(folder: Path, repo: str, *, private: bool | None, token: str | None, message: str) -> str:
    """Commit the files of a folder to a repository of the hub, and return the URL of the commit."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    if constants.HF_HUB_OFFLINE:
        raise ValueError(
            f"HF_HUB_OFFLINE is set, so nothing can be uploaded to {repo}: unset it, or call save_pretrained(folder) "
            f"now and upload the folder later with `hf upload {repo} folder`"
        )
    api = HfApi(token=token, library_name="volo")
    try:
        name = api.create_repo(repo, private=private, exist_ok=True).repo_id
        return str(api.upload_folder(repo_id=name, folder_path=folder, commit_message=message).commit_url)
    except HFValidationError as error:
        raise ValueError(f"{repo!r} is not a repository name; give org/name") from error
    except LocalTokenNotFoundError as error:
        raise ValueError(f"{repo} requires a token: run `hf auth login`, or set HF_TOKEN") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status in (401, 403):
            raise ValueError(f"the token has no write access to {repo}: set HF_TOKEN to a token that has") from error
        raise RuntimeError(f"the hub rejected {repo}: {str(error).splitlines()[0]}") from error
    except Exception as error:  # the network libraries of the client raise other errors, depending on their version
        raise RuntimeError(f"{repo} was not uploaded: {error or type(error).__name__}") from error
