# cython: auto_pickle=False
"""What all values of `_pdu` share, and the sub-items of user information: the part of the PDU codec below `_pdu`.

Import from `_pdu`, which gives the values out under its own name, and says what they have in common.
"""
cimport cython
from cpython.bytes cimport PyBytes_FromObject
from cpython.number cimport PyNumber_Index
from cpython.unicode cimport PyUnicode_FromObject

from dicomnet.wire.cursor cimport (
    Cursor, Writer, child, is_ascii, patch_u16be, read_bytes, read_text, read_u8, read_u16be, read_u32be, remaining,
    skip, trim_padding, write_raw, write_u8, write_u16be, write_u32be, writer_bytes, writer_close,
    writer_open,
)

from dicomnet.errors import InvalidArgument

__all__ = [
    "AsynchronousOperationsWindow", "Fault", "ImplementationClassUID", "ImplementationVersionName", "MaximumLength",
    "RoleSelection", "SOPClassCommonExtendedNegotiation", "SOPClassExtendedNegotiation", "SubItem", "UnknownItem",
    "UserIdentityAC", "UserIdentityRQ", "Value",
]

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL


class Fault(Exception):
    """What is wrong with a PDU, on its way to where its type is known: offset in the buffer, reason, description."""


# Arguments

cdef long long number(object value, long long high, str name) except -1:
    value = PyNumber_Index(value)
    if not 0 <= value <= high:
        raise InvalidArgument(f"{name} {value}: expected 0 to {high}")
    return value


cdef int odd_id(object value) except -1:
    cdef int id = <int> number(value, 255, "presentation context ID")
    if id & 1 == 0:
        raise InvalidArgument(f"presentation context ID {id}: expected an odd number (PS3.8 Section 9.3.2.2)")
    return id


cdef str uid_text(object value, str name):
    text = PyUnicode_FromObject(value).rstrip(" \0")    # also turns subclasses such as pydicom's UID into plain str
    if not text.isascii():
        raise InvalidArgument(f"{name} {value!r}: a UID consists of ASCII digits and dots")
    return text


cdef tuple uid_texts(object values, str name):
    if isinstance(values, str):
        raise TypeError(f"{name}: expected a sequence of UIDs, not one str")
    return tuple([uid_text(value, name) for value in values])


cdef str latin1_text(object value, str name, str padding):
    text = PyUnicode_FromObject(value).lstrip(" ").rstrip(padding)
    if text and max(text) > "\xff":
        raise InvalidArgument(f"{name} {value!r}: its characters do not fit one byte each")
    return text


cdef tuple only(object values, type kind, str name):
    items = tuple(values)
    for item in items:
        if not isinstance(item, kind):
            raise TypeError(f"{name}: expected only {kind.__name__}, not {type(item).__name__}")
    return items


cdef tuple unknown_items(object values):
    items = only(values, UnknownItem, "unknown")
    if len(items) > MAX_UNKNOWN:
        raise InvalidArgument(f"{len(items)} unknown items, at most {MAX_UNKNOWN} are taken")
    return items


# Writing

cdef int write_bytes(Writer* w, bytes data) except -1:
    return write_raw(w, <const char*> data, len(data))


cdef int write_ascii(Writer* w, str text) except -1:
    cdef Py_ssize_t size
    cdef const char* data = PyUnicode_AsUTF8AndSize(text, &size)
    return write_raw(w, data, size)


cdef int write_values(Writer* w, tuple values) except -1:
    for value in values:
        (<Value> value).write(w)
    return 0


cdef Py_ssize_t open_field(Writer* w) except -1:
    """Leave room for a 16-bit length; returns where, for `close_field`."""
    write_u16be(w, 0)
    return w.size - 2


cdef Py_ssize_t open_item(Writer* w, int kind, int second=0) except -1:
    write_u8(w, kind)
    write_u8(w, second)
    return open_field(w)


cdef int close_field(Writer* w, Py_ssize_t at, str name) except -1:
    if not patch_u16be(w, at):
        raise InvalidArgument(f"{name}: {w.size - at - 2} bytes, at most 65535 fit its length field")
    return 0


cdef int write_text_item(Writer* w, int kind, str text, str name) except -1:
    cdef Py_ssize_t at = open_item(w, kind)
    write_ascii(w, text)
    return close_field(w, at, name)


cdef int write_uid_field(Writer* w, str uid) except -1:
    cdef Py_ssize_t at = open_field(w)
    write_ascii(w, uid)
    return close_field(w, at, "UID")


cdef int write_bytes_field(Writer* w, bytes data, str name) except -1:
    cdef Py_ssize_t at = open_field(w)
    write_bytes(w, data)
    return close_field(w, at, name)


# Reading

cdef int read_item(Cursor* c, Item* item) except -1:
    cdef Py_ssize_t at = c.pos
    cdef int length
    item.kind = read_u8(c)
    item.second = read_u8(c)
    length = read_u16be(c)
    if c.overrun >= 0:
        raise Fault(at, INVALID_VALUE, "an item header is cut short")
    if length > remaining(c):
        raise Fault(at, INVALID_VALUE, f"item {item.kind:02X}H claims {length} bytes where {remaining(c)} are left")
    item.body = child(c, length)
    return 0


cdef int check_fits(const Item* item) except -1:
    if item.body.overrun >= 0:
        raise Fault(item.body.overrun, INVALID_VALUE, f"item {item.kind:02X}H is too short for its fields")
    return 0


cdef int check_finished(const Item* item) except -1:
    """All of an item must have been read, and no more."""
    check_fits(item)
    if item.body.pos != item.body.end:
        raise Fault(item.body.pos, INVALID_VALUE,
                    f"item {item.kind:02X}H has {remaining(&item.body)} bytes more than its fields")
    return 0


cdef str read_uid(Cursor* c, Py_ssize_t size):
    # Padding with NUL or space is wrong in a PDU, and common (PS3.8 Annex F).
    cdef Cursor text = child(c, size)
    if not is_ascii(&text):
        raise Fault(text.pos, INVALID_VALUE, "a UID holds bytes that are not ASCII")
    trim_padding(&text)
    return read_text(&text, remaining(&text))


cdef bint read_flag(Item* item) except -1:
    cdef int flag = read_u8(&item.body)
    if flag > 1:
        raise Fault(item.body.pos - 1, INVALID_VALUE, f"item {item.kind:02X}H has a flag of {flag}, neither 0 nor 1")
    return flag


cdef bint is_known(int kind) noexcept:
    return (kind in (APPLICATION_CONTEXT_ITEM, CONTEXT_RQ_ITEM, CONTEXT_AC_ITEM, ABSTRACT_SYNTAX_ITEM,
                     TRANSFER_SYNTAX_ITEM, USER_INFORMATION_ITEM) or 0x51 <= kind <= 0x59)


cdef UnknownItem read_unknown(Item* item):
    """An item to keep and ignore (PS3.8 Section 9.3.1); one that we do know has no business here."""
    if is_known(item.kind):
        raise Fault(item.body.pos - 4, UNEXPECTED_PARAMETER, f"item {item.kind:02X}H does not belong or stands twice")
    cdef UnknownItem value = UnknownItem.__new__(UnknownItem)
    value.type = item.kind
    value.read(item)
    return value


cdef int keep_unknown(list kept, Item* item) except -1:
    value = read_unknown(item)
    if len(kept) == MAX_UNKNOWN:
        raise Fault(item.body.pos, INVALID_VALUE, f"more than {MAX_UNKNOWN} unknown items")
    kept.append(value)
    return 0


# Values

cdef class Value:
    """A thing on the wire, frozen; equal to what has the same type and fields. `__match_args__` names the fields."""

    __match_args__ = ()

    cdef tuple values(self):
        return tuple([getattr(self, name) for name in self.__match_args__])

    cdef int write(self, Writer* w) except -1:
        raise NotImplementedError(f"{type(self).__name__} cannot be encoded")

    def encode(self):
        """The bytes on the wire. Raises InvalidArgument where an item grows past its length field."""
        cdef Writer w
        writer_open(&w, 1024)
        try:
            self.write(&w)
            return writer_bytes(&w)
        finally:
            writer_close(&w)

    def __eq__(self, other):
        if type(self) is not type(other):
            return NotImplemented
        return self.values() == (<Value> other).values()

    def __hash__(self):
        return hash((type(self), self.values()))

    def __repr__(self):
        fields = [f"{name}={shown(value)}" for name, value in zip(self.__match_args__, self.values())]
        return f"{type(self).__name__}({', '.join(fields)})"

    def __reduce__(self):
        return type(self), self.values()


cdef str shown(object value):
    if isinstance(value, bytes) and len(value) > 64:     # a fragment of an object has no place in a log line
        return f"<{len(value)} bytes>"
    return repr(value)


cdef class SubItem(Value):
    """A sub-item of the user information item."""

    cdef int read(self, Item* item) except -1:
        raise NotImplementedError


@cython.final
cdef class UnknownItem(SubItem):
    """An item or sub-item of a type that the standard does not define: kept, and sent again as it came."""

    __match_args__ = ("type", "data")

    def __init__(self, type, data):
        self.type = <int> number(type, 255, "item type")
        if is_known(self.type):
            raise InvalidArgument(f"item type {self.type:02X}H: it has a class of its own")
        self.data = PyBytes_FromObject(data)

    cdef int write(self, Writer* w) except -1:
        cdef Py_ssize_t at = open_item(w, self.type)
        write_bytes(w, self.data)
        return close_field(w, at, "UnknownItem")

    cdef int read(self, Item* item) except -1:
        self.data = read_bytes(&item.body, remaining(&item.body))
        return 0


@cython.final
cdef class MaximumLength(SubItem):
    """The longest P-DATA-TF that the sender takes, without its 6-byte header; 0: no limit (PS3.8 Annex D.1)."""

    __match_args__ = ("value",)

    def __init__(self, value):
        self.value = <unsigned int> number(value, 0xFFFFFFFF, "maximum length")

    cdef int write(self, Writer* w) except -1:
        cdef Py_ssize_t at = open_item(w, 0x51)
        write_u32be(w, self.value)
        return close_field(w, at, "MaximumLength")

    cdef int read(self, Item* item) except -1:
        self.value = read_u32be(&item.body)
        return 0


@cython.final
cdef class ImplementationClassUID(SubItem):
    """Which implementation this is (PS3.7 Annex D.3.3.2)."""

    __match_args__ = ("uid",)

    def __init__(self, uid):
        self.uid = uid_text(uid, "implementation class UID")

    cdef int write(self, Writer* w) except -1:
        return write_text_item(w, 0x52, self.uid, "ImplementationClassUID")

    cdef int read(self, Item* item) except -1:
        self.uid = read_uid(&item.body, remaining(&item.body))
        return 0


@cython.final
cdef class AsynchronousOperationsWindow(SubItem):
    """How many operations may be outstanding at once, each way; 0: any number (PS3.7 Annex D.3.3.3)."""

    __match_args__ = ("invoked", "performed")

    def __init__(self, invoked, performed):
        self.invoked = <int> number(invoked, 0xFFFF, "operations invoked")
        self.performed = <int> number(performed, 0xFFFF, "operations performed")

    cdef int write(self, Writer* w) except -1:
        cdef Py_ssize_t at = open_item(w, 0x53)
        write_u16be(w, self.invoked)
        write_u16be(w, self.performed)
        return close_field(w, at, "AsynchronousOperationsWindow")

    cdef int read(self, Item* item) except -1:
        self.invoked = read_u16be(&item.body)
        self.performed = read_u16be(&item.body)
        return 0


@cython.final
cdef class RoleSelection(SubItem):
    """The roles that the association's requestor may play for one SOP class (PS3.7 Annex D.3.3.4)."""

    __match_args__ = ("sop_class_uid", "scu", "scp")

    def __init__(self, sop_class_uid, scu, scp):
        self.sop_class_uid = uid_text(sop_class_uid, "SOP class UID")
        self.scu = scu
        self.scp = scp

    cdef int write(self, Writer* w) except -1:
        cdef Py_ssize_t at = open_item(w, 0x54)
        write_uid_field(w, self.sop_class_uid)
        write_u8(w, self.scu)
        write_u8(w, self.scp)
        return close_field(w, at, "RoleSelection")

    cdef int read(self, Item* item) except -1:
        self.sop_class_uid = read_uid(&item.body, read_u16be(&item.body))
        self.scu = read_flag(item)
        self.scp = read_flag(item)
        return 0


@cython.final
cdef class ImplementationVersionName(SubItem):
    """The implementation's version: at most 16 characters by the standard, but longer ones are met (PS3.7 D.3.3.2)."""

    __match_args__ = ("name",)

    def __init__(self, name):
        self.name = latin1_text(name, "implementation version name", " \0")

    cdef int write(self, Writer* w) except -1:
        cdef Py_ssize_t at = open_item(w, 0x55)
        write_bytes(w, self.name.encode("latin-1"))
        return close_field(w, at, "ImplementationVersionName")

    cdef int read(self, Item* item) except -1:
        self.name = read_text(&item.body, remaining(&item.body)).lstrip(" ").rstrip(" \0")
        return 0


@cython.final
cdef class SOPClassExtendedNegotiation(SubItem):
    """Options of one SOP class, as its service class defines them (PS3.7 Annex D.3.3.5)."""

    __match_args__ = ("sop_class_uid", "application_information")

    def __init__(self, sop_class_uid, application_information):
        self.sop_class_uid = uid_text(sop_class_uid, "SOP class UID")
        self.application_information = PyBytes_FromObject(application_information)

    cdef int write(self, Writer* w) except -1:
        cdef Py_ssize_t at = open_item(w, 0x56)
        write_uid_field(w, self.sop_class_uid)
        write_bytes(w, self.application_information)
        return close_field(w, at, "SOPClassExtendedNegotiation")

    cdef int read(self, Item* item) except -1:
        self.sop_class_uid = read_uid(&item.body, read_u16be(&item.body))
        self.application_information = read_bytes(&item.body, remaining(&item.body))
        return 0


@cython.final
cdef class SOPClassCommonExtendedNegotiation(SubItem):
    """The service class of one SOP class, and the classes it specialises; never answered (PS3.7 Annex D.3.3.6)."""

    __match_args__ = ("sop_class_uid", "service_class_uid", "related_general_sop_class_uids", "version")

    def __init__(self, sop_class_uid, service_class_uid, related_general_sop_class_uids, version=0):
        self.sop_class_uid = uid_text(sop_class_uid, "SOP class UID")
        self.service_class_uid = uid_text(service_class_uid, "service class UID")
        self.related_general_sop_class_uids = uid_texts(related_general_sop_class_uids, "related general SOP class UID")
        self.version = <int> number(version, 255, "sub-item version")

    cdef int write(self, Writer* w) except -1:
        cdef Py_ssize_t at = open_item(w, 0x57, self.version)
        write_uid_field(w, self.sop_class_uid)
        write_uid_field(w, self.service_class_uid)
        cdef Py_ssize_t related = open_field(w)
        for uid in self.related_general_sop_class_uids:
            write_uid_field(w, uid)
        close_field(w, related, "SOPClassCommonExtendedNegotiation.related_general_sop_class_uids")
        return close_field(w, at, "SOPClassCommonExtendedNegotiation")

    cdef int read(self, Item* item) except -1:
        self.version = item.second
        self.sop_class_uid = read_uid(&item.body, read_u16be(&item.body))
        self.service_class_uid = read_uid(&item.body, read_u16be(&item.body))
        cdef Cursor related = child(&item.body, read_u16be(&item.body))
        uids = []
        while remaining(&related):
            uids.append(read_uid(&related, read_u16be(&related)))
        if related.overrun >= 0:
            raise Fault(related.overrun, INVALID_VALUE, "the related general SOP classes do not fit their length")
        self.related_general_sop_class_uids = tuple(uids)
        skip(&item.body, remaining(&item.body))     # reserved for later versions: sent empty, not tested
        return 0


@cython.final
cdef class UserIdentityRQ(SubItem):
    """Who asks: 1 user name, 2 with passcode, 3 Kerberos, 4 SAML, 5 JSON Web Token (PS3.7 Annex D.3.3.7.1)."""

    __match_args__ = ("type", "primary", "secondary", "positive_response_requested")

    def __init__(self, type, primary, secondary=b"", positive_response_requested=False):
        self.type = <int> number(type, 255, "user identity type")
        self.primary = PyBytes_FromObject(primary)
        self.secondary = PyBytes_FromObject(secondary)
        self.positive_response_requested = positive_response_requested

    def __repr__(self):
        # Passcodes, tickets and tokens never reach a log: of them only the length is shown.
        primary = repr(self.primary) if self.type in (1, 2) else f"<{len(self.primary)} bytes>"
        return (f"UserIdentityRQ(type={self.type}, primary={primary}, secondary=<{len(self.secondary)} bytes>, "
                f"positive_response_requested={self.positive_response_requested})")

    cdef int write(self, Writer* w) except -1:
        cdef Py_ssize_t at = open_item(w, 0x58)
        write_u8(w, self.type)
        write_u8(w, self.positive_response_requested)
        write_bytes_field(w, self.primary, "UserIdentityRQ.primary")
        write_bytes_field(w, self.secondary, "UserIdentityRQ.secondary")
        return close_field(w, at, "UserIdentityRQ")

    cdef int read(self, Item* item) except -1:
        self.type = read_u8(&item.body)
        self.positive_response_requested = read_flag(item)
        self.primary = read_bytes(&item.body, read_u16be(&item.body))
        self.secondary = read_bytes(&item.body, read_u16be(&item.body))
        return 0


@cython.final
cdef class UserIdentityAC(SubItem):
    """The acceptor's answer to a user identity, empty for types 1 and 2 (PS3.7 Annex D.3.3.7.2)."""

    __match_args__ = ("response",)

    def __init__(self, response=b""):
        self.response = PyBytes_FromObject(response)

    def __repr__(self):
        return f"UserIdentityAC(response=<{len(self.response)} bytes>)"     # it may be a Kerberos ticket

    cdef int write(self, Writer* w) except -1:
        cdef Py_ssize_t at = open_item(w, 0x59)
        write_bytes_field(w, self.response, "UserIdentityAC.response")
        return close_field(w, at, "UserIdentityAC")

    cdef int read(self, Item* item) except -1:
        self.response = read_bytes(&item.body, read_u16be(&item.body))
        return 0


cdef dict SUB_ITEMS = {
    0x51: MaximumLength,
    0x52: ImplementationClassUID,
    0x53: AsynchronousOperationsWindow,
    0x54: RoleSelection,
    0x55: ImplementationVersionName,
    0x56: SOPClassExtendedNegotiation,
    0x57: SOPClassCommonExtendedNegotiation,
    0x58: UserIdentityRQ,
    0x59: UserIdentityAC,
}


cdef SubItem read_sub_item(Item* item):
    kind = SUB_ITEMS.get(item.kind)
    if kind is None:
        return read_unknown(item)
    cdef SubItem value = kind.__new__(kind)
    value.read(item)
    check_finished(item)
    return value


cdef tuple read_user_information(Item* information):
    cdef Item item
    values = []
    while remaining(&information.body):
        read_item(&information.body, &item)
        values.append(read_sub_item(&item))
    return tuple(values)
