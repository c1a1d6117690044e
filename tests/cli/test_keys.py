"""``inglenook keys``: the key alone on standard output, once; everything else in words."""

from __future__ import annotations

import contextlib
import io
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from inglenook.cli.keys import expiry
from inglenook.cli.main import main
from inglenook.store.keys import KeyStore, digest_of

NOW = datetime(2027, 3, 1, 12, 0, tzinfo=UTC).timestamp()


@dataclass
class Ended:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


def keys(*arguments: str) -> Ended:
    """The command in this process: its words, its exit status."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(["keys", *arguments])
        except SystemExit as ended:  # argparse's way
            status = int(str(ended.code))
    return Ended(status, out.getvalue(), err.getvalue())


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "keys.sqlite")


def test_a_key_is_shown_once(file: str) -> None:
    """Alone on standard output, so that a script can take it; never again."""
    made = keys("create", "alice", "--database", file)
    assert made.returncode == 0
    key = made.stdout.removesuffix("\n")
    assert key.startswith("ing-") and "\n" not in key
    assert key not in made.stderr
    assert "alice" in made.stderr and file in made.stderr and "not shown again" in made.stderr
    (row,) = KeyStore(Path(file)).all()
    assert row.digest == digest_of(key.encode())
    listed = keys("list", "--database", file), keys("list", "--json", "--database", file)
    assert all(key not in shown.stdout for shown in listed)


def test_everything_that_a_key_may_is_kept_and_listed(file: str) -> None:
    """As a table for people and as JSON for programs."""
    made = keys(
        *("create", "Team A", "--model", "a", "--model", "b/c", "--requests-per-minute", "60"),
        *("--tokens-per-minute", "1000", "--concurrency", "2", "--weight", "2.5", "--expires", "30d"),
        *("--database", file),
    )
    assert made.returncode == 0, made.stderr
    (row,) = json.loads(keys("list", "--json", "--database", file).stdout)
    assert row["expires"] == pytest.approx(time.time() + 30 * 86400, abs=60)
    assert row["created"] == pytest.approx(time.time(), abs=60)
    assert row | {"expires": 0, "created": 0} == {
        "id": row["id"],
        "client": "Team A",
        "start": made.stdout[:10],
        "models": ["a", "b/c"],
        "requests_per_minute": 60,
        "tokens_per_minute": 1000,
        "concurrency": 2,
        "weight": 2.5,
        "created": 0,
        "expires": 0,
        "revoked": 0.0,
        "state": "good",
    }
    table = keys("list", "--database", file).stdout
    for words in (
        row["id"],
        "Team A",
        made.stdout[:10],
        "a, b/c",
        "60 requests/min",
        "1000 tokens/min",
        "weight 2.5",
    ):
        assert words in table
    assert table.splitlines()[0].split() == ["ID", "CLIENT", "KEY", "STATE", "EXPIRES", "MODELS", "LIMITS"]


def test_revoking(file: str) -> None:
    """By client or id; again is no mistake, somebody unknown is."""
    for client in ("alice", "alice", "bob"):
        keys("create", client, "--database", file)
    gone = keys("revoke", "alice", "--database", file)
    assert (gone.returncode, gone.stdout, gone.stderr.count("is revoked")) == (0, "", 2)
    again = keys("revoke", "alice", "--database", file)
    assert (again.returncode, again.stderr.count("was revoked before")) == (0, 2)
    bob = KeyStore(Path(file)).all()[2].id
    assert keys("revoke", bob, "--database", file).returncode == 0
    states = [row["state"] for row in json.loads(keys("list", "--json", "--database", file).stdout)]
    assert states == ["revoked"] * 3
    unknown = keys("revoke", "carol", "--database", file)
    assert unknown.returncode == 1
    assert "'carol'" in unknown.stderr and unknown.stderr.count("\n") == 1


def test_an_empty_list_says_what_that_means(file: str) -> None:
    """Nothing on standard output, and no file made for it."""
    shown = keys("list", "--database", file)
    assert (shown.returncode, shown.stdout) == (0, "")
    assert "every request is let in" in shown.stderr
    assert json.loads(keys("list", "--json", "--database", file).stdout) == []
    assert not Path(file).exists()


def test_the_file_is_the_one_that_the_server_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the settings, the environment, or our data directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inglenook.toml").write_text('[auth]\ndatabase = "from-file.sqlite"\n')
    assert keys("create", "a", "--config", "inglenook.toml").returncode == 0
    assert (tmp_path / "from-file.sqlite").exists()
    monkeypatch.setenv("INGLENOOK_HOME", str(tmp_path / "home"))
    assert keys("create", "a").returncode == 0
    assert (tmp_path / "home" / "keys.sqlite").exists()
    monkeypatch.setenv("INGLENOOK_AUTH__DATABASE", str(tmp_path / "from-env.sqlite"))
    assert keys("create", "a").returncode == 0
    assert (tmp_path / "from-env.sqlite").exists()
    monkeypatch.setenv("INGLENOOK_AUTH__DATABASE", "none")
    refused = keys("create", "a")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--database" in refused.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("create",),
        ("create", ""),
        ("create", "a\nb"),
        ("create", "x" * 65),
        ("create", "a", "--concurrency", "0"),
        ("create", "a", "--requests-per-minute", "-1"),
        ("create", "a", "--tokens-per-minute", "many"),
        ("create", "a", "--weight", "0"),
        ("create", "a", "--weight", "nan"),
        ("create", "a", "--expires", "soon"),
        ("create", "a", "--expires", "2001-01-01"),
        ("revoke",),
        (),
    ],
)
def test_a_wrong_call_is_exit_2_and_makes_nothing(file: str, arguments: tuple[str, ...]) -> None:
    """In words, without a traceback."""
    ended = keys(*arguments, *(("--database", file) if arguments else ()))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr and "Traceback" not in ended.stderr
    assert not Path(file).exists()


def test_a_file_that_cannot_be_used_is_exit_1(tmp_path: Path) -> None:
    """Garbage, and a directory."""
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"garbage" * 1000)
    for place in (garbage, tmp_path):
        for command in (("create", "a"), ("list",), ("revoke", "a")):
            ended = keys(*command, "--database", str(place))
            assert (ended.returncode, ended.stdout) == (1, "")
            assert ended.stderr.startswith(f"inglenook: the keys in {place} cannot be used: ")
            assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", -NOW),
        ("30m", 1800),
        ("12h", 12 * 3600),
        ("30d", 30 * 86400),
        ("2w", 14 * 86400),
        ("2027-03-01", 12 * 3600),
        ("2027-03-02", 36 * 3600),
    ],
)
def test_when_a_key_expires(text: str, seconds: float) -> None:
    """A date is its last day, in UTC."""
    assert expiry(text, NOW) == NOW + seconds


@pytest.mark.parametrize(
    "text", ["0d", "d", "30", "-3d", "30 d", "2027-02-28", "2027-02-30", "9999-12-31", "1.5d"]
)
def test_what_is_no_time_to_come_is_refused(text: str) -> None:
    """With the forms that there are."""
    with pytest.raises(ValueError, match=r"--expires .*(write it like|past)"):
        expiry(text, NOW)
