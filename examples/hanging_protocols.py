"""A workstation's hanging protocols: find those for a modality at an archive, and fetch them.

python hanging_protocols.py ARCHIVE@pacs.local:11112 CT protocols
"""

import sys

import dicomnet as dn
from dicomnet.services import presentation_contexts, query_models

if len(sys.argv) < 4:
    sys.exit(__doc__)
peer, modality, folder = sys.argv[1:]
model = query_models.model_of("HANGING_PROTOCOL")
contexts = presentation_contexts.sop_classes(model.find) + presentation_contexts.retrieving(model.get)
keys = {"HangingProtocolName": None, "SOPInstanceUID": None}
with dn.connect(peer, calling="WS1", contexts=contexts) as archive:
    wanted = [{"Modality": modality}]
    for one in list(archive.find("", model=model.name, HangingProtocolDefinitionSequence=wanted, **keys)):
        outcome = archive.get("", to=folder, model=model.name, SOPInstanceUID=one.dataset.SOPInstanceUID)
        print(f"{one.dataset.HangingProtocolName}: {outcome.completed} fetched")
