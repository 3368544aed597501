"""The user's own code, given by its file: loaded once per content; its errors are reported with file and line."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from flamingo_eval.errors import FlamingoEvalError

Value = TypeVar("Value")


def load_module(path: Path, digest: str, error: type[FlamingoEvalError]) -> ModuleType:
    """Run a Python file and return its module; it may import files of its folder, as with `python FILE`.

    `digest`: of the file's content. Raises `error` for the file's own exceptions, and for a file that is not Python.
    """
    name = f"flamingo_eval_own_{digest[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise error(f"{path}: not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    loader = spec.loader
    called(lambda: loader.exec_module(module), str(path), error)
    return module


def called(function: Callable[[], Value], what: str, error: type[FlamingoEvalError]) -> Value:
    """Call the user's code. Raises `error`, with file and line, for its exceptions."""
    try:
        return function()
    except FlamingoEvalError:
        raise
    except Exception as raised:
        place = ""
        trace = raised.__traceback__
        while trace is not None:
            place = f"{Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno}"
            trace = trace.tb_next
        raise error(f"{what} raised {type(raised).__name__}: {raised} ({place})") from raised
