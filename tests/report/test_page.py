"""The page without a browser: one file, nothing from outside, and nothing that a model wrote becomes markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flamingo_eval.cli import app
from flamingo_eval.errors import UsageError
from flamingo_eval.report.page import PageOptions, html_page, script_json
from flamingo_eval.report.tables import table_of

HOSTILE = (
    "<script>window.pwned=1</script>",
    "</script><img src=x onerror=window.pwned=1>",
    "\"'&lt;`{{7*7}}${7*7}<!--<script>-->]]>",
    "\u202e\u2066\u200f\x00\x1b[31m\r\x7f",
    "javascript:alert(1)",
    "a\u2028\u2029\ufeffb",
    "<style>*{display:none}</style><svg onload=alert(1)>",
    "x" * 50_000,
    "",
)


class Outline(HTMLParser):
    """Tags with attributes, and the text of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[tuple[str, str]] = []
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag if tag in ("script", "style") else ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.raw.append((self._inside, data))
            self._inside = ""

    def data(self) -> Any:
        return json.loads(next(text for tag, text in self.raw if tag == "script"))


@pytest.fixture
def hostile_page(make_run: Any, vqa_root: Path) -> str:
    """Two runs whose model and names are as bad as can be."""
    texts = iter([*HOSTILE, *HOSTILE, *HOSTILE])
    folders = [make_run(lambda _: next(texts), shots=k, model=HOSTILE[1]) for k in (0, 4)]
    lines = [json.loads(line) for line in folders[0].outputs.read_text().split("\n") if line]
    lines[1] = {k: v for k, v in lines[1].items() if k not in ("score", "prediction")} | {"error": HOSTILE[0]}
    folders[0].outputs.write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = PageOptions(title=HOSTILE[0], data=str(vqa_root), picture_size=32)
    return html_page(folders, table_of(folders), options).html


@pytest.fixture
def page(make_run: Any, vqa_root: Path) -> str:
    folders = [make_run(say, shots=k, model="m") for k, say in ((0, "red"), (4, "1"))]
    return html_page(folders, table_of(folders), PageOptions(data=str(vqa_root), picture_size=32)).html


def test_hostile_texts_become_no_markup(hostile_page: str, page: str) -> None:
    hostile, plain = Outline(hostile_page), Outline(page)
    assert [t for t, _ in hostile.tags if t in ("script", "style", "img", "iframe", "link", "object")] == [
        t for t, _ in plain.tags if t in ("script", "style", "img", "iframe", "link", "object")
    ]
    for tag, attributes in hostile.tags:
        assert not [a for a in attributes if a.startswith("on")], tag
    assert hostile_page.count("<script") == 2
    assert hostile_page.count("</script") == 2


def test_hostile_texts_reach_the_script_whole_and_visible(hostile_page: str) -> None:
    (task,) = Outline(hostile_page).data()["tasks"]
    answers = {a.get("answer") for run in task["runs"] for a in run["answers"]}
    assert HOSTILE[1] in answers
    assert "⟨U+202E⟩⟨U+2066⟩⟨U+200F⟩⟨U+0000⟩⟨U+001B⟩[31m⟨U+000D⟩⟨U+007F⟩" in answers
    assert "a⟨U+2028⟩⟨U+2029⟩⟨U+FEFF⟩b" in answers
    assert max(map(len, filter(None, answers))) < 5_000


def test_nothing_invisible_is_in_the_file(hostile_page: str) -> None:
    assert not re.findall(
        "[\x00-\x08\x0b-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\u2028\u2029]", hostile_page
    )
    assert hostile_page.encode("utf-8")


def test_the_page_asks_nothing_of_any_network(page: str) -> None:
    outline = Outline(page)
    for tag, attributes in outline.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            target = attributes.get(name) or ""
            assert not target or target.startswith("#"), (tag, name)
    assert "@import" not in page
    assert "url(" not in page
    assert not re.search(r"https?://(?!www\.w3\.org/)", page.split('<script type="application/json"')[0])


def test_the_policy_allows_this_style_and_script_alone(page: str) -> None:
    outline = Outline(page)
    policy = next(a["content"] or "" for t, a in outline.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy

    def digest(text: str) -> str:
        return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    style = next(text for tag, text in outline.raw if tag == "style")
    script = [text for tag, text in outline.raw if tag == "script"][1]
    assert f"style-src '{digest(style)}'" in policy
    assert f"script-src '{digest(script)}'" in policy
    assert not [a for _, a in outline.tags if "style" in a]


def test_the_script_writes_text_and_never_markup() -> None:
    import flamingo_eval.report.page as module

    script = (Path(module.__file__).parent / "page.js").read_text()
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "fetch("):
        assert word not in script


def test_json_cannot_leave_its_element() -> None:
    text = script_json({"a": "</script><!--&\u2028"})
    assert not re.search("[<>&\u2028]", text)
    assert json.loads(text) == {"a": "</script><!--&\u2028"}


def test_table_figure_and_runs_are_on_the_page(page: str) -> None:
    assert page.count('class="panel"') == 1
    assert "vqav2 (val)" in page
    assert "<b>24</b> answers" in page
    assert ">8.3 <small>±" in page  # one of twelve
    assert ">50.0</td>" in page  # each picture has one right answer of two: no draw differs, no interval
    assert "c0ffee" in page


def test_sample_runs_say_so(make_run: Any, page: str, vqa_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flamingo_eval.runs.recorded.data_root", lambda *words: vqa_root)
    folders = [make_run("red", data="sample")]
    assert "never compare it with published" in html_page(folders, table_of(folders), PageOptions()).html
    assert "Sample data" not in page


def test_the_same_runs_give_the_same_bytes(make_run: Any, vqa_root: Path) -> None:
    folders = [make_run("red", shots=4)]
    options = PageOptions(data=str(vqa_root), picture_size=32)
    first = html_page(folders, table_of(folders), options).html
    assert html_page(folders[::-1], table_of(folders), options).html == first


def test_limits_hold_and_are_said(make_run: Any, vqa_root: Path) -> None:
    folders = [make_run("red", shots=8)]
    options = PageOptions(data=str(vqa_root), queries=3, pictures=2, picture_size=32)
    page = html_page(folders, table_of(folders), options)
    value = Outline(page.html).data()
    assert len(value["tasks"][0]["queries"]) == 3
    assert sum(bool(p["uri"]) for p in value["pictures"]) == 2
    assert page.notes[0].endswith("pictures are not on the page (--pictures 2)")


def test_the_command_writes_page_and_figure(make_run: Any, vqa_root: Path, tmp_path: Path) -> None:
    make_run("red", shots=4)
    out, svg = tmp_path / "r.html", tmp_path / "f.svg"
    words = ["report", str(tmp_path / "results"), "--format", "html", "--out", str(out), "--figure", str(svg)]
    result = CliRunner().invoke(
        app, [*words, "--data", str(vqa_root), "--title", "Mine & yours", "--picture-size", "32"]
    )
    assert result.exit_code == 0, result.output
    assert "<title>Mine &amp; yours</title>" in out.read_text()
    assert svg.read_text().startswith("<svg ")


def test_a_page_needs_a_file(make_run: Any, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(tmp_path), "--format", "html"])
    assert isinstance(result.exception, UsageError)


def test_the_in_context_card_says_what_each_curve_shows(make_run: Any, vqa_root: Path) -> None:
    folders = [make_run("1", shots=0), make_run("red", shots=4)]
    html = html_page(folders, table_of(folders), PageOptions(data=str(vqa_root), picture_size=32)).html
    card = html[html.index('id="in-context"') : html.index('id="queries"')]
    assert "no better than copying" in card
    assert 'class="says warn"' in card
    assert "say most frequent" in card
    assert card.count("<tbody>") == 2


def test_pictures_that_were_moved_since_the_run_are_found_again(make_run: Any, vqa_root: Path, tmp_path: Path) -> None:
    folder = make_run("red", data="vqa")
    moved, data = tmp_path / "moved", tmp_path / "data"
    shutil.copytree(vqa_root, data)
    moved.mkdir()
    for part in ("val2014", "train2014"):
        (data / part).rename(moved / part)
    command = ["report", str(folder.path), "--format", "html", "--data", str(data), "--out", str(tmp_path / "p.html")]
    without = CliRunner().invoke(app, command)
    assert without.exit_code == 0, without.output
    bare = (tmp_path / "p.html").read_text(encoding="utf-8").count("data:image/")
    assert CliRunner().invoke(app, [*command, "--images", str(moved)]).exit_code == 0
    n_pictures = (tmp_path / "p.html").read_text(encoding="utf-8").count("data:image/")
    assert n_pictures >= bare + 6
