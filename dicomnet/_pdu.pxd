# cython: language_level=3
cimport cython
from dicomnet._bytes cimport Cursor, Writer


cdef enum:
    PDU_ASSOCIATE_RQ = 1
    PDU_ASSOCIATE_AC = 2
    PDU_ASSOCIATE_RJ = 3
    PDU_DATA_TF = 4
    PDU_RELEASE_RQ = 5
    PDU_RELEASE_RP = 6
    PDU_ABORT = 7
    HEADER_SIZE = 6
    MAX_ASSOCIATE_PDU = 1048576


cdef class Value:
    cdef tuple values(self)
    cdef int write(self, Writer* w) except -1


cdef class SubItem(Value):
    pass


@cython.final
cdef class UnknownItem(SubItem):
    cdef readonly int type
    cdef readonly bytes data


@cython.final
cdef class MaximumLength(SubItem):
    cdef readonly unsigned int value


@cython.final
cdef class ImplementationClassUID(SubItem):
    cdef readonly str uid


@cython.final
cdef class ImplementationVersionName(SubItem):
    cdef readonly str name


@cython.final
cdef class AsynchronousOperationsWindow(SubItem):
    cdef readonly int invoked
    cdef readonly int performed


@cython.final
cdef class RoleSelection(SubItem):
    cdef readonly str sop_class_uid
    cdef readonly bint scu
    cdef readonly bint scp


@cython.final
cdef class SOPClassExtendedNegotiation(SubItem):
    cdef readonly str sop_class_uid
    cdef readonly bytes application_information


@cython.final
cdef class SOPClassCommonExtendedNegotiation(SubItem):
    cdef readonly str sop_class_uid
    cdef readonly str service_class_uid
    cdef readonly tuple related_general_sop_class_uids
    cdef readonly int version


@cython.final
cdef class UserIdentityRQ(SubItem):
    cdef readonly int type
    cdef readonly bytes primary
    cdef readonly bytes secondary
    cdef readonly bint positive_response_requested


@cython.final
cdef class UserIdentityAC(SubItem):
    cdef readonly bytes response


cdef class PresentationContext(Value):
    cdef readonly int id


@cython.final
cdef class PresentationContextRQ(PresentationContext):
    cdef readonly str abstract_syntax
    cdef readonly tuple transfer_syntaxes
    cdef readonly tuple unknown


@cython.final
cdef class PresentationContextAC(PresentationContext):
    cdef readonly int result
    cdef readonly str transfer_syntax
    cdef readonly tuple unknown


@cython.final
cdef class PDV(Value):
    cdef readonly int context_id
    cdef readonly bytes data
    cdef readonly bint is_command
    cdef readonly bint is_last


cdef class PDU(Value):
    pass


cdef class Associate(PDU):
    cdef readonly str called_ae_title
    cdef readonly str calling_ae_title
    cdef readonly tuple presentation_contexts
    cdef readonly tuple user_information
    cdef readonly str application_context_name
    cdef readonly int protocol_version
    cdef readonly tuple unknown


@cython.final
cdef class AssociateRQ(Associate):
    pass


@cython.final
cdef class AssociateAC(Associate):
    pass


@cython.final
cdef class AssociateRJ(PDU):
    cdef readonly int result
    cdef readonly int source
    cdef readonly int reason


@cython.final
cdef class PDataTF(PDU):
    cdef readonly tuple pdvs


@cython.final
cdef class ReleaseRQ(PDU):
    pass


@cython.final
cdef class ReleaseRP(PDU):
    pass


@cython.final
cdef class Abort(PDU):
    cdef readonly int source
    cdef readonly int reason


# Raises MalformedPDU for a header that must not be waited for: an unknown type, or a length that its type cannot have.
cdef int check_header(int pdu_type, unsigned int length, unsigned int max_length=*) except -1
# The PDU whose body (all after the 6-byte header) is what is left in the cursor.
cdef PDU read_body(int pdu_type, Cursor* body)
cpdef PDU decode_body(int pdu_type, object body)
