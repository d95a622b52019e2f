"""Store a folder without names: each data set is changed before it is sent, and what is no image stays here.

python edit_before_store.py ARCHIVE@pacs.local:11112 studies
"""

import sys

import dicomnet as dn

if len(sys.argv) != 3:
    sys.exit(__doc__)
peer, folder = sys.argv[1:]
archive = dn.client.StoreScu(peer, calling="SELF")


@archive.on(dn.client.events.BeforeStore)
def anonymous(event: dn.client.events.BeforeStore) -> None:
    if "PixelData" not in event.dataset:
        event.skip()
    event.dataset.PatientName = "ANON"


with archive:
    for result in archive.send(folder):
        print(f"{result.name}: {result.outcome.value}")
