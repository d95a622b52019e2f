# cython: auto_pickle=False
"""DIMSE on the wire: command sets, messages cut into fragments, fragments joined (PS3.7 Section 6.3, PS3.8 Annex E).

A command set is always implicit VR little endian; `Command` is its value, with one attribute for each element of
PS3.7 Annex E.1. Data sets are not looked into: `frame` lays PDV headers between slices of the caller's memory, and
`MessageReader` hands arriving fragments, as slices of the caller's buffer, to a sink chosen per message.
"""

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.buffer cimport PyBUF_SIMPLE, Py_buffer, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint16_t, uint32_t

from .cursor cimport Cursor, Writer, child, cursor_over, is_ascii, patch_u32le, read_text, read_u16le, read_u32le, \
    remaining, trim_padding, write_raw, write_u8, write_u16be, write_u16le, write_u32be, write_u32le, write_zeros, \
    writer_bytes, writer_close, writer_open

from ..config import Limits
from ..errors import InvalidArgument, LocalProtocolError, MalformedPDU

__all__ = ["ELEMENTS", "Command", "Message", "MessageReader", "decode_command", "fragment_size", "frame"]

cdef enum:
    NO_DATA_SET = 0x0101
    CONTROL_COMMAND = 1      # bit 0 of the message control header (PS3.8 Annex E.2)
    CONTROL_LAST = 2
    RESPONSE = 0x8000        # bit 15 of the Command Field
    ELEMENT_HEADER = 8       # tag and length of an implicit VR element
    PDV_OVERHEAD = 6         # PDV item length, context ID, message control header
    REASON_UNEXPECTED_PARAMETER = 5
    REASON_INVALID_VALUE = 6
    PDU_P_DATA_TF = 4
    PDU_HEADER = 6
    PDU_HEADERS = 12         # of a P-DATA-TF with one PDV: PDU header and PDV header
    COMMAND_CAPACITY = 256   # bytes to start with; most command sets need less

#: The elements of a command set in ascending order: element number in group 0000, attribute, VR (PS3.7 Annex E.1).
ELEMENTS = (
    (0x0002, "affected_sop_class_uid", "UI"),
    (0x0003, "requested_sop_class_uid", "UI"),
    (0x0100, "command_field", "US"),
    (0x0110, "message_id", "US"),
    (0x0120, "message_id_being_responded_to", "US"),
    (0x0600, "move_destination", "AE"),
    (0x0700, "priority", "US"),
    (0x0800, "command_data_set_type", "US"),
    (0x0900, "status", "US"),
    (0x0901, "offending_element", "AT"),
    (0x0902, "error_comment", "LO"),
    (0x0903, "error_id", "US"),
    (0x1000, "affected_sop_instance_uid", "UI"),
    (0x1001, "requested_sop_instance_uid", "UI"),
    (0x1002, "event_type_id", "US"),
    (0x1005, "attribute_identifier_list", "AT"),
    (0x1008, "action_type_id", "US"),
    (0x1020, "number_of_remaining_suboperations", "US"),
    (0x1021, "number_of_completed_suboperations", "US"),
    (0x1022, "number_of_failed_suboperations", "US"),
    (0x1023, "number_of_warning_suboperations", "US"),
    (0x1030, "move_originator_ae_title", "AE"),
    (0x1031, "move_originator_message_id", "US"),
)
_NAMES = tuple(name for _, name, _ in ELEMENTS)


@cython.final
cdef class Command:
    """A command set: every element it can hold, None where absent (PS3.7 Annex E.1).

    Unsigned shorts are ints, UIDs and texts str, attribute tags (OffendingElement, AttributeIdentifierList) tuples of
    ints such as 0x00100010. The Command Group Length is made and checked by the codec.
    """

    def __init__(
        self, *, affected_sop_class_uid=None, requested_sop_class_uid=None, command_field=None, message_id=None,
        message_id_being_responded_to=None, move_destination=None, priority=None,
        command_data_set_type=NO_DATA_SET, status=None, offending_element=None, error_comment=None, error_id=None,
        affected_sop_instance_uid=None, requested_sop_instance_uid=None, event_type_id=None,
        attribute_identifier_list=None, action_type_id=None, number_of_remaining_suboperations=None,
        number_of_completed_suboperations=None, number_of_failed_suboperations=None,
        number_of_warning_suboperations=None, move_originator_ae_title=None, move_originator_message_id=None,
    ):
        self.affected_sop_class_uid = affected_sop_class_uid
        self.requested_sop_class_uid = requested_sop_class_uid
        self.command_field = command_field
        self.message_id = message_id
        self.message_id_being_responded_to = message_id_being_responded_to
        self.move_destination = move_destination
        self.priority = priority
        self.command_data_set_type = command_data_set_type
        self.status = status
        self.offending_element = offending_element
        self.error_comment = error_comment
        self.error_id = error_id
        self.affected_sop_instance_uid = affected_sop_instance_uid
        self.requested_sop_instance_uid = requested_sop_instance_uid
        self.event_type_id = event_type_id
        self.attribute_identifier_list = attribute_identifier_list
        self.action_type_id = action_type_id
        self.number_of_remaining_suboperations = number_of_remaining_suboperations
        self.number_of_completed_suboperations = number_of_completed_suboperations
        self.number_of_failed_suboperations = number_of_failed_suboperations
        self.number_of_warning_suboperations = number_of_warning_suboperations
        self.move_originator_ae_title = move_originator_ae_title
        self.move_originator_message_id = move_originator_message_id

    @property
    def has_data_set(self):
        """Whether a data set follows: every Command Data Set Type but 0101H says so (PS3.7 Annex E.1)."""
        return self.command_data_set_type != NO_DATA_SET

    @property
    def is_response(self):
        """Whether bit 15 of the Command Field is set."""
        return (self.command_field or 0) & RESPONSE != 0

    cpdef bytes encode(self):
        """The command set as bytes, group length first.

        Raises:
            InvalidArgument: a value that its element cannot hold.
        """
        cdef Writer out
        writer_open(&out, COMMAND_CAPACITY)
        try:
            _put_header(&out, 0x0000, 4)
            write_zeros(&out, 4)
            self._put_elements(&out)
            patch_u32le(&out, ELEMENT_HEADER)
            return writer_bytes(&out)
        finally:
            writer_close(&out)

    cdef int _put_elements(self, Writer* out) except -1:
        """Every element that is there, in ascending order (PS3.7 Section 6.3.1)."""
        _put_uid(out, 0x0002, self.affected_sop_class_uid)
        _put_uid(out, 0x0003, self.requested_sop_class_uid)
        _put_us(out, 0x0100, self.command_field)
        _put_us(out, 0x0110, self.message_id)
        _put_us(out, 0x0120, self.message_id_being_responded_to)
        _put_text(out, 0x0600, self.move_destination)
        _put_us(out, 0x0700, self.priority)
        _put_us(out, 0x0800, self.command_data_set_type)
        _put_us(out, 0x0900, self.status)
        _put_tags(out, 0x0901, self.offending_element)
        _put_text(out, 0x0902, self.error_comment)
        _put_us(out, 0x0903, self.error_id)
        _put_uid(out, 0x1000, self.affected_sop_instance_uid)
        _put_uid(out, 0x1001, self.requested_sop_instance_uid)
        _put_us(out, 0x1002, self.event_type_id)
        _put_tags(out, 0x1005, self.attribute_identifier_list)
        _put_us(out, 0x1008, self.action_type_id)
        _put_us(out, 0x1020, self.number_of_remaining_suboperations)
        _put_us(out, 0x1021, self.number_of_completed_suboperations)
        _put_us(out, 0x1022, self.number_of_failed_suboperations)
        _put_us(out, 0x1023, self.number_of_warning_suboperations)
        _put_text(out, 0x1030, self.move_originator_ae_title)
        _put_us(out, 0x1031, self.move_originator_message_id)
        return 0

    def __eq__(self, other):
        if not isinstance(other, Command):
            return NotImplemented
        return self._values() == (<Command>other)._values()

    def __hash__(self):
        return hash(self._values())

    def __repr__(self):
        parts = (f"{name}={value!r}" for name, value in zip(_NAMES, self._values()) if value is not None)
        return f"Command({', '.join(parts)})"

    def __reduce__(self):
        return _rebuild, (self._values(),)

    def _values(self):
        return tuple([getattr(self, name) for name in _NAMES])


def _rebuild(values):
    return Command(**dict(zip(_NAMES, values)))


def decode_command(buffer):
    """The `Command` in ``buffer``, which is one whole command set.

    Elements may come in any order and unknown ones (the retired among them) are passed over, as every peer does; the
    group length is not relied on.

    Raises:
        MalformedPDU: an element twice, longer than what is left, or of a wrong length for its VR.
    """
    cdef Py_buffer view
    cdef Cursor cursor
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    try:
        cursor = cursor_over(&view)
        return _decode_elements(&cursor)
    finally:
        PyBuffer_Release(&view)


cdef Command _decode_elements(Cursor* cursor):
    cdef Command command = Command.__new__(Command)
    cdef Cursor value
    cdef uint16_t group, element
    cdef uint32_t length
    while remaining(cursor):
        group = read_u16le(cursor)
        element = read_u16le(cursor)
        length = read_u32le(cursor)
        value = child(cursor, length)
        if cursor.overrun >= 0:
            raise _malformed("an element reaches past the end of the command set", cursor.overrun)
        if group:
            raise _malformed(f"an element of group {group:04X} in a command set", cursor.pos)
        _set_element(command, element, &value)
    return command


cdef int _set_element(Command command, int element, Cursor* value) except -1:
    """Put one element where it belongs; an empty value is an absent one."""
    if element == 0x0000 or not remaining(value):
        return 0
    if element == 0x0002:
        command.affected_sop_class_uid = _uid(value, command.affected_sop_class_uid)
    elif element == 0x0100:
        command.command_field = _us(value, command.command_field)
    elif element == 0x0110:
        command.message_id = _us(value, command.message_id)
    elif element == 0x0120:
        command.message_id_being_responded_to = _us(value, command.message_id_being_responded_to)
    elif element == 0x0700:
        command.priority = _us(value, command.priority)
    elif element == 0x0800:
        command.command_data_set_type = _us(value, command.command_data_set_type)
    elif element == 0x0900:
        command.status = _us(value, command.status)
    elif element == 0x1000:
        command.affected_sop_instance_uid = _uid(value, command.affected_sop_instance_uid)
    elif element < 0x1000:
        _set_rarer_element(command, element, value)
    else:
        _set_suboperation_element(command, element, value)
    return 0


cdef int _set_rarer_element(Command command, int element, Cursor* value) except -1:
    if element == 0x0003:
        command.requested_sop_class_uid = _uid(value, command.requested_sop_class_uid)
    elif element == 0x0600:
        command.move_destination = _text(value, command.move_destination)
    elif element == 0x0901:
        command.offending_element = _tags(value, command.offending_element)
    elif element == 0x0902:
        command.error_comment = _text(value, command.error_comment)
    elif element == 0x0903:
        command.error_id = _us(value, command.error_id)
    return 0


cdef int _set_suboperation_element(Command command, int element, Cursor* value) except -1:
    if element == 0x1001:
        command.requested_sop_instance_uid = _uid(value, command.requested_sop_instance_uid)
    elif element == 0x1002:
        command.event_type_id = _us(value, command.event_type_id)
    elif element == 0x1005:
        command.attribute_identifier_list = _tags(value, command.attribute_identifier_list)
    elif element == 0x1008:
        command.action_type_id = _us(value, command.action_type_id)
    elif element == 0x1020:
        command.number_of_remaining_suboperations = _us(value, command.number_of_remaining_suboperations)
    elif element == 0x1021:
        command.number_of_completed_suboperations = _us(value, command.number_of_completed_suboperations)
    elif element == 0x1022:
        command.number_of_failed_suboperations = _us(value, command.number_of_failed_suboperations)
    elif element == 0x1023:
        command.number_of_warning_suboperations = _us(value, command.number_of_warning_suboperations)
    elif element == 0x1030:
        command.move_originator_ae_title = _text(value, command.move_originator_ae_title)
    elif element == 0x1031:
        command.move_originator_message_id = _us(value, command.move_originator_message_id)
    return 0


# ---- values of elements ------------------------------------------------------------------------------------------

cdef object _us(Cursor* value, present):
    if present is not None or remaining(value) != 2:
        raise _misplaced(value, present, "an unsigned short is two bytes long")
    return read_u16le(value)


cdef object _uid(Cursor* value, present):
    trim_padding(value)
    if present is not None or not is_ascii(value):
        raise _misplaced(value, present, "a UID holds only digits and dots")
    return read_text(value, remaining(value)) or None


cdef object _text(Cursor* value, present):
    if present is not None:
        raise _misplaced(value, present, "")
    trim_padding(value)
    return read_text(value, remaining(value)).lstrip(" ") or None


cdef object _tags(Cursor* value, present):
    if present is not None or remaining(value) % 4:
        raise _misplaced(value, present, "an attribute tag is four bytes long")
    tags = []
    while remaining(value):
        tags.append((<uint32_t>read_u16le(value) << 16) | read_u16le(value))
    return tuple(tags)


cdef object _misplaced(Cursor* value, present, str rule):
    return _malformed("an element stands twice in a command set" if present is not None else rule, value.pos)


cdef object _malformed(str detail, Py_ssize_t offset, int reason=REASON_INVALID_VALUE):
    return MalformedPDU(detail, reason=reason, pdu_type=PDU_P_DATA_TF, offset=offset)


cdef int _put_header(Writer* out, int element, uint32_t length) except -1:
    write_u16le(out, 0)
    write_u16le(out, <uint16_t>element)
    write_u32le(out, length)
    return 0


cdef int _put_us(Writer* out, int element, value) except -1:
    if value is None:
        return 0
    if not 0 <= value <= 0xFFFF:
        raise InvalidArgument(f"element (0000,{element:04X}) holds 0 to 65535, not {value!r}")
    _put_header(out, element, 2)
    write_u16le(out, <uint16_t>value)
    return 0


cdef int _put_uid(Writer* out, int element, value) except -1:
    return 0 if value is None else _put_text(out, element, value, "ascii", 0)


cdef int _put_text(Writer* out, int element, value, str encoding="latin-1", int padding=0x20) except -1:
    cdef bytes encoded
    if value is None:
        return 0
    try:
        encoded = value.encode(encoding)
    except UnicodeEncodeError:
        raise InvalidArgument(f"element (0000,{element:04X}) cannot hold {value!r}: it is no {encoding}") from None
    cdef Py_ssize_t size = len(encoded)
    _put_header(out, element, <uint32_t>(size + (size & 1)))
    write_raw(out, <const char*>encoded, size)
    if size & 1:
        write_u8(out, <unsigned char>padding)
    return 0


cdef int _put_tags(Writer* out, int element, tags) except -1:
    if tags is None:
        return 0
    _put_header(out, element, <uint32_t>(4 * len(tags)))
    for tag in tags:
        if not 0 <= tag <= 0xFFFFFFFF:
            raise InvalidArgument(f"element (0000,{element:04X}) holds tags of 32 bits, not {tag!r}")
        write_u16le(out, <uint16_t>(tag >> 16))
        write_u16le(out, <uint16_t>(tag & 0xFFFF))
    return 0


# ---- messages to fragments ---------------------------------------------------------------------------------------

def fragment_size(max_pdu, limit):
    """The bytes of a full fragment, even and at least 2, for a peer that takes PDUs of ``max_pdu`` (PS3.8 Annex D.1).

    0 is no limit but ``limit``, which is ours. Some peers count the six bytes before the PDU-length, too: mind them.

    Raises:
        LocalProtocolError: the announced length leaves no room for a fragment.
    """
    room = (min(max_pdu, limit) if max_pdu else limit) - PDV_OVERHEAD
    if room < 2:
        raise LocalProtocolError(f"the peer takes PDUs of {max_pdu} bytes, which leaves no room for data")
    return max(room - PDU_HEADER, 2) & ~1


cpdef list frame(int context_id, object buffer, Py_ssize_t size, bint command, bint last):
    """P-DATA-TF PDUs for one piece of a message, as buffers to write: headers, and slices of ``buffer`` itself.

    Each PDU holds one PDV of ``size`` bytes at most. All headers are laid out in one block (PS3.8 Section 9.3.5).

    Args:
        context_id: the presentation context of the message.
        buffer: a whole command set, or the next piece of a data set; its length is even unless it is the last.
        size: bytes of a full fragment, see `fragment_size`.
        command: the piece belongs to the command set.
        last: the message's command set, or its data set, ends with this piece.
    """
    cdef object view = memoryview(buffer)
    cdef Py_ssize_t total = view.nbytes
    cdef Py_ssize_t count = (total + size - 1) // size
    cdef Py_ssize_t number, start
    cdef object headers
    cdef list buffers = []
    if count == 0 and last:
        count = 1            # an empty data set still needs its last fragment
    headers = memoryview(pdu_headers(context_id, total, size, count, command, last))
    for number in range(count):
        start = number * size
        buffers.append(headers[number * PDU_HEADERS:(number + 1) * PDU_HEADERS])
        buffers.append(view if total <= size else view[start:start + size])
    return buffers


cdef bytes pdu_headers(int context_id, Py_ssize_t total, Py_ssize_t size, Py_ssize_t count, bint command, bint last):
    cdef int control = CONTROL_COMMAND if command else 0
    cdef Py_ssize_t number
    cdef Writer out
    writer_open(&out, PDU_HEADERS * count + 1)
    try:
        for number in range(count):
            if number == count - 1:
                size = total - number * size
                control |= CONTROL_LAST if last else 0
            write_u16be(&out, PDU_P_DATA_TF << 8)
            write_u32be(&out, <uint32_t>(size + PDV_OVERHEAD))
            write_u32be(&out, <uint32_t>(size + 2))
            write_u16be(&out, <uint16_t>(context_id << 8 | control))
        return writer_bytes(&out)
    finally:
        writer_close(&out)


# ---- fragments to messages ---------------------------------------------------------------------------------------

@cython.final
cdef class Message:
    """A DIMSE message that arrived: its presentation context, its command set, and where its data set went.

    Attributes:
        context_id: the presentation context ID.
        command: the command set.
        data: the sink that took the data set; None where there is none.
        error: what the sink raised, if it failed; the rest of the data set was discarded then.
        encoded: the command set as it came; None for a message that did not.
    """

    def __init__(self, int context_id, Command command not None, data=None, error=None, bytes encoded=None):
        self.context_id, self.command, self.encoded = context_id, command, encoded
        self.data, self.error = data, error

    def __repr__(self):
        return f"Message(context_id={self.context_id}, command={self.command!r}, data={self.data!r})"


@cython.final
cdef class MessageReader:
    """Joins fragments into messages and puts each message that is complete into ``events``.

    Args:
        open_sink: called as ``open_sink(context_id, command)`` when a command set has arrived that announces a data
            set; gives the sink: ``write(list of memoryviews)``, ``close()`` and ``discard()``. The views die with
            the call.
        limits: the bounds of what a peer may send.
    """

    def __init__(self, open_sink, limits=None):
        limits = limits or Limits()
        self.open_sink = open_sink
        self.events = []
        self._command_bytes = bytearray()
        self._views = []
        self._command_limit = limits.command_set
        self._empty_limit = limits.empty_pdvs

    def accept_contexts(self, context_ids):
        """Take messages in these presentation contexts; in any other they are the peer's fault."""
        for context_id in context_ids:
            self._accepted[<unsigned char>context_id] = 1

    cdef int begin(self, int context_id, int control) except -1:
        """A fragment begins: is it one that may come now (PS3.8 Annex E)?"""
        cdef bint command = control & CONTROL_COMMAND
        if not self._accepted[context_id]:
            raise _malformed(f"presentation context {context_id} was not accepted", -1)
        if self.busy and context_id != self._context_id:
            raise _malformed("one message in two presentation contexts", -1, REASON_UNEXPECTED_PARAMETER)
        if command and self.in_data:
            raise _malformed("a command where a data set is expected", -1, REASON_UNEXPECTED_PARAMETER)
        if not command and not self.in_data:
            raise _malformed("a data set that no command announced", -1, REASON_UNEXPECTED_PARAMETER)
        self._context_id = context_id
        self._control = control
        self._taken = False
        self.busy = True
        return 0

    cdef int take(self, object view, Py_ssize_t start, Py_ssize_t stop) except -1:
        """Bytes of the fragment: a slice of the caller's buffer."""
        self._taken = True
        if self.in_data:
            if self._error is None:
                self._views.append(view[start:stop])
            return 0
        if len(self._command_bytes) + stop - start > self._command_limit:
            raise _malformed(f"a command set of more than {self._command_limit} bytes", -1)
        self._command_bytes += view[start:stop]
        return 0

    cdef int end(self) except -1:
        """The fragment is complete; the message may be, too."""
        if not self._taken:
            self._empty += 1
            if self._empty > self._empty_limit:
                raise _malformed(f"more than {self._empty_limit} empty fragments in a message", -1)
        if not self._control & CONTROL_LAST:
            return 0
        if self.in_data:
            self.flush()
            self._close_sink()
            if not self._refused:
                self._emit()
            self._rest()
        else:
            self._finish_command()
        return 0

    cdef int _finish_command(self) except -1:
        self._encoded = PyByteArray_AS_STRING(self._command_bytes)[: len(self._command_bytes)]
        self._command = decode_command(self._encoded)
        self._command_bytes.clear()
        if self._command.command_field is None or self._command.command_data_set_type is None:
            raise _malformed("a command set without Command Field or Command Data Set Type", -1)
        if not self._command.has_data_set:
            self._emit()
            self._rest()
            return 0
        self.in_data = True
        try:
            self._sink = self.open_sink(self._context_id, self._command)
        except Exception as error:
            self._error = error
            self._refuse()
        return 0

    cdef int _emit(self) except -1:
        self.events.append(Message(self._context_id, self._command, self._sink, self._error, self._encoded))
        self._sink = None
        return 0

    cdef void _rest(self):
        self._error = self._command = self._encoded = None
        self.in_data = self.busy = self._refused = False
        self._empty = 0

    cdef int _refuse(self) except -1:
        """PS3.7 Section 9.3.1.3: a request that fails is answered before its last fragment; what follows is dropped."""
        if self._refused or self._command.is_response:
            return 0
        self._close_sink()
        self._refused = True
        return self._emit()

    cdef int flush(self) except -1:
        """Hand what was taken to the sink, before the caller's buffer is used again."""
        if not self._views:
            return 0
        if self._error is None:
            try:
                self._sink.write(self._views)
            except Exception as error:
                self._error = error
                self._refuse()
        self._views = []
        return 0

    cdef int _close_sink(self) except -1:
        if self._sink is None:
            return 0
        try:
            if self._error is None:
                self._sink.close()
            else:
                self._sink.discard()
        except Exception as error:
            self._error = self._error or error
        return 0

    cdef int cancel(self) except -1:
        """The association ended in the middle: what there is of a message is discarded."""
        self._views = []
        self._command_bytes.clear()
        self.in_data = self.busy = self._refused = False
        self._error = self._error or ConnectionError()
        self._close_sink()   # whatever that raises: no caller is left to be told, and `receive` does not raise
        self._sink = None
        return 0
