"""The processor of a model folder, with Pillow if the family supports it, and its options."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from flamingo_eval.backends.choice import ArgValue
from flamingo_eval.backends.hf.families import family_of
from flamingo_eval.backends.hf.folder import INSTALL, ModelFolder
from flamingo_eval.errors import CheckpointError, MissingDependency, UsageError, did_you_mean
from flamingo_eval.files import read_json_object
from flamingo_eval.models.tokenizer import TRIAL, refused

OF_VIDEO = "video_"  # before the names of the video processor's options
SAMPLING = ("do_sample_frames", "num_frames", "fps", "video_metadata", "return_metadata")  # frames are chosen here
EXTRA = ("torchvision", "transformers", "pillow", "accelerate", "num2words")  # packages of the extra


def load_processor(folder: ModelFolder, backend: str = "pil") -> Any:
    """The processor, from local files only and without remote code.

    If torchvision is not installed, families with a video processor load without it; clips are shown as frames.
    Raises MissingDependency, CheckpointError.
    """
    try:
        processor = _loaded(folder.path, backend)
    except (ImportError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        package = missing_package(error)
        if package:
            raise MissingDependency(
                f"{folder.path}: the processor of {folder.model_type} does not load without {package}.",
                fix=install(package),
            ) from error
        raise CheckpointError(
            f"{folder.path}: its processor cannot be loaded: {str(error).strip().splitlines()[0]}",
            fix="Copy the processor's and tokenizer's files from the original model into the folder.",
        ) from error
    for part in ("image_processor", "tokenizer"):
        if getattr(processor, part, None) is None:
            raise CheckpointError(
                f"{folder.path}: {type(processor).__name__} has no {part.replace('_', ' ')}.",
                fix="Use a vision-language model with the processor's and tokenizer's files of the original.",
            )
    with refused(folder.path / "tokenizer.json"):
        processor.tokenizer(TRIAL)
    return processor


def install(package: str) -> str:
    """The command that installs a package of transformers' families."""
    return INSTALL if package in EXTRA else f"pip install {package}"


def missing_package(error: Exception) -> str:
    """The package that an error of transformers names; "" if it is about something else."""
    text = str(error)
    named = re.search(r"Missing optional dependencies: ([\w.-]*\w)", text)
    if named or not isinstance(error, ImportError):
        return named.group(1) if named else ""
    if "orchvision" in text or "ackend" in text:
        return "torchvision"
    match = re.search(r"pip install [`'\"]*([\w-]+)", text) or re.search(r"[`']([\w.-]+)[`']", text)
    return match.group(1) if match else text.strip().splitlines()[0]


def _loaded(path: Path, backend: str) -> Any:
    from transformers import AutoProcessor

    options: dict[str, Any] = {"backend": backend, "local_files_only": True, "trust_remote_code": False}
    try:
        return AutoProcessor.from_pretrained(path, **options)
    except (ImportError, OSError, ValueError) as error:  # no torchvision, or not for Pillow, or no file of its own
        if isinstance(error, ImportError) and _processor_name(path) == "PixtralProcessor":
            return pixtral_processor().from_pretrained(path, **options)
        of_video = "ideo processor" in str(error) or "num2words" in str(error)
        original = _processor_class(path) if of_video else None
        if original is None or not any("video" in a for a in original.get_attributes()):
            raise
        return images_only(original, path).from_pretrained(path, **options)


def _video_processor(path: Path) -> Any:
    """The folder's video processor, which only torchvision can run; `NoVideo` without."""
    from transformers import AutoVideoProcessor

    try:
        return AutoVideoProcessor.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (ImportError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return NoVideo()


def pixtral_processor() -> Any:
    """Pixtral's processor class, which transformers offers only beside torchvision though it works with Pillow."""
    package = "transformers.models.pixtral"
    by_pillow = import_module(f"{package}.image_processing_pil_pixtral")  # has the one function that it imports
    try:
        import_module(f"{package}.image_processing_pixtral")
    except ImportError:
        sys.modules[f"{package}.image_processing_pixtral"] = by_pillow
    return import_module(f"{package}.processing_pixtral").PixtralProcessor


def _processor_class(path: Path) -> Any:
    """The class named in the folder; None if transformers does not have it."""
    from transformers.models.auto.processing_auto import processor_class_from_name

    name = _processor_name(path)
    return processor_class_from_name(name) if name else None


def _processor_name(path: Path) -> str:
    files = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
    there = [path / file for file in files if (path / file).is_file()]
    names = [read_json_object(file, CheckpointError).get("processor_class") for file in there]
    return next((str(n) for n in names if n), "")


class NoVideo(dict[str, Any]):
    """In the place of a video processor, which alone wants torchvision; clips are shown as frames here.

    A dictionary without entries, as which transformers can print it.
    """

    model_input_names: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> None:
        """Options that processors read at loading are not set. Raises AttributeError for Python's own names."""
        if name.startswith("__"):
            raise AttributeError(name)


def images_only(original: Any, path: Path | None = None) -> Any:
    """A processor class that loads all its parts, the video processor of the folder `path` if it can.

    SmolVLM's wants num2words too, to say how many frames a clip has.
    """
    module = sys.modules[original.__module__]
    if getattr(module, "num2words", ...) is None:
        module.num2words = str  # type: ignore[attr-defined]
    shows_video = path is not None and getattr(module, "num2words", ...) is not str

    class Loaded(original):  # type: ignore[misc]
        @classmethod
        def get_attributes(cls) -> list[str]:
            return [name for name in original.get_attributes() if "video" not in name]

    class ImagesOnly(original):  # type: ignore[misc]
        @classmethod
        def _get_arguments_from_pretrained(cls, *args: Any, **options: Any) -> list[Any]:
            parts = iter(Loaded._get_arguments_from_pretrained(*args, **options))
            video = _video_processor(path) if path and shows_video else NoVideo()
            return [video if "video" in name else next(parts) for name in original.get_attributes()]

        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            if isinstance(argument, NoVideo):
                return NoVideo
            return super().check_argument_for_proper_class(argument_name, argument)

    ImagesOnly.__name__ = original.__name__
    return ImagesOnly


def image_options(processor: Any, model_type: str, args: Mapping[str, ArgValue]) -> dict[str, ArgValue]:
    """Apply the family's defaults and then `args` to the image processor; returns the applied options.

    Those of the video processor have `video_` before their names. Raises UsageError that lists every unknown option.
    """
    image_processor, video_processor = processor.image_processor, getattr(processor, "video_processor", None)
    video_names = [f"{OF_VIDEO}{n}" for n in _known_options(video_processor) if n not in SAMPLING]
    known_names = [*_known_options(image_processor), *video_names]
    unknown = [name for name in args if name not in known_names]
    if unknown:
        hint = did_you_mean(unknown[0], known_names)
        raise UsageError(
            f"--model-args {', '.join(unknown)}: {type(image_processor).__name__} has no such option. {hint}".rstrip(),
            fix=f"It has: {', '.join(known_names)}.",
        )
    defaults = {k: v for k, v in family_of(model_type).image_args.items() if k in known_names}
    applied = {**defaults, **args}
    for name, value in applied.items():
        if name in video_names:
            _apply(video_processor, name.removeprefix(OF_VIDEO), value)
        else:
            _apply(image_processor, name, value)
    return applied


def _apply(part: Any, name: str, value: ArgValue) -> None:
    """Set an option of an image or video processor."""
    if name in ("min_pixels", "max_pixels") and getattr(part, "size", None) is not None:
        edge = "shortest_edge" if name == "min_pixels" else "longest_edge"
        part.size = type(part.size)(**{**dict(part.size), edge: value})
    elif name == "longest_edge":
        part.size = type(part.size)(longest_edge=value)
    else:
        setattr(part, name, value)


def call_options(processor: Any, applied: Mapping[str, ArgValue]) -> dict[str, ArgValue]:
    """Of the applied options those that the processor's class sets itself at every call, over its image processor's.

    InternVL's and Aya Vision's say `crop_to_patches=True` there: they have to be told at the call.
    """
    kinds = getattr(type(processor), "valid_processor_kwargs", None)
    defaults = getattr(kinds, "_defaults", {}).get("images_kwargs", {})
    own = {**(getattr(processor, "images_kwargs", None) or {}), **defaults}
    return {name: value for name, value in applied.items() if name in own}


def _known_options(part: Any) -> list[str]:
    """Names of options of an image or video processor that change what it makes of pictures; none of `NoVideo`."""
    if not callable(part):
        return []
    kinds = getattr(part, "valid_kwargs", None)
    names = {n for kind in getattr(kinds, "__mro__", ()) for n in getattr(kind, "__annotations__", {})}
    names |= set(getattr(kinds, "__annotations__", {}))
    if "longest_edge" in dict(getattr(part, "size", None) or {}):
        names |= {"longest_edge"}
    internal = {"return_tensors", "device", "disable_grouping", "data_format", "input_data_format"}
    return sorted(n for n in names - internal if not n.startswith("_"))


def template_digest(processor: Any) -> str:
    """sha256 of the chat template, "" without one."""
    template = chat_template(processor)
    return hashlib.sha256(template.encode()).hexdigest() if template else ""


def chat_template(processor: Any) -> str:
    """The Jinja text of the processor's chat template, or of its tokenizer's; "" without one."""
    template = getattr(processor, "chat_template", None) or getattr(processor.tokenizer, "chat_template", None)
    if isinstance(template, Mapping):
        template = template.get("default") or next(iter(template.values()), "")
    return str(template or "")
