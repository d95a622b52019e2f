"""A modality's morning: take patients from the worklist, say that the examination has begun, and that it is done.

python worklist_to_mpps.py RIS@ris.local:11112
"""

import sys

import dicomnet as dn

if len(sys.argv) < 2:
    sys.exit(__doc__)
peer = sys.argv[1]
with dn.client.WorklistScu(peer, calling="CT1") as worklist, dn.client.MppsScu(peer, calling="CT1") as steps:
    for item in worklist.items(step={"Modality": "CT", "ScheduledStationAETitle": "CT1"}):
        print(f"{item.PatientName}: {item.step.ScheduledProcedureStepDescription}")
        step = steps.begin(item)
        steps.complete(step, [{"SeriesInstanceUID": dn.uids.new(), "ProtocolName": "HEAD"}])
        print(f"{step.uid}: {step.state.value}")
