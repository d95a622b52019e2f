"""What the services have to reach: answers to queries per second, in constant memory, over two processes."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

import dicomnet as dn

resource = pytest.importorskip("resource")  # not on Windows

PROVIDER = """
import resource, sys
import dicomnet as dn

listener = dn.Listener("ARCHIVE", port=0)

@listener.on_find("STUDY_ROOT")
def find(request):
    for number in range(int(request.identifier.PatientID)):
        yield {
            "QueryRetrieveLevel": "STUDY", "StudyDate": "20260101", "StudyTime": "120000", "AccessionNumber": "A1",
            "ModalitiesInStudy": "CT", "StudyDescription": "CHEST", "PatientName": "DOE^JANE", "PatientID": str(number),
            "StudyInstanceUID": f"2.25.{number}", "StudyID": "1",
        }

with listener:
    print(listener.address[1], flush=True)
    sys.stdin.readline()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)
    sys.stdin.readline()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)
"""
RESPONSES = 20_000
GROWTH = 4096  # KiB; what is read ahead


@pytest.mark.measures
def test_5000_answers_a_second_in_constant_memory() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROVIDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        port = int(process.stdout.readline())
        fastest, memory = 0.0, []
        with dn.connect(f"ARCHIVE@127.0.0.1:{port}", contexts=dn.contexts.query_retrieve([])) as association:
            for count in (1_000, RESPONSES, RESPONSES, RESPONSES):
                start = time.perf_counter()
                assert sum(len(match.data) > 100 for match in association.find("STUDY", PatientID=str(count))) == count
                fastest = max(fastest, count / (time.perf_counter() - start))
                if len(memory) < 1:
                    process.stdin.write("\n")
                    process.stdin.flush()
                    memory = [int(process.stdout.readline()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]
        process.stdin.write("\n")
        process.stdin.flush()
        after = [int(process.stdout.readline()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]
    assert fastest >= 5_000
    assert [end - begin < GROWTH for begin, end in zip(memory, after, strict=True)] == [True, True]
