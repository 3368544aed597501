"""Two ranks of torchrun, and two replicas on Ray of which one is killed: the bytes of one process."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from flamingo_eval.distributed.environment import RankEnvironment, rank_environment
from flamingo_eval.errors import UsageError
from flamingo_eval.records import Image

LIMIT = 300
FEW = 60  # of the same order: whole runs contain them
pytestmark = pytest.mark.slow
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra `ray` is not installed")


def run(
    out: Path, *words: str, launcher: tuple[str, ...] = ("-m",), also_import_from: Path | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *launcher, "flamingo_eval", "run", "vqav2", "--limit", str(LIMIT), "--device", "cpu"]
    paths = [str(also_import_from)] if also_import_from else []
    paths += [p for p in [os.environ.get("PYTHONPATH")] if p]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run(
        [*command, "--out", str(out), *words], capture_output=True, text=True, check=False, env=environment
    )


def files(out: Path) -> tuple[str, str]:
    (outputs,), (scores,) = out.rglob("outputs.jsonl"), out.rglob("scores.json")
    return outputs.read_text(), scores.read_text()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    done = run(out)
    assert done.returncode == 0, done.stderr
    return out


def test_torchrun_gives_the_bytes_of_one_process(whole: Path, tmp_path: Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    done = run(tmp_path, "--json", launcher=launcher)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["runs"]) == 1  # one of the two speaks
    assert files(tmp_path) == files(whole)
    (record,) = tmp_path.rglob("run.json")
    engine = json.loads(record.read_text())["engine"]
    assert engine["replicas"] == 2
    assert engine["units_done"] == engine["units"] > 1


TWO_RANKS = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")


@pytest.mark.parametrize(("words", "launcher"), [((), TWO_RANKS), (("--ray", "local"), ("-m",))], ids=["ranks", "ray"])
def test_a_finished_run_is_printed_without_a_model(
    whole: Path, tmp_path: Path, words: tuple[str, ...], launcher: tuple[str, ...]
) -> None:
    for module in ("safetensors", "ray"):  # what loads weights, and what starts replicas
        (tmp_path / f"{module}.py").write_text("raise ImportError('not needed')")
    done = run(whole, "--json", *words, launcher=launcher, also_import_from=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["runs"]) == 1
    done = run(whole, "--json", "--shots", "1", *words, launcher=launcher, also_import_from=tmp_path)
    assert done.returncode != 0  # a run that is left needs them
    assert len(list(whole.rglob("scores.json"))) == 1


def test_what_is_missing_before_the_model_is_needed_is_said_by_one_rank(vqa_root: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(vqa_root, tmp_path / "vqa"))
    shutil.rmtree(root / "val2014")
    done = run(tmp_path / "out", "--data", str(root), "--limit", "4", launcher=TWO_RANKS)
    assert done.returncode != 0
    assert done.stderr.count("cannot be read") == 1


def test_two_models_of_two_ranks_each_give_the_same_answers(whole: Path, tmp_path: Path) -> None:
    """Tensor parallelism: sums in another order, so answers are compared, not bytes."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4", "-m")
    done = run(tmp_path, "--tensor-parallel", "2", "--limit", "40", launcher=launcher)
    assert done.returncode == 0, done.stderr
    assert "2 replicas, each shared by 2 ranks" in done.stderr
    held = re.findall(r"rank \d of 4: (\S+) MB of weights, expected (\S+) MB", done.stderr)
    assert len(held) == 4
    assert all(own == share for own, share in held)

    def answers(out: Path) -> dict[str, str]:
        (outputs,) = out.rglob("outputs.jsonl")
        rows = map(json.loads, outputs.read_text().splitlines())
        return {row["id"]: row["prediction"] for row in rows}

    lines, expected = answers(tmp_path), answers(whole)
    assert len(lines) == 40
    assert lines == {id: expected[id] for id in lines}


def test_ranks_that_make_no_groups_are_named(tmp_path: Path) -> None:
    done = run(tmp_path, "--tensor-parallel", "2")
    assert done.returncode
    assert "torchrun --nproc-per-node 2" in done.stderr
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    done = run(tmp_path, "--tensor-parallel", "3", "--limit", "4", launcher=launcher)
    assert "2 ranks cannot be divided into groups of 3" in done.stderr


def test_half_an_environment_is_named() -> None:
    assert rank_environment({}) is None
    assert rank_environment({"WORLD_SIZE": "1", "RANK": "0"}) is None
    with pytest.raises(UsageError, match="MASTER_ADDR, MASTER_PORT is not set"):
        rank_environment({"WORLD_SIZE": "2", "RANK": "1"})
    full = {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    assert rank_environment(full) == RankEnvironment(3, 4, 1)


def test_replicas_without_a_cluster_are_an_error(tmp_path: Path) -> None:
    done = run(tmp_path, "--replicas", "2")
    assert done.returncode == 2
    assert "Add --ray local" in done.stderr


@needs_ray
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--ray", "127.0.0.1:9"), "no answer"),
        (("--ray", "cluster"), "invalid address, expected HOST:PORT"),
        (("--ray", "ray://127.0.0.1:10001"), "invalid address, expected HOST:PORT"),
        (("--ray", "local", "--replicas", "0"), "`auto` or a number from 1"),
        (("--ray", "local", "--gpus-per-replica", "1"), "--device cpu uses none"),
        (("--ray", "local", "--gpus-per-replica", "8"), "a replica uses one GPU"),
        (("--ray", "local", "--tensor-parallel", "2"), "a replica uses one GPU"),
        pytest.param(
            ("--ray", "local", "--gpus-per-replica", "1", "--device", "auto"),
            "--gpus-per-replica 1: Ray finds 0 GPUs",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_what_cannot_be_reached_is_said_at_once(words: tuple[str, ...], says: str, tmp_path: Path) -> None:
    began = time.monotonic()
    done = run(tmp_path, *words)
    assert done.returncode in (1, 2)
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - began < 60


def test_without_ray_the_install_command_is_said(tmp_path: Path) -> None:
    hidden = tmp_path / "ray.py"
    hidden.write_text("raise ImportError('not installed')")
    done = run(tmp_path, "--ray", "local", also_import_from=tmp_path)
    assert done.returncode == 1
    assert "pip install 'flamingo-eval[ray]'" in done.stderr
    assert "Traceback" not in done.stderr


@needs_ray
def test_a_killed_actor_costs_its_unit_and_nothing_else(whole: Path, tmp_path: Path) -> None:
    import threading

    from flamingo_eval.distributed.pool import ReplicaPool
    from flamingo_eval.distributed.ray_actors import ray_replicas
    from flamingo_eval.distributed.spec import Deployment
    from flamingo_eval.runs.plan import Choices, plan_runs
    from flamingo_eval.runs.questions import load_questions
    from flamingo_eval.runs.runner import Progress
    from flamingo_eval.runs.runner import run as run_one

    (planned,) = plan_runs(load_questions(["vqav2"], "flamingo")[0], Choices(limit=LIMIT))
    with ray_replicas(Deployment("tiny", "cpu", ray="local", replicas="2")) as (replicas, model):
        killed = threading.Event()

        def kill_once(progress: Progress) -> None:
            if not killed.is_set():
                killed.set()
                for replica in replicas:
                    replica.ray.kill(replica.actor, no_restart=False)

        pool = ReplicaPool(replicas, max_queries=64)
        spec = planned.spec(model)
        began = time.monotonic()
        run_one(spec, planned.data, pool, tmp_path, episodes=list(planned.episodes()), on_progress=kill_once)
        assert time.monotonic() - began < 60
    assert files(tmp_path) == files(whole)
    assert pool.stats["units_lost"] >= 1


POISON = """
import os, signal, sys
import PIL.Image
opened = PIL.Image.open
def open_or_die(file, *words, **more):
    if "default_worker" in sys.argv[0] and str(file).endswith(os.environ["POISON"]):
        os.kill(os.getpid(), signal.SIGKILL)
    return opened(file, *words, **more)
PIL.Image.open = open_or_die
"""


@needs_ray
def test_a_picture_that_kills_every_replica_is_named(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole command: its replicas die by SIGKILL whenever they open one of the pictures."""
    from flamingo_eval.runs.plan import Choices, plan_runs
    from flamingo_eval.runs.questions import load_questions

    (planned,) = plan_runs(load_questions(["vqav2"], "flamingo")[0], Choices(limit=FEW))
    pictures = Counter(e.query.media_id for e in planned.episodes())
    victim = next(e.query for e in planned.episodes() if pictures[e.query.media_id] == 1)
    (picture,) = victim.media
    assert isinstance(picture, Image)
    (tmp_path / "sitecustomize.py").write_text(POISON)
    monkeypatch.setenv("POISON", Path(picture.path).name)
    monkeypatch.setenv("FLAMINGO_EVAL_CACHE", str(tmp_path / "cache"))  # a picture that is known is not opened
    words = ("--limit", str(FEW), "--ray", "local", "--replicas", "2", "--on-error")
    done = run(tmp_path / "out", *words, "skip", "--json", also_import_from=tmp_path)
    assert done.returncode == 0, done.stderr
    (printed,) = json.loads(done.stdout)["runs"]  # and nothing of Ray's
    assert printed["scores"][0]["n_failed"] == 1
    lines, expected = (files(out)[0].splitlines() for out in (tmp_path / "out", whole))
    (failed,) = [json.loads(line) for line in lines if json.loads(line).get("error")]
    assert failed["id"] == victim.id
    assert f"{victim.id}: 3 replicas died while answering it alone" in failed["error"]
    assert len(set(lines) - set(expected)) == 1
    done = run(tmp_path / "out", *words, "stop", also_import_from=tmp_path)
    assert done.returncode == 1
    assert f"query {victim.id}: 3 replicas died" in done.stderr
    assert "Traceback" not in done.stderr


@needs_ray
def test_a_node_is_removed_and_another_added(tmp_path: Path) -> None:
    """Three nodes in one machine; the unit of the node that went is done again, the replica that came gets work."""
    from benchmarks.cluster import change_nodes

    outcome = change_nodes(tmp_path / "first", 200)
    assert outcome.different == 0
    assert outcome.lost >= 1
    for attempt in range(4):  # how soon the new replica has loaded is the machine's affair: give it more to do
        if outcome.late:
            break
        outcome = change_nodes(tmp_path / str(attempt), 400)
        assert outcome.different == 0
    assert outcome.late > 0


def test_a_world_size_that_is_no_number_is_a_message() -> None:
    with pytest.raises(UsageError, match="WORLD_SIZE=many: expected an integer"):
        rank_environment({"WORLD_SIZE": "many"})
