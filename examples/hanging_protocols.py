"""A workstation's hanging protocols: find those for a modality at an archive, and fetch them.

python hanging_protocols.py ARCHIVE@pacs.local:11112 CT protocols
"""

import sys

import dicomnet as dn

if len(sys.argv) < 4:
    sys.exit(__doc__)
peer, modality, folder = sys.argv[1:]
model = dn.services.query_models.model_of("HANGING_PROTOCOL")
stored = dn.contexts.ProposedContext(
    dn.uids.HANGING_PROTOCOL_STORAGE, dn.services.presentation_contexts.UNCOMPRESSED, scu=False, scp=True
)
contexts = [*dn.services.presentation_contexts.sop_classes(model.find, model.get), stored]
keys = {"HangingProtocolName": None, "SOPInstanceUID": None}
with dn.connect(peer, calling="WS1", contexts=contexts) as archive:
    wanted = [{"Modality": modality}]
    found = list(archive.find("", model=model.name, HangingProtocolDefinitionSequence=wanted, **keys))
    for one in found:
        uid = one.dataset.SOPInstanceUID
        outcome = archive.get("", to=folder, model=model.name, SOPInstanceUID=uid)
        print(f"{one.dataset.HangingProtocolName}: {outcome.completed} fetched")
