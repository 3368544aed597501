"""The PTB tokenizer of the COCO caption toolkit: Stanford's Java program, then a list of dropped tokens.

pycocoevalcap has the program and the list. The call is our own, because its wrapper writes into its own install folder
and loses captions with unusual line ends.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pycocoevalcap.tokenizer import ptbtokenizer

from flamingo_eval.errors import MetricError
from flamingo_eval.metrics.java import java_command, java_environment

JAR = Path(ptbtokenizer.__file__).parent / ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR
DROPPED = frozenset(ptbtokenizer.PUNCTUATIONS)
# ends of lines for Java; the toolkit replaces only \n, the others would shift later captions
LINE_ENDS = re.compile("[\x00\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029]")
TIMEOUT = 3600.0
LAST = "end"  # an extra last line: Java drops empty lines at the end of a file


def tokenise(captions: Sequence[str]) -> list[str]:
    """Each caption lower-cased, tokenised and without punctuation tokens, as words joined by spaces."""
    if not captions:
        return []
    text = "".join(f"{line}\n" for line in [*(LINE_ENDS.sub(" ", c) for c in captions), LAST])
    with tempfile.TemporaryDirectory(prefix="flamingo-eval-") as folder:
        source = Path(folder) / "captions.txt"
        source.write_bytes(text.encode("utf-8", "replace"))  # half a surrogate pair becomes a question mark
        command = [
            *java_command(), "-Dstdout.encoding=UTF-8", "-cp", str(JAR),
            "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase", str(source),
        ]  # fmt: skip
        try:
            process = subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=False, env=java_environment())
        except (OSError, subprocess.SubprocessError) as error:
            raise MetricError(f"the caption tokenizer failed: {error}.") from error
    lines = process.stdout.decode("utf-8", "replace").split("\n")
    if process.returncode or lines[len(captions) :] != [LAST, ""]:
        raise MetricError(
            f"the caption tokenizer failed ({len(lines)} lines for {len(captions)} captions): "
            f"{process.stderr.decode(errors='replace').strip()[-300:]}",
            fix="`flamingo-eval doctor` shows which Java is used.",
        )
    return [" ".join(w for w in line.rstrip().split(" ") if w not in DROPPED) for line in lines[:-2]]
