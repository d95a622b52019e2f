"""What is going over the wire? Every PDU and message to a file, without the patient's data; `dicomnet dump` shows it.

python message_log.py ARCHIVE@pacs.local:11112 messages.log
"""

import sys

import dicomnet as dn

if len(sys.argv) != 3:
    sys.exit(__doc__)
peer, path = sys.argv[1:]
log = dn.client.log.MessageLog(path, datasets=True)
with log, dn.client.Client(peer, calling="SELF", tap=log) as archive:
    archive.echo()
    for match in archive.find("STUDY", PatientName="DOE*", returning=["StudyInstanceUID"]):
        print(match.StudyInstanceUID)
