"""``dicomnet dump``: what is in a Part 10 file, a captured stream of PDUs, or a message log."""

from __future__ import annotations

import os
import stat

import click

from ..errors import DicomNetError, InputFileError, InputProblem, cannot_read
from ..files.instance_source import open_source
from .exits import Exit, exit_code
from .options import PATH, output_options
from .output import Output

__all__ = ["command"]

_PREFIX = slice(128, 132)  # where a Part 10 file says "DICM" (PS3.10 Section 7.1)
_PDU_TYPES = range(1, 8)
_LOG = b'{"log": "dicomnet"'  # how a message log begins (`client.log`)


@click.command("dump")
@click.argument("file", type=PATH)
@output_options
def command(file: str, output: Output) -> int:
    """Show what is in FILE: the elements of a Part 10 file, the PDUs of a captured stream, or a message log.

    Of a file, the file meta information and the elements at the top level of the data set are shown, of each value a
    part. A stream is the bytes of one direction of a connection, or PDUs one after the other: every PDU is shown with
    its items and commands; of data sets, only how much of them. A message log is shown a line for each PDU and message;
    with -v, all that it says.
    """
    try:
        if not stat.S_ISREG(os.stat(file).st_mode) and not os.path.isdir(file):  # a pipe would be waited for
            raise InputFileError("is no ordinary file", path=file, problem=InputProblem.CANNOT_READ)
        with open(file, "rb") as opened:
            start = opened.read(132)
    except InputFileError:
        raise
    except OSError as error:
        raise cannot_read(error, file) from error
    if start[_PREFIX] == b"DICM":
        return _dump_file(file, output)
    if start.startswith(_LOG):
        from .dump_log import dump

        return dump(file, output)
    if len(start) >= 2 and start[0] in _PDU_TYPES and start[1] == 0:
        return _dump_stream(file, output)
    what = "neither a Part 10 file nor a stream of PDUs nor a message log"
    raise InputFileError(what, path=file, problem=InputProblem.NOT_PART10)


def _dump_file(file: str, output: Output) -> int:
    from .headers import elements

    count = 0
    try:
        for fields in elements(file):
            output.say(f"{fields['tag']} {fields['vr']} {fields['keyword']}: {fields['value']}")
            output.record(**fields)
            count += 1
        code = _check(file, output, readable=count > 0)
    except InputFileError as error:
        output.error(str(error))
        code = exit_code(error)
    output.record(summary={"elements": count, "failed": int(code != Exit.DONE)})
    return code


def _check(file: str, output: Output, *, readable: bool) -> int:
    """Say so if the file is cut short; what else would keep it from being sent does not matter here."""
    try:
        open_source(file).close()
    except InputFileError as error:
        if error.problem is InputProblem.TRUNCATED or not readable:
            output.error(str(error))
            return exit_code(error)
    except DicomNetError:
        pass
    return Exit.DONE


def _dump_stream(file: str, output: Output) -> int:
    from .pdus import lines, pdus

    code: int = Exit.DONE
    count = 0
    try:
        with open(file, "rb") as opened:
            for fields in pdus(opened, os.fstat(opened.fileno()).st_size):
                count += 1
                code = InputProblem.TRUNCATED if "malformed" in fields else code
                output.record(**fields)
                if not output.json:
                    output.say(f"{fields.pop('offset')}: {fields.pop('pdu')}, {fields.pop('length')} bytes")
                    for line in lines(fields):
                        output.say(line)
    except InputFileError as error:
        error.path = file
        output.error(str(error))
        code = exit_code(error)
    output.record(summary={"pdus": count, "failed": int(code != Exit.DONE)})
    return int(code)
