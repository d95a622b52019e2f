"""De-identification after PS3.15 Annex E: the Basic Application Level Confidentiality Profile and its options.

    from dicomnet.repository.deidentify import Deidentifier, Option, key_in

    deidentifier = Deidentifier(key_in(directory), {Option.SHIFTED_DATES, Option.PATIENT_CHARACTERISTICS})
    report = deidentifier.apply(dataset)             # a pydicom Dataset, changed in place
    data, report = deidentifier.data_set(data, transfer_syntax)      # or its bytes

What is replaced is replaced by the key: the same key (32 bytes, in a file that only its owner reads) gives the same
UIDs, the same Patient ID, and dates that are shifted by the same number of days for one patient; without the key they
lead nowhere back. So the studies of a patient stay together, over days, programs and machines.

`Report` says what was done to which element, in words that may be logged (no values), and what was not cleaned.
"""

from .deidentifier import Deidentifier, NotDeidentified, Report
from .keys import key_in
from .profile import Option

__all__ = ["Deidentifier", "NotDeidentified", "Option", "Report", "key_in"]
