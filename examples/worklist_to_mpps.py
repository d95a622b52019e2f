"""A modality's morning: take a patient from the worklist, say that the examination has begun, and that it is done.

python worklist_to_mpps.py RIS@ris.local:11112
"""

import sys

import dicomnet as dn

SCHEDULED, STATUS = "ScheduledProcedureStepSequence", "PerformedProcedureStepStatus"
contexts = dn.contexts.worklist() + dn.contexts.procedure_step()
with dn.connect(sys.argv[1], calling="CT1", contexts=contexts) as ris:
    wanted = {"returning": ["PatientName", "StudyInstanceUID"], SCHEDULED: [{"Modality": "CT"}]}
    for item in list(ris.worklist(**wanted)):
        print(f"{item.PatientName}: {item.dataset[SCHEDULED][0].ScheduledProcedureStepDescription}")
        attributes = {"StudyInstanceUID": item.StudyInstanceUID, "PatientName": item.PatientName}
        begin = {STATUS: "IN PROGRESS", "ScheduledStepAttributesSequence": [attributes]}
        uid = ris.mpps_create(begin).sop_instance_uid
        series = {"SeriesInstanceUID": dn.uids.new(), "ProtocolName": "HEAD"}
        ris.mpps_set(uid, {STATUS: "COMPLETED", "PerformedSeriesSequence": [series]})
        print(f"{uid}: COMPLETED")
