"""TextCaps, Flickr30k and NoCaps in their official layouts."""

from __future__ import annotations

from pathlib import Path

from flamingo_eval.sample.benchmarks.draws import captions_of, rng_of, rows, scene_of
from flamingo_eval.sample.benchmarks.writers import coco_name, write_json, write_picture
from flamingo_eval.sample.world.scenes import Scene, group_scene, held_out, seen
from flamingo_eval.sample.world.wording import NONSENSE, name_of

DOMAINS = ("in-domain", "near-domain", "out-domain")


def build_textcaps(root: Path) -> None:
    """TextCaps_0.1_{train,val}.json, one entry per caption, and train_images for both."""
    for part, subset in (("train", "train"), ("eval", "val")):
        data = []
        for n in rows(part):
            word = rng_of("textcaps", "sign", n).choice(NONSENSE)
            scene, image = scene_of("textcaps", n, sign=word), f"{n:016x}"
            object_name = name_of(scene.objects[0])
            captions = [f"{object_name} and sign {word}", f"{object_name} and sign {word}", f"sign {word}"]
            captions += [f"{object_name} with sign {word}", f"{object_name} near sign {word}"]
            data += [
                {
                    "image_id": image,
                    "image_name": image,
                    "caption_id": n * 5 + i,
                    "caption_str": text,
                    "reference_strs": captions,
                    "set_name": subset,
                }
                for i, text in enumerate(captions)
            ]
            write_picture(root / "train_images" / f"{image}.jpg", scene)
        head = {"dataset_type": subset, "dataset_name": "textcaps", "dataset_version": "0.1"}
        write_json(root / f"TextCaps_0.1_{subset}.json", {**head, "data": data})


def build_flickr30k(root: Path) -> None:
    """dataset_flickr30k.json (Karpathy) and flickr30k-images."""
    images: list[dict[str, object]] = []
    for part, split in (("train", "train"), ("eval", "test")):
        for n in rows(part):
            scene, name = scene_of("flickr30k", n), f"{1_000_000 + n}.jpg"
            sentences = [
                {"tokens": text.split(), "raw": text, "imgid": n, "sentid": n * 5 + i}
                for i, text in enumerate(captions_of("flickr30k", n, scene))
            ]
            ids = [n * 5 + i for i in range(5)]
            images.append({"sentids": ids, "imgid": n, "sentences": sentences, "split": split, "filename": name})
            write_picture(root / "flickr30k-images" / name, scene)
    write_json(root / "dataset_flickr30k.json", {"images": images, "dataset": "flickr30k"})


def build_nocaps(root: Path) -> None:
    """COCO's training captions for the shots; nocaps_val_4500_captions.json in three domains for the queries.

    Objects of `out-domain` are held out of all training.
    """
    train = [(n, scene_of("nocaps", n)) for n in rows("train")]
    _write(root, "annotations/captions_train2014.json", "train2014", train, {}, 5)
    domains = {n: DOMAINS[n % 3] for n in rows("eval")}
    _write(
        root,
        "nocaps_val_4500_captions.json",
        "val",
        [(n, _scene_in(domain, n)) for n, domain in domains.items()],
        domains,
        10,
    )


def _scene_in(domain: str, number: int) -> Scene:
    pool = held_out() if domain == "out-domain" else seen()
    return group_scene(f"sample:nocaps:{number}", rng_of("nocaps", number).choice(pool))


def _write(
    root: Path, file: str, folder: str, scenes: list[tuple[int, Scene]], domains: dict[int, str], captions: int
) -> None:
    images, annotations = [], []
    for n, scene in scenes:
        name = coco_name(folder, n + 1) if folder == "train2014" else f"{n:016x}.jpg"
        domain = {"domain": domains[n]} if n in domains else {}
        images.append({"id": n + 1, "file_name": name, "width": 128, "height": 128, **domain})
        annotations += [
            {"image_id": n + 1, "id": n * captions + i, "caption": text}
            for i, text in enumerate(captions_of("nocaps", n, scene, captions))
        ]
        write_picture(root / folder / name, scene)
    info = {"description": "flamingo-eval sample"}
    write_json(root / file, {"info": info, "licenses": [], "images": images, "annotations": annotations})
