"""The default action beside sub-commands, and how a program ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
import typer

from ofa_core.cli_app import new_app, out_file, out_file_or_folder, out_folder, parse_pixels, run_app
from ofa_core.errors import OfaError, TableError


def an_app() -> typer.Typer:
    app = new_app("Say things.")

    @app.callback()
    def default(
        files: Annotated[list[Path], typer.Argument()],
        lut: Annotated[Path, typer.Option(help="A table.")],
        n: Annotated[int, typer.Option()] = 1,
    ) -> None:
        """Say things."""
        print("default", *files, lut, n)

    @app.command()
    def report(folder: Path, wide: Annotated[bool, typer.Option("--wide")] = False) -> None:
        """Write a report."""
        print("report", folder, wide)

    @app.command()
    def fail(how: str) -> None:
        """Fail."""
        raise {
            "table": TableError("two\nlines"),
            "os": FileNotFoundError(2, "No such file or directory", "x.csv"),
            "interrupt": KeyboardInterrupt(),
            "unstable": typer.Exit(3),
            "other": RuntimeError("a bug"),
        }[how]

    return app


def run(argv: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = run_app(an_app(), argv, prog="prog")
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_no_subcommand_runs_the_default_action_with_options_on_both_sides_of_arguments(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["a.json", "--lut", "t.csv", "b.json", "--n", "3"], capsys) == (0, "default a.json b.json t.csv 3\n", "")
    assert run(["--lut", "t.csv", "a.json"], capsys) == (0, "default a.json t.csv 1\n", "")


def test_a_first_word_that_is_a_subcommand_selects_it_and_the_default_action_does_not_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["report", "out"], capsys) == (0, "report out False\n", "")
    assert run(["report", "--wide", "out"], capsys) == (0, "report out True\n", "")


def test_a_later_word_or_a_path_of_that_name_is_an_argument(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["a.json", "report", "--lut", "t.csv"], capsys) == (0, "default a.json report t.csv 1\n", "")
    assert run(["./report", "--lut", "t.csv"], capsys) == (0, "default report t.csv 1\n", "")
    assert run(["--lut", "t.csv", "--", "report"], capsys) == (0, "default report t.csv 1\n", "")


def test_usage_errors_exit_2_and_leave_stdout_empty(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["a.json"], [], ["report"], ["a.json", "--lut", "t.csv", "--n", "many"], ["report", "a", "b"]):
        code, out, err = run(argv, capsys)
        assert (code, out) == (2, "")
        assert "Usage: prog" in err


def test_help_shows_the_default_actions_options_and_the_subcommands(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["--help"], capsys)
    assert code == 0
    assert "--lut" in out
    assert "Write a report" in out
    assert run(["-h"], capsys)[1] == out
    code, out, _ = run(["report", "--help"], capsys)
    assert code == 0
    assert "--wide" in out
    assert "--lut" not in out


def test_without_arguments_of_its_own_the_default_action_refuses_a_misspelt_subcommand(
    capsys: pytest.CaptureFixture[str],
) -> None:
    app = new_app("Say things.")

    @app.callback()
    def default(n: Annotated[int, typer.Option()] = 1) -> None:
        """Say things."""
        print("default", n)

    app.command()(lambda: print("report"))
    assert run_app(app, [], prog="prog") == 0
    assert run_app(app, ["reprot"], prog="prog") == 2
    assert capsys.readouterr().out == "default 1\n"


def test_known_errors_are_one_line_and_exit_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fail", "table"], capsys) == (1, "", "prog: two lines\n")
    assert run(["fail", "os"], capsys) == (1, "", "prog: x.csv: No such file or directory\n")


def test_the_caller_lists_further_known_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(an_app(), ["fail", "other"], prog="prog", errors=(OfaError, RuntimeError)) == 1
    assert capsys.readouterr().err == "prog: a bug\n"
    assert run_app(an_app(), ["fail", "other"], prog="prog", errors=lambda: (RuntimeError,)) == 1
    assert capsys.readouterr().err == "prog: a bug\n"
    with pytest.raises(RuntimeError):
        run_app(an_app(), ["fail", "other"], prog="prog")


def test_interrupts_and_asked_for_codes(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(["fail", "interrupt"], capsys)
    assert (code, out, err) == (130, "", "prog: interrupted\n")
    assert run(["fail", "unstable"], capsys)[0] == 3


SLEEPER = """
import sys, time
from ofa_core.cli_app import new_app, run_app
app = new_app("x")
@app.callback()
def default():
    try:
        print("started", flush=True)
        time.sleep(600)
    finally:
        print("cleaned up", flush=True)
sys.exit(run_app(app, [], prog="prog"))
"""


# A background job inherits that its shell ignores SIGINT, and one of nohup ignores SIGHUP.
AS_IN_A_TERMINAL = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_clean_up_and_end_in_one_line(number: signal.Signals, code: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", AS_IN_A_TERMINAL + SLEEPER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (code, "cleaned up\n", "prog: interrupted\n")


def test_an_ignored_signal_stays_ignored() -> None:
    ignore = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", ignore + SLEEPER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60)[0] == "cleaned up\n"
    assert process.returncode == 143


def test_a_forked_worker_ends_by_the_signal_itself() -> None:
    fork = SLEEPER.replace(
        "        time.sleep(600)",
        """
        import os, signal
        if (pid := os.fork()) == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(1)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)""",
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", fork], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "started\n-15\ncleaned up\n", "")


@pytest.mark.parametrize(
    ("text", "pixels"),
    [
        ("224", (224,)),
        ("224, 160,192,160", (160, 192, 224)),
        ("128-144", (128, 132, 136, 140, 144)),
        ("160-224:32,128", (128, 160, 192, 224)),
    ],
)
def test_resolutions_are_lists_and_ranges(text: str, pixels: tuple[int, ...]) -> None:
    assert parse_pixels(text) == pixels


@pytest.mark.parametrize("text", ["", "a", "160,", "-4", "160-", "224-160", "160-224:0", "1e3", "99999"])
def test_other_resolutions_are_usage_errors(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="such as 160,192,224"):
        parse_pixels(text)


@pytest.mark.skipif(os.name != "posix", reason="pipes are closed this way on POSIX systems")
def test_a_closed_pipe_ends_without_a_traceback() -> None:
    program = """
import sys
from ofa_core.cli_app import new_app, run_app
app = new_app("x")
@app.callback()
def default():
    for _ in range(100_000):
        print("a long enough line to fill the pipe")
sys.exit(run_app(app, [], prog="prog"))
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    error = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(timeout=60) == 1
    assert error == ""


def test_an_error_is_one_line_that_a_terminal_prints_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    app = new_app("x")

    @app.callback()
    def default() -> None:
        raise OfaError("key \x1b[31mred\x07\x9b2J\r\n  next \u202eline")

    assert run_app(app, [], prog="prog") == 1
    assert capsys.readouterr().err == "prog: key \\x1b[31mred\\x07\\x9b2J next \\u202eline\n"


def test_the_default_of_an_output_file_is_taken_like_a_word() -> None:
    assert out_file(Path("new.csv")) == out_file("new.csv") == Path("new.csv")


@pytest.mark.parametrize("text", ["", ".", "/", "folder", "new/", "/dev/null", "file/below"])
def test_what_can_be_no_file_is_wrong_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").touch()
    with pytest.raises(typer.BadParameter):
        out_file(text)
    assert out_file("file") == Path("file")
    assert out_file("new.csv") == Path("new.csv")


@pytest.mark.parametrize("text", ["", "file", "/dev/null", "file/below"])
def test_what_can_be_no_folder_is_wrong_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    for read in (out_folder, out_file_or_folder):
        with pytest.raises(typer.BadParameter):
            read(text)
        assert read("new/er/") == Path("new/er")
    assert out_folder(".") == Path()
