"""Forward a patient's studies from one archive to another: nothing touches the disk on the way.

python forward.py OLD@old.local:11112 NEW@new.local:11112 P1
"""

import sys

import dicomnet as dn

if len(sys.argv) != 4:
    sys.exit(__doc__)
source, target, patient = sys.argv[1:]
with dn.client.QueryRetrieveScu(source, calling="SELF") as old, dn.client.Client(target, calling="SELF") as new:

    def forward(request: dn.StoreRequest) -> dn.Status | None:
        return new.store(request.dataset).status

    for study in old.studies(PatientID=patient):
        done = old.retrieve(study, to=forward)
        print(f"{study.uid}: {done.completed} forwarded, {done.failed} failed")
