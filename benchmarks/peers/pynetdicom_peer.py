"""pynetdicom as its documentation shows it: send_c_store of a path, and a handler that writes what came, undecoded.

Run as one of:

    pynetdicom_peer.py receive DIRECTORY    prints "listening on HOST:PORT"
    pynetdicom_peer.py send PORT DIRECTORY  prints the seconds from the first request to the last response
    pynetdicom_peer.py associate PORT COUNT prints the seconds of so many associations with a C-ECHO each
"""

import logging
import sys
import time
from pathlib import Path

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import CTImageStorage, MultiFrameGrayscaleWordSecondaryCaptureImageStorage, Verification

PDU = 131072  # as DCMTK's in the same run; pynetdicom's default is 16382, which is slower


def receive(directory: str) -> None:
    def keep(event: evt.Event) -> int:
        with open(f"{directory}/{event.request.AffectedSOPInstanceUID}.dcm", "wb") as file:
            file.write(event.encoded_dataset())
        return 0x0000

    entity = AE()
    entity.maximum_pdu_size = PDU
    entity.supported_contexts = AllStoragePresentationContexts[:127]
    entity.add_supported_context(Verification)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)])
    print(f"listening on 127.0.0.1:{server.socket.getsockname()[1]}", flush=True)
    sys.stdin.read()  # until the parent closes it or kills this process


def send(port: int, directory: str) -> None:
    entity = AE()
    entity.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    entity.add_requested_context(MultiFrameGrayscaleWordSecondaryCaptureImageStorage, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", port, max_pdu=PDU)
    if not association.is_established:
        sys.exit("no association")
    started = time.perf_counter()
    for path in sorted(Path(directory).iterdir()):
        status = association.send_c_store(path)
        if not status or status.Status != 0x0000:
            sys.exit(f"{path}: {status or 'no response'} (aborted: {association.is_aborted})")
    print(time.perf_counter() - started)
    association.release()


def associate(port: int, count: int) -> None:
    entity = AE()
    entity.add_requested_context(Verification)
    started = time.perf_counter()
    for _ in range(count):
        association = entity.associate("127.0.0.1", port, max_pdu=PDU)
        if not association.is_established or association.send_c_echo().Status != 0x0000:
            sys.exit("no association, or no success")
        association.release()
    print(time.perf_counter() - started)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)  # so that a broken run says why
    if sys.argv[1] == "receive":
        receive(sys.argv[2])
    elif sys.argv[1] == "associate":
        associate(int(sys.argv[2]), int(sys.argv[3]))
    else:
        send(int(sys.argv[2]), sys.argv[3])
