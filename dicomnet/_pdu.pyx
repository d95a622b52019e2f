"""The seven PDUs of the DICOM upper layer and all their items, as values: decode, encode, split a byte stream.

Every value is frozen, compares and hashes by content, and can be built exactly if it can be received: the constructor
refuses (InvalidArgument) what the decoder refuses (MalformedPDU). Both are strict on structure (lengths, required
items, context IDs) and leave judgement of well-formed content (is this a valid UID? is this AE title known?) to
negotiation. Reserved bytes are sent as zero and not tested (PS3.8 Section 9.3, PS3.7 Annex D).
"""
cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromObject
from cpython.number cimport PyNumber_Index
from cpython.unicode cimport PyUnicode_FromObject
from libc.string cimport memset

from dicomnet._bytes cimport (
    Cursor, Py_buffer, Writer, child, cursor_over, is_ascii, patch_u16be, patch_u32be, read_bytes, read_text,
    read_u8, read_u16be, read_u32be, remaining, skip, trim_padding, write_raw, write_u8, write_u16be, write_u32be,
    write_zeros, writer_bytes, writer_close, writer_open,
)

from dicomnet.errors import InvalidArgument, MalformedPDU

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

ASSOCIATE_RQ = PDU_ASSOCIATE_RQ
ASSOCIATE_AC = PDU_ASSOCIATE_AC
ASSOCIATE_RJ = PDU_ASSOCIATE_RJ
DATA_TF = PDU_DATA_TF
RELEASE_RQ = PDU_RELEASE_RQ
RELEASE_RP = PDU_RELEASE_RP
ABORT = PDU_ABORT

cdef enum:
    APPLICATION_CONTEXT_ITEM = 0x10
    CONTEXT_RQ_ITEM = 0x20
    CONTEXT_AC_ITEM = 0x21
    ABSTRACT_SYNTAX_ITEM = 0x30
    TRANSFER_SYNTAX_ITEM = 0x40
    USER_INFORMATION_ITEM = 0x50
    FIRST_SUB_ITEM = 0x51
    LAST_SUB_ITEM = 0x59
    ASSOCIATE_FIXED_SIZE = 68       # protocol version, AE titles and reserved bytes before the items
    COMMAND_BIT = 1
    LAST_BIT = 2
    # A-ABORT reasons of the service provider (PS3.8 Table 9-26)
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PARAMETER = 5
    INVALID_VALUE = 6

cdef tuple NAMES = (
    "", "A-ASSOCIATE-RQ", "A-ASSOCIATE-AC", "A-ASSOCIATE-RJ", "P-DATA-TF", "A-RELEASE-RQ", "A-RELEASE-RP", "A-ABORT",
)


class _Fault(Exception):
    """What is wrong with a PDU, on its way to where its type is known: offset in the buffer, reason, description."""


# Arguments

cdef long long _number(object value, long long high, str name) except -1:
    number = PyNumber_Index(value)
    if not 0 <= number <= high:
        raise InvalidArgument(f"{name} {number}: expected 0 to {high}")
    return number


cdef int _context_id(object value) except -1:
    cdef int number = <int> _number(value, 255, "presentation context ID")
    if number & 1 == 0:
        raise InvalidArgument(f"presentation context ID {number}: expected an odd number (PS3.8 Section 9.3.2.2)")
    return number


cdef str _uid(object value, str name):
    text = PyUnicode_FromObject(value).rstrip(" \0")    # also turns subclasses such as pydicom's UID into plain str
    if not text.isascii():
        raise InvalidArgument(f"{name} {value!r}: a UID consists of ASCII digits and dots")
    return text


cdef str _latin1(object value, str name, str padding):
    text = PyUnicode_FromObject(value).strip(" ").rstrip(padding)
    if text and max(text) > "\xff":
        raise InvalidArgument(f"{name} {value!r}: its characters do not fit one byte each")
    return text


cdef str _ae_title(object value, str name):
    text = _latin1(value, name, " ")
    if len(text) > 16:
        raise InvalidArgument(f"{name} {value!r}: {len(text)} characters, at most 16 fit")
    return text


cdef tuple _items(object values, type kind, str name):
    items = tuple(values)
    for item in items:
        if not isinstance(item, kind):
            raise TypeError(f"{name}: expected only {kind.__name__}, not {type(item).__name__}")
    return items


cdef tuple _uids(object values, str name):
    if isinstance(values, str):
        raise TypeError(f"{name}: expected a sequence of UIDs, not one str")
    return tuple([_uid(value, name) for value in values])


# Writing

cdef int _write_bytes(Writer* w, bytes data) except -1:
    return write_raw(w, <const char*> data, len(data))


cdef int _write_ascii(Writer* w, str text) except -1:
    cdef Py_ssize_t size
    cdef const char* data = PyUnicode_AsUTF8AndSize(text, &size)
    return write_raw(w, data, size)


cdef Py_ssize_t _open_item(Writer* w, int kind, int second=0) except -1:
    """Start an item; returns where its length stands, for `_close_field`."""
    write_u8(w, kind)
    write_u8(w, second)
    write_u16be(w, 0)
    return w.size - 2


cdef int _close_field(Writer* w, Py_ssize_t at, str name) except -1:
    if not patch_u16be(w, at):
        raise InvalidArgument(f"{name}: {w.size - at - 2} bytes, at most 65535 fit its length field")
    return 0


cdef int _write_text_item(Writer* w, int kind, str text, str name) except -1:
    cdef Py_ssize_t at = _open_item(w, kind)
    _write_ascii(w, text)
    return _close_field(w, at, name)


cdef int _write_uid_field(Writer* w, str uid, str name) except -1:
    cdef Py_ssize_t at = w.size
    write_u16be(w, 0)
    _write_ascii(w, uid)
    return _close_field(w, at, name)


cdef int _write_bytes_field(Writer* w, bytes data, str name) except -1:
    cdef Py_ssize_t at = w.size
    write_u16be(w, 0)
    _write_bytes(w, data)
    return _close_field(w, at, name)


cdef int _write_title(Writer* w, str title) except -1:
    return _write_bytes(w, title.encode("latin-1").ljust(16))


cdef int _write_all(Writer* w, tuple values) except -1:
    for value in values:
        (<Value> value).write(w)
    return 0


cdef int _write_short_pdu(Writer* w, int kind, int a, int b, int c) except -1:
    """A PDU of four bytes: one reserved byte, then three that may be."""
    write_u16be(w, kind << 8)
    write_u32be(w, 4)
    write_u8(w, 0)
    write_u8(w, a)
    write_u8(w, b)
    write_u8(w, c)
    return 0


# Reading

cdef struct Item:
    int kind
    int second          # the byte after the type: reserved in all items but 57H
    Cursor body


cdef int _read_item(Cursor* c, Item* item) except -1:
    cdef Py_ssize_t at = c.pos
    cdef int length
    item.kind = read_u8(c)
    item.second = read_u8(c)
    length = read_u16be(c)
    if c.overrun >= 0:
        raise _Fault(at, INVALID_VALUE, "an item header is cut short")
    if length > remaining(c):
        raise _Fault(at, INVALID_VALUE, f"item {item.kind:02X}H claims {length} bytes where {remaining(c)} are left")
    item.body = child(c, length)
    return 0


cdef int _finish(const Item* item) except -1:
    """All of an item must have been read, and no more."""
    if item.body.overrun >= 0:
        raise _Fault(item.body.overrun, INVALID_VALUE, f"item {item.kind:02X}H is too short for its fields")
    if item.body.pos != item.body.end:
        raise _Fault(item.body.pos, INVALID_VALUE,
                     f"item {item.kind:02X}H has {remaining(&item.body)} bytes more than its fields")
    return 0


cdef str _read_uid(Cursor* c, Py_ssize_t size):
    # Padding with NUL or space is wrong in a PDU, and common (PS3.8 Annex F).
    cdef Cursor text = child(c, size)
    if not is_ascii(&text):
        raise _Fault(text.pos, INVALID_VALUE, "a UID holds bytes that are not ASCII")
    trim_padding(&text)
    return read_text(&text, remaining(&text))


cdef bint _is_known(int kind) noexcept:
    return (kind in (APPLICATION_CONTEXT_ITEM, CONTEXT_RQ_ITEM, CONTEXT_AC_ITEM, ABSTRACT_SYNTAX_ITEM,
                     TRANSFER_SYNTAX_ITEM, USER_INFORMATION_ITEM) or FIRST_SUB_ITEM <= kind <= LAST_SUB_ITEM)


cdef UnknownItem _read_unknown(Item* item):
    """An item to keep and ignore (PS3.8 Section 9.3.1); one that we do know has no business here."""
    if _is_known(item.kind):
        raise _Fault(item.body.pos - 4, UNEXPECTED_PARAMETER, f"item {item.kind:02X}H does not belong or stands twice")
    cdef UnknownItem value = UnknownItem.__new__(UnknownItem)
    value.type = item.kind
    value.data = read_bytes(&item.body, remaining(&item.body))
    return value


# Values

cdef class Value:
    """What all PDUs and items share: content is identity. `__match_args__` names the fields, in order."""

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
        fields = [f"{name}={_shown(value)}" for name, value in zip(self.__match_args__, self.values())]
        return f"{type(self).__name__}({', '.join(fields)})"

    def __reduce__(self):
        return type(self), self.values()


cdef str _shown(object value):
    if isinstance(value, bytes) and len(value) > 64:     # a fragment of an object has no place in a log line
        return f"<{len(value)} bytes>"
    return repr(value)


cdef class SubItem(Value):
    """A sub-item of the user information item."""


@cython.final
cdef class UnknownItem(SubItem):
    """An item or sub-item of a type that the standard does not define: kept, and sent again as it came."""

    __match_args__ = ("type", "data")

    def __init__(self, type, data):
        self.type = <int> _number(type, 255, "item type")
        if _is_known(self.type):
            raise InvalidArgument(f"item type {self.type:02X}H: it has a class of its own")
        self.data = PyBytes_FromObject(data)

    cdef int write(self, Writer* w) except -1:
        cdef Py_ssize_t at = _open_item(w, self.type)
        _write_bytes(w, self.data)
        return _close_field(w, at, "UnknownItem")


@cython.final
cdef class MaximumLength(SubItem):
    """The longest P-DATA-TF that the sender takes, without its 6-byte header; 0: no limit (PS3.8 Annex D.1)."""

    __match_args__ = ("value",)

    def __init__(self, value):
        self.value = <unsigned int> _number(value, 0xFFFFFFFF, "maximum length")

    cdef int write(self, Writer* w) except -1:
        cdef Py_ssize_t at = _open_item(w, 0x51)
        write_u32be(w, self.value)
        return _close_field(w, at, "MaximumLength")


cdef SubItem _read_maximum_length(Item* item):
    cdef MaximumLength value = MaximumLength.__new__(MaximumLength)
    value.value = read_u32be(&item.body)
    return value


@cython.final
cdef class ImplementationClassUID(SubItem):
    """Which implementation this is (PS3.7 Annex D.3.3.2)."""

    __match_args__ = ("uid",)

    def __init__(self, uid):
        self.uid = _uid(uid, "implementation class UID")

    cdef int write(self, Writer* w) except -1:
        return _write_text_item(w, 0x52, self.uid, "ImplementationClassUID")


cdef SubItem _read_implementation_class_uid(Item* item):
    cdef ImplementationClassUID value = ImplementationClassUID.__new__(ImplementationClassUID)
    value.uid = _read_uid(&item.body, remaining(&item.body))
    return value


@cython.final
cdef class AsynchronousOperationsWindow(SubItem):
    """How many operations may be outstanding at once, each way; 0: any number (PS3.7 Annex D.3.3.3)."""

    __match_args__ = ("invoked", "performed")

    def __init__(self, invoked, performed):
        self.invoked = <int> _number(invoked, 0xFFFF, "operations invoked")
        self.performed = <int> _number(performed, 0xFFFF, "operations performed")

    cdef int write(self, Writer* w) except -1:
        cdef Py_ssize_t at = _open_item(w, 0x53)
        write_u16be(w, self.invoked)
        write_u16be(w, self.performed)
        return _close_field(w, at, "AsynchronousOperationsWindow")


cdef SubItem _read_asynchronous_operations_window(Item* item):
    cdef AsynchronousOperationsWindow value = AsynchronousOperationsWindow.__new__(AsynchronousOperationsWindow)
    value.invoked = read_u16be(&item.body)
    value.performed = read_u16be(&item.body)
    return value


@cython.final
cdef class RoleSelection(SubItem):
    """The roles that the association's requestor may play for one SOP class (PS3.7 Annex D.3.3.4)."""

    __match_args__ = ("sop_class_uid", "scu", "scp")

    def __init__(self, sop_class_uid, scu, scp):
        self.sop_class_uid = _uid(sop_class_uid, "SOP class UID")
        self.scu = scu
        self.scp = scp

    cdef int write(self, Writer* w) except -1:
        cdef Py_ssize_t at = _open_item(w, 0x54)
        _write_uid_field(w, self.sop_class_uid, "RoleSelection.sop_class_uid")
        write_u8(w, self.scu)
        write_u8(w, self.scp)
        return _close_field(w, at, "RoleSelection")


cdef SubItem _read_role_selection(Item* item):
    cdef RoleSelection value = RoleSelection.__new__(RoleSelection)
    value.sop_class_uid = _read_uid(&item.body, read_u16be(&item.body))
    value.scu = _read_flag(item)
    value.scp = _read_flag(item)
    return value


cdef bint _read_flag(Item* item) except -1:
    cdef int flag = read_u8(&item.body)
    if flag > 1:
        raise _Fault(item.body.pos - 1, INVALID_VALUE, f"item {item.kind:02X}H has a flag of {flag}, neither 0 nor 1")
    return flag


@cython.final
cdef class ImplementationVersionName(SubItem):
    """The implementation's version, at most 16 characters by the standard (PS3.7 Annex D.3.3.2); longer ones are met."""

    __match_args__ = ("name",)

    def __init__(self, name):
        self.name = _latin1(name, "implementation version name", " \0")

    cdef int write(self, Writer* w) except -1:
        cdef Py_ssize_t at = _open_item(w, 0x55)
        _write_bytes(w, self.name.encode("latin-1"))
        return _close_field(w, at, "ImplementationVersionName")


cdef SubItem _read_implementation_version_name(Item* item):
    cdef ImplementationVersionName value = ImplementationVersionName.__new__(ImplementationVersionName)
    value.name = read_text(&item.body, remaining(&item.body)).lstrip(" ").rstrip(" \0")
    return value


@cython.final
cdef class SOPClassExtendedNegotiation(SubItem):
    """Options of one SOP class, as its service class defines them (PS3.7 Annex D.3.3.5)."""

    __match_args__ = ("sop_class_uid", "application_information")

    def __init__(self, sop_class_uid, application_information):
        self.sop_class_uid = _uid(sop_class_uid, "SOP class UID")
        self.application_information = PyBytes_FromObject(application_information)

    cdef int write(self, Writer* w) except -1:
        cdef Py_ssize_t at = _open_item(w, 0x56)
        _write_uid_field(w, self.sop_class_uid, "SOPClassExtendedNegotiation.sop_class_uid")
        _write_bytes(w, self.application_information)
        return _close_field(w, at, "SOPClassExtendedNegotiation")


cdef SubItem _read_extended_negotiation(Item* item):
    cdef SOPClassExtendedNegotiation value = SOPClassExtendedNegotiation.__new__(SOPClassExtendedNegotiation)
    value.sop_class_uid = _read_uid(&item.body, read_u16be(&item.body))
    value.application_information = read_bytes(&item.body, remaining(&item.body))
    return value


@cython.final
cdef class SOPClassCommonExtendedNegotiation(SubItem):
    """The service class of one SOP class, and the classes it specialises; never answered (PS3.7 Annex D.3.3.6)."""

    __match_args__ = ("sop_class_uid", "service_class_uid", "related_general_sop_class_uids", "version")

    def __init__(self, sop_class_uid, service_class_uid, related_general_sop_class_uids, version=0):
        self.sop_class_uid = _uid(sop_class_uid, "SOP class UID")
        self.service_class_uid = _uid(service_class_uid, "service class UID")
        self.related_general_sop_class_uids = _uids(related_general_sop_class_uids, "related general SOP class UID")
        self.version = <int> _number(version, 255, "sub-item version")

    cdef int write(self, Writer* w) except -1:
        cdef Py_ssize_t at = _open_item(w, 0x57, self.version)
        _write_uid_field(w, self.sop_class_uid, "SOPClassCommonExtendedNegotiation.sop_class_uid")
        _write_uid_field(w, self.service_class_uid, "SOPClassCommonExtendedNegotiation.service_class_uid")
        cdef Py_ssize_t related = w.size
        write_u16be(w, 0)
        for uid in self.related_general_sop_class_uids:
            _write_uid_field(w, uid, "related general SOP class UID")
        _close_field(w, related, "SOPClassCommonExtendedNegotiation.related_general_sop_class_uids")
        return _close_field(w, at, "SOPClassCommonExtendedNegotiation")


cdef SubItem _read_common_extended_negotiation(Item* item):
    cdef SOPClassCommonExtendedNegotiation value
    cdef Cursor related
    value = SOPClassCommonExtendedNegotiation.__new__(SOPClassCommonExtendedNegotiation)
    value.version = item.second
    value.sop_class_uid = _read_uid(&item.body, read_u16be(&item.body))
    value.service_class_uid = _read_uid(&item.body, read_u16be(&item.body))
    related = child(&item.body, read_u16be(&item.body))
    uids = []
    while remaining(&related):
        uids.append(_read_uid(&related, read_u16be(&related)))
    if related.overrun >= 0:
        raise _Fault(related.overrun, INVALID_VALUE, "the related general SOP classes do not fit their length")
    value.related_general_sop_class_uids = tuple(uids)
    skip(&item.body, remaining(&item.body))     # reserved for later versions: sent empty, not tested
    return value


@cython.final
cdef class UserIdentityRQ(SubItem):
    """Who asks: 1 user name, 2 with passcode, 3 Kerberos, 4 SAML, 5 JSON Web Token (PS3.7 Annex D.3.3.7.1)."""

    __match_args__ = ("type", "primary", "secondary", "positive_response_requested")

    def __init__(self, type, primary, secondary=b"", positive_response_requested=False):
        self.type = <int> _number(type, 255, "user identity type")
        self.primary = PyBytes_FromObject(primary)
        self.secondary = PyBytes_FromObject(secondary)
        self.positive_response_requested = positive_response_requested

    def __repr__(self):
        # Passcodes, tickets and tokens never reach a log: of them only the length is shown.
        primary = repr(self.primary) if self.type in (1, 2) else f"<{len(self.primary)} bytes>"
        return (f"UserIdentityRQ(type={self.type}, primary={primary}, secondary=<{len(self.secondary)} bytes>, "
                f"positive_response_requested={self.positive_response_requested})")

    cdef int write(self, Writer* w) except -1:
        cdef Py_ssize_t at = _open_item(w, 0x58)
        write_u8(w, self.type)
        write_u8(w, self.positive_response_requested)
        _write_bytes_field(w, self.primary, "UserIdentityRQ.primary")
        _write_bytes_field(w, self.secondary, "UserIdentityRQ.secondary")
        return _close_field(w, at, "UserIdentityRQ")


cdef SubItem _read_user_identity_rq(Item* item):
    cdef UserIdentityRQ value = UserIdentityRQ.__new__(UserIdentityRQ)
    value.type = read_u8(&item.body)
    value.positive_response_requested = _read_flag(item)
    value.primary = read_bytes(&item.body, read_u16be(&item.body))
    value.secondary = read_bytes(&item.body, read_u16be(&item.body))
    return value


@cython.final
cdef class UserIdentityAC(SubItem):
    """The acceptor's answer to a user identity, empty for types 1 and 2 (PS3.7 Annex D.3.3.7.2)."""

    __match_args__ = ("response",)

    def __init__(self, response=b""):
        self.response = PyBytes_FromObject(response)

    def __repr__(self):
        return f"UserIdentityAC(response=<{len(self.response)} bytes>)"     # it may be a Kerberos ticket

    cdef int write(self, Writer* w) except -1:
        cdef Py_ssize_t at = _open_item(w, 0x59)
        _write_bytes_field(w, self.response, "UserIdentityAC.response")
        return _close_field(w, at, "UserIdentityAC")


cdef SubItem _read_user_identity_ac(Item* item):
    cdef UserIdentityAC value = UserIdentityAC.__new__(UserIdentityAC)
    value.response = read_bytes(&item.body, read_u16be(&item.body))
    return value


ctypedef SubItem (*SubItemReader)(Item* item)
cdef SubItemReader[9] SUB_ITEM_READERS = [
    _read_maximum_length, _read_implementation_class_uid, _read_asynchronous_operations_window, _read_role_selection,
    _read_implementation_version_name, _read_extended_negotiation, _read_common_extended_negotiation,
    _read_user_identity_rq, _read_user_identity_ac,
]


cdef tuple _read_user_information(Item* information):
    cdef Item item
    values = []
    while remaining(&information.body):
        _read_item(&information.body, &item)
        if FIRST_SUB_ITEM <= item.kind <= LAST_SUB_ITEM:
            values.append(SUB_ITEM_READERS[item.kind - FIRST_SUB_ITEM](&item))
            _finish(&item)
        else:
            values.append(_read_unknown(&item))
    return tuple(values)


cdef class PresentationContext(Value):
    """What the presentation contexts of request and answer share: an odd ID, 1 to 255."""


@cython.final
cdef class PresentationContextRQ(PresentationContext):
    """An abstract syntax with the transfer syntaxes proposed for it, at least one (PS3.8 Section 9.3.2.2)."""

    __match_args__ = ("id", "abstract_syntax", "transfer_syntaxes", "unknown")

    def __init__(self, id, abstract_syntax, transfer_syntaxes, unknown=()):
        self.id = _context_id(id)
        self.abstract_syntax = _uid(abstract_syntax, "abstract syntax")
        self.transfer_syntaxes = _uids(transfer_syntaxes, "transfer syntax")
        self.unknown = _items(unknown, UnknownItem, "unknown")
        if not self.transfer_syntaxes:
            raise InvalidArgument(f"presentation context {self.id}: no transfer syntax")

    cdef int write(self, Writer* w) except -1:
        cdef Py_ssize_t at = _open_item(w, CONTEXT_RQ_ITEM)
        write_u8(w, self.id)
        write_zeros(w, 3)
        _write_text_item(w, ABSTRACT_SYNTAX_ITEM, self.abstract_syntax, "abstract syntax")
        for uid in self.transfer_syntaxes:
            _write_text_item(w, TRANSFER_SYNTAX_ITEM, uid, "transfer syntax")
        _write_all(w, self.unknown)
        return _close_field(w, at, "PresentationContextRQ")


cdef PresentationContext _read_context_rq(Item* context):
    cdef PresentationContextRQ value = PresentationContextRQ.__new__(PresentationContextRQ)
    cdef Cursor* c = &context.body
    cdef Item item
    cdef list transfer_syntaxes = []
    cdef tuple unknown = ()
    value.id = read_u8(c)
    skip(c, 3)
    while remaining(c):
        _read_item(c, &item)
        if item.kind == TRANSFER_SYNTAX_ITEM:
            transfer_syntaxes.append(_read_uid(&item.body, remaining(&item.body)))
        elif item.kind == ABSTRACT_SYNTAX_ITEM and value.abstract_syntax is None:
            value.abstract_syntax = _read_uid(&item.body, remaining(&item.body))
        else:
            unknown += (_read_unknown(&item),)
    if value.abstract_syntax is None or not transfer_syntaxes:
        raise _Fault(c.pos, INVALID_VALUE, f"presentation context {value.id} lacks an abstract or transfer syntax")
    value.transfer_syntaxes = tuple(transfer_syntaxes)
    value.unknown = unknown
    return value


@cython.final
cdef class PresentationContextAC(PresentationContext):
    """The answer to one proposed context: 0 and the transfer syntax, or why not (PS3.8 Section 9.3.3.2)."""

    __match_args__ = ("id", "result", "transfer_syntax", "unknown")

    def __init__(self, id, result, transfer_syntax=None, unknown=()):
        self.id = _context_id(id)
        self.result = <int> _number(result, 255, "presentation context result")
        self.transfer_syntax = None if transfer_syntax is None else _uid(transfer_syntax, "transfer syntax")
        self.unknown = _items(unknown, UnknownItem, "unknown")
        if self.result == 0 and self.transfer_syntax is None:
            raise InvalidArgument(f"presentation context {self.id}: accepted without a transfer syntax")

    cdef int write(self, Writer* w) except -1:
        cdef Py_ssize_t at = _open_item(w, CONTEXT_AC_ITEM)
        write_u8(w, self.id)
        write_u8(w, 0)
        write_u8(w, self.result)
        write_u8(w, 0)
        if self.transfer_syntax is not None:
            _write_text_item(w, TRANSFER_SYNTAX_ITEM, self.transfer_syntax, "transfer syntax")
        _write_all(w, self.unknown)
        return _close_field(w, at, "PresentationContextAC")


cdef PresentationContext _read_context_ac(Item* context):
    cdef PresentationContextAC value = PresentationContextAC.__new__(PresentationContextAC)
    value.id = read_u8(&context.body)
    skip(&context.body, 1)
    value.result = read_u8(&context.body)
    skip(&context.body, 1)
    value.unknown = ()
    _finish_header(context)
    try:
        _read_accepted_syntax(&context.body, value)
    except _Fault:
        # What follows a refusal is not significant and not tested: peers send nothing, an empty item, or anything.
        if value.result == 0:
            raise
        value.transfer_syntax = None
        value.unknown = ()
        skip(&context.body, remaining(&context.body))
    return value


cdef int _finish_header(Item* context) except -1:
    if context.body.overrun >= 0:
        raise _Fault(context.body.overrun, INVALID_VALUE, f"item {context.kind:02X}H is too short for its fields")
    return 0


cdef int _read_accepted_syntax(Cursor* c, PresentationContextAC value) except -1:
    cdef Item item
    while remaining(c):
        _read_item(c, &item)
        if item.kind == TRANSFER_SYNTAX_ITEM and value.transfer_syntax is None:
            value.transfer_syntax = _read_uid(&item.body, remaining(&item.body))
        else:
            value.unknown += (_read_unknown(&item),)
    if value.result == 0 and value.transfer_syntax is None:
        raise _Fault(c.pos, INVALID_VALUE, f"presentation context {value.id} is accepted without a transfer syntax")
    return 0


@cython.final
cdef class PDV(Value):
    """A presentation data value: a fragment of a command or data set (PS3.8 Section 9.3.5.1 and Annex E)."""

    __match_args__ = ("context_id", "data", "is_command", "is_last")

    def __init__(self, context_id, data, is_command, is_last):
        self.context_id = _context_id(context_id)
        self.data = PyBytes_FromObject(data)
        self.is_command = is_command
        self.is_last = is_last

    cdef int write(self, Writer* w) except -1:
        cdef Py_ssize_t at = w.size
        write_u32be(w, 0)
        write_u8(w, self.context_id)
        write_u8(w, (COMMAND_BIT if self.is_command else 0) | (LAST_BIT if self.is_last else 0))
        _write_bytes(w, self.data)
        if not patch_u32be(w, at):
            raise InvalidArgument("PDV: longer than its length field can say")
        return 0


# PDUs

cdef class PDU(Value):
    """One of the seven protocol data units."""


cdef class Associate(PDU):
    """What A-ASSOCIATE-RQ and A-ASSOCIATE-AC share: all but the kind of their presentation contexts.

    AE titles are without the spaces that pad them. `user_information` keeps the order of the sub-items.
    """

    __match_args__ = (
        "called_ae_title", "calling_ae_title", "presentation_contexts", "user_information",
        "application_context_name", "protocol_version", "unknown",
    )

    def __init__(self, called_ae_title, calling_ae_title, presentation_contexts, user_information,
                 application_context_name="1.2.840.10008.3.1.1.1", protocol_version=1, unknown=()):
        kind = PresentationContextRQ if isinstance(self, AssociateRQ) else PresentationContextAC
        self.called_ae_title = _ae_title(called_ae_title, "called AE title")
        self.calling_ae_title = _ae_title(calling_ae_title, "calling AE title")
        self.presentation_contexts = _items(presentation_contexts, kind, "presentation_contexts")
        self.user_information = _items(user_information, SubItem, "user_information")
        self.application_context_name = _uid(application_context_name, "application context name")
        self.protocol_version = <int> _number(protocol_version, 0xFFFF, "protocol version")
        self.unknown = _items(unknown, UnknownItem, "unknown")
        if not self.presentation_contexts:
            raise InvalidArgument("an association needs at least one presentation context")
        cdef int doubled = _repeated_id(self.presentation_contexts)
        if doubled:
            raise InvalidArgument(f"presentation context ID {doubled} is used twice (128 IDs are all there are)")


cdef int _repeated_id(tuple contexts) noexcept:
    """A context ID that stands twice, or 0. IDs are odd bytes, so this also limits contexts to 128."""
    cdef unsigned char[256] seen
    cdef int number
    memset(seen, 0, sizeof(seen))
    for context in contexts:
        number = (<PresentationContext> context).id
        if seen[number]:
            return number
        seen[number] = 1
    return 0


cdef int _write_associate(Associate pdu, int kind, Writer* w) except -1:
    write_u16be(w, kind << 8)
    cdef Py_ssize_t at = w.size
    write_u32be(w, 0)
    write_u16be(w, pdu.protocol_version)
    write_zeros(w, 2)
    _write_title(w, pdu.called_ae_title)
    _write_title(w, pdu.calling_ae_title)
    write_zeros(w, 32)
    _write_text_item(w, APPLICATION_CONTEXT_ITEM, pdu.application_context_name, "application context name")
    _write_all(w, pdu.presentation_contexts)
    cdef Py_ssize_t information = _open_item(w, USER_INFORMATION_ITEM)
    _write_all(w, pdu.user_information)
    _close_field(w, information, "user_information")
    _write_all(w, pdu.unknown)
    patch_u32be(w, at)
    return 0


cdef PresentationContext _read_context(Item* item):
    cdef PresentationContext context
    context = _read_context_rq(item) if item.kind == CONTEXT_RQ_ITEM else _read_context_ac(item)
    if context.id & 1 == 0:
        raise _Fault(item.body.pos, INVALID_VALUE, f"presentation context ID {context.id} is not odd")
    return context


cdef int _read_associate(Associate pdu, int context_kind, Cursor* c) except -1:
    cdef Item item
    cdef list contexts = []
    pdu.protocol_version = read_u16be(c)
    skip(c, 2)
    pdu.called_ae_title = read_text(c, 16).strip(" ")
    pdu.calling_ae_title = read_text(c, 16).strip(" ")
    skip(c, 32)
    pdu.unknown = ()
    if c.overrun >= 0:
        raise _Fault(c.overrun, INVALID_VALUE, f"it is shorter than the {ASSOCIATE_FIXED_SIZE} bytes before its items")
    while remaining(c):
        _read_item(c, &item)
        if item.kind == context_kind:
            contexts.append(_read_context(&item))
        elif item.kind == APPLICATION_CONTEXT_ITEM and pdu.application_context_name is None:
            pdu.application_context_name = _read_uid(&item.body, remaining(&item.body))
        elif item.kind == USER_INFORMATION_ITEM and pdu.user_information is None:
            pdu.user_information = _read_user_information(&item)
        else:
            pdu.unknown += (_read_unknown(&item),)
    pdu.presentation_contexts = tuple(contexts)
    return _check_associate(pdu, c.pos)


cdef int _check_associate(Associate pdu, Py_ssize_t at) except -1:
    """The items that an association cannot do without (PS3.8 Section 9.3.2)."""
    if pdu.application_context_name is None:
        raise _Fault(at, INVALID_VALUE, "no application context item")
    if not pdu.presentation_contexts:
        raise _Fault(at, INVALID_VALUE, "no presentation context item")
    if pdu.user_information is None:
        raise _Fault(at, INVALID_VALUE, "no user information item")
    cdef int doubled = _repeated_id(pdu.presentation_contexts)
    if doubled:
        raise _Fault(at, INVALID_VALUE, f"presentation context ID {doubled} stands twice")
    return 0


@cython.final
cdef class AssociateRQ(Associate):
    """A-ASSOCIATE-RQ (PS3.8 Section 9.3.2)."""

    cdef int write(self, Writer* w) except -1:
        return _write_associate(self, PDU_ASSOCIATE_RQ, w)


cdef PDU _read_associate_rq(Cursor* c):
    cdef AssociateRQ pdu = AssociateRQ.__new__(AssociateRQ)
    _read_associate(pdu, CONTEXT_RQ_ITEM, c)
    return pdu


@cython.final
cdef class AssociateAC(Associate):
    """A-ASSOCIATE-AC (PS3.8 Section 9.3.3). Its AE titles are copies from the request, and not to be relied upon."""

    cdef int write(self, Writer* w) except -1:
        return _write_associate(self, PDU_ASSOCIATE_AC, w)


cdef PDU _read_associate_ac(Cursor* c):
    cdef AssociateAC pdu = AssociateAC.__new__(AssociateAC)
    _read_associate(pdu, CONTEXT_AC_ITEM, c)
    return pdu


@cython.final
cdef class AssociateRJ(PDU):
    """A-ASSOCIATE-RJ (PS3.8 Section 9.3.4): result 1 permanent, 2 transient; whose reason it is; the reason."""

    __match_args__ = ("result", "source", "reason")

    def __init__(self, result, source, reason):
        self.result = <int> _number(result, 255, "result")
        self.source = <int> _number(source, 255, "source")
        self.reason = <int> _number(reason, 255, "reason")

    cdef int write(self, Writer* w) except -1:
        return _write_short_pdu(w, PDU_ASSOCIATE_RJ, self.result, self.source, self.reason)


cdef PDU _read_associate_rj(Cursor* c):
    cdef AssociateRJ pdu = AssociateRJ.__new__(AssociateRJ)
    skip(c, 1)
    pdu.result = read_u8(c)
    pdu.source = read_u8(c)
    pdu.reason = read_u8(c)
    return pdu


@cython.final
cdef class PDataTF(PDU):
    """P-DATA-TF (PS3.8 Section 9.3.5): at least one PDV."""

    __match_args__ = ("pdvs",)

    def __init__(self, pdvs):
        self.pdvs = _items(pdvs, PDV, "pdvs")
        if not self.pdvs:
            raise InvalidArgument("a P-DATA-TF needs at least one PDV")

    cdef int write(self, Writer* w) except -1:
        write_u16be(w, PDU_DATA_TF << 8)
        cdef Py_ssize_t at = w.size
        write_u32be(w, 0)
        _write_all(w, self.pdvs)
        if not patch_u32be(w, at):
            raise InvalidArgument("PDataTF: longer than its length field can say")
        return 0


cdef PDU _read_data_tf(Cursor* c):
    cdef PDataTF pdu = PDataTF.__new__(PDataTF)
    pdvs = []
    while remaining(c):
        pdvs.append(_read_pdv(c))
    if not pdvs:
        raise _Fault(c.pos, INVALID_VALUE, "no PDV")
    pdu.pdvs = tuple(pdvs)
    return pdu


cdef PDV _read_pdv(Cursor* c):
    cdef Py_ssize_t at = c.pos
    cdef unsigned int length = read_u32be(c)
    if c.overrun >= 0 or length < 2 or length > remaining(c):
        raise _Fault(at, INVALID_VALUE, f"a PDV claims {length} bytes where {remaining(c)} are left")
    cdef PDV value = PDV.__new__(PDV)
    value.context_id = read_u8(c)
    if value.context_id & 1 == 0:
        raise _Fault(at + 4, INVALID_VALUE, f"presentation context ID {value.context_id} is not odd")
    cdef int header = read_u8(c)
    value.is_command = header & COMMAND_BIT != 0
    value.is_last = header & LAST_BIT != 0
    value.data = read_bytes(c, length - 2)
    return value


@cython.final
cdef class ReleaseRQ(PDU):
    """A-RELEASE-RQ (PS3.8 Section 9.3.6)."""

    cdef int write(self, Writer* w) except -1:
        return _write_short_pdu(w, PDU_RELEASE_RQ, 0, 0, 0)


cdef PDU _read_release_rq(Cursor* c):
    skip(c, 4)
    return ReleaseRQ.__new__(ReleaseRQ)


@cython.final
cdef class ReleaseRP(PDU):
    """A-RELEASE-RP (PS3.8 Section 9.3.7)."""

    cdef int write(self, Writer* w) except -1:
        return _write_short_pdu(w, PDU_RELEASE_RP, 0, 0, 0)


cdef PDU _read_release_rp(Cursor* c):
    skip(c, 4)
    return ReleaseRP.__new__(ReleaseRP)


@cython.final
cdef class Abort(PDU):
    """A-ABORT (PS3.8 Section 9.3.8): source 0 the service user, 2 the provider, whose reason says why."""

    __match_args__ = ("source", "reason")

    def __init__(self, source, reason):
        self.source = <int> _number(source, 255, "source")
        self.reason = <int> _number(reason, 255, "reason")

    cdef int write(self, Writer* w) except -1:
        return _write_short_pdu(w, PDU_ABORT, 0, self.source, self.reason)


cdef PDU _read_abort(Cursor* c):
    cdef Abort pdu = Abort.__new__(Abort)
    skip(c, 2)
    pdu.source = read_u8(c)
    pdu.reason = read_u8(c)
    return pdu


ctypedef PDU (*PDUReader)(Cursor* c)
cdef PDUReader[7] PDU_READERS = [
    _read_associate_rq, _read_associate_ac, _read_associate_rj, _read_data_tf, _read_release_rq, _read_release_rp,
    _read_abort,
]


# Decoding

cdef int check_header(int pdu_type, unsigned int length, unsigned int max_length=0) except -1:
    if not 1 <= pdu_type <= 7:
        raise MalformedPDU(f"PDU type {pdu_type:02X}H is none of the DICOM upper layer: is the peer speaking DICOM?",
                           reason=UNRECOGNIZED_PDU, pdu_type=pdu_type, offset=0)
    cdef unsigned int least = 4
    cdef unsigned int most = 4
    if pdu_type == PDU_DATA_TF:
        least, most = 6, max_length or 0xFFFFFFFF
    elif pdu_type <= PDU_ASSOCIATE_AC:
        least, most = ASSOCIATE_FIXED_SIZE, MAX_ASSOCIATE_PDU
    if not least <= length <= most:
        raise MalformedPDU(f"{NAMES[pdu_type]} claims {length} bytes: expected {least} to {most}",
                           reason=INVALID_VALUE, pdu_type=pdu_type, offset=2)
    return 0


cdef PDU read_body(int pdu_type, Cursor* body):
    cdef Py_ssize_t start = body.pos
    try:
        pdu = PDU_READERS[pdu_type - 1](body)
    except _Fault as fault:
        at, reason, text = fault.args
        at += HEADER_SIZE - start
        raise MalformedPDU(f"malformed {NAMES[pdu_type]}: {text} (byte {at})",
                           reason=reason, pdu_type=pdu_type, offset=at) from None
    return pdu


cpdef PDU decode_body(int pdu_type, object body):
    """The PDU of this type whose body (what follows the 6-byte header) is `body`. Raises MalformedPDU."""
    cdef Py_buffer view
    cdef Cursor c
    PyObject_GetBuffer(body, &view, PyBUF_SIMPLE)
    try:
        if view.len > 0xFFFFFFFF:
            raise InvalidArgument("longer than any PDU")
        check_header(pdu_type, <unsigned int> view.len)
        c = cursor_over(&view)
        return read_body(pdu_type, &c)
    finally:
        PyBuffer_Release(&view)


def decode(buffer):
    """The PDU that `buffer` holds, whole and alone. Raises MalformedPDU where bytes are missing or left over."""
    found = decode_first(buffer)
    if found is None:
        raise MalformedPDU("the PDU is cut short", reason=INVALID_VALUE, pdu_type=None, offset=None)
    pdu, end = found
    with memoryview(buffer) as view:
        if view.nbytes != end:
            raise MalformedPDU(f"{view.nbytes - end} bytes follow the PDU", reason=INVALID_VALUE, pdu_type=None, offset=end)
    return pdu


def decode_first(buffer, Py_ssize_t offset=0, unsigned int max_length=0):
    """The PDU that starts at `offset`, and where it ends; None if more bytes are needed.

    The type is judged as soon as its byte is there, the length before the body is waited for.

    Args:
        max_length: the longest P-DATA-TF body to take, as announced to the peer; 0: any.

    Raises:
        MalformedPDU: what stands there can never become a PDU.
    """
    cdef Py_buffer view
    cdef Cursor c, body
    cdef int pdu_type
    cdef unsigned int length
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    try:
        c = cursor_over(&view)
        if not skip(&c, offset):
            raise InvalidArgument(f"offset {offset}: the buffer has {view.len} bytes")
        if not remaining(&c):
            return None
        pdu_type = read_u8(&c)
        if not 1 <= pdu_type <= 7:
            check_header(pdu_type, 0)
        skip(&c, 1)
        length = read_u32be(&c)
        if c.overrun >= 0:
            return None
        check_header(pdu_type, length, max_length)
        if length > remaining(&c):
            return None
        body = child(&c, length)
        return read_body(pdu_type, &body), c.pos
    finally:
        PyBuffer_Release(&view)
