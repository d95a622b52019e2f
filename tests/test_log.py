"""The logger that is loaded with its first record."""

import logging
import subprocess
import sys

import programs

from dicomnet.log import log


def test_it_is_the_logger_of_the_package(caplog):
    with caplog.at_level(logging.INFO, "dicomnet"):
        log.info("%s to see", "something")
    assert [(record.name, record.getMessage()) for record in caplog.records] == [("dicomnet", "something to see")]
    assert log.isEnabledFor(logging.CRITICAL)


def test_whoever_prepares_is_asked_once_before_the_first_record():
    code = """
import sys
from dicomnet.log import log
asked = []
log.prepare = lambda: asked.append("logging" in sys.modules)
assert "logging" not in sys.modules
log.error("one")
log.warning("two")
assert asked == [True]
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=programs.ROOT)
    assert (result.returncode, result.stderr) == (0, "one\ntwo\n")
