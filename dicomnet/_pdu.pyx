# cython: auto_pickle=False
"""The seven PDUs of the DICOM upper layer and all their items, as values: decode, encode, split a byte stream.

Every value is frozen, compares and hashes by content, and can be built exactly if it can be received: the constructor
refuses (InvalidArgument) what the decoder refuses (MalformedPDU). Both are strict on structure (lengths, required
items, context IDs) and leave judgement of well-formed content (is this a valid UID? is this AE title known?) to
negotiation. Reserved bytes are sent as zero and not tested (PS3.8 Section 9.3, PS3.7 Annex D).
"""
cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromObject
from libc.string cimport memset

from dicomnet.wire.cursor cimport (
    Cursor, Py_buffer, Writer, child, cursor_over, patch_u32be, read_bytes, read_text, read_u8, read_u16be, read_u32be,
    remaining, skip, write_u8, write_u16be, write_u32be, write_zeros,
)
from dicomnet.wire.items cimport (
    ABSTRACT_SYNTAX_ITEM, APPLICATION_CONTEXT_ITEM, CONTEXT_AC_ITEM, CONTEXT_RQ_ITEM, INVALID_VALUE,
    TRANSFER_SYNTAX_ITEM, UNRECOGNIZED_PDU, USER_INFORMATION_ITEM, Item, Value, check_fits, close_field,
    keep_unknown, latin1_text, number, odd_id, only, open_item, read_item, read_uid, read_user_information,
    uid_text, uid_texts, unknown_items, write_bytes, write_text_item, write_values,
)

from dicomnet.wire.items import (
    AsynchronousOperationsWindow, Fault, ImplementationClassUID, ImplementationVersionName, MaximumLength,
    RoleSelection, SOPClassCommonExtendedNegotiation, SOPClassExtendedNegotiation, SubItem, UnknownItem,
    UserIdentityAC, UserIdentityRQ,
)
from dicomnet.errors import InvalidArgument, MalformedPDU

__all__ = [
    "Abort", "AssociateAC", "AssociateRJ", "AssociateRQ", "AsynchronousOperationsWindow", "ImplementationClassUID",
    "ImplementationVersionName", "MaximumLength", "PDU", "PDU_ABORT", "PDU_ASSOCIATE_AC", "PDU_ASSOCIATE_RJ",
    "PDU_ASSOCIATE_RQ", "PDU_DATA_TF", "PDU_RELEASE_RP", "PDU_RELEASE_RQ", "PDV", "PDataTF", "PresentationContextAC",
    "PresentationContextRQ", "ReleaseRP", "ReleaseRQ", "RoleSelection", "SOPClassCommonExtendedNegotiation",
    "SOPClassExtendedNegotiation", "SubItem", "UnknownItem", "UserIdentityAC", "UserIdentityRQ", "decode",
    "decode_body", "decode_first",
]

cdef enum:
    ASSOCIATE_FIXED_SIZE = 68       # protocol version, AE titles and reserved bytes before the items
    MAX_CONTEXTS = 128              # there are no more odd bytes
    COMMAND_BIT = 1
    LAST_BIT = 2

cdef tuple NAMES = (
    "", "A-ASSOCIATE-RQ", "A-ASSOCIATE-AC", "A-ASSOCIATE-RJ", "P-DATA-TF", "A-RELEASE-RQ", "A-RELEASE-RP", "A-ABORT",
)


# Presentation contexts and data values

cdef class PresentationContext(Value):
    """What the presentation contexts of request and answer share: an odd ID, 1 to 255."""

    cdef int read(self, Item* item) except -1:
        raise NotImplementedError


@cython.final
cdef class PresentationContextRQ(PresentationContext):
    """An abstract syntax with the transfer syntaxes proposed for it, at least one (PS3.8 Section 9.3.2.2)."""

    __match_args__ = ("id", "abstract_syntax", "transfer_syntaxes", "unknown")

    def __init__(self, id, abstract_syntax, transfer_syntaxes, unknown=()):
        self.id = odd_id(id)
        self.abstract_syntax = uid_text(abstract_syntax, "abstract syntax")
        self.transfer_syntaxes = uid_texts(transfer_syntaxes, "transfer syntax")
        self.unknown = unknown_items(unknown)
        if not self.transfer_syntaxes:
            raise InvalidArgument(f"presentation context {self.id}: no transfer syntax")

    cdef int write(self, Writer* w) except -1:
        cdef Py_ssize_t at = open_item(w, CONTEXT_RQ_ITEM)
        write_u8(w, self.id)
        write_zeros(w, 3)
        write_text_item(w, ABSTRACT_SYNTAX_ITEM, self.abstract_syntax, "abstract syntax")
        for uid in self.transfer_syntaxes:
            write_text_item(w, TRANSFER_SYNTAX_ITEM, uid, "transfer syntax")
        write_values(w, self.unknown)
        return close_field(w, at, "PresentationContextRQ")

    cdef int read(self, Item* context) except -1:
        cdef Cursor* c = &context.body
        cdef Item item
        cdef list transfer_syntaxes = []
        cdef list unknown = []
        self.id = read_u8(c)
        skip(c, 3)
        check_fits(context)
        while remaining(c):
            read_item(c, &item)
            if item.kind == TRANSFER_SYNTAX_ITEM:
                transfer_syntaxes.append(read_uid(&item.body, remaining(&item.body)))
            elif item.kind == ABSTRACT_SYNTAX_ITEM and self.abstract_syntax is None:
                self.abstract_syntax = read_uid(&item.body, remaining(&item.body))
            else:
                keep_unknown(unknown, &item)
        if self.abstract_syntax is None or not transfer_syntaxes:
            raise Fault(c.pos, INVALID_VALUE, f"presentation context {self.id} lacks an abstract or transfer syntax")
        self.transfer_syntaxes = tuple(transfer_syntaxes)
        self.unknown = tuple(unknown)
        return 0


@cython.final
cdef class PresentationContextAC(PresentationContext):
    """The answer to one proposed context: 0 and the transfer syntax, or why not (PS3.8 Section 9.3.3.2)."""

    __match_args__ = ("id", "result", "transfer_syntax", "unknown")

    def __init__(self, id, result, transfer_syntax=None, unknown=()):
        self.id = odd_id(id)
        self.result = <int> number(result, 255, "presentation context result")
        self.transfer_syntax = None if transfer_syntax is None else uid_text(transfer_syntax, "transfer syntax")
        self.unknown = unknown_items(unknown)
        if self.result == 0 and self.transfer_syntax is None:
            raise InvalidArgument(f"presentation context {self.id}: accepted without a transfer syntax")

    cdef int write(self, Writer* w) except -1:
        cdef Py_ssize_t at = open_item(w, CONTEXT_AC_ITEM)
        write_u8(w, self.id)
        write_u8(w, 0)
        write_u8(w, self.result)
        write_u8(w, 0)
        if self.transfer_syntax is not None:
            write_text_item(w, TRANSFER_SYNTAX_ITEM, self.transfer_syntax, "transfer syntax")
        write_values(w, self.unknown)
        return close_field(w, at, "PresentationContextAC")

    cdef int read(self, Item* context) except -1:
        self.id = read_u8(&context.body)
        skip(&context.body, 1)
        self.result = read_u8(&context.body)
        skip(&context.body, 1)
        check_fits(context)
        try:
            self.read_syntax(&context.body)
        except Fault:
            # What follows a refusal is not significant and not tested: peers send nothing, an empty item, or anything.
            if self.result == 0:
                raise
            self.transfer_syntax = None
            self.unknown = ()
        return 0

    cdef int read_syntax(self, Cursor* c) except -1:
        cdef Item item
        cdef list unknown = []
        while remaining(c):
            read_item(c, &item)
            if item.kind == TRANSFER_SYNTAX_ITEM and self.transfer_syntax is None:
                self.transfer_syntax = read_uid(&item.body, remaining(&item.body))
            else:
                keep_unknown(unknown, &item)
        self.unknown = tuple(unknown)
        if self.result == 0 and self.transfer_syntax is None:
            raise Fault(c.pos, INVALID_VALUE, f"presentation context {self.id} is accepted without a transfer syntax")
        return 0


cdef PresentationContext read_context(Item* item):
    cdef PresentationContext context
    if item.kind == CONTEXT_RQ_ITEM:
        context = PresentationContextRQ.__new__(PresentationContextRQ)
    else:
        context = PresentationContextAC.__new__(PresentationContextAC)
    context.read(item)
    if context.id & 1 == 0:
        raise Fault(item.body.pos, INVALID_VALUE, f"presentation context ID {context.id} is not odd")
    return context


@cython.final
cdef class PDV(Value):
    """A presentation data value: a fragment of a command or data set (PS3.8 Section 9.3.5.1 and Annex E)."""

    __match_args__ = ("context_id", "data", "is_command", "is_last")

    def __init__(self, context_id, data, is_command, is_last):
        self.context_id = odd_id(context_id)
        self.data = PyBytes_FromObject(data)
        self.is_command = is_command
        self.is_last = is_last

    cdef int write(self, Writer* w) except -1:
        cdef Py_ssize_t at = w.size
        write_u32be(w, 0)
        write_u8(w, self.context_id)
        write_u8(w, (COMMAND_BIT if self.is_command else 0) | (LAST_BIT if self.is_last else 0))
        write_bytes(w, self.data)
        if not patch_u32be(w, at):
            raise InvalidArgument("PDV: longer than its length field can say")
        return 0


cdef PDV read_pdv(Cursor* c):
    cdef Py_ssize_t at = c.pos
    cdef unsigned int length = read_u32be(c)
    if c.overrun >= 0 or length < 2 or length > remaining(c):
        raise Fault(at, INVALID_VALUE, f"a PDV claims {length} bytes where {remaining(c)} are left")
    cdef PDV value = PDV.__new__(PDV)
    value.context_id = read_u8(c)
    if value.context_id & 1 == 0:
        raise Fault(at + 4, INVALID_VALUE, f"presentation context ID {value.context_id} is not odd")
    cdef int header = read_u8(c)
    value.is_command = header & COMMAND_BIT != 0
    value.is_last = header & LAST_BIT != 0
    value.data = read_bytes(c, length - 2)
    return value


# PDUs

cdef class PDU(Value):
    """One of the seven protocol data units."""

    cdef int read(self, Cursor* c) except -1:
        raise NotImplementedError


cdef int write_short_pdu(Writer* w, int kind, int a, int b, int c) except -1:
    """A PDU of four bytes, the first of which is reserved in all of them."""
    write_u16be(w, kind << 8)
    write_u32be(w, 4)
    write_u8(w, 0)
    write_u8(w, a)
    write_u8(w, b)
    return write_u8(w, c)


cdef str ae_title(object value, str name):
    text = latin1_text(value, name, " ")
    if len(text) > 16:
        raise InvalidArgument(f"{name} {value!r}: {len(text)} characters, at most 16 fit")
    return text


cdef int write_title(Writer* w, str title) except -1:
    return write_bytes(w, title.encode("latin-1").ljust(16))


cdef int repeated_id(tuple contexts) noexcept:
    """A context ID that stands twice, or 0."""
    cdef unsigned char[256] seen
    cdef int id
    memset(seen, 0, sizeof(seen))
    for context in contexts:
        id = (<PresentationContext> context).id
        if seen[id]:
            return id
        seen[id] = 1
    return 0


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
        self.called_ae_title = ae_title(called_ae_title, "called AE title")
        self.calling_ae_title = ae_title(calling_ae_title, "calling AE title")
        self.presentation_contexts = only(presentation_contexts, kind, "presentation_contexts")
        self.user_information = only(user_information, SubItem, "user_information")
        self.application_context_name = uid_text(application_context_name, "application context name")
        self.protocol_version = <int> number(protocol_version, 0xFFFF, "protocol version")
        self.unknown = unknown_items(unknown)
        if not self.presentation_contexts:
            raise InvalidArgument("an association needs at least one presentation context")
        cdef int repeated = repeated_id(self.presentation_contexts)
        if repeated:
            raise InvalidArgument(f"presentation context ID {repeated} is used twice (128 IDs are all there are)")

    def maximum_length(self):
        """The Maximum Length that it announces; None where it announces none (PS3.8 Annex D.1)."""
        return next((item.value for item in self.user_information if isinstance(item, MaximumLength)), None)

    cdef int write_as(self, int kind, Writer* w) except -1:
        write_u16be(w, kind << 8)
        cdef Py_ssize_t at = w.size
        write_u32be(w, 0)
        write_u16be(w, self.protocol_version)
        write_zeros(w, 2)
        write_title(w, self.called_ae_title)
        write_title(w, self.calling_ae_title)
        write_zeros(w, 32)
        write_text_item(w, APPLICATION_CONTEXT_ITEM, self.application_context_name, "application context name")
        write_values(w, self.presentation_contexts)
        cdef Py_ssize_t information = open_item(w, USER_INFORMATION_ITEM)
        write_values(w, self.user_information)
        close_field(w, information, "user_information")
        write_values(w, self.unknown)
        patch_u32be(w, at)      # always fits: 128 contexts and 1024 unknown items of 64 KiB
        return 0

    cdef int read(self, Cursor* c) except -1:
        self.protocol_version = read_u16be(c)
        skip(c, 2)
        self.called_ae_title = read_text(c, 16).strip(" ")
        self.calling_ae_title = read_text(c, 16).strip(" ")
        skip(c, 32)
        self.read_items(c)
        return self.check(c.pos)

    cdef int read_items(self, Cursor* c) except -1:
        """The items, in any order: some senders do not sort them."""
        cdef int context_kind = CONTEXT_RQ_ITEM if isinstance(self, AssociateRQ) else CONTEXT_AC_ITEM
        cdef Item item
        contexts = []
        unknown = []
        while remaining(c):
            read_item(c, &item)
            if item.kind == context_kind:
                if len(contexts) == MAX_CONTEXTS:
                    raise Fault(item.body.pos - 4, INVALID_VALUE, f"more than {MAX_CONTEXTS} presentation contexts")
                contexts.append(read_context(&item))
            elif item.kind == APPLICATION_CONTEXT_ITEM and self.application_context_name is None:
                self.application_context_name = read_uid(&item.body, remaining(&item.body))
            elif item.kind == USER_INFORMATION_ITEM and self.user_information is None:
                self.user_information = read_user_information(&item)
            else:
                keep_unknown(unknown, &item)
        self.presentation_contexts = tuple(contexts)
        self.unknown = tuple(unknown)
        return 0

    cdef int check(self, Py_ssize_t at) except -1:
        """The items that an association cannot do without (PS3.8 Section 9.3.2)."""
        if self.application_context_name is None:
            raise Fault(at, INVALID_VALUE, "no application context item")
        if not self.presentation_contexts:
            raise Fault(at, INVALID_VALUE, "no presentation context item")
        if self.user_information is None:
            raise Fault(at, INVALID_VALUE, "no user information item")
        cdef int repeated = repeated_id(self.presentation_contexts)
        if repeated:
            raise Fault(at, INVALID_VALUE, f"presentation context ID {repeated} stands twice")
        return 0


@cython.final
cdef class AssociateRQ(Associate):
    """A-ASSOCIATE-RQ (PS3.8 Section 9.3.2)."""

    cdef int write(self, Writer* w) except -1:
        return self.write_as(PDU_ASSOCIATE_RQ, w)


@cython.final
cdef class AssociateAC(Associate):
    """A-ASSOCIATE-AC (PS3.8 Section 9.3.3). Its AE titles are copies from the request, and not to be relied upon."""

    cdef int write(self, Writer* w) except -1:
        return self.write_as(PDU_ASSOCIATE_AC, w)


@cython.final
cdef class AssociateRJ(PDU):
    """A-ASSOCIATE-RJ (PS3.8 Section 9.3.4): result 1 permanent, 2 transient; whose reason it is; the reason."""

    __match_args__ = ("result", "source", "reason")

    def __init__(self, result, source, reason):
        self.result = <int> number(result, 255, "result")
        self.source = <int> number(source, 255, "source")
        self.reason = <int> number(reason, 255, "reason")

    cdef int write(self, Writer* w) except -1:
        return write_short_pdu(w, PDU_ASSOCIATE_RJ, self.result, self.source, self.reason)

    cdef int read(self, Cursor* c) except -1:
        skip(c, 1)
        self.result = read_u8(c)
        self.source = read_u8(c)
        self.reason = read_u8(c)
        return 0


@cython.final
cdef class PDataTF(PDU):
    """P-DATA-TF (PS3.8 Section 9.3.5): at least one PDV."""

    __match_args__ = ("pdvs",)

    def __init__(self, pdvs):
        self.pdvs = only(pdvs, PDV, "pdvs")
        if not self.pdvs:
            raise InvalidArgument("a P-DATA-TF needs at least one PDV")

    cdef int write(self, Writer* w) except -1:
        write_u16be(w, PDU_DATA_TF << 8)
        cdef Py_ssize_t at = w.size
        write_u32be(w, 0)
        write_values(w, self.pdvs)
        if not patch_u32be(w, at):
            raise InvalidArgument("PDataTF: longer than its length field can say")
        return 0

    cdef int read(self, Cursor* c) except -1:
        pdvs = []
        while remaining(c):
            pdvs.append(read_pdv(c))
        self.pdvs = tuple(pdvs)
        return 0


@cython.final
cdef class ReleaseRQ(PDU):
    """A-RELEASE-RQ (PS3.8 Section 9.3.6)."""

    cdef int write(self, Writer* w) except -1:
        return write_short_pdu(w, PDU_RELEASE_RQ, 0, 0, 0)

    cdef int read(self, Cursor* c) except -1:
        return 0


@cython.final
cdef class ReleaseRP(PDU):
    """A-RELEASE-RP (PS3.8 Section 9.3.7)."""

    cdef int write(self, Writer* w) except -1:
        return write_short_pdu(w, PDU_RELEASE_RP, 0, 0, 0)

    cdef int read(self, Cursor* c) except -1:
        return 0


@cython.final
cdef class Abort(PDU):
    """A-ABORT (PS3.8 Section 9.3.8): source 0 the service user, 2 the provider, whose reason says why."""

    __match_args__ = ("source", "reason")

    def __init__(self, source, reason):
        self.source = <int> number(source, 255, "source")
        self.reason = <int> number(reason, 255, "reason")

    cdef int write(self, Writer* w) except -1:
        return write_short_pdu(w, PDU_ABORT, 0, self.source, self.reason)

    cdef int read(self, Cursor* c) except -1:
        skip(c, 2)
        self.source = read_u8(c)
        self.reason = read_u8(c)
        return 0


cdef tuple PDUS = (None, AssociateRQ, AssociateAC, AssociateRJ, PDataTF, ReleaseRQ, ReleaseRP, Abort)


# Decoding

# What begins like this is not DICOM; TLS is what people take a wrong port for most.
cdef dict FOREIGN = {0x15: "the peer speaks TLS, and this connection does not",
                     0x16: "the peer speaks TLS, and this port does not"}


cdef object unrecognized(int pdu_type):
    """The error of a PDU type that there is not."""
    what = FOREIGN.get(pdu_type, "is the peer speaking DICOM?")
    return MalformedPDU(f"PDU type {pdu_type:02X}H is none of the DICOM upper layer: {what}",
                        reason=UNRECOGNIZED_PDU, pdu_type=pdu_type, offset=0)


cdef object malformed_data(str detail):
    """The error of a P-DATA-TF that cannot be cut into its PDVs."""
    return MalformedPDU(detail, reason=INVALID_VALUE, pdu_type=PDU_DATA_TF, offset=None)


cdef int check_header(int pdu_type, unsigned int length, unsigned int max_length=0,
                      unsigned int max_associate=MAX_ASSOCIATE_PDU) except -1:
    if not 1 <= pdu_type <= 7:
        raise unrecognized(pdu_type)
    cdef unsigned int least = 4
    cdef unsigned int most = 4
    if pdu_type == PDU_DATA_TF:
        least, most = 6, max_length or ANY_LENGTH
    elif pdu_type <= PDU_ASSOCIATE_AC:
        least, most = ASSOCIATE_FIXED_SIZE, max_associate or ANY_LENGTH
    if not least <= length <= most:
        raise MalformedPDU(f"{NAMES[pdu_type]} of {length} bytes: expected {least} to {most}",
                           reason=INVALID_VALUE, pdu_type=pdu_type, offset=2)
    return 0


cdef PDU read_body(int pdu_type, Cursor* body):
    cdef Py_ssize_t start = body.pos - HEADER_SIZE
    kind = PDUS[pdu_type]
    cdef PDU pdu = kind.__new__(kind)
    try:
        pdu.read(body)
    except Fault as fault:
        at, reason, text = fault.args
        raise MalformedPDU(f"malformed {NAMES[pdu_type]}: {text} (byte {at - start})",
                           reason=reason, pdu_type=pdu_type, offset=at - start) from None
    return pdu


cpdef PDU decode_body(int pdu_type, object body):
    """The PDU of this type whose body (what follows the 6-byte header) is `body`. Raises MalformedPDU."""
    cdef Py_buffer view
    cdef Cursor c
    PyObject_GetBuffer(body, &view, PyBUF_SIMPLE)
    try:
        if view.len > ANY_LENGTH:
            raise MalformedPDU("longer than any PDU", reason=INVALID_VALUE, pdu_type=pdu_type, offset=2)
        check_header(pdu_type, <unsigned int> view.len, 0, 0)
        c = cursor_over(&view)
        return read_body(pdu_type, &c)
    finally:
        PyBuffer_Release(&view)


def decode(buffer):
    """The PDU that `buffer` holds, whole and alone. Raises MalformedPDU, also where bytes are missing or left over."""
    with memoryview(buffer) as view:
        found = decode_first(view, 0, 0, 0)
        if found is None:
            raise MalformedPDU("a PDU that is cut short", reason=INVALID_VALUE, pdu_type=None, offset=view.nbytes)
        pdu, end = found
        if end != view.nbytes:
            raise MalformedPDU(f"{view.nbytes - end} bytes follow the PDU",
                               reason=INVALID_VALUE, pdu_type=None, offset=end)
        return pdu


def decode_first(buffer, Py_ssize_t offset=0, unsigned int max_length=0,
                 unsigned int max_associate=MAX_ASSOCIATE_PDU):
    """The PDU that starts at `offset`, and where it ends; None if more bytes are needed.

    The type is judged as soon as its byte is there, the length before the body is waited for.

    Args:
        max_length: the longest P-DATA-TF to take, as announced to the peer, without its header; 0: any.
        max_associate: the longest A-ASSOCIATE-RQ or AC to take, without its header; 0: any.

    Raises:
        MalformedPDU: what stands there can never become a PDU.
    """
    cdef Py_buffer view
    cdef Cursor c
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    try:
        c = cursor_over(&view)
        if not skip(&c, offset):
            raise InvalidArgument(f"offset {offset}: the buffer has {view.len} bytes")
        return first_pdu(&c, max_length, max_associate)
    finally:
        PyBuffer_Release(&view)


cdef tuple first_pdu(Cursor* c, unsigned int max_length, unsigned int max_associate):
    cdef int pdu_type
    cdef unsigned int length
    cdef Cursor body
    if not remaining(c):
        return None
    pdu_type = read_u8(c)
    skip(c, 1)
    length = read_u32be(c)
    if c.overrun < 0 or not 1 <= pdu_type <= 7:
        check_header(pdu_type, length, max_length, max_associate)
    if c.overrun >= 0 or length > remaining(c):
        return None
    body = child(c, length)
    return read_body(pdu_type, &body), c.pos
