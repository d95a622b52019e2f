"""An emergency is known by name now: correct who it is, and merge it with the patient who has been here before.

python update_patient.py pacs.local:2575 EMERGENCY-7 P1 Doe^Jane
"""

import sys

import dicomnet as dn

if len(sys.argv) < 5:
    sys.exit(__doc__)
where, emergency, patient, name = sys.argv[1:]
patients = dn.client.PatientUpdateScu(where, applications=("RIS", "PACS"))
try:
    patients.update(emergency, name=name)
    patients.merge(emergency, patient)
except dn.ServiceFailure as error:  # nothing of that message was done
    sys.exit(f"{error}")
print(f"{emergency} is {patient} now")
