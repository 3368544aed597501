"""flamingo-eval doctor: check the installation, and print a fix for everything that does not work."""

from __future__ import annotations

from dataclasses import dataclass

import typer

from flamingo_eval.cli.options import Json


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check: what was checked, its status, what was found, how to fix it."""

    what: str
    ok: bool
    seen: str
    fix: str = ""
    command: str = ""  # the install command, printed on a separate line for copying


def doctor(as_json: Json = False) -> None:
    """Look at Python, PyTorch, CUDA, Java, NLTK data, optional packages, the bundled checkpoint, caches and disk.

    Exit code 1 when something that the default run needs is missing.
    """
    import dataclasses

    from flamingo_eval.cli.console import print_json, print_table

    findings = [_python(), _torch(), _cuda(), _java(), _nltk(), _transformers(), _servers(), _tiny(), _cache(), _disk()]
    if as_json:
        print_json([dataclasses.asdict(f) for f in findings])
    else:
        marks = {True: "ok", False: "NO"}
        rows = [("--" if f.what in OPTIONAL and not f.ok else marks[f.ok], f.what, f.seen, f.fix) for f in findings]
        print_table(("", "check", "found", "fix"), rows)
        for finding in findings:
            if finding.command:
                print(f"{finding.what}:  {finding.command}")
    if any(not f.ok and f.what not in OPTIONAL for f in findings):
        raise typer.Exit(1)


OPTIONAL = ("CUDA", "NLTK data", "models of transformers", "models behind a server")


def _python() -> Finding:
    import platform
    import sys

    return Finding("Python", sys.version_info >= (3, 11), platform.python_version(), "")


def _torch() -> Finding:
    import torch

    from flamingo_eval.runs.provenance import versions

    threads = f"{torch.get_num_threads()} threads"
    other_versions = ", ".join(f"{k} {v}" for k, v in versions().items() if k in ("datasets", "pandas", "av"))
    return Finding("packages", True, f"torch {torch.__version__} ({threads}), {other_versions}")


def _cuda() -> Finding:
    import torch

    if torch.cuda.is_available():
        name, memory = torch.cuda.get_device_name(0), torch.cuda.get_device_properties(0).total_memory / 2**30
        return Finding("CUDA", True, f"{torch.cuda.device_count()} x {name}, {memory:.0f} GiB")
    return Finding("CUDA", False, "no GPU; everything runs on the CPU", "a CUDA build of torch and a driver use one")


def _java() -> Finding:
    from flamingo_eval.errors import MissingDependency
    from flamingo_eval.metrics.java import find_java

    try:
        java = find_java()
    except MissingDependency as error:
        return Finding("Java (caption metrics)", False, "none", str(error))
    return Finding("Java (caption metrics)", True, f"{java.version} ({java.origin})")


def _nltk() -> Finding:
    from flamingo_eval.errors import MissingDependency
    from flamingo_eval.metrics.wordnet import require_nltk_data

    try:
        require_nltk_data()
    except MissingDependency as error:
        message, command = str(error).split("\n")
        users = "only WUPS (NExT-QA) and OpenFlamingo's stemming of OK-VQA need it"
        return Finding("NLTK data", False, f"{message} {users}", "the command below", command)
    return Finding("NLTK data", True, "WordNet, tagger, tokenizer")


def _transformers() -> Finding:
    from importlib import metadata

    installed = {}
    for name in ("transformers", "torchvision", "accelerate"):
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    title, fix = "models of transformers", "pip install 'flamingo-eval[hf]'"
    if "transformers" not in installed:
        return Finding(title, False, "not installed; only --model hf:... needs it", fix)
    if int(installed["transformers"].split(".")[0]) < 5:
        return Finding(title, False, f"transformers {installed['transformers']}, needed: 5.19 or newer", fix)
    listing = ", ".join(f"{name} {version}" for name, version in installed.items())
    hint = "" if "torchvision" in installed else "; clips as videos and a few families need torchvision too"
    return Finding(title, True, listing + hint)


def _servers() -> Finding:
    from importlib import metadata

    title = "models behind a server"
    try:
        return Finding(title, True, f"httpx2 {metadata.version('httpx2')}")
    except metadata.PackageNotFoundError:
        missing = "httpx2 is not installed; only --model openai:... needs it"
        return Finding(title, False, missing, "pip install 'flamingo-eval[servers]'")


def _tiny() -> Finding:
    import time

    from flamingo_eval.api import load_model
    from flamingo_eval.errors import CheckpointError

    start = time.monotonic()
    try:
        model = load_model("tiny")
    except CheckpointError as error:
        return Finding("bundled checkpoint", False, "cannot be loaded", str(error))
    return Finding("bundled checkpoint", True, f"{model.name}, loads in {time.monotonic() - start:.1f} s")


def _cache() -> Finding:
    from flamingo_eval.config.settings import cache_dir

    folder = cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".doctor"
        probe.write_text("ok")
        probe.unlink()
    except OSError as error:
        return Finding(
            "cache folder", False, f"{folder}: {error.strerror}", "set FLAMINGO_EVAL_CACHE to another folder"
        )
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    return Finding("cache folder", True, f"{folder}, {size / 2**20:.0f} MiB")


def _disk() -> Finding:
    import shutil

    free = shutil.disk_usage(".").free / 2**30
    return Finding("disk", free > 1, f"{free:.1f} GiB free here", "" if free > 1 else "free some space")
