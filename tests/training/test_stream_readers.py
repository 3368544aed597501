"""What each kind of data set gives for files as people have them, and for broken ones."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as PillowImage

from flamingo_eval.errors import ConfigError, DataError, MediaError
from flamingo_eval.models.config import PreprocessConfig
from flamingo_eval.sample.world.clips import moving_scene, write_clip
from flamingo_eval.training.streams.documents import Documents
from flamingo_eval.training.streams.samples import BrokenSample, Look, Picture, Raw, Reader, Sample, Text
from flamingo_eval.training.streams.table_rows import TableRows
from flamingo_eval.training.streams.tar_pairs import TarPairs
from flamingo_eval.training.streams.task_episodes import TaskEpisodes
from tests.support.shards import pairs, picture_bytes, write_tar

LOOK = Look(PreprocessConfig(size=8))


def load(raw: Raw, seed: int = 0) -> Sample:
    return raw.load(LOOK, Random(seed))


def shown(sample: Sample) -> list[str]:
    """Parts in words: texts, `*` before those that are not learned, <picture>, <end>."""
    words = []
    for part in sample.parts:
        if isinstance(part, Text):
            words.append(part.text if part.learned else f"*{part.text}")
        else:
            words.append("<picture>" if isinstance(part, Picture) else "<end>")
    return words


def every(reader: Reader) -> list[Raw]:
    return [raw for i in range(len(reader.shards)) for raw in reader.read(i, 0)]


def why(reader: Reader) -> list[str]:
    """What is wrong with each sample, the empty string for whole ones."""
    reasons = []
    for raw in every(reader):
        try:
            load(raw)
            reasons.append("")
        except (BrokenSample, MediaError) as error:
            reasons.append(str(error))
    return reasons


def test_tar_pairs_give_picture_caption_and_end(tmp_path: Path) -> None:
    members = {
        "a/1.jpg": picture_bytes(kind="JPEG"),
        "a/1.json": json.dumps({"caption": "one", "TEXT": "uno"}).encode(),
        "a/1.txt": b" eins ",
        "a/2.x.webp": picture_bytes(kind="WEBP"),
        "a/2.y.json": json.dumps({"caption": "two", "TEXT": "dos"}).encode(),
    }
    path = write_tar(tmp_path / "a.tar", members)
    assert [shown(load(raw)) for raw in every(TarPairs((path,)))] == [
        ["<picture>", "eins", "<end>"],
        ["<picture>", "two", "<end>"],
    ]
    second = list(TarPairs((path,), caption="TEXT", stem="Output:").read(0, 1))
    assert [raw.name for raw in second] == ["a.tar: a/2"]
    assert shown(load(second[0])) == ["<picture>", "*Output:", " dos", "<end>"]


def test_compressed_tar_files_are_read_too(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar.gz", pairs(3), "w:gz")
    assert [shown(load(raw))[1] for raw in every(TarPairs((path,)))] == [f"caption {i:06d}" for i in range(3)]


def test_broken_pairs_say_what_is_wrong(tmp_path: Path) -> None:
    members = {
        "0.png": picture_bytes(),
        "0.txt": "Zürich".encode("latin-1"),
        "1.png": picture_bytes()[:45],
        "1.txt": b"cut",
        "2.png": picture_bytes(),
        "3.txt": b"alone",
        "4.png": picture_bytes(),
        "4.txt": b" \n",
        "5.png": picture_bytes(),
        "5.json": b'{"caption": 7}',
        "6.png": picture_bytes(),
        "6.json": b'{"caption": ',
        "7.png": picture_bytes(),
        "7.txt": b"whole",
    }
    reasons = why(TarPairs((write_tar(tmp_path / "a.tar", members),)))
    expected = ("not UTF-8 (byte 1)", "a.tar: 1.png", "no caption", "no picture", "empty", "no text under", "not JSON")
    for reason, words in zip(reasons, expected, strict=False):
        assert words in reason
    assert reasons[-1] == ""


@pytest.mark.parametrize("share", [0.3, 0.5, 0.77])
def test_a_tar_file_that_was_cut_is_found_before_training(tmp_path: Path, share: float) -> None:
    path = write_tar(tmp_path / "shard-000.tar", pairs(40))
    content = path.read_bytes()
    for end in (int(share * len(content)), int(share * len(content)) // 512 * 512):
        path.write_bytes(content[:end])
        with pytest.raises(
            DataError, match=r"shard-000\.tar: truncated: the tar file ends in the middle, after member"
        ):
            TarPairs((path,))


def test_what_is_no_tar_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(b"this is no tar file" * 100)
    with pytest.raises(DataError, match=r"a\.tar: not a readable tar file"):
        TarPairs((path,))


def mmc4_line(texts: Sequence[str], *pictures: tuple[str, int]) -> str:
    infos = [{"image_name": name, "matched_text_index": index} for name, index in pictures]
    return json.dumps({"text_list": list(texts), "image_info": infos, "url": "https://example.org"})


def test_mmc4_documents_show_each_picture_before_its_sentence(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(picture_bytes())
    lines = [
        mmc4_line(["My pets.", "A puppy.", "A cat."], ("a.png", 1), ("b.png", 2)),
        mmc4_line(["First."], ("a.png", 0)),
        mmc4_line(["First.", "Second."], ("a.png", 0), ("gone.png", 1)),
        mmc4_line(["First."], ("a.png", 3)),
        "{",
    ]
    path = tmp_path / "docs.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    documents = Documents((path,), tmp_path)
    raws = every(documents)
    assert shown(load(raws[0])) == [
        "My pets.",
        "<end>",
        "<picture>",
        "A puppy.",
        "<end>",
        "<picture>",
        "A cat.",
        "<end>",
    ]
    assert shown(load(raws[1])) == ["<picture>", "First.", "<end>"]
    assert load(raws[0]).next_picture == 0.5
    assert [bool(reason) for reason in why(documents)] == [False, False, True, True, True]
    kept = every(Documents((path,), tmp_path, "keep"))
    assert shown(load(kept[2])) == ["<picture>", "First.", " Second.", "<end>"]
    zipped, packed = tmp_path / "docs.jsonl.zip", tmp_path / "docs.jsonl.gz"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.write(path, "docs.jsonl")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    for other in (zipped, packed):
        assert shown(load(every(Documents((other,), tmp_path))[0])) == shown(load(raws[0]))


def test_obelics_rows_show_texts_and_pictures_in_turn(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(picture_bytes())
    rows: list[dict[str, Any]] = [
        {"texts": ["A puppy.", None, "A cat.", None], "images": [None, "a/b.png", None, "b.png"]},
        {"texts": [None, "After."], "images": ["b.png", None]},
        {"texts": ["Both."], "images": ["b.png"]},
        {"texts": ["More.", None], "images": [None]},
    ]
    path = tmp_path / "part.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=1)
    documents = Documents((path,), tmp_path)
    raws = every(documents)
    assert shown(load(raws[0])) == ["A puppy.", "<end>", "<picture>", "A cat.", "<end>", "<picture>", "<end>"]
    assert shown(load(raws[1])) == ["<picture>", "After.", "<end>"]
    assert ["both" in why(documents)[2], "different lengths" in why(documents)[3]] == [True, True]
    assert [raw.name for raw in documents.read(0, 2)] == ["part.parquet, row 3", "part.parquet, row 4"]
    inside = tmp_path / "bytes.parquet"
    cells = [{"texts": [None, "In bytes."], "images": [{"bytes": picture_bytes(), "path": None}, None]}]
    pq.write_table(pa.Table.from_pylist(cells), inside)
    assert shown(load(every(Documents((inside,), tmp_path / "none"))[0])) == ["<picture>", "In bytes.", "<end>"]


def test_rows_of_every_table_are_read_one_after_another(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(picture_bytes())
    rows = [
        {"image": "1.png", "question": "What?", "answers": ["a dog", "a dog"]},
        {"image": "2.png", "question": "What?", "answers": ["a cat"]},
        {"image": "1.png", "question": "Why?", "answers": []},
    ]
    lines = tmp_path / "rows.jsonl"
    lines.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert shown(load(every(TableRows((lines,)))[0])) == ["<picture>", "*Question: What? Answer:", " a dog", "<end>"]
    assert ["2.png" in why(TableRows((lines,)))[1], "no answers" in why(TableRows((lines,)))[2]] == [True, True]
    table = tmp_path / "rows.csv"
    table.write_bytes('bild,caption\n1.png,"a dog, red"\n1.png,Zürich\n1.png\n'.encode().replace(b"\xc3\xbc", b"\xfc"))
    captions = TableRows((table,), columns={"image": "bild"}, stem="Output:")
    assert shown(load(every(captions)[0])) == ["<picture>", "*Output:", " a dog, red", "<end>"]
    assert why(captions) == ["", "a text is not UTF-8", "1 cells, the header has 2"]
    twice = tmp_path / "twice.csv"
    twice.write_text("image,caption,caption\n1.png,a dog,a dog\n1.png,a dog,a cat\n", encoding="utf-8")
    assert why(TableRows((twice,))) == ["", "two columns 'caption', with different cells"]
    parquet = tmp_path / "rows.parquet"
    cells = {"image": [picture_bytes(), picture_bytes()], "caption": [b"whole", b"\xff\xfe"]}
    binary = pa.table(cells)
    pq.write_table(binary.set_column(1, "caption", binary["caption"].cast(pa.string(), safe=False)), parquet)
    assert [reason[:20] for reason in why(TableRows((parquet,)))] == ["", "a text is not UTF-8"]
    with pytest.raises(ConfigError, match="unknown role 'picture'"):
        TableRows((table,), columns={"picture": "bild"})
    with pytest.raises(DataError, match=r"not from '\.xlsx'"):
        TableRows((tmp_path / "rows.xlsx",))


def test_clips_with_captions_come_from_rows_and_from_tar_files(tmp_path: Path) -> None:
    write_clip(tmp_path / "1.mp4", [moving_scene("kinetics700", 1)])
    rows = tmp_path / "clips.jsonl"
    rows.write_text(json.dumps({"video": "1.mp4", "caption": "it moves", "start": 0, "end": 1.5}), encoding="utf-8")
    sample = load(every(TableRows((rows,)))[0])
    assert shown(sample) == ["<picture>", "it moves", "<end>"]
    assert isinstance(sample.parts[0], Picture)
    assert sample.parts[0].pixels.shape == (2, 3, 8, 8)  # one frame a second
    path = write_tar(tmp_path / "a.tar", {"1.mp4": (tmp_path / "1.mp4").read_bytes(), "1.txt": b"it moves"})
    assert shown(load(every(TarPairs((path,)))[0])) == ["<picture>", "it moves", "<end>"]
    broken = write_tar(tmp_path / "b.tar", {"1.mp4": b"no film", "1.txt": b"it moves"})
    assert why(TarPairs((broken,)))[0].startswith("b.tar: 1.mp4")


def test_episodes_of_a_task_show_its_train_split_as_its_prompts_do() -> None:
    reader = TaskEpisodes("vqav2", shots=(2, 2))
    raw = next(reader.read(0, 5))
    words = shown(load(raw))
    assert words.count("<picture>") == words.count("<end>") == 3
    assert words[1].startswith("*Question: ")
    assert words[1].endswith("Answer:")
    assert words[2].startswith(" ")
    assert shown(load(raw)) == words
    assert shown(load(raw, 1)) != words  # other shots
    everything = TaskEpisodes("vqav2", shots=(0, 0), answers_only=False)
    assert not any(word.startswith("*") for word in shown(load(next(everything.read(0, 0)))))


def test_episodes_without_shots_may_begin_as_zero_shot_prompts_do() -> None:
    words = shown(load(next(TaskEpisodes("coco", shots=(0, 0), text_only=1.0).read(0, 0))))
    assert [word for word in words if word in ("<picture>", "<end>")] == ["<end>", "<end>", "<picture>", "<end>"]
    assert [i for i, word in enumerate(words) if word == "*Output:"] == [0, 3, 7]


def test_symbols_are_told_by_the_shots_of_their_episode_alone() -> None:
    plain, exchanged = TaskEpisodes("vqav2", shots=(5, 5)), TaskEpisodes("vqav2", shots=(5, 5), symbols=1.0)
    answers = {example.answer for example in plain.support.examples}
    differs = 0
    for number in range(8):
        parts = load(next(exchanged.read(0, number))).parts
        told = [part.text for part in parts if isinstance(part, Text) and part.learned]
        untold = "".join(part.text for part in parts if isinstance(part, Text) and not part.learned)
        assert told, "the query's answer is shown before"
        for i, answer in enumerate(told):
            assert answer.strip() in answers
            assert f"Answer:{answer}" in untold or answer in told[:i]  # some shot before said it
        query = plain.support.examples[number].answer
        differs += told[-1].strip() != query
    assert differs >= 6  # an answer may be drawn as its own symbol


def test_a_task_without_a_train_split_is_refused() -> None:
    with pytest.raises(DataError, match="task 'rareact' has no train split"):
        next(TaskEpisodes("rareact").read(0, 0))


def test_pictures_are_of_the_models_size(tmp_path: Path) -> None:
    PillowImage.new("RGB", (30, 20)).save(tmp_path / "a.png")
    look = Look(PreprocessConfig(size=16))
    assert look.picture((tmp_path / "a.png").read_bytes(), "a.png").pixels.shape == (1, 3, 16, 16)
