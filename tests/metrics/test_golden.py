"""Every metric against what the official scorers returned for the golden splits: value, variants, rows, breakdowns."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import pytest

from flamingo_eval.config.specs import CleanSpec
from flamingo_eval.metrics import load_metric
from flamingo_eval.metrics.ptb import tokenise
from flamingo_eval.metrics.wups import prepare
from flamingo_eval.prompting.okvqa_stem import stem_okvqa
from flamingo_eval.prompting.prompts import clean
from flamingo_eval.records import MetricResult, Prediction
from tests.support.metrics_golden import Case, case

CLOSE = 1e-9


def result(task: str, metric: str, dialect: str = "") -> MetricResult:
    golden = case(task)
    return load_metric(metric)(golden.predictions, golden.examples, dialect)


def check_rows(golden: Case, metric_result: MetricResult, expected: dict[str, float], scale: float = 1.0) -> None:
    """Per-example values by id."""
    rows = dict(zip(golden.ids, metric_result.per_example, strict=True))
    assert rows == pytest.approx({id: scale * v for id, v in expected.items()}, abs=CLOSE)


VQA = [
    ("vqav2", "official", "official"),
    ("vqav2", "by_position", "official"),
    ("vqav2", "always_normalised", "openflamingo"),
    ("okvqa", "official", "official"),
    ("okvqa", "by_position", "official"),
    ("okvqa", "always_normalised", "always_normalised"),
    ("okvqa", "prophet", "prophet"),
    ("textvqa", "official", "textvqa"),
    ("textvqa", "vqa_code", "official"),
    ("textvqa", "always_normalised", "openflamingo"),
    ("vizwiz", "official", "vizwiz"),
    ("vizwiz_contractions", "official", "vizwiz"),
    ("vizwiz", "vqa_code_by_position", "official"),
    ("vizwiz", "always_normalised_by_position", "openflamingo"),
]


@pytest.mark.parametrize(("task", "variant", "dialect"), VQA)
def test_vqa_accuracy(task: str, variant: str, dialect: str) -> None:
    golden = case(task)
    expected = golden.expected["variants"][variant]
    metric_result = result(task, "vqa_accuracy", dialect)
    assert metric_result.value == pytest.approx(expected["overall"], abs=CLOSE)
    if "per_example" in expected:
        check_rows(golden, metric_result, expected["per_example"])
    for kind in ("answer_type", "question_type"):
        for name, value in expected.get(f"per_{kind}", {}).items():
            if name != "all":  # the VQA code's only question type for VizWiz, which has none
                assert metric_result.breakdown[f"{kind}: {name}"] == pytest.approx(value, abs=CLOSE)


@pytest.mark.parametrize("task", ["msvdqa", "msrvttqa"])
@pytest.mark.parametrize("variant", ["exact", "normalised"])
def test_exact_match(task: str, variant: str) -> None:
    golden = case(task)
    expected = golden.expected["variants"][variant]
    metric_result = result(task, "exact_match", variant)
    assert metric_result.value == pytest.approx(expected["overall"], abs=CLOSE)
    check_rows(golden, metric_result, expected["per_example"], 100)
    for name, value in expected["by_first_word"].items():
        assert metric_result.breakdown[f"first word: {name}"] == pytest.approx(value, abs=CLOSE)
    assert result(task, "exact_match").breakdown[variant] == metric_result.value


VL_ICL = {
    "vl_icl_open_mi": "vl_icl_text",
    "vl_icl_clevr": "vl_icl_count",
    "vl_icl_operator_induction": "vl_icl_number",
    "vl_icl_operator_induction_interleaved": "vl_icl_number",
    "vl_icl_textocr": "vl_icl_text",
    "vl_icl_matching_mi": "vl_icl_yes_no",
}


@pytest.mark.parametrize(("task", "metric"), VL_ICL.items())
def test_vl_icl(task: str, metric: str) -> None:
    golden = case(task)
    expected = golden.expected["variants"]["official"]
    metric_result = result(task, metric)
    assert metric_result.value == pytest.approx(expected["overall"], abs=CLOSE)
    check_rows(golden, metric_result, expected["per_example"])
    assert metric_result.notes["scorer's ceiling"].startswith(f"{golden.expected['ceiling']:.2f} ")


def test_ivqa_counts_null_as_an_answer() -> None:
    golden = case("ivqa")
    expected = golden.expected["variants"]["as_text"]
    metric_result = result("ivqa", "ivqa")
    assert metric_result.value == pytest.approx(expected["overall"], abs=CLOSE)
    check_rows(golden, metric_result, expected["per_example"], 100)


def test_imagenet_top1() -> None:
    golden = case("imagenet")
    expected = golden.expected["variants"]
    metric_result = result("imagenet", "top1")
    assert metric_result.value == expected["top1"]["overall"]
    assert metric_result.breakdown["top5"] == expected["top5"]["overall"]
    check_rows(golden, metric_result, expected["top1"]["per_example"], 100)
    assert [e.target for e in golden.examples] == [expected["top1"]["gold_index"][id] for id in golden.ids]


def test_kinetics_mean_of_top1_and_top5() -> None:
    golden = case("kinetics700")
    expected = golden.expected["variants"]
    metric_result = result("kinetics700", "top1_top5_mean")
    assert metric_result.value == pytest.approx(expected["mean"]["overall"], abs=CLOSE)
    assert metric_result.breakdown["top1"] == pytest.approx(expected["top1"]["overall"], abs=CLOSE)
    assert metric_result.breakdown["top5"] == pytest.approx(expected["top5"]["overall"], abs=CLOSE)
    halves = {id: (expected["top1"]["per_example"][id] + expected["top5"]["per_example"][id]) / 2 for id in golden.ids}
    check_rows(golden, metric_result, halves, 100)


def test_star_mean_over_types() -> None:
    golden = case("star")
    expected = golden.expected["variants"]
    metric_result = result("star", "star_mean")
    assert metric_result.value == pytest.approx(expected["mean_over_types"]["overall"], abs=CLOSE)
    assert metric_result.breakdown["micro"] == pytest.approx(expected["micro"]["overall"], abs=CLOSE)
    check_rows(golden, metric_result, expected["mean_over_types"]["per_example"], 100)
    for name, value in expected["mean_over_types"]["by_type"].items():
        assert metric_result.breakdown[f"question_type: {name}"] == pytest.approx(value, abs=CLOSE)


def test_visdial_ndcg() -> None:
    golden = case("visdial")
    expected = golden.expected["variants"]["float64"]
    metric_result = result("visdial", "ndcg")
    assert metric_result.value == pytest.approx(expected["overall"], abs=CLOSE)
    check_rows(golden, metric_result, expected["per_example"], 100)
    sparse = golden.expected["sparse_annotated_round"]  # float32 in the starter
    for ours, theirs, scale in [("R@1", "r@1", 100), ("R@5", "r@5", 100), ("R@10", "r@10", 100), ("MRR", "mrr", 100)]:
        assert metric_result.breakdown[ours] == pytest.approx(scale * sparse[theirs], abs=1e-4)
    assert metric_result.breakdown["mean rank"] == pytest.approx(sparse["mean"], abs=1e-4)


def test_hateful_memes_roc_auc() -> None:
    expected = case("hateful_memes").expected
    metric_result = result("hateful_memes", "roc_auc")
    assert metric_result.value == pytest.approx(expected["value"], abs=CLOSE)
    assert metric_result.breakdown["accuracy"] == pytest.approx(expected["accuracy_argmax"], abs=CLOSE)


def test_rareact_mwap() -> None:
    expected = case("rareact").expected
    metric_result = result("rareact", "mwap")
    assert metric_result.value == pytest.approx(expected["value"], abs=CLOSE)
    assert metric_result.notes["classes averaged"] == str(expected["classes_averaged"])
    for name, value in expected["variants"]["mWAP"]["per_class"].items():
        assert metric_result.breakdown[f"class: {name}"] == pytest.approx(100 * value["wAP"], abs=CLOSE)


@pytest.mark.slow
def test_rareact_msap_is_within_five_standard_deviations() -> None:
    expected = case("rareact").expected["variants"]["mSAP_100"]
    metric_result = result("rareact", "msap")
    assert metric_result.value == pytest.approx(expected["overall"], abs=5 * expected["standard_deviation"])
    assert result("rareact", "msap").value == metric_result.value  # seeded


@pytest.mark.slow
def test_wups_and_its_breakdown(nltk_data: None) -> None:
    golden = case("nextqa")
    expected = golden.expected["variants"]["official"]
    metric_result = result("nextqa", "wups")
    assert metric_result.value == pytest.approx(expected["overall"], abs=CLOSE)
    check_rows(golden, metric_result, {id: v["wups0"] for id, v in expected["per_example"].items()}, 100)
    assert metric_result.breakdown["WUPS at 0.9"] == pytest.approx(expected["wups_0.9"], abs=CLOSE)
    for letter in "CTD":
        assert metric_result.breakdown[f"WUPS: {letter}"] == pytest.approx(expected[f"WUPS_{letter}"], abs=CLOSE)
    for name, value in expected["by_type"].items():
        assert metric_result.breakdown[f"question_type: {name.removesuffix('+TP')}"] == pytest.approx(value, abs=CLOSE)


def test_wups_prepares_answers_as_the_official_script(nltk_data: None) -> None:
    golden = case("nextqa")
    for prediction, example in zip(golden.predictions, golden.examples, strict=True):
        expected = golden.expected["preprocessed"][example.id]
        assert prepare(prediction.text or "") == expected["prediction"]
        assert prepare(example.references[0]) == expected["reference"]


def test_stemmed_okvqa_answers(nltk_data: None) -> None:
    """OpenFlamingo's protocol: cut, stem, then always clean."""
    golden = case("okvqa")
    expected = golden.expected["variants"]["openflamingo_stemmed"]
    cut = CleanSpec(cut_at=("Question", "Answer", "Short"), cut_at_after=(", ",), strip=False)
    stemmed = {p.id: stem_okvqa(clean(p.text or "", cut)) for p in golden.predictions}
    assert stemmed == expected["stemmed_predictions"]
    predictions = [Prediction(id, text) for id, text in stemmed.items()]
    metric_result = load_metric("vqa_accuracy")(predictions, golden.examples, "openflamingo")
    assert metric_result.value == pytest.approx(expected["overall"], abs=CLOSE)
    check_rows(golden, metric_result, expected["per_example"])


CAPTION_TASKS = ["coco", "flickr30k", "vatex", "youcook2"]
COCO_NAMES = {"BLEU-1": "Bleu_1", "BLEU-2": "Bleu_2", "BLEU-3": "Bleu_3", "BLEU-4": "Bleu_4"}


@pytest.mark.slow
@pytest.mark.parametrize("task", CAPTION_TASKS)
def test_cider_bleu_and_rouge(java: None, task: str) -> None:
    golden = case(task)
    expected = golden.expected["variants"]["official"]
    for metric, name in [("cider", "CIDEr"), ("rouge_l", "ROUGE_L"), ("bleu", "Bleu_4")]:
        metric_result = result(task, metric)
        assert metric_result.value == pytest.approx(100 * expected["overall"][name], abs=1e-7)
        check_rows(golden, metric_result, {id: v[name] for id, v in expected["per_example"].items()}, 100)
    metric_result = result(task, "bleu")
    for ours, theirs in COCO_NAMES.items():
        assert metric_result.breakdown[ours] == pytest.approx(100 * expected["overall"][theirs], abs=CLOSE)
    assert metric_result.notes["tokenizer"].startswith("PTB 3.4.1 (Java ")


@pytest.mark.slow
def test_meteor(java: None) -> None:
    golden = case("coco")
    expected = golden.expected["variants"]["official"]
    metric_result = result("coco", "meteor")
    assert metric_result.value == pytest.approx(100 * expected["overall"]["METEOR"], abs=1e-4)
    rows = {id: 100 * v["METEOR"] for id, v in expected["per_example"].items()}
    assert dict(zip(golden.ids, metric_result.per_example, strict=True)) == pytest.approx(rows, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("task", CAPTION_TASKS)
def test_tokens_are_those_the_official_scorer_saw(java: None, task: str) -> None:
    golden = case(task)
    expected = golden.expected["tokenised"]
    texts = tokenise([p.text or "" for p in golden.predictions])
    reference_texts = iter(tokenise([r for e in golden.examples for r in e.references]))
    for id, prediction, example in zip(golden.ids, texts, golden.examples, strict=True):
        assert prediction == expected[id]["prediction"]
        assert [next(reference_texts) for _ in example.references] == expected[id]["references"]


def test_youcook2_macro(java: None) -> None:
    expected = case("youcook2").expected["variants"]["macro"]
    assert result("youcook2", "cider").breakdown["macro"] == pytest.approx(expected["overall"], abs=1e-7)


@pytest.mark.slow
def test_nocaps_domains(java: None) -> None:
    """A domain's CIDEr is that of its pictures scored alone."""
    golden = case("coco")
    examples = [
        replace(e, labels={"domain": "in-domain" if i % 2 else "out-domain"}) for i, e in enumerate(golden.examples)
    ]
    cider = load_metric("cider")
    metric_result = cider(golden.predictions, examples, "")
    alone = cider(golden.predictions[1::2], golden.examples[1::2], "")
    assert metric_result.breakdown["domain: in-domain"] == pytest.approx(alone.value, abs=CLOSE)
    assert alone.value is not None
    rows = [v for v in metric_result.per_example[1::2] if v is not None]
    assert metric_result.breakdown["domain, frequencies of all: in-domain"] == pytest.approx(fmean(rows), abs=CLOSE)
