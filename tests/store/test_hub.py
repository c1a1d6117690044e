"""Models from a hub: pulled, found, listed and removed, against a small hub on loopback."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest
from huggingface_hub.errors import HfHubHTTPError, RemoteEntryNotFoundError

from inglenook.policy.reference import HubRef
from inglenook.store.hub_error import HubError, explained
from tests.parts.hub import Fault, Hub, Machine, git_sha1, sha256

REPO = "owner/repo"
MODEL = "model-Q8_0.gguf"
REF = f"hf:{REPO}:{MODEL}"
BYTES = bytes(range(256)) * 12_000  # three megabytes, more than is kept in memory on the way
SHARDS = {f"big-{n:05d}-of-00003.gguf": f"shard {n}".encode() * 1000 for n in (1, 2, 3)}
FOLDER = {
    "config.json": b"{}",
    "empty.txt": b"",
    "tokenizer.json": b'{"model": 1}',
    "model.safetensors": b"weights" * 1000,
    "pytorch_model.bin": b"pickle" * 1000,
    "onnx/model.onnx": b"other" * 1000,
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


@pytest.fixture
def machine(hub: Hub, tmp_path: Path) -> Machine:
    return Machine(tmp_path, hub.address)


def pulled(machine: Machine, ref: str = REF, *flags: str) -> Path:
    done = machine.inglenook("pull", ref, *flags)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def refused(machine: Machine, ref: str = REF, *flags: str) -> str:
    done = machine.inglenook("pull", ref, *flags)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("inglenook: ") and done.stderr.count("\n") == 1
    return done.stderr


def test_a_pulled_model_is_found_without_the_hub(hub: Hub, machine: Machine) -> None:
    """What was pulled is found by file, by tag and by repository, and no request is made for it."""
    hub.commit(REPO, {MODEL: BYTES, "README.md": b"hello"})
    path = pulled(machine)
    requests = len(hub.log)
    assert path.read_bytes() == BYTES
    assert [path] * 3 == [machine.find(ref) for ref in (REF, f"hf:{REPO}:q8_0", f"hf:{REPO}")]
    assert requests == len(hub.log)
    assert machine.find(f"hf:{REPO}:README.md") is None


def test_a_second_pull_downloads_nothing(hub: Hub, machine: Machine) -> None:
    """What is here and still the newest is not downloaded again, under whichever name."""
    hub.commit(REPO, {MODEL: BYTES})
    path = pulled(machine)
    assert path == pulled(machine, f"hf:{REPO}")
    assert len(hub.gets(MODEL)) == 1


def test_a_cut_connection_is_taken_up_where_it_broke(hub: Hub, machine: Machine) -> None:
    """A connection that breaks costs one more request, for the rest of the file only."""
    hub.commit(REPO, {MODEL: BYTES})
    hub.fault(MODEL, Fault(cut_after=1_234_567))
    assert pulled(machine).read_bytes() == BYTES
    assert [seen.range for seen in hub.gets(MODEL)] == [None, "bytes=1234567-"]


def test_a_hub_without_ranges_is_asked_for_all_again(hub: Hub, machine: Machine) -> None:
    """Where the rest of a file cannot be had, the whole replaces what was here."""
    hub.commit(REPO, {MODEL: BYTES})
    hub.fault(MODEL, Fault(cut_after=1_234_567))
    hub.fault(MODEL, Fault(ignore_range=True))
    assert pulled(machine).read_bytes() == BYTES
    assert len(hub.gets(MODEL)) == 2


GIVING_UP = f"""
from inglenook.policy.reference import HubRef
from inglenook.store.hub_cache import CachedRepo
from inglenook.store.hub_error import HubError, explained
from inglenook.store.hub_fetch import Fetcher, listing, remote_file
ref = HubRef("{REPO}", "{MODEL}")
repo = CachedRepo.of(ref.repo)
repo.blobs.mkdir(parents=True)
found = listing(ref)
try:
    with explained(ref):
        Fetcher(ref, repo, pauses=()).blob(remote_file(ref, found, ref.file))
except HubError as exc:
    print(type(exc).__name__, exc)
"""


def test_a_connection_that_brings_nothing_ends_the_pull(hub: Hub, machine: Machine) -> None:
    """Tries that bring no byte are counted, and after the last the sentence says what to do."""
    hub.commit(REPO, {MODEL: BYTES})
    hub.fault(MODEL, Fault(times=-1, cut_after=0))
    done = machine.python(GIVING_UP)
    assert done.stdout.startswith("HubUnreachable the hub at 127.0.0.1:")
    assert "goes on where it stopped" in done.stdout


@pytest.mark.parametrize("status", [500, 503])
def test_a_hub_in_trouble_is_asked_again(hub: Hub, machine: Machine, status: int) -> None:
    """An answer that blames the hub itself is worth another try."""
    hub.commit(REPO, {MODEL: BYTES})
    hub.fault(MODEL, Fault(status=status))
    assert pulled(machine).read_bytes() == BYTES


WATCHED = f"""
from inglenook.policy.reference import HubRef
from inglenook.store import hub
hub.pull(HubRef("{REPO}", "{MODEL}"), progress=lambda step, done, total: print(done, flush=True))
"""


def test_a_killed_pull_leaves_no_model_and_is_resumed(hub: Hub, machine: Machine) -> None:
    """Killed outright, a pull leaves nothing that is found, and the next one asks for the rest."""
    hub.commit(REPO, {MODEL: BYTES})
    hub.fault(MODEL, Fault(hold_after=2_500_000))
    with machine.start(script=WATCHED) as process:
        assert process.stdout
        while int(process.stdout.readline()) < 2_000_000:
            pass
        process.kill()
    assert machine.find(REF) is None
    assert machine.find(f"hf:{REPO}") is None
    assert pulled(machine).read_bytes() == BYTES
    resumed = hub.gets(MODEL)[-1].range
    assert resumed and int(resumed.removeprefix("bytes=")[:-1]) >= 1_000_000


def test_damaged_bytes_are_removed(hub: Hub, machine: Machine) -> None:
    """A file whose checksum is wrong is an error, is not kept, and comes right the next time."""
    hub.commit(REPO, {MODEL: BYTES})
    hub.fault(MODEL, Fault(damage=True))
    assert "checksum" in refused(machine)
    assert machine.find(REF) is None
    assert list(machine.blobs(REPO).iterdir()) == []
    assert pulled(machine).read_bytes() == BYTES


def test_small_files_are_checked_too(hub: Hub, machine: Machine) -> None:
    """Files that git itself keeps are compared with git's checksum, and a folder waits for all."""
    hub.commit(REPO, FOLDER)
    hub.fault("tokenizer.json", Fault(damage=True))
    assert "tokenizer.json" in refused(machine, f"hf:{REPO}")
    assert machine.find(f"hf:{REPO}") is None


def test_a_longer_or_shorter_file_than_listed_is_refused(hub: Hub, machine: Machine) -> None:
    """Content that does not have the size that was promised is never a model."""
    hub.commit(REPO, {MODEL: BYTES})
    hub.sizes[MODEL] = len(BYTES) - 1
    assert "checksum" in refused(machine)
    hub.sizes[MODEL] = len(BYTES) + 1
    assert "checksum" in refused(machine)
    assert machine.find(REF) is None


def test_without_a_hub_the_model_that_is_here_stands(hub: Hub, machine: Machine) -> None:
    """A hub that is down is no reason to fail when the model is here, only to say so."""
    hub.commit(REPO, {MODEL: BYTES})
    path = pulled(machine)
    hub.close()
    done = machine.inglenook("pull", REF)
    assert (0, f"{path}\n") == (done.returncode, done.stdout)
    assert "the copy that is here stands" in done.stderr
    assert path == machine.find(REF)


def test_offline_mode_asks_for_nothing(hub: Hub, tmp_path: Path) -> None:
    """With HF_HUB_OFFLINE a model that is here is served, another is a clear error."""
    hub.commit(REPO, {MODEL: BYTES})
    pulled(Machine(tmp_path, hub.address))
    requests = len(hub.log)
    offline = Machine(tmp_path, hub.address, HF_HUB_OFFLINE="1")
    assert pulled(offline).read_bytes() == BYTES
    assert "HF_HUB_OFFLINE is set" in refused(offline, "hf:owner/other")
    assert requests == len(hub.log)


def test_without_a_hub_a_missing_model_is_a_clear_error(hub: Hub, machine: Machine) -> None:
    """Nothing here and no hub: the sentence says where to look."""
    hub.close()
    assert "check the network or HF_ENDPOINT" in refused(machine)


def test_ensure_pulls_only_what_is_not_here(hub: Hub, machine: Machine) -> None:
    """A model that is here costs no request even when the hub is up."""
    hub.commit(REPO, {MODEL: BYTES})
    script = f"""
from inglenook.policy.reference import HubRef
from inglenook.store import hub
print(hub.ensure(HubRef("{REPO}")))
"""
    first = machine.python(script).stdout
    requests = len(hub.log)
    assert Path(first.strip()).read_bytes() == BYTES
    assert (first, requests) == (machine.python(script).stdout, len(hub.log))


def test_a_commit_that_is_here_is_not_asked_for(hub: Hub, machine: Machine) -> None:
    """A commit never changes, so a pull of one that is here makes no request."""
    commit = hub.commit(REPO, {MODEL: BYTES})
    path = pulled(machine, f"{REF}@{commit}")
    requests = len(hub.log)
    assert path == pulled(machine, f"{REF}@{commit}")
    assert requests == len(hub.log)


def test_revisions_are_kept_apart(hub: Hub, machine: Machine) -> None:
    """A tag's files stay the tag's when main moves on, and a pull of main brings the newest."""
    hub.commit(REPO, {MODEL: b"old"}, "v1", "refs/pr/1")
    old = pulled(machine, f"{REF}@v1")
    hub.commit(REPO, {MODEL: b"new"})
    assert pulled(machine).read_bytes() == b"new"
    assert old == machine.find(f"{REF}@v1")
    assert machine.find(f"{REF}@refs/pr/1") is None
    assert old == pulled(machine, f"{REF}@refs/pr/1")
    assert "no revision 'v2'" in refused(machine, f"{REF}@v2")


def test_a_file_of_an_older_main_is_still_found(hub: Hub, machine: Machine) -> None:
    """Pulling one file moves main for all; what was pulled before it moved needs no network."""
    hub.commit(REPO, {MODEL: BYTES, "other.gguf": b"old"})
    old = pulled(machine)
    hub.commit(REPO, {MODEL: BYTES, "other.gguf": b"new"})
    pulled(machine, f"hf:{REPO}:other.gguf")
    assert old == machine.find(REF)


def test_all_shards_come_and_the_first_is_the_model(hub: Hub, machine: Machine) -> None:
    """A split GGUF is pulled whole, found only whole, and its first shard is what an engine gets."""
    hub.commit(REPO, SHARDS)
    hub.fault("big-00003-of-00003.gguf", Fault(damage=True))
    refused(machine, f"hf:{REPO}")
    assert machine.find(f"hf:{REPO}") is None
    path = pulled(machine, f"hf:{REPO}:big-00002-of-00003.gguf")
    assert path.name == "big-00001-of-00003.gguf"
    assert {name: (path.parent / name).read_bytes() for name in SHARDS} == SHARDS
    assert len(hub.gets("big-00001-of-00003.gguf")) == 1


def test_one_shard_too_few_is_not_found(hub: Hub, machine: Machine) -> None:
    """A split GGUF that lost a shard is no model any more, and a pull brings back the one only."""
    hub.commit(REPO, SHARDS)
    path = pulled(machine, f"hf:{REPO}")
    (path.parent / "big-00002-of-00003.gguf").resolve().unlink()
    assert machine.find(f"hf:{REPO}") is None
    assert path == pulled(machine, f"hf:{REPO}")
    assert [len(hub.gets(name)) for name in SHARDS] == [1, 2, 1]


def test_a_folder_comes_without_pickles(hub: Hub, machine: Machine) -> None:
    """Without a GGUF the directory is the model, with neither pickles nor other programs' weights."""
    hub.commit(REPO, FOLDER)
    path = pulled(machine, f"hf:{REPO}")
    names = {"config.json", "empty.txt", "tokenizer.json", "model.safetensors"}
    assert names == {file.name for file in path.iterdir()}
    assert all(FOLDER[name] == (path / name).read_bytes() for name in names)
    assert path == machine.find(f"hf:{REPO}")


def test_pickles_come_only_when_they_are_allowed(hub: Hub, machine: Machine) -> None:
    """A repository with nothing but pickles is refused, until the caller trusts its author."""
    hub.commit(REPO, {"config.json": b"{}", "pytorch_model.bin": b"pickle"})
    assert "--allow-pickle" in refused(machine, f"hf:{REPO}")
    path = pulled(machine, f"hf:{REPO}", "--allow-pickle")
    assert (path / "pytorch_model.bin").read_bytes() == b"pickle"
    assert path == machine.find(f"hf:{REPO}")


def test_the_token_goes_to_the_hub_alone(hub: Hub, tmp_path: Path) -> None:
    """A token is sent when it is set, never to where a redirect leads, and is never printed."""
    hub.commit(REPO, {MODEL: BYTES})
    hub.repos[REPO].token = "hf_secret"
    done = Machine(tmp_path, hub.address, HF_TOKEN="hf_secret").inglenook("pull", REF)
    assert done.returncode == 0
    assert {"Bearer hf_secret"} == {seen.token for seen in hub.log if seen.origin == "hub"}
    assert {None} == {seen.token for seen in hub.log if seen.origin == "storage"}
    assert "hf_secret" not in done.stdout + done.stderr


def test_a_private_repository_asks_for_a_token(hub: Hub, tmp_path: Path) -> None:
    """Without a token, and with one that may not read it, the sentence says what to set."""
    hub.commit(REPO, {MODEL: BYTES})
    hub.repos[REPO].token = "hf_secret"
    assert "set HF_TOKEN if it is private" in refused(Machine(tmp_path, hub.address))
    assert {None} == {seen.token for seen in hub.log}
    wrong = refused(Machine(tmp_path, hub.address, HF_TOKEN="hf_wrong"))
    assert "that HF_TOKEN may read" in wrong and "hf_wrong" not in wrong


def test_a_gated_repository_names_its_terms(hub: Hub, tmp_path: Path) -> None:
    """A gated model says that its terms must be accepted, and by whom."""
    hub.commit(REPO, {MODEL: BYTES})
    hub.repos[REPO].gated = True
    hub.repos[REPO].token = "hf_secret"
    assert "gated" in refused(Machine(tmp_path, hub.address))
    other = refused(Machine(tmp_path, hub.address, HF_TOKEN="hf_other"))
    assert "with the account of HF_TOKEN" in other and "hf_other" not in other
    assert pulled(Machine(tmp_path, hub.address, HF_TOKEN="hf_secret")).read_bytes() == BYTES


def test_a_wrong_name_gets_near_ones(hub: Hub, machine: Machine) -> None:
    """A file that does not exist is answered with those that look like it."""
    hub.commit(REPO, {MODEL: BYTES, "model-Q4_0.gguf": b"x", "model-Q2_K.gguf": b"x"})
    assert f"did you mean {MODEL}" in refused(machine, f"hf:{REPO}:model-Q8-0.gguf")
    assert f"{MODEL}" in refused(machine, f"hf:{REPO}:Q4_K_M")


def test_a_login_page_is_no_hub(hub: Hub, machine: Machine) -> None:
    """An answer that is not a hub's is said to be none."""
    hub.login_page = True
    assert "no hub's answer" in refused(machine)


def test_a_mirror_that_lists_names_alone_is_asked_for_each_file(hub: Hub, machine: Machine) -> None:
    """Where the listing has no checksums, each file's own headers have them."""
    hub.bare_listing = True
    hub.commit(REPO, {MODEL: BYTES, "config.json": b"{}"})
    path = pulled(machine)
    assert path.read_bytes() == BYTES
    assert sha256(BYTES) == path.resolve().name


def test_names_that_leave_their_directory_are_not_taken(hub: Hub, machine: Machine) -> None:
    """A hub cannot write outside the model directory."""
    hub.commit(REPO, {"../../../../evil.gguf": b"evil", MODEL: BYTES})
    assert pulled(machine, f"hf:{REPO}").name == MODEL
    assert list(machine.home.rglob("evil*")) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_named(hub: Hub, machine: Machine) -> None:
    """A disk that fills up on the way ends the pull in one sentence."""
    hub.commit(REPO, {MODEL: BYTES})
    blobs = machine.blobs(REPO)
    blobs.mkdir(parents=True)
    (blobs / f"{sha256(BYTES)}.incomplete").symlink_to("/dev/full")
    assert "the disk is full" in refused(machine)


def test_a_model_larger_than_the_disk_is_not_begun(hub: Hub, machine: Machine) -> None:
    """Too little room is found before the first byte."""
    hub.commit(REPO, {MODEL: BYTES})
    hub.sizes[MODEL] = 10**18
    assert "needs 1000000000.0 GB" in refused(machine)
    assert hub.gets(MODEL) == []


def test_a_directory_that_cannot_be_used_is_named(hub: Hub, tmp_path: Path) -> None:
    """A file where the model directory should be is an error that names HF_HOME."""
    hub.commit(REPO, {MODEL: BYTES})
    (tmp_path / "file").touch()
    machine = Machine(tmp_path, hub.address, HF_HOME=str(tmp_path / "file"))
    assert "check HF_HOME" in refused(machine)


def test_the_model_directory_is_where_the_environment_says(hub: Hub, tmp_path: Path) -> None:
    """HF_HOME, and HF_HUB_CACHE before it, say where models lie."""
    hub.commit(REPO, {MODEL: BYTES})
    home, cache = tmp_path / "a", tmp_path / "b"
    path = pulled(Machine(tmp_path, hub.address, HF_HOME=str(home)))
    assert path.is_relative_to(home / "hub")
    both = Machine(tmp_path, hub.address, HF_HOME=str(home), HF_HUB_CACHE=str(cache))
    assert pulled(both).is_relative_to(cache)


def test_the_hubs_own_tools_and_this_one_share_files(hub: Hub, machine: Machine) -> None:
    """What either pulled the other finds, and neither downloads it again."""
    hub.commit(REPO, {MODEL: BYTES, "other.gguf": b"other"})
    script = f"""
import json, sys
from huggingface_hub import hf_hub_download, scan_cache_dir
path = hf_hub_download("{REPO}", sys.argv[1])
print(json.dumps([path, [str(warning) for warning in scan_cache_dir().warnings]]))
"""
    theirs = json.loads(machine.python(script, "other.gguf").stdout)[0]
    assert Path(theirs) == machine.find(f"hf:{REPO}:other.gguf")
    mine = pulled(machine)
    assert [str(mine), []] == json.loads(machine.python(script, MODEL).stdout)
    assert [len(hub.gets(name)) for name in (MODEL, "other.gguf")] == [1, 1]


def test_two_pulls_at_once_download_once(hub: Hub, machine: Machine) -> None:
    """The second of two pulls of the same file waits for the first and uses its content."""
    hub.commit(REPO, {MODEL: BYTES})
    fault = hub.fault(MODEL, Fault(hold_after=len(BYTES) - 1))
    with machine.start("pull", REF) as first, machine.start("pull", REF) as second:
        assert fault.reached.wait(20)
        fault.release.set()
        outputs = {first.communicate()[0], second.communicate()[0]}
    assert len(outputs) == 1
    assert [None, f"bytes={len(BYTES) - 1}-"] == [seen.range for seen in hub.gets(MODEL)]


def test_the_cheap_half_needs_no_heavy_import(machine: Machine) -> None:
    """Looking for what is here loads neither the hub library's client nor its HTTP stack."""
    script = """
import sys
from inglenook.policy.reference import HubRef
from inglenook.store import hub
hub.find(HubRef("owner/repo")), hub.listed()
print([name for name in ("httpx2", "huggingface_hub.hf_api") if name in sys.modules])
"""
    assert machine.python(script).stdout.strip() == "[]"


class Answer(NamedTuple):
    """What the hub said, and what the person reads."""

    failure: Exception
    words: str


def status(code: int, kind: type[HfHubHTTPError] = HfHubHTTPError) -> HfHubHTTPError:
    request = httpx2.Request("GET", "http://hub/?signature=secret")
    return kind("secret", response=httpx2.Response(code, request=request))


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status(429), "in a few minutes"),
        Answer(status(502), "in trouble (status 502)"),
        Answer(status(400), "refused hf:owner/repo (status 400)"),
        Answer(status(404, RemoteEntryNotFoundError), "try again later"),
        Answer(ConnectionResetError("secret"), "gave no answer"),
        Answer(httpx2.InvalidURL("secret"), "gave no answer"),
        Answer(OSError(errno.EDQUOT, "secret"), "the disk quota is used up"),
        Answer(PermissionError(errno.EACCES, "secret", "/models"), "/models may not be written"),
        Answer(OSError(errno.EIO, "secret"), "(EIO)"),
    ],
)
def test_every_failure_is_one_sentence_of_ours(answer: Answer) -> None:
    """Foreign words never pass: they may hold a signed address."""
    with pytest.raises(HubError) as caught, explained(HubRef(REPO)):
        raise answer.failure
    assert answer.words in str(caught.value)
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


def test_checksums_are_the_ones_that_git_and_its_large_files_use() -> None:
    """The stand-in computes what a real hub would."""
    assert git_sha1(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
