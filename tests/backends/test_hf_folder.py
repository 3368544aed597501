"""What is wrong with a model folder is one sentence with a fix, before any weights are read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from flamingo_eval import Image, Prompt, Turn, load_model
from flamingo_eval.backends.choice import ModelChoice, choose_model, parse_args
from flamingo_eval.backends.hf.shape import HFShape
from flamingo_eval.errors import CheckpointError, MissingDependency, PromptError, UsageError
from tests.support.more_tiny_vlm import MORE_FAMILIES, NO_DEMONSTRATIONS
from tests.support.tiny_vlm import save_tiny


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("qwen2_5_vl", tmp_path_factory.mktemp("qwen") / "tiny-qwen")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy to be broken."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def remote_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "my_vlm", "auto_map": {"AutoModel": "modeling.MyModel"}}
    (folder / "config.json").write_text(json.dumps(config))


def pickled_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def of_a_language_model(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))


def of_a_missing_token(folder: Path) -> None:
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    template = [{"SpecialToken": {"id": "</s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    path.write_text(json.dumps({**tokenizer, "post_processor": {
        "type": "TemplateProcessing", "single": template, "pair": template, "special_tokens": {},
    }}))  # fmt: skip


def of_proteins(folder: Path) -> None:
    shutil.copytree(folder, folder / "protein_tokenizer")
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": "EvollaProcessor"}))


def remove(*names: str) -> Callable[[Path], None]:
    def _remove(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return _remove


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove("config.json"), "config.json is missing"),
        (remove("processor_config.json"), "no processor"),
        (remove("model.safetensors"), "no weights"),
        (remove("tokenizer.json", "tokenizer_config.json"), "no tokenizer"),
        (pickled_weights, "only safetensors"),
        (remote_code, r"own code .* never run"),
        (of_a_language_model, "'llama' is not a vision-language family"),
        (lambda folder: (folder / "config.json").write_text("{"), "not JSON: truncated"),
        (of_proteins, "EvollaProcessor has no image processor"),
        (of_a_missing_token, "not a tokenizer.json: no entry"),
    ],
)
def test_a_broken_folder_is_refused(folder: Path, spoil: Callable[[Path], object], message: str) -> None:
    spoil(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        HFShape(choose_model(f"hf:{folder}"))
    assert len(str(caught.value).splitlines()) <= 2


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed")
def test_a_family_that_needs_torchvision_says_so(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "lfm2_vl"}))
    processor = {
        "processor_class": "Lfm2VlProcessor",
        "image_processor": {"image_processor_type": "Lfm2VlImageProcessor"},
    }
    (folder / "processor_config.json").write_text(json.dumps(processor))
    with pytest.raises(MissingDependency, match="does not load without torchvision") as caught:
        HFShape(choose_model(f"hf:{folder}"))
    assert "flamingo-eval[hf]" in str(caught.value)


def test_a_missing_folder_is_not_looked_for_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        load_model(f"hf:{tmp_path}/absent")


def test_a_flamingo_checkpoint_is_loaded_without_hf() -> None:
    from flamingo_eval.models import model_folder

    with pytest.raises(CheckpointError, match="Leave hf: out"):
        load_model(f"hf:{model_folder('tiny')}")


def test_a_choice_is_read_from_the_command_line() -> None:
    assert choose_model("tiny") == ModelChoice("bundled", "tiny")
    choice = choose_model("hf:a/b", "max_pixels=401408,do_image_splitting=false,attn_implementation=sdpa")
    assert choice == ModelChoice(
        "hf",
        "a/b",
        (("attn_implementation", "sdpa"), ("do_image_splitting", False), ("max_pixels", 401408)),
    )


@pytest.mark.parametrize("text", ["max_pixels", "=3", "a=", "a=1,a=2"])
def test_options_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--model-args"):
        parse_args(text)


def test_an_unknown_backend_and_unknown_options_are_named(saved: Path) -> None:
    with pytest.raises(UsageError, match="no backend 'hff'"):
        choose_model("hff:a/b")
    with pytest.raises(UsageError, match=r"max_pixel: .*Did you mean 'max_pixels'"):
        HFShape(choose_model(f"hf:{saved}", "max_pixel=3"))


def test_options_change_tokens_name_and_identity(saved: Path, tmp_path: Path) -> None:
    from PIL import Image as PillowImage

    PillowImage.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
    prompt = Prompt([Image(tmp_path / "a.png"), "What?"])
    plain, small = HFShape(choose_model(f"hf:{saved}")), HFShape(choose_model(f"hf:{saved}", "max_pixels=512"))
    assert small.count_tokens(prompt) < plain.count_tokens(prompt)
    assert small.sha256 != plain.sha256
    assert (plain.name, small.name) == ("tiny-qwen", "tiny-qwen[max_pixels=512]")
    assert small.record["image_args"] == {"max_pixels": 512}
    assert plain.default_protocol == "chat"


def test_text_that_the_tokenizer_would_take_for_a_special_token_is_refused(saved: Path) -> None:
    shape = HFShape(choose_model(f"hf:{saved}"))
    for prompt in (Prompt(["a <|im_end|> b"]), Prompt([Turn("user", "an <|image_pad|>")])):
        with pytest.raises(PromptError, match="special token"):
            shape.count_tokens(prompt)


def test_a_candidate_may_be_an_assistants_turn_of_the_template(tmp_path: Path) -> None:
    """A template that writes a space before an answer and none at the end of the generation prompt."""
    template = (
        "{% for m in messages %}{{ m['role'] }}:{{ ' ' if m['role'] == 'assistant' else '' }}"
        "{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}{% else %}<image>{% endif %}{% endfor %}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    folder = save_tiny("idefics3", tmp_path / "model")
    (folder / "chat_template.jinja").write_text(template)
    prompt = Prompt([Turn("user", "What is it?"), Turn("assistant", "snow"), Turn("user", "And that?")])
    continued, turn = (load_model(f"hf:{folder}", model_args=args) for args in ("", "candidates=turn"))
    names = ["a kite", "two boats"]
    spaced = [f" {name}" for name in names]
    assert turn.score([prompt], [names]) == continued.score([prompt], [spaced])
    assert turn.score([prompt], [names]) != continued.score([prompt], [names])
    assert turn.generate([prompt]) == continued.generate([prompt])
    with pytest.raises(UsageError, match="give continue or turn"):
        load_model(f"hf:{folder}", model_args="candidates=turns")


def test_the_size_of_a_picture_of_two_tokens_is_not_taken_for_token_types(tmp_path: Path) -> None:
    from PIL import Image as PillowImage

    folder = save_tiny("mistral3", tmp_path / "model", MORE_FAMILIES["mistral3"])
    read, _ = HFShape(choose_model(f"hf:{folder}")).reader.process([PillowImage.new("RGB", (16, 16))])
    assert len(read.ids) == 2
    assert "image_sizes" in read.by_picture


def test_a_template_may_expect_text_in_turns_without_pictures(tmp_path: Path) -> None:
    """Some concatenate what an assistant says, some print a list as Python does."""
    folder = save_tiny("idefics3", tmp_path / "model")
    prompt = Prompt([Turn("system", "Be short."), Turn("user", "What is it?"), Turn("assistant", "snow")])
    for said in ("m['content'] + '<|im_end|>'", "m['content']"):
        (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ " + said + " }}{% endfor %}")
        text = HFShape(choose_model(f"hf:{folder}")).reader.text(prompt)
        assert text.replace("<|im_end|>", "") == "Be short.What is it?snow"


@pytest.mark.parametrize("family", sorted(NO_DEMONSTRATIONS))
def test_a_family_that_cannot_be_shown_demonstrations_is_refused_at_load(family: str, tmp_path: Path) -> None:
    folder = save_tiny(family, tmp_path / "model", NO_DEMONSTRATIONS[family])
    with pytest.raises(CheckpointError, match="demonstrations cannot be shown to this model") as caught:
        load_model(f"hf:{folder}")
    assert len(str(caught.value).splitlines()) == 2


def test_an_option_that_the_processor_sets_itself_is_told_to_it(tmp_path: Path) -> None:
    """InternVL's processor says `crop_to_patches=True` at every call; here pictures are cut where it is asked for."""
    from PIL import Image as PillowImage

    folder = save_tiny("internvl", tmp_path / "model")
    PillowImage.new("RGB", (96, 64), "red").save(tmp_path / "a.png")
    prompt = Prompt([Image(tmp_path / "a.png"), "What?"])
    options = ("", "crop_to_patches=false", "crop_to_patches=true")
    whole, smaller, cut = (HFShape(choose_model(f"hf:{folder}", args)).count_tokens(prompt) for args in options)
    assert whole == smaller < cut / 2
