"""``inglenook pull``, ``list`` and ``rm``, each as a program of its own."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.hub import Fault, Hub, Machine, sha256

REPO = "owner/repo"
FILES = {"m-Q4_K_M.gguf": b"four" * 1000, "m-Q8_0.gguf": b"eight" * 1000}
FOUR, EIGHT = (f"hf:{REPO}:{name}" for name in FILES)
FOLDER = {"config.json": b"{}", "model.safetensors": b"weights" * 100}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        hub.commit(REPO, FILES)
        hub.commit("owner/folder", FOLDER)
        yield hub


@pytest.fixture
def machine(hub: Hub, tmp_path: Path) -> Machine:
    return Machine(tmp_path, hub.address)


def pull(machine: Machine, *refs: str) -> None:
    for ref in refs:
        assert machine.inglenook("pull", ref).returncode == 0


def names(machine: Machine) -> list[str]:
    """What ``list`` shows, without what the package ships."""
    rows = json.loads(machine.inglenook("list", "--json").stdout)
    return [row["name"] for row in rows if row["kind"] == "hub"]


def test_pull_in_a_pipe_prints_the_path_alone(machine: Machine) -> None:
    """A script gets the path on standard output, and nothing else anywhere."""
    done = machine.inglenook("pull", FOUR)
    assert (done.returncode, done.stderr) == (0, "")
    assert FILES["m-Q4_K_M.gguf"] == Path(done.stdout.removesuffix("\n")).read_bytes()


def test_pull_on_a_terminal_shows_how_far_it_is(hub: Hub, machine: Machine) -> None:
    """A person sees the file, how much of it came, and that it is complete."""
    mine, theirs = os.openpty()
    with machine.start("pull", FOUR, stderr=theirs) as process:
        os.close(theirs)
        shown = b"".join(iter(lambda: _read(mine), b"")).decode()
        assert process.stdout and process.stdout.read().endswith("m-Q4_K_M.gguf\n")
    os.close(mine)
    assert "m-Q4_K_M.gguf  100%  4.0 kB of 4.0 kB" in shown
    assert shown.endswith("\r\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""  # Linux's way to say that the other end is closed


def test_ctrl_c_says_that_the_pull_can_go_on(hub: Hub, machine: Machine) -> None:
    """Interrupted, a pull ends with one sentence, no model, and something to go on from."""
    fault = hub.fault("m-Q8_0.gguf", Fault(hold_after=2000))
    with machine.start("pull", EIGHT) as process:
        assert fault.reached.wait(20)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out) == (130, "")
    assert err == "inglenook: interrupted: the same command goes on where it stopped\n"
    assert names(machine) == []
    pull(machine, EIGHT)


def test_a_plain_path_needs_no_pull(machine: Machine, tmp_path: Path) -> None:
    """A file of the machine is left as it is; one that does not exist is an error."""
    file = tmp_path / "model.gguf"
    file.write_bytes(b"mine")
    done = machine.inglenook("pull", str(file))
    assert (0, f"{file}\n", "") == (done.returncode, done.stdout, done.stderr)
    assert file.read_bytes() == b"mine"
    missing = machine.inglenook("pull", str(tmp_path / "none.gguf"))
    assert missing.returncode == 1
    assert "only hf:OWNER/REPO[:FILE] can be pulled" in missing.stderr


@pytest.mark.parametrize("command", ["pull", "rm"])
def test_a_wrong_reference_is_a_wrong_call(machine: Machine, command: str) -> None:
    """What cannot be a model is refused with the right form, as a wrong call."""
    done = machine.inglenook(command, "hf:repo")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "inglenook: 'hf:repo' lacks an owner: write hf:OWNER/repo\n"


def test_an_unknown_builtin_is_a_failure(machine: Machine) -> None:
    """A name that looks right but is shipped by nobody fails."""
    done = machine.inglenook("pull", "builtin:no-such-model")
    assert done.returncode == 1
    assert "`inglenook list` shows the built-in models" in done.stderr


def test_list_shows_what_to_write_as_path(hub: Hub, machine: Machine) -> None:
    """Every listed name is one that finds the listed path."""
    pull(machine, FOUR, EIGHT, "hf:owner/folder")
    rows = json.loads(machine.inglenook("list", "--json").stdout)
    mine = {row["name"]: row for row in rows if row["kind"] == "hub"}
    assert {FOUR, EIGHT, "hf:owner/folder"} == set(mine)
    for name, row in mine.items():
        assert Path(row["path"]) == machine.find(name)
    assert [mine[name]["size"] for name in (FOUR, EIGHT, "hf:owner/folder")] == [4000, 5000, 702]


def test_list_is_a_table_for_people(hub: Hub, machine: Machine) -> None:
    """Columns are aligned under their heads, whatever the names' lengths."""
    pull(machine, FOUR, "hf:owner/folder")
    done = machine.inglenook("list")
    lines = done.stdout.splitlines()
    where = lines[0].index("WHERE")
    assert lines[0].startswith("NAME ")
    assert all(line[where - 2 : where] == "  " and line[where] == "/" for line in lines[1:])
    assert any(line.startswith(f"{FOUR}  ") and " 4.0 kB  " in line for line in lines)


def test_list_without_any_pulled_model(machine: Machine) -> None:
    """A machine that never pulled lists what the package ships, and that is no error."""
    done = machine.inglenook("list", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert {"builtin"} >= {row["kind"] for row in json.loads(done.stdout)}


def test_list_tells_revisions_apart(hub: Hub, machine: Machine) -> None:
    """The same file of an older revision has the revision in its name; equal content counts once."""
    hub.commit(REPO, {"m-Q8_0.gguf": b"old"}, "v1")
    pull(machine, f"{EIGHT}@v1")
    hub.commit(REPO, FILES)
    pull(machine, EIGHT)
    hub.commit(REPO, FILES | {"README.md": b"new"})
    pull(machine, EIGHT)
    assert [EIGHT, f"{EIGHT}@v1"] == names(machine)


def test_rm_frees_one_file_and_keeps_the_other(hub: Hub, machine: Machine) -> None:
    """What is removed is gone from the disk and the list; its neighbour stays."""
    pull(machine, FOUR, EIGHT)
    done = machine.inglenook("rm", f"hf:{REPO}:q4_k_m")
    assert (0, f"removed {FOUR}: 4.0 kB freed\n") == (done.returncode, done.stdout)
    assert names(machine) == [EIGHT]
    assert len(list(machine.blobs(REPO).iterdir())) == 1
    assert FILES["m-Q8_0.gguf"] == (machine.find(EIGHT) or Path()).read_bytes()


def test_rm_of_the_last_file_leaves_nothing(hub: Hub, machine: Machine) -> None:
    """With its last model a repository's directory goes too."""
    pull(machine, FOUR, "hf:owner/folder")
    assert machine.inglenook("rm", FOUR).returncode == 0
    assert not machine.blobs(REPO).parent.exists()
    assert machine.inglenook("rm", "hf:owner/folder").returncode == 0
    assert names(machine) == []
    assert not machine.blobs("owner/folder").parent.exists()


def test_rm_frees_content_that_two_revisions_share(hub: Hub, machine: Machine) -> None:
    """Content that two revisions name is freed when it is removed, not merely renamed."""
    pull(machine, FOUR)
    hub.commit(REPO, FILES | {"README.md": b"new"})
    pull(machine, FOUR)
    assert "4.0 kB freed" in machine.inglenook("rm", FOUR).stdout
    assert names(machine) == []


def test_rm_of_one_revision_keeps_the_other(hub: Hub, machine: Machine) -> None:
    """With a revision in the name, that revision alone goes, and shared content stays."""
    first = hub.commit(REPO, FILES, "v1")
    pull(machine, f"{FOUR}@v1")
    hub.commit(REPO, FILES | {"README.md": b"new"})
    pull(machine, FOUR)
    assert "0 B freed" in machine.inglenook("rm", f"{FOUR}@v1").stdout
    assert names(machine) == [FOUR]
    assert machine.find(f"{FOUR}@{first}") is None
    assert FILES["m-Q4_K_M.gguf"] == (machine.find(FOUR) or Path()).read_bytes()


def test_rm_drops_what_an_interrupted_pull_left(hub: Hub, machine: Machine) -> None:
    """A download that was given up can be seen and its space had back."""
    hub.fault("m-Q8_0.gguf", Fault(cut_after=2000))
    hub.fault("m-Q8_0.gguf", Fault(status=418))
    assert "(status 418)" in machine.inglenook("pull", EIGHT).stderr
    assert f"a stopped pull of hf:{REPO} left 2.0 kB" in machine.inglenook("list").stderr
    assert f"`inglenook rm --unfinished hf:{REPO}`" in machine.inglenook("rm", EIGHT).stderr
    done = machine.inglenook("rm", "--unfinished", f"hf:{REPO}")
    assert f"removed unfinished downloads of hf:{REPO}: 2.0 kB freed\n" == done.stdout
    assert not machine.blobs(REPO).exists()
    assert "has left anything" in machine.inglenook("rm", "--unfinished", f"hf:{REPO}").stderr


def test_rm_unfinished_keeps_complete_models(hub: Hub, machine: Machine) -> None:
    """Dropping a download that was given up takes no model of the same repository along."""
    pull(machine, FOUR)
    (machine.blobs(REPO) / f"{sha256(FILES['m-Q8_0.gguf'])}.incomplete").write_bytes(b"some")
    assert "4 B freed" in machine.inglenook("rm", "--unfinished", EIGHT).stdout
    assert names(machine) == [FOUR]


def test_rm_of_what_is_not_here_names_what_is(hub: Hub, machine: Machine) -> None:
    """An unknown name is a failure that lists names like it."""
    pull(machine, FOUR)
    done = machine.inglenook("rm", f"hf:{REPO}:m-Q4_K_S.gguf")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"is not here: `inglenook list` shows what is (did you mean {FOUR}?)" in done.stderr


@pytest.mark.parametrize("ref", ["builtin:starter", "./model.gguf"])
def test_rm_takes_only_what_was_pulled(machine: Machine, ref: str) -> None:
    """What the package ships and what a person put somewhere is not for rm to take."""
    done = machine.inglenook("rm", ref)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"inglenook: {ref} ")


def test_rm_of_a_damaged_repository_names_its_directory(hub: Hub, machine: Machine) -> None:
    """Where the hub's own library cannot read the cache, nothing is removed by guess."""
    pull(machine, FOUR, EIGHT)
    (machine.find(EIGHT) or Path()).resolve().unlink()
    done = machine.inglenook("rm", FOUR)
    assert done.returncode == 1
    assert f"{machine.blobs(REPO).parent} is damaged" in done.stderr
    assert machine.find(FOUR)
