"""Retrieve a study to oneself over TLS: by C-MOVE, to a listener that is there until the study is.

python retrieve_tls.py dicoms://ARCHIVE@pacs.local:2762 dicoms://SELF@0.0.0.0:2763 certificates 1.2.3 incoming
"""

import sys

import dicomnet as dn

if len(sys.argv) != 6:
    sys.exit(__doc__)
peer, here, certificates, uid, folder = sys.argv[1:]
own = {"ca": f"{certificates}/ca.pem", "cert": f"{certificates}/server.pem", "key": f"{certificates}/server.key"}
archive = dn.client.QueryRetrieveScu(peer, calling="SELF", tls=dn.TLS(**own), listen=here, by=["move"])


@archive.on(dn.client.events.SecureLinkReady)
def show(event: dn.client.events.SecureLinkReady) -> None:
    print(f"{event.peer}: {event.link.version}, {event.link.cipher}")


with archive:
    done = archive.retrieve("STUDY", StudyInstanceUID=uid, to=folder)
    print(f"{done.completed} instances by {done.by}, {done.failed} failed")
