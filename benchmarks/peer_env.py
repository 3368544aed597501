"""The peer's own environment: the PyPI package open-flamingo with versions of its dependencies that still work.

torch itself comes from the environment that runs the benchmarks, so that both sides use the same kernels.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import venv
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# transformers: OpenFlamingo's version, or the nearest one whose tokenizers exist for this Python
OLD = ("transformers==4.33.3", "tokenizers==0.13.3", "huggingface_hub==0.16.4")
NEWER = ("transformers==4.37.2", "tokenizers==0.15.2", "huggingface_hub==0.23.5")
PACKAGES = (
    "open-flamingo==2.0.1",
    "open_clip_torch==2.20.0",
    *(OLD if sys.version_info < (3, 12) else NEWER),
    "timm==0.9.16",
    "einops==0.8.2",
    "einops-exts==0.0.4",
    "ftfy",
    "wcwidth",
    "requests",
    "urllib3",
    "certifi",
    "idna",
    "charset-normalizer",
)


def python_of(folder: Path) -> Path:
    """The interpreter of the environment in `folder`, created if it does not exist (from PyPI; about 100 MB).

    torch, numpy and, if there is one, torchvision are those of the environment that runs this.
    """
    python = folder / "bin" / "python"
    done = folder / "ready"
    if not done.is_file():
        venv.create(folder)
        own = PACKAGES if find_spec("torchvision") else (*PACKAGES, "torchvision==0.20.1")
        pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps")
        subprocess.run([*pip, *own], check=True)
        site = next((folder / "lib").glob("python3*/site-packages"))
        (site / "zz_host.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")  # after its own
        done.write_text("\n".join(own) + "\n")
    return python


class PeerProcess:
    """The peer in its environment, one request per line."""

    def __init__(self, environment: Path, threads: int) -> None:
        script = Path(__file__).with_name("peer_process.py")
        self._process = subprocess.Popen(
            [python_of(environment), "-W", "ignore", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=environment,
        )
        self.ask("threads", n=threads)

    def ask(self, do: str, **what: Any) -> dict[str, Any]:
        """Send one request and wait for its reply."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **what}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"the peer's process ended with code {self._process.wait()}; its messages stand above")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait()
