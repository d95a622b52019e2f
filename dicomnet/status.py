"""DIMSE status codes: an int that knows its category and its meaning (PS3.7 Annex C, PS3.4 per service class)."""

from __future__ import annotations

from enum import Enum
from typing import ClassVar, NoReturn

__all__ = ["Category", "Status"]


class Category(Enum):
    """What a status says about the operation (PS3.7 Annex C)."""

    SUCCESS = "success"
    WARNING = "warning"
    FAILURE = "failure"
    CANCEL = "cancel"
    PENDING = "pending"


class Status(int):
    """A status code, 0 to 0xFFFF, with its category and its meaning for a service.

    It compares and hashes as the int that it is. Its truth value is a ``TypeError``: success is 0, so ``if status:``
    would read as its opposite. Ask ``is_success`` and its sisters, or compare.

    Args:
        code: the number in Status (0000,0900).
        service: whose table gives the meaning, a DIMSE service ("C-STORE") or a service class ("Print Management").
        comment: Error Comment (0000,0902), as the performer worded it.
        offending: Offending Element (0000,0901), tags as ints.
        error_id: Error ID (0000,0903), what a service class says beyond the status; 0 where it says nothing.
    """

    SUCCESS: ClassVar[Status]
    PENDING: ClassVar[Status]
    PENDING_WARNING: ClassVar[Status]
    CANCEL: ClassVar[Status]
    NO_SUCH_ATTRIBUTE: ClassVar[Status]
    INVALID_ATTRIBUTE_VALUE: ClassVar[Status]
    ATTRIBUTE_LIST_ERROR: ClassVar[Status]
    PROCESSING_FAILURE: ClassVar[Status]
    DUPLICATE_SOP_INSTANCE: ClassVar[Status]
    NO_SUCH_SOP_INSTANCE: ClassVar[Status]
    NO_SUCH_EVENT_TYPE: ClassVar[Status]
    NO_SUCH_ARGUMENT: ClassVar[Status]
    INVALID_ARGUMENT_VALUE: ClassVar[Status]
    ATTRIBUTE_VALUE_OUT_OF_RANGE: ClassVar[Status]
    INVALID_SOP_INSTANCE: ClassVar[Status]
    NO_SUCH_SOP_CLASS: ClassVar[Status]
    CLASS_INSTANCE_CONFLICT: ClassVar[Status]
    MISSING_ATTRIBUTE: ClassVar[Status]
    MISSING_ATTRIBUTE_VALUE: ClassVar[Status]
    SOP_CLASS_NOT_SUPPORTED: ClassVar[Status]
    NO_SUCH_ACTION_TYPE: ClassVar[Status]
    NOT_AUTHORIZED: ClassVar[Status]
    DUPLICATE_INVOCATION: ClassVar[Status]
    UNRECOGNIZED_OPERATION: ClassVar[Status]
    MISTYPED_ARGUMENT: ClassVar[Status]
    RESOURCE_LIMITATION: ClassVar[Status]
    OUT_OF_RESOURCES: ClassVar[Status]
    UNABLE_TO_CALCULATE_MATCHES: ClassVar[Status]
    UNABLE_TO_PERFORM_SUB_OPERATIONS: ClassVar[Status]
    MOVE_DESTINATION_UNKNOWN: ClassVar[Status]
    DATA_SET_DOES_NOT_MATCH_SOP_CLASS: ClassVar[Status]
    CANNOT_UNDERSTAND: ClassVar[Status]
    UNABLE_TO_PROCESS: ClassVar[Status]
    COERCION_OF_DATA_ELEMENTS: ClassVar[Status]
    ELEMENTS_DISCARDED: ClassVar[Status]
    DATA_SET_MISMATCH_WARNING: ClassVar[Status]
    SUB_OPERATIONS_WARNING: ClassVar[Status]

    # Class-level defaults: most statuses carry a number only, and are then nothing but an int to construct.
    service: str | None = None
    comment: str | None = None
    offending: tuple[int, ...] = ()
    error_id: int = 0

    def __new__(  # noqa: D102, described with the class
        cls,
        code: int,
        service: str | None = None,
        comment: str | None = None,
        offending: tuple[int, ...] = (),
        error_id: int = 0,
    ) -> Status:
        self = int.__new__(cls, code)
        if not 0 <= self <= 0xFFFF:
            raise ValueError(f"a status is a 16-bit number, not {code}")
        if service or comment or offending or error_id:
            self.__dict__.update(service=service, comment=comment, offending=tuple(offending), error_id=error_id)
        return self

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Status is immutable: {name} is given at construction")

    def __bool__(self) -> bool:
        raise TypeError("a Status has no truth value: use .is_success, or compare it with a code")

    @property
    def category(self) -> Category:
        """The category by the ranges of PS3.7 Annex C; a code outside all of them counts as a failure."""
        return _CATEGORIES.get(self) or (Category.WARNING if self >> 12 == 0xB else Category.FAILURE)

    @property
    def is_success(self) -> bool:
        """Done, nothing to add."""
        return self == 0x0000

    @property
    def is_warning(self) -> bool:
        """Done, but not quite as asked."""
        return self.category is Category.WARNING

    @property
    def is_failure(self) -> bool:
        """Not done."""
        return self.category is Category.FAILURE

    @property
    def is_cancel(self) -> bool:
        """Ended early, because the requestor asked for it."""
        return self == 0xFE00

    @property
    def is_pending(self) -> bool:
        """More responses follow; every other status is the last one."""
        return self == 0xFF00 or self == 0xFF01

    @property
    def is_out_of_resources(self) -> bool:
        """A7xx: the peer cannot take it now, and may later (PS3.4 Section B.2.3)."""
        return self >> 8 == 0xA7

    @property
    def meaning(self) -> str:
        """The standard's words for this code in its service, else in general; "Unknown status" when it has none."""
        code = f"{int(self):04X}"
        tables = (_MEANINGS.get(self.service or "", {}), _GENERAL)
        for table in tables:
            for key in (code, f"{code[:2]}xx", f"{code[0]}xxx"):
                if key in table:
                    return table[key]
        return "Unknown status"

    def of_service(self, service: str) -> Status:
        """The same in the words of a service or service class, which the message itself does not name."""
        return Status(self, service, self.comment, self.offending, self.error_id)

    def __repr__(self) -> str:
        comment = f"; {self.comment!r}" if self.comment else ""
        if self.meaning.lower() == self.category.value:
            return f"0x{int(self):04X} ({self.category.value}{comment})"
        return f"0x{int(self):04X} ({self.category.value}: {self.meaning}{comment})"

    __str__ = __repr__


_CATEGORIES = {
    0x0000: Category.SUCCESS,
    0x0001: Category.WARNING,
    0x0107: Category.WARNING,
    0x0116: Category.WARNING,
    0xFE00: Category.CANCEL,
    0xFF00: Category.PENDING,
    0xFF01: Category.PENDING,
}

# PS3.7 Annex C; then what the service classes of PS3.4 agree on, for a status whose service is not known.
_GENERAL = {
    "0000": "Success",
    "0001": "Requested optional attributes are not supported",
    "0105": "No such Attribute",
    "0106": "Invalid Attribute Value",
    "0107": "Attribute list error",
    "0110": "Processing Failure",
    "0111": "Duplicate SOP Instance",
    "0112": "No such SOP Instance",
    "0113": "No such Event Type",
    "0114": "No such argument",
    "0115": "Invalid argument value",
    "0116": "Attribute Value out of range",
    "0117": "Invalid SOP Instance",
    "0118": "No such SOP Class",
    "0119": "Class-Instance conflict",
    "0120": "Missing Attribute",
    "0121": "Missing Attribute Value",
    "0122": "Refused: SOP Class not supported",
    "0123": "No such Action Type",
    "0124": "Refused: Not authorized",
    "0131": "Duplicate transaction UID",
    "0210": "Duplicate invocation",
    "0211": "Unrecognized operation",
    "0212": "Mistyped argument",
    "0213": "Resource Limitation",
    "FE00": "Cancel",
    "FF00": "Pending",
    "FF01": "Pending (optional keys not supported)",
    "A701": "Refused: Out of resources - Unable to calculate number of matches",
    "A702": "Refused: Out of resources - Unable to perform sub-operations",
    "A7xx": "Refused: Out of resources",
    "A801": "Refused: Move Destination unknown",
    "A9xx": "Error: Data Set does not match SOP Class",
    "Cxxx": "Failed: Unable to process",
}

# The tables of PS3.4, by DIMSE service or service class; what is worded there as in general is not repeated.
_MEANINGS: dict[str, dict[str, str]] = {
    "C-STORE": {
        "B000": "Coercion of Data Elements",
        "B006": "Elements Discarded",
        "B007": "Data Set does not match SOP Class",
        "Cxxx": "Error: Cannot understand",
    },
    "C-FIND": {
        "0000": "Matching is complete - No final Identifier is supplied",
        "A710": "Invalid prior record key",
        "B001": "Matching reached response limit",
        "FE00": "Matching terminated due to Cancel request",
        "FF00": (
            "Matches are continuing - Current Match is supplied and any Optional Keys were supported in the "
            "same manner as Required Keys"
        ),
        "FF01": (
            "Matches are continuing - Warning that one or more Optional Keys were not supported for "
            "existence and/or matching for this Identifier"
        ),
    },
    "C-GET": {
        "0000": "Sub-operations Complete - No Failures or Warnings",
        "AA00": "Failed: None of the frames requested were found in the SOP Instance",
        "AA01": "Failed: Unable to create new object for this SOP Class",
        "AA02": "Failed: Unable to extract frames",
        "AA03": "Failed: Time-based request received for a non-time-based original SOP Instance",
        "AA04": "Failed: Invalid Request",
        "B000": "Sub-operations Complete - One or more Failures or Warnings",
        "FE00": "Sub-operations terminated due to Cancel Indication",
        "FF00": "Sub-operations are continuing",
    },
    "C-MOVE": {
        "0000": "Sub-operations Complete - No Failures",
        "AA00": "Failed: None of the frames requested were found in the SOP Instance",
        "AA01": "Failed: Unable to create new object for this SOP Class",
        "AA02": "Failed: Unable to extract frames",
        "AA03": "Failed: Time-based request received for a non-time-based original SOP Instance",
        "AA04": "Failed: Invalid Request",
        "B000": "Sub-operations Complete - One or more Failures",
        "Cxxx": "Failed: Unable to Process",
        "FE00": "Sub-operations terminated due to Cancel Indication",
        "FF00": "Sub-operations are continuing",
    },
    "Non-Patient Object Storage": {
        "C000": "Error: Cannot understand",
    },
    "Relevant Patient Information Query": {
        "C100": "Failed: More than one match found",
        "C200": "Failed: Unable to support requested template",
        "FE00": "Matching terminated due to Cancel request",
        "FF00": "Current Match is supplied",
    },
    "Modality Performed Procedure Step": {
        "0001": "Requested optional Attributes are not supported",
        "0110": "Performed Procedure Step Object may no longer be updated (Error ID A710H)",
    },
    "Print Management": {
        "B600": "Memory allocation not supported",
        "B601": "Film session printing (collation) is not supported",
        "B602": "Film Session SOP Instance hierarchy does not contain Image Box SOP Instances (empty page)",
        "B603": "Film Box SOP Instance hierarchy does not contain Image Box SOP Instances (empty page)",
        "B604": "Image size is larger than image box size, the image has been demagnified",
        "B605": (
            "Requested Min Density or Max Density outside of printer's operating range. The printer will use "
            "its respective minimum or maximum density value instead"
        ),
        "B609": "Image size is larger than the Image Box size. The Image has been cropped to fit",
        "B60A": (
            "Image size or Combined Print Image size is larger than the Image Box size. Image or Combined "
            "Print Image has been decimated to fit"
        ),
        "C600": "Failed: Film Session SOP Instance hierarchy does not contain Film Box SOP Instances",
        "C601": "Failed: Unable to create Print Job SOP Instance; print queue is full",
        "C602": "Failed: Unable to create Print Job SOP Instance; print queue is full",
        "C603": "Failed: Image size is larger than image box size",
        "C605": "Failed: Insufficient memory in printer to store the image",
        "C613": "Failed: Combined Print Image size is larger than the Image Box size",
        "C616": (
            "Failed: There is an existing Film Box that has not been printed and N-ACTION at the Film "
            "Session level is not supported. A new Film Box will not be created when a previous Film Box has "
            "not been printed"
        ),
    },
    "Application Event Logging": {
        "B101": (
            "Specified Synchronization Frame of Reference UID does not match SCP Synchronization Frame of Reference"
        ),
        "B102": "Study Instance UID coercion; Event logged under a different Study Instance UID",
        "B104": "IDs inconsistent in matching a current study; Event logged",
        "C101": "Failed: Procedural Logging not available for specified Study Instance UID",
        "C102": "Failed: Event Information does not match Template",
        "C103": "Failed: Cannot match event to a current study",
        "C104": "Failed: IDs inconsistent in matching a current study; Event not logged",
        "C10E": "Failed: Operator Refused: Not authorized to add entry to Medication Administration Record",
        "C110": "Failed: Patient cannot be identified from Patient ID (0010,0020) or Admission ID (0038,0010)",
        "C111": "Failed: Update of Medication Administration Record failed",
    },
    "Media Creation Management": {
        "0001": "Requested optional Attributes are not supported",
        "A510": "Failed: An Initiate Media Creation action has already been received for this SOP Instance",
        "C201": "Failed: Media creation request already completed",
        "C202": "Failed: Media creation request already in progress and cannot be interrupted",
        "C203": "Failed: Cancellation denied for unspecified reason",
    },
    "Unified Procedure Step": {
        "0001": "Requested optional Attributes are not supported",
        "B300": "The UPS was created with modifications",
        "B301": "Deletion Lock not granted",
        "B304": "The UPS is already in the requested state of CANCELED",
        "B305": "Coerced invalid values to valid values",
        "B306": "The UPS is already in the requested state of COMPLETED",
        "C300": "Failed: The UPS may no longer be updated",
        "C301": "Failed: The correct Transaction UID was not provided",
        "C302": "Failed: The UPS is already IN PROGRESS",
        "C303": "Failed: The UPS may only become SCHEDULED via N-CREATE, not N-SET or N-ACTION",
        "C304": "Failed: The UPS has not met final state requirements for the requested state change",
        "C307": "Failed: Specified SOP Instance UID does not exist or is not a UPS Instance managed by this SCP",
        "C308": "Failed: Receiving AE-TITLE is Unknown to this SCP",
        "C309": 'Failed: The provided value of UPS State was not "SCHEDULED"',
        "C310": 'Failed: The UPS is not yet in the "IN PROGRESS" state',
        "C311": "Failed: The UPS is already COMPLETED",
        "C312": "Failed: The performer cannot be contacted",
        "C313": "Failed: Performer chooses not to cancel",
        "C314": "Failed: Specified action not appropriate for specified instance",
        "C315": "Failed: SCP does not support Event Reports",
        "FE00": "Matching terminated due to Cancel request",
        "FF00": (
            "Matches are continuing - Current Match is supplied and any Optional Keys were supported in the "
            "same manner as Required Keys"
        ),
        "FF01": (
            "Matches are continuing - Warning that one or more Optional Keys were not supported for "
            "existence for this Identifier"
        ),
    },
    "RT Machine Verification": {
        "C112": "Failed: Applicable Machine Verification instance not found",
        "C221": "Failed: The Referenced Fraction Group Number does not exist in the referenced plan",
        "C222": "Failed: No beams exist within the referenced fraction group",
        "C223": "Failed: SCU already verifying and cannot currently process this request",
        "C224": "Failed: Referenced Beam Number not found within the referenced Fraction Group",
        "C225": "Failed: Referenced device or accessory not supported",
        "C226": "Failed: Referenced device or accessory not found within the referenced beam",
        "C227": "Failed: No such object instance - Referenced RT Plan not found",
    },
}

# By name: what is the same whatever the service. A status of a service says so: ``Status(0xA700, "C-STORE")``.
Status.SUCCESS = Status(0x0000)
Status.PENDING = Status(0xFF00)
Status.PENDING_WARNING = Status(0xFF01)
Status.CANCEL = Status(0xFE00)
Status.NO_SUCH_ATTRIBUTE = Status(0x0105)
Status.INVALID_ATTRIBUTE_VALUE = Status(0x0106)
Status.ATTRIBUTE_LIST_ERROR = Status(0x0107)
Status.PROCESSING_FAILURE = Status(0x0110)
Status.DUPLICATE_SOP_INSTANCE = Status(0x0111)
Status.NO_SUCH_SOP_INSTANCE = Status(0x0112)
Status.NO_SUCH_EVENT_TYPE = Status(0x0113)
Status.NO_SUCH_ARGUMENT = Status(0x0114)
Status.INVALID_ARGUMENT_VALUE = Status(0x0115)
Status.ATTRIBUTE_VALUE_OUT_OF_RANGE = Status(0x0116)
Status.INVALID_SOP_INSTANCE = Status(0x0117)
Status.NO_SUCH_SOP_CLASS = Status(0x0118)
Status.CLASS_INSTANCE_CONFLICT = Status(0x0119)
Status.MISSING_ATTRIBUTE = Status(0x0120)
Status.MISSING_ATTRIBUTE_VALUE = Status(0x0121)
Status.SOP_CLASS_NOT_SUPPORTED = Status(0x0122)
Status.NO_SUCH_ACTION_TYPE = Status(0x0123)
Status.NOT_AUTHORIZED = Status(0x0124)
Status.DUPLICATE_INVOCATION = Status(0x0210)
Status.UNRECOGNIZED_OPERATION = Status(0x0211)
Status.MISTYPED_ARGUMENT = Status(0x0212)
Status.RESOURCE_LIMITATION = Status(0x0213)
Status.OUT_OF_RESOURCES = Status(0xA700)
Status.UNABLE_TO_CALCULATE_MATCHES = Status(0xA701)
Status.UNABLE_TO_PERFORM_SUB_OPERATIONS = Status(0xA702)
Status.MOVE_DESTINATION_UNKNOWN = Status(0xA801)
Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS = Status(0xA900)
Status.CANNOT_UNDERSTAND = Status(0xC000, "C-STORE")
Status.COERCION_OF_DATA_ELEMENTS = Status(0xB000, "C-STORE")
Status.ELEMENTS_DISCARDED = Status(0xB006, "C-STORE")
Status.DATA_SET_MISMATCH_WARNING = Status(0xB007, "C-STORE")
Status.UNABLE_TO_PROCESS = Status(0xC000)
Status.SUB_OPERATIONS_WARNING = Status(0xB000, "C-GET")
