"""Is there anything of this patient? The first match will do: leaving the loop cancels the query.

python first_match.py ARCHIVE@pacs.local:11112 P1
"""

import sys

import dicomnet as dn

if len(sys.argv) != 3:
    sys.exit(__doc__)
peer, patient = sys.argv[1:]
with dn.client.QueryRetrieveScu(peer, calling="SELF") as archive:
    for study in archive.studies(PatientID=patient):
        print(f"{study.text('PatientName')}: {study.uid}")
        break
    else:
        sys.exit("nothing")
