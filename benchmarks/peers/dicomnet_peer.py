"""Associate, echo, release, so many times in one process: dicomnet_peer.py PORT COUNT prints the seconds."""

import sys
import time

import dicomnet as dn

if __name__ == "__main__":
    peer, count = f"127.0.0.1:{sys.argv[1]}", int(sys.argv[2])
    contexts = dn.contexts.verification()
    started = time.perf_counter()
    for _ in range(count):
        with dn.connect(peer, contexts=contexts) as association:
            if association.echo() != 0:
                sys.exit("no success")
    print(time.perf_counter() - started)
