"""Pre-flight: what it says of ranks made up here, and of real ones; on two nodes of a real Slurm in tests/slurm/."""

import dataclasses

import pytest
from processes import run
from toy import WINDOWS, flags

from qa_accel import config
from qa_accel.commands import preflight as preflight_module
from qa_accel.distributed import entry
from qa_accel.preflight import checks, probe
from qa_accel.preflight.checks import Disk, Network
from qa_accel.preflight.probe import HostProbe
from qa_accel.training import trainer as trainer_module

HEALTHY = HostProbe(
    rank=0,
    host="node1",
    device="CPU",
    gpus=0,
    bytes_used=0,
    slurm_nodes=2,
    slurm_gpus=None,
    code="abc",
    versions="torch 2",
    commit="",
    data="2 files",
    model="bert",
    sees_output=True,
    sees_cache=True,
    cache_writable=True,
)
GOOD = Network(True, 1e9)


def ranks(count: int = 4, **of_the_last_host) -> list[HostProbe]:
    """Two ranks on each host; the last host differs as said."""
    probes = [dataclasses.replace(HEALTHY, rank=rank, host=f"node{rank // 2 + 1}") for rank in range(count)]
    probes = [dataclasses.replace(seen, slurm_nodes=count // 2) for seen in probes]
    last = probes[-1].host
    return [dataclasses.replace(seen, **of_the_last_host) if seen.host == last else seen for seen in probes]


def found(probes: list[HostProbe], network: Network = GOOD, disk: Disk | None = None) -> list[tuple]:
    return [
        (finding.hosts, finding.what, finding.fatal)
        for finding in checks.compare_hosts(probes, network, disk, "runs/x")
    ]


def test_healthy_hosts_have_no_findings():
    assert found(ranks(2)) == found(ranks(4)) == found(ranks(8)) == []
    assert found([dataclasses.replace(HEALTHY, slurm_nodes=None)]) == []


@pytest.mark.parametrize(
    ("differs", "words"),
    [
        ({"code": "old"}, "code here: old; elsewhere: abc"),
        ({"versions": "torch 1"}, "versions here: torch 1; elsewhere: torch 2"),
        ({"data": "!no such file"}, "data here: no such file; elsewhere: 2 files"),
        ({"model": "roberta"}, "model here: roberta; elsewhere: bert"),
        ({"sees_output": False}, "does not see what rank 0 wrote in runs/x"),
        ({"cache_writable": False}, "cannot write the cache"),
        ({"slurm_gpus": 2}, "Slurm gave 2 GPUs, torch sees 0"),
        ({"gpus": 2, "device": "H100 GPU-1"}, "2 ranks share 1 GPU"),
    ],
)
@pytest.mark.parametrize("count", [4, 6])
def test_a_finding_names_only_the_host_that_differs(differs, words, count):
    """Breaks if the reference is the last host's, or if two hosts against one blame the two."""
    [(hosts, what, fatal)] = found(ranks(count, **differs))
    assert (hosts, what, fatal) == ((f"node{count // 2}",), words, True)


def test_the_first_host_is_named_if_most_others_agree():
    """Breaks if rank 0 is right whatever it says."""
    probes = [dataclasses.replace(seen, code="old" if seen.host == "node1" else "abc") for seen in ranks(6)]
    assert [hosts for hosts, _, _ in found(probes)] == [("node1",)]


def test_a_separate_cache_is_not_fatal():
    [(_, what, fatal)] = found(ranks(4, sees_cache=False))
    assert "tokenize the data again" in what and not fatal


def test_ranks_that_are_too_few_or_uneven_are_found():
    """Breaks if only their number is looked at: 4 ranks can be 3 and 1."""
    [(_, what, _)] = found([dataclasses.replace(seen, slurm_nodes=3) for seen in ranks(4)])
    assert what == "Slurm gave 3 nodes, the ranks are on 2"
    [(_, what, _)] = found(ranks(4)[:3])
    assert what == "ranks per host differ: 2 on node1, 1 on node2"


def test_a_gpu_in_use_is_found_but_not_for_what_a_context_takes():
    probes = [dataclasses.replace(seen, gpus=2, device=f"H100 GPU-{seen.rank}") for seen in ranks(4)]
    assert found([dataclasses.replace(seen, bytes_used=1 << 30) for seen in probes]) == []
    probes[3] = dataclasses.replace(probes[3], bytes_used=30 << 30)
    assert found(probes) == [(("node2",), "in use by another process: H100 GPU-3 (32.2 GB)", True)]


def test_a_wrong_sum_and_a_full_disk_are_findings():
    [(_, what, _)] = found(ranks(), Network(False, 1e9))
    assert "wrong sum" in what
    assert found(ranks(), GOOD, Disk(free=300, needed=300)) == []
    [(_, what, _)] = found(ranks(), GOOD, Disk(free=299, needed=300))
    assert what == "299 B free for runs/x, three checkpoints take 300 B"


def test_a_file_missing_on_all_hosts_is_reported_once():
    [(hosts, what, _)] = found([dataclasses.replace(seen, data="!no such file") for seen in ranks()])
    assert hosts == ("node1", "node2") and what == "data: no such file"


def test_a_file_s_change_changes_the_code_s_digest(tmp_path, monkeypatch):
    """Breaks if the digest covers the package's top folder only, or a module's name without its content."""
    changed = tmp_path / "training" / "two.py"
    changed.parent.mkdir()
    for path in (tmp_path / "one.py", changed):
        path.write_text("a = 1\n")
    assert (probe.PACKAGE / "training" / "trainer.py").is_file(), "the digest begins at the package's top folder"
    monkeypatch.setattr(probe, "PACKAGE", tmp_path)
    before = probe.code_digest()
    assert probe.code_digest() == before
    changed.write_text("a = 2\n")
    assert probe.code_digest() != before


def run_preflight(argv: list[str]) -> None:
    entry.main(lambda: preflight_module.run(config.parse(preflight_module.Config, argv)))


def flags_of_run(toy, folder, **settings) -> list[str]:
    usual = dict(
        model_name_or_path=toy.model, train_file=toy.train, validation_file=toy.dev, cache_dir=folder / "cache"
    )
    return flags(**usual | dict(output_dir=folder / "run", **WINDOWS) | settings)


@pytest.mark.parametrize("processes", [1, 2])
def test_real_ranks_on_one_host_have_no_findings_and_leave_no_files(toy, tmp_path, processes):
    left = run(run_preflight, flags_of_run(toy, tmp_path), processes=processes)
    assert [one.code for one in left] == [0] * processes, left[0].output
    assert "pre-flight: no findings" in left[0].output
    assert ("all-reduce: right" in left[0].output) == (processes == 2)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_real_ranks_report_a_missing_file_and_exit_with_code_2(toy, tmp_path):
    left = run(run_preflight, flags_of_run(toy, tmp_path, train_file=tmp_path / "none.json"), processes=2)
    assert 2 in [one.code for one in left]
    assert "there is no such file" in left[0].output and "pre-flight: 1 finding," in left[0].output


def test_the_estimate_for_three_checkpoints_is_their_size(trainer, toy, tmp_path):
    """The estimate against a checkpoint's bytes; the little that a checkpoint holds besides tensors is not in it."""
    trainer.whole(tmp_path / "run", max_train_steps=1)
    [checkpoint] = (tmp_path / "run").glob("checkpoint-*")
    written = sum(path.stat().st_size for path in checkpoint.rglob("*") if path.is_file())
    disk = checks.disk_of(config.parse(trainer_module.TrainConfig, flags_of_run(toy, tmp_path)))
    assert disk is not None
    assert disk.needed / 3 < written < disk.needed / 3 + 100_000
