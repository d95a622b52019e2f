# cython: language_level=3
cimport cython

from dicomnet.wire.cursor cimport Cursor, Writer

cdef enum:
    APPLICATION_CONTEXT_ITEM = 0x10
    CONTEXT_RQ_ITEM = 0x20
    CONTEXT_AC_ITEM = 0x21
    ABSTRACT_SYNTAX_ITEM = 0x30
    TRANSFER_SYNTAX_ITEM = 0x40
    USER_INFORMATION_ITEM = 0x50
    MAX_UNKNOWN = 1024      # per container: each takes 4 bytes on the wire but some 60 in memory
    # A-ABORT reasons of the service provider (PS3.8 Table 9-26)
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PARAMETER = 5
    INVALID_VALUE = 6


cdef struct Item:
    int kind
    int second          # the byte after the type: reserved in all items but 57H
    Cursor body


cdef class Value:
    cdef tuple values(self)
    cdef int write(self, Writer* w) except -1


cdef class SubItem(Value):
    cdef int read(self, Item* item) except -1


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
cdef class AsynchronousOperationsWindow(SubItem):
    cdef readonly int invoked
    cdef readonly int performed


@cython.final
cdef class RoleSelection(SubItem):
    cdef readonly str sop_class_uid
    cdef readonly bint scu
    cdef readonly bint scp


@cython.final
cdef class ImplementationVersionName(SubItem):
    cdef readonly str name


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


# Arguments: the checked value, or InvalidArgument
cdef long long number(object value, long long high, str name) except -1
cdef int odd_id(object value) except -1
cdef str uid_text(object value, str name)
cdef tuple uid_texts(object values, str name)
cdef str latin1_text(object value, str name, str padding)
cdef tuple only(object values, type kind, str name)
cdef tuple unknown_items(object values)

# Writing
cdef int write_bytes(Writer* w, bytes data) except -1
cdef int write_values(Writer* w, tuple values) except -1
cdef int write_text_item(Writer* w, int kind, str text, str name) except -1
cdef Py_ssize_t open_item(Writer* w, int kind, int second=*) except -1
cdef int close_field(Writer* w, Py_ssize_t at, str name) except -1

# Reading: raises Fault
cdef int read_item(Cursor* c, Item* item) except -1
cdef str read_uid(Cursor* c, Py_ssize_t size)
cdef int keep_unknown(list kept, Item* item) except -1
cdef int check_fits(const Item* item) except -1
cdef tuple read_user_information(Item* information)
