"""Coverage-guided fuzzing with atheris: ``python -m tests.fuzz.atheris_targets TARGET [corpus] [libFuzzer options]``.

The targets are those of `targets`; the corpus starts from the real PDUs of `mutate.seeds`. The Cython modules are best
built with clang's ``-fsanitize=fuzzer-no-link,address`` first, so that their branches guide the fuzzer, too.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["dicomnet", "tests.fuzz"]):
    from . import mutate, targets


def main() -> None:
    name = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if name not in targets.TARGETS:
        sys.exit(f"which target? {', '.join(targets.TARGETS)}")
    warnings.filterwarnings("ignore", module="pydicom")
    with tempfile.TemporaryDirectory(prefix="dicomnet-fuzz-") as corpus:
        for number, data in enumerate(mutate.seeds().get(name, mutate.seeds()["pdu"])):
            Path(corpus, f"{number:04d}").write_bytes(data)
        atheris.Setup([*sys.argv, corpus], targets.TARGETS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
