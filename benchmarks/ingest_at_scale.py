"""Ingest into an index of many rows beside ingest into an empty one: 20,000 small instances, durable, in five rounds.

Usage, after ``index_at_scale.py`` has filled the database::

    python benchmarks/ingest_at_scale.py /var/tmp/index.db
    python benchmarks/ingest_at_scale.py postgresql://user@host/filled postgresql://user@host/empty

Without a second database the empty one is SQLite's. What is printed: the median rate of each, and their ratio, of which
the goal is 0.9 at 10 M rows.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import corpora
from rigs import HOST, dicomnet_command

ROUNDS, COUNT = 5, 20_000


@contextmanager
def archive(directory: Path, database: str) -> Iterator[str]:
    """An archive with this index; its address."""
    directory.mkdir(parents=True, exist_ok=True)
    place = f'database = "{database}"\n' if database else ""
    (directory / "archive.toml").write_text(f'ae_title = "ARCHIVE"\nport = 0\n{place}')
    process = subprocess.Popen(
        [*dicomnet_command(), "archive", "run", str(directory)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        yield f"ARCHIVE@{HOST}:{line.rpartition(':')[2].strip()}"
    finally:
        process.terminate()
        process.wait(60)


def rate(peer: str, files: Path, associations: int) -> float:
    """Instances a second."""
    command = [*dicomnet_command(), "store", peer, str(files), "--json", "-q", "--associations", str(associations)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    summary = json.loads(done.stdout.splitlines()[-1])["summary"]
    assert summary["failed"] == 0
    return float(summary["instances"] / summary["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("filled", help="SQLite's path, or a URL: an index with rows")
    parser.add_argument("empty", nargs="?", default="", help="one without")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--associations", type=int, default=8)
    arguments = parser.parse_args()
    filled = arguments.filled if "://" in arguments.filled else str(Path(arguments.filled).resolve())
    disk = Path(tempfile.mkdtemp(prefix="dicomnet-bench-", dir=os.environ.get("DICOMNET_BENCH_DISK") or "/var/tmp"))
    rates: dict[str, list[float]] = {"filled": [], "empty": []}
    try:
        with corpora.memory_directory() as memory:
            recipe = replace(corpora.FULL["small by 8"], count=arguments.count, senders=ROUNDS)
            corpus = corpora.build(recipe, memory)
            with archive(disk / "filled", filled) as one, archive(disk / "empty", arguments.empty) as other:
                for files in corpus.directories:
                    rates["filled"].append(rate(one, files, arguments.associations))
                    rates["empty"].append(rate(other, files, arguments.associations))
    finally:
        shutil.rmtree(disk, ignore_errors=True)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    print(f"load {os.getloadavg()[0]:.1f}: {medians['filled']:.0f}/s with rows, {medians['empty']:.0f}/s without: "
          f"{medians['filled'] / medians['empty']:.2f}, goal 0.9")  # fmt: skip


if __name__ == "__main__":
    main()
