"""Tell a RIS that the instances of a folder can be had from an archive: one note for each study.

python tell_availability.py RIS@ris.local:11106 ARCHIVE studies
"""

import sys

import dicomnet as dn
from dicomnet.client.availability import instances_of

if len(sys.argv) != 4:
    sys.exit(__doc__)
peer, archive, folder = sys.argv[1:]
instances = list(instances_of([folder], availability="ONLINE", retrieve_ae_title=archive))
with dn.client.AvailabilityScu(peer, calling=archive) as ris:
    notes = ris.notify(instances)
print(f"{len(instances)} instances told of in {len(notes)} notes")
