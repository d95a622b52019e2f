"""Find a patient's studies, and go down to their series and instances.

python drill_down.py ARCHIVE@pacs.local:11112 'DOE*'
"""

import sys

import dicomnet as dn

if len(sys.argv) != 3:
    sys.exit(__doc__)
peer, name = sys.argv[1:]
with dn.client.QueryRetrieveScu(peer, calling="SELF") as archive:
    for study in archive.studies(PatientName=name):
        print(f"{study.text('PatientName')}, {study.text('StudyDate')}: {', '.join(study.modalities)}")
        for series in archive.series(study):
            print(f"  {series.modality} {series.text('SeriesNumber')}")
            for instance in archive.instances(series):
                print(f"    {instance.text('InstanceNumber')} {instance.uid}")
