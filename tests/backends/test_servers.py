"""Models behind a server: what is sent, what is recorded, faults, spending, and errors within the first request."""

from __future__ import annotations

import base64
import io
import json
import re
import socket
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from flamingo_eval import evaluate
from flamingo_eval.backends.choice import choose_model, parse_args
from flamingo_eval.backends.hf.check import FILM
from flamingo_eval.backends.server.budget import Budget
from flamingo_eval.backends.server.client import Client
from flamingo_eval.backends.server.engine import ServerEngine
from flamingo_eval.backends.server.messages import messages_of, without_thought
from flamingo_eval.backends.server.options import ServerOptions, addresses
from flamingo_eval.cli import app
from flamingo_eval.config.specs import DecodeSpec
from flamingo_eval.data.videos import frames_of
from flamingo_eval.errors import FlamingoEvalError, ServerError
from flamingo_eval.records import Prompt, Turn, Video
from tests.support.chat_server import FAULTS, ChatServer

KEY = "sk-secret-0123456789"


def echo(body: Mapping[str, Any]) -> str:
    """The text of the last message."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(c.get("text", "") for c in content)


def command(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=True)


def run(server: ChatServer, out: Path, *words: str | Path, task: str = "vqav2", args: str = "") -> Result:
    options = f"model={server.model}{',' if args else ''}{args}"
    return command(
        "run", task, "--limit", "6", "--out", out, "--model", f"openai:{server.url}", "--model-args", options, *words
    )


def test_a_clip_is_the_pictures_that_a_local_model_is_shown() -> None:
    (message,) = messages_of(Prompt([Turn("user", [Video(FILM), "What?"])]), frames=4)
    addresses_shown = [c["image_url"]["url"] for c in message["content"] if c["type"] == "image_url"]
    shown = [Image.open(io.BytesIO(base64.b64decode(a.split(",")[1]))).convert("RGB") for a in addresses_shown]
    assert [picture.tobytes() for picture in shown] == [frame.tobytes() for frame in frames_of(Video(FILM), 4)]


def prompts(n: int) -> Iterator[Prompt]:
    return (Prompt([Turn("user", f"question {i}")], id=f"q{i}") for i in range(n))


def engine(server: ChatServer, **options: Any) -> ServerEngine:
    chosen = ServerOptions(model=server.model, **options)
    return ServerEngine(Client((server.url,), chosen, Budget(), first_pause=0.01), chosen)


@pytest.mark.slow
def test_a_run_sends_pictures_as_they_are_and_records_what_answered(tmp_path: Path) -> None:
    with ChatServer(lambda _: "Red.").running() as server:
        result = run(server, tmp_path, "--shots", "1")
    assert result.exit_code == 0, result.output + str(result.exception)
    content = server.bodies[0]["messages"][0]["content"]
    picture = next(c["image_url"]["url"] for c in content if c["type"] == "image_url")
    assert base64.b64decode(picture.partition(",")[2])[:3] in (b"\xff\xd8\xff", b"\x89PN")
    assert [m["role"] for m in server.bodies[0]["messages"]][-3:] == ["user", "assistant", "user"]
    (path,) = tmp_path.rglob("run.json")
    record = json.loads(path.read_text())
    assert record["engine"]["served_models"] == {"tiny-vlm": 6}
    assert record["engine"]["system_fingerprints"] == {"fp_1": 6}
    assert record["engine"]["prompt_tokens"] == 42
    assert record["engine"]["date"]
    lines = [json.loads(line) for line in (path.parent / "outputs.jsonl").read_text().splitlines()]
    assert {line["prediction"] for line in lines} == {"Red"}


@pytest.mark.slow
def test_no_answer_is_lost_or_doubled_where_every_tenth_request_fails() -> None:
    def fault(n: int) -> str:
        return FAULTS[n // 10 % len(FAULTS)] if n % 10 == 0 else ""

    with ChatServer(echo, fault).running() as server:
        server.keep_bodies = False
        answers = list(engine(server, timeout=0.6, concurrency=16).generate(prompts(500), DecodeSpec()))
    assert Counter(i for i, _ in answers) == Counter(range(500))
    assert all(a.error is None and a.text == f"question {i}" for i, a in answers)
    assert server.n > 500
    assert 1 < server.most_in_flight <= 32  # those that were given up after a hang may still run there


def test_hardly_more_prompts_are_written_than_are_in_flight() -> None:
    written = 0

    def counting() -> Iterator[Prompt]:
        nonlocal written
        for prompt in prompts(100):
            written += 1
            yield prompt

    with ChatServer(echo).running() as server:
        for answered, _ in enumerate(engine(server, concurrency=4).generate(counting(), DecodeSpec()), start=1):
            assert written <= answered + 4 + 1


def test_a_query_that_always_fails_fails_alone() -> None:
    server = ChatServer(echo, refuse=lambda body: "At most 1 image(s) may be provided." if "3" in echo(body) else "")
    with server.running():
        answers = dict(engine(server).generate(prompts(10), DecodeSpec()))
    assert [i for i, a in answers.items() if a.error] == [3]
    assert "--limit-mm-per-prompt" in str(answers[3].error)


@pytest.mark.slow
@pytest.mark.parametrize(
    "message", ["This model's maximum context length is 512 tokens.", "prompt is too long: 900 > 512"]
)
def test_a_prompt_that_is_too_long_names_the_servers_own_option(message: str, tmp_path: Path) -> None:
    with ChatServer(echo, refuse=lambda _: message).running() as server:
        result = run(server, tmp_path)
    assert "--max-model-len" in str(result.exception)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("wrong-json", "not JSON of the chat-completions protocol"),
        ("half-a-pair", "not JSON of the chat-completions protocol"),
        ("wrong-model", "another answered"),
        ("half", "the connection broke"),
        ("reset", "the connection broke"),
        ("not-utf8", "not UTF-8"),
        ("not-gzip", "cannot be decompressed"),
        ("error-200", r"error with status 200: the engine \?\[31mis dead"),
        ("not-http", "the connection broke"),
    ],
)
def test_what_stays_wrong_is_said_with_the_number_of_tries(fault: str, message: str) -> None:
    with ChatServer(echo, lambda _: fault).running() as server:
        answers = dict(engine(server, retries=1).generate(prompts(1), DecodeSpec()))
    assert re.search(f"{message}.*; given up after 2 tries", str(answers[0].error))


def test_an_answer_that_a_filter_withholds_is_an_error_of_its_query_alone() -> None:
    with ChatServer(echo, lambda n: "withheld" if n == 2 else "").running() as server:
        asked = engine(server, concurrency=1)
        answers = dict(asked.generate(prompts(3), DecodeSpec()))
        assert asked.stats["finish_reasons"] == {"stop": 2, "content_filter": 1}
    assert [i for i, a in answers.items() if a.error] == [1]
    assert "content filter" in str(answers[1].error)


def test_an_address_that_only_points_elsewhere_stops_the_run() -> None:
    with (
        ChatServer(echo, lambda _: "elsewhere").running() as server,
        pytest.raises(ServerError, match="sends requests to /v2/chat/completions"),
    ):
        list(engine(server).generate(prompts(3), DecodeSpec()))


@pytest.mark.slow
def test_a_server_that_stays_busy_stops_the_run_and_keeps_what_it_said(tmp_path: Path) -> None:
    with ChatServer(lambda _: "red", lambda n: "429" if n > 3 else "").running() as server:
        result = run(server, tmp_path, args="retries=1,concurrency=1")
        (outputs,) = tmp_path.rglob("outputs.jsonl")
        assert isinstance(result.exception, ServerError)
        assert len(outputs.read_text().splitlines()) == 3
        server.fault = lambda _: ""
        assert run(server, tmp_path, args="concurrency=2").exit_code == 0
    assert len(outputs.read_text().splitlines()) == 6
    assert server.n == 3 + 2 + 3


@pytest.mark.slow
def test_spending_stops_and_the_same_command_goes_on(tmp_path: Path) -> None:
    with ChatServer(lambda _: "red").running() as server:
        assert "--max-requests 4" in str(run(server, tmp_path, "--max-requests", "4").exception)
        assert server.n == 4
        assert run(server, tmp_path, "--max-requests", "4").exit_code == 0
    assert server.n == 6


@pytest.mark.slow
def test_tokens_are_not_spent_beyond_the_limit(tmp_path: Path) -> None:
    with ChatServer(lambda _: "red").running() as server:
        result = run(server, tmp_path, "--max-tokens", "30", args="concurrency=1")
    assert "--max-tokens 30" in str(result.exception)
    assert server.n == 3


@pytest.mark.slow
def test_a_dry_run_counts_requests_and_tokens_and_sends_nothing(tmp_path: Path) -> None:
    with ChatServer(echo).running() as server:
        result = run(server, tmp_path, "--dry-run", "--json", "--shots", "0,2")
    counts = json.loads(result.stdout)
    assert counts["requests"] == 12
    assert counts["tokens"] > 100
    assert server.n == 0


@pytest.mark.slow
def test_a_wrong_key_a_missing_one_and_the_key_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with ChatServer(lambda body: f"red {KEY}", key=KEY).running() as server:
        assert "OPENAI_API_KEY is not set" in str(run(server, tmp_path).exception)
        monkeypatch.setenv("MY_KEY", "sk-wrong-987654")
        wrong = run(server, tmp_path, args="key_env=MY_KEY")
        assert "rejects the key in MY_KEY" in str(wrong.exception)
        assert "987654" not in str(wrong.exception)
        monkeypatch.setenv("MY_KEY", KEY)
        right = run(server, tmp_path, args="key_env=MY_KEY")
    assert right.exit_code == 0, right.output
    written = [p.read_text() for p in tmp_path.rglob("*") if p.is_file()]
    assert written
    assert all(KEY not in text for text in (*written, right.output))


@pytest.mark.parametrize("args", [f"api_key={KEY}", f"key={KEY}", f"token={KEY}"])
def test_a_key_on_the_command_line_is_refused_and_not_repeated(args: str) -> None:
    with pytest.raises(FlamingoEvalError) as caught:
        parse_args(args)
    assert KEY not in str(caught.value)


def test_an_address_with_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(FlamingoEvalError) as caught:
        addresses(choose_model(f"openai:http://me:{KEY}@host/v1", "model=x"))
    assert KEY not in str(caught.value)


@pytest.mark.slow
def test_an_unknown_model_is_said_with_those_that_are_served(tmp_path: Path) -> None:
    with ChatServer(echo).running() as server:
        words = ("run", "vqav2", "--limit", "2", "--out", tmp_path, "--model", f"openai:{server.url}")
        result = command(*words, "--model-args", "model=tiny-vml")
        assert "unknown model 'tiny-vml'" in str(result.exception)
        assert "It serves: tiny-vlm" in str(result.exception)
        assert "the server has tiny-vlm" in str(command(*words).exception)
    assert server.n <= 2


@pytest.mark.slow
def test_a_server_that_is_down_is_said(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ("run", "vqav2", "--out", tmp_path, "--model", f"openai:http://127.0.0.1:{port}", "--model-args", "model=m")
    assert "no server answers at this address" in str(command(*words).exception)


def test_of_several_servers_those_that_answer_are_asked() -> None:
    with ChatServer(echo, latency=0.01).running() as one, ChatServer(echo, latency=0.01).running() as two:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            down = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        options = ServerOptions(model="tiny-vlm", concurrency=4)
        client = Client((down, one.url, two.url), options, Budget(), first_pause=0.01)
        answers = list(ServerEngine(client, options).generate(prompts(40), DecodeSpec()))
    assert sorted(i for i, a in answers if a.error is None) == list(range(40))
    assert min(one.n, two.n) > 5


def test_tasks_that_are_ranked_are_named_where_the_server_gives_no_log_probabilities(tmp_path: Path) -> None:
    with ChatServer(echo).running() as server:
        result = run(server, tmp_path, task="star")
    assert "star: ranking needs log-probabilities" in str(result.exception)
    assert "--rank letter" in str(result.exception)
    assert server.n == 1


@pytest.mark.slow
def test_a_server_without_log_probabilities_is_asked_for_a_letter(tmp_path: Path) -> None:
    with ChatServer(lambda _: "B. It is a dog.").running() as server:
        result = run(server, tmp_path, "--rank", "letter", "--shots", "1", task="star")
    assert result.exit_code == 0, result.output + str(result.exception)
    assert server.n == 6
    (outputs,) = tmp_path.rglob("outputs.jsonl")
    lines = [json.loads(line) for line in outputs.read_text().splitlines()]
    assert {line["best"]["candidate"] for line in lines} == {1}
    assert "chat_letter" in (outputs.parent / "run.json").read_text()
    assert command("report", tmp_path).exit_code == 0
    page = command("show", outputs.parent, "--id", lines[0]["id"])
    assert "as generated: 'B. It is a dog.'" in page.output


@pytest.mark.slow
def test_candidates_are_ranked_by_the_log_probabilities_of_a_prompt(tmp_path: Path) -> None:
    """The server's tokens are characters, and each costs its code."""

    def extra(body: Mapping[str, Any]) -> Mapping[str, Any]:
        ids = [1, 2, 3]
        if body.get("continue_final_message"):
            ids += [ord(c) for c in body["messages"][-1]["content"]]
        rows: Sequence[Any] = [None, *({str(i): {"logprob": -i / 100}} for i in ids[1:])]
        return {"prompt_logprobs": rows, "prompt_token_ids": ids}

    with ChatServer(lambda _: "x", extra=extra).running() as server:
        result = run(server, tmp_path, task="star")
    assert result.exit_code == 0, result.output + str(result.exception)
    (outputs,) = tmp_path.rglob("outputs.jsonl")
    questions = {b["messages"][-1]["content"] for b in server.bodies if b.get("continue_final_message")}
    expected = {round(-sum(map(ord, c)) / 100, 6) for c in questions}
    scores = {s for line in outputs.read_text().splitlines() for s in json.loads(line)["scores"]}
    assert scores
    assert scores <= expected


@pytest.mark.parametrize(
    ("text", "thinks", "answer", "thought"),
    [
        ("<think>it is\nred</think>\nRed", False, "Red", "it is\nred"),
        ("it is red</think>Red", True, "Red", "it is red"),
        ("<think>it is re", True, "", "it is re"),
        ("Red", True, "Red", ""),
        ("a </think> in an answer", False, "a </think> in an answer", ""),
    ],
)
def test_thinking_is_kept_apart_from_the_answer(text: str, thinks: bool, answer: str, thought: str) -> None:
    assert without_thought(text, thinks) == (answer, thought)


def test_thinking_is_in_the_outputs_and_not_in_the_prediction(tmp_path: Path) -> None:
    with ChatServer(lambda _: "<think>two squares</think>Two.").running() as server:
        assert run(server, tmp_path, args="thinking=on").exit_code == 0
    assert server.bodies[0]["chat_template_kwargs"] == {"enable_thinking": True}
    (outputs,) = tmp_path.rglob("outputs.jsonl")
    line = json.loads(outputs.read_text().splitlines()[0])
    assert line["raw"] == "<think>two squares</think>Two."
    assert line["prediction"] == "Two"


def test_a_protocol_without_turns_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    with ChatServer(echo).running() as server:
        result = run(server, tmp_path, "--protocol", "flamingo")
    assert "vqav2@sample: protocol flamingo has no turns" in str(result.exception)
    assert server.n == 0


@pytest.mark.slow
def test_another_models_features_choose_the_demonstrations(tmp_path: Path) -> None:
    with ChatServer(echo).running() as server:
        words = ("--shots", "2", "--demos", "rices")
        refused = run(server, tmp_path, *words)
        assert "vqav2@sample: --demos rices: servers give no features" in str(refused.exception)
        assert "--features-of" in str(refused.exception)
        assert server.n == 0
        result = run(server, tmp_path, *words, "--features-of", "tiny")
        assert result.exit_code == 0, result.output + str(result.exception)
        expected = command("run", "vqav2", "--limit", "6", "--out", tmp_path / "tiny", *words)
        assert expected.exit_code == 0
    (path,) = tmp_path.glob("*/tiny-vlm/*/run.json")
    assert json.loads(path.read_text())["spec"]["demos"]["features"].startswith("tiny ")
    (own,) = (tmp_path / "tiny").rglob("outputs.jsonl")
    shots = [[json.loads(line)["shots"] for line in p.read_text().splitlines()] for p in (own, path.parent / own.name)]
    assert sorted(map(tuple, shots[0])) == sorted(map(tuple, shots[1]))


def test_features_are_for_rices_and_of_models_that_give_them(tmp_path: Path) -> None:
    with ChatServer(echo).running() as server:
        assert "--demos random compares no features" in str(run(server, tmp_path, "--features-of", "tiny").exception)
        words = ("--demos", "rices", "--features-of", f"openai:{server.url}")
        assert "this model gives no features" in str(run(server, tmp_path, *words).exception)
        assert server.n == 0


@pytest.mark.slow
def test_evaluate_checks_what_the_command_checks(tmp_path: Path) -> None:
    with ChatServer(echo).running() as server:
        name, args = f"openai:{server.url}", {"model": server.model}
        with pytest.raises(FlamingoEvalError, match="protocol flamingo has no turns"):
            evaluate(name, "vqav2", model_args=args, protocol="flamingo", out=tmp_path)
        with pytest.raises(FlamingoEvalError, match="star: ranking needs log-probabilities"):
            evaluate(name, "star", model_args=args, limit=2, out=tmp_path)
        assert server.n == 1
        (finished,) = evaluate(name, "star", model_args=args, limit=2, shots=0, rank="letter", out=tmp_path).runs
    assert finished.n == 2


@pytest.mark.parametrize(("options", "sent"), [({}, True), ({"send_stop": "off"}, False), ({"thinking": "on"}, False)])
def test_answers_end_at_a_stop_string_whether_or_not_the_server_is_told(options: dict[str, str], sent: bool) -> None:
    with ChatServer(lambda _: "red\nor blue").running() as server:
        spec = DecodeSpec(stop=("\n", "Question"))
        answers = dict(engine(server, **options).generate(prompts(2), spec))
    assert [a.text for a in answers.values()] == ["red", "red"]
    assert all((body.get("stop") == ["\n", "Question"]) == sent for body in server.bodies)


@pytest.mark.slow
def test_pictures_are_shrunk_where_it_is_asked_for(tmp_path: Path) -> None:
    import io

    from PIL import Image

    with ChatServer(echo).running() as server:
        run(server, tmp_path, args="max_side=32")
    content = server.bodies[0]["messages"][-1]["content"]
    picture = next(c["image_url"]["url"] for c in content if c["type"] == "image_url")
    assert max(Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2]))).size) == 32
    (path,) = tmp_path.rglob("run.json")
    assert json.loads(path.read_text())["model"]["pictures"] == "shrunk to 32 pixels"
