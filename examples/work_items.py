"""A workstation's worklist: take what is scheduled, say how far it is, and that it is done; those who watch are told.

python work_items.py ARCHIVE@pacs.local:11112
"""

import sys

import dicomnet as dn

STATION, WORK = ("WS1", "99SITE", "Workstation 1"), ("110005", "DCM", "Interpretation")
if len(sys.argv) < 2:
    sys.exit(__doc__)
with dn.client.UpsScu(sys.argv[1], calling="WS1") as ups:
    for item in ups.items(ProcedureStepState="SCHEDULED", WorklistLabel="Reading"):
        try:
            mine = ups.claim(item.uid)
        except dn.ServiceFailure as error:  # another one was faster
            print(f"{item.label}: {error.status}")
            continue
        ups.progress(mine, 50, "half of the images are read")
        ups.complete(mine, station=STATION, work=WORK, start=item.text("ScheduledProcedureStepStartDateTime"))
        print(f"{item.label}: {mine.state.value}")
