"""`dicomnet conform`: a black-box suite for the upper layer and DIMSE of any DICOM provider.

It speaks to the provider over plain sockets, with frames from its own small builder (`wire`), and shares nothing with
dicomnet's codec: a fault of ours cannot hide behind itself. Every case names the section of the standard that it is
about, how binding its rule is, what it expects, and what it saw.
"""
