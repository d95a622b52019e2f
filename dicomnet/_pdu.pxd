# cython: language_level=3
cimport cython

from dicomnet.wire.cursor cimport Cursor, Writer
from dicomnet.wire.items cimport Item, Value    # the sub-items are to be cimported from wire.items

cpdef enum:
    PDU_ASSOCIATE_RQ = 1
    PDU_ASSOCIATE_AC = 2
    PDU_ASSOCIATE_RJ = 3
    PDU_DATA_TF = 4
    PDU_RELEASE_RQ = 5
    PDU_RELEASE_RP = 6
    PDU_ABORT = 7

cdef enum:
    HEADER_SIZE = 6
    MAX_ASSOCIATE_PDU = 1048576     # the format would allow 8.5 MB; real ones stay below 50 kB
    ANY_LENGTH = 0xFFFFFFFF


cdef class PresentationContext(Value):
    cdef readonly int id
    cdef int read(self, Item* item) except -1


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
    cdef int read_syntax(self, Cursor* c) except -1


@cython.final
cdef class PDV(Value):
    cdef readonly int context_id
    cdef readonly bytes data
    cdef readonly bint is_command
    cdef readonly bint is_last


cdef class PDU(Value):
    cdef int read(self, Cursor* c) except -1


cdef class Associate(PDU):
    cdef readonly str called_ae_title
    cdef readonly str calling_ae_title
    cdef readonly tuple presentation_contexts
    cdef readonly tuple user_information
    cdef readonly str application_context_name
    cdef readonly int protocol_version
    cdef readonly tuple unknown
    cdef int write_as(self, int kind, Writer* w) except -1
    cdef int read_items(self, Cursor* c) except -1
    cdef int check(self, Py_ssize_t at) except -1


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
# A limit of 0 is none.
cdef int check_header(int pdu_type, unsigned int length, unsigned int max_length=*,
                      unsigned int max_associate=*) except -1
# The PDU whose body (all after the 6-byte header) is what is left in the cursor; check_header comes first.
cdef PDU read_body(int pdu_type, Cursor* body)
cpdef PDU decode_body(int pdu_type, object body)
cdef object unrecognized(int pdu_type)
cdef object malformed_data(str detail)
