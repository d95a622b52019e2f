"""Faults that were met before anything was sent: installing, codecs, help, types. Each test names its row."""

from __future__ import annotations

import inspect
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import peers
import pydicom
import pytest

import dicomnet as dn
from dicomnet import client, uids

ROOT = Path(__file__).parent.parent
LITTLE = uids.EXPLICIT_VR_LITTLE_ENDIAN

# ---- A7 --------------------------------------------------------------------------------------------------------------

#: What docs/how-to/compress.md says of each compressed transfer syntax: a file of it, and what is to be installed.
CODECS = {
    uids.RLE_LOSSLESS: ("MR_small_RLE.dcm", "dicomnet[codecs]"),
    uids.JPEG_LS_LOSSLESS: ("MR_small_jpeg_ls_lossless.dcm", "dicomnet[codecs]"),
    uids.JPEG_LS_NEAR_LOSSLESS: ("JPEGLSNearLossless_16.dcm", "dicomnet[codecs]"),
    uids.JPEG2000_LOSSLESS: ("MR_small_jp2klossless.dcm", "dicomnet[codecs]"),
    uids.JPEG2000: ("JPEG2000.dcm", "dicomnet[codecs]"),
    uids.JPEG_BASELINE_8_BIT: ("SC_rgb_jpeg_dcmtk.dcm", "dicomnet[codecs]"),
    uids.JPEG_EXTENDED_12_BIT: ("JPGExtended.dcm", "pylibjpeg-libjpeg"),
    uids.JPEG_LOSSLESS_SV1: ("SC_rgb_jpeg_gdcm.dcm", "python-gdcm"),
}

CONVERT = """
import sys
for hidden in sys.argv[2:]:
    sys.modules[hidden] = None  # as where it is not installed
import dicomnet as dn
from dicomnet.dataset.transcoding import converted
from dicomnet.files.instance_source import FileSource
try:
    print(len(b"".join(converted(FileSource(sys.argv[1]), dn.uids.EXPLICIT_VR_LITTLE_ENDIAN).chunks(1 << 20))))
except dn.errors.InvalidArgument as error:
    print(error)
"""


@pytest.mark.parametrize("syntax", CODECS, ids=uids.name_of)
@pytest.mark.long
def test_a7_the_codecs_decode_what_the_page_says_and_the_error_names_what_does(syntax: str) -> None:
    name, wanted = CODECS[syntax]
    [path] = [one for one in peers.sample_files() if one.name == name]
    assert pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID == syntax
    told = run_python(CONVERT, path, "gdcm", "libjpeg")
    assert told.strip().isdigit() if wanted == "dicomnet[codecs]" else f"pip install {wanted}" in told, told
    assert len(told.splitlines()) == 1
    assert "\\n" not in told
    if wanted == "python-gdcm":
        assert run_python(CONVERT, path, "libjpeg").strip().isdigit()


def test_a7_without_codecs_the_error_names_them() -> None:
    [path] = [one for one in peers.sample_files() if one.name == "MR_small_jp2klossless.dcm"]
    told = run_python(CONVERT, path, "gdcm", "libjpeg", "openjpeg", "PIL", "pylibjpeg")
    assert "pip install 'dicomnet[codecs]'" in told


def run_python(program: str, *words: object) -> str:
    """What a program prints."""
    command = [sys.executable, "-W", "ignore", "-c", program, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


# ---- U10 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [dn.Limits, dn.Timeouts], ids=lambda kind: kind.__name__)
def test_u10_each_field_is_in_the_help(kind: Any) -> None:
    """The reference shows the same docstrings."""
    text = inspect.getdoc(kind) or ""
    assert [one.name for one in fields(kind) if f"\n    {one.name}: " not in text] == []
    assert "automodule:: dicomnet.config" in (ROOT / "docs" / "reference" / "values.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", [client.StoreScu, client.aio.StoreScu], ids=lambda kind: kind.__module__)
def test_u10_each_argument_of_a_store_is_in_the_help(kind: Any) -> None:
    text = inspect.getdoc(kind) or ""
    named = inspect.signature(kind).parameters
    assert [name for name in named if f" {name}: " not in text and f" {name}, " not in text] == []


# ---- U11 -------------------------------------------------------------------------------------------------------------


def test_u11_components_say_their_types() -> None:
    """The whole public interface is checked by pyright and mypy in ``make lint``; this is what was met."""
    for kind in (client.StoreScu, client.QueryRetrieveScu, client.CommitmentScu):
        assert inspect.signature(kind.__enter__).return_annotation == "Self"
    assert inspect.signature(client.StoreScu.send).return_annotation == "Generator[Stored, None]"
    for kind in (client.StoreScu, client.QueryRetrieveScu, client.CommitmentScu):
        assert "Unpack[" in str(inspect.signature(kind).parameters["options"].annotation), kind


# ---- U13 -------------------------------------------------------------------------------------------------------------

PYTHON = """#!/bin/sh
echo "$@" >>"$LOG"
case "$1 $2" in
-c*) exec {python} "$@" ;;
"-m venv") rm -rf "$4" && mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
esac
"""


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(("found", "rebuilt"), [("none", True), ("old", True), ("dangling", True), ("good", False)])
def test_u13_a_stale_environment_is_built_anew(tmp_path: Path, found: str, rebuilt: bool) -> None:
    """The Makefile's own rule; the interpreter notes what it is asked for, and installs nothing."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    python, there = tmp_path / "python", tmp_path / ".venv" / "bin" / "python"
    python.write_text(PYTHON.format(python=sys.executable))
    python.chmod(0o755)
    if found != "none":
        there.parent.mkdir(parents=True)
    if found == "dangling":
        there.symlink_to(tmp_path / "python3.9")
    elif found != "none":
        there.write_text(PYTHON.format(python=sys.executable if found == "good" else "false"))
        there.chmod(0o755)
    environment = {**os.environ, "LOG": str(tmp_path / "log"), "MAKEFLAGS": ""}
    command = ["make", ".venv/installed", f"PYTHON={python}"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    asked = (tmp_path / "log").read_text().splitlines()
    assert ("-m venv --clear .venv" in asked) == rebuilt
    assert asked[-1] == "-m pip install -q --no-build-isolation -e .[dev,docs]"
    assert (tmp_path / ".venv" / "installed").is_file()


# ---- U15 -------------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.deadline(300)  # it runs tests that have a deadline each
def test_u15_the_tests_pass_with_sigint_ignored() -> None:
    """As in a shell's background: what a test starts, and is to obey Ctrl-C, would ignore it."""
    chosen = "tests/test_cli_store.py::TestInterrupted::test_once_releases"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", chosen]

    def ignoring() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, preexec_fn=ignoring)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
