cimport cython

from .cursor cimport Writer


@cython.final
@cython.no_gc
cdef class Command:
    cdef readonly object affected_sop_class_uid
    cdef readonly object requested_sop_class_uid
    cdef readonly object command_field
    cdef readonly object message_id
    cdef readonly object message_id_being_responded_to
    cdef readonly object move_destination
    cdef readonly object priority
    cdef readonly object command_data_set_type
    cdef readonly object status
    cdef readonly object offending_element
    cdef readonly object error_comment
    cdef readonly object error_id
    cdef readonly object affected_sop_instance_uid
    cdef readonly object requested_sop_instance_uid
    cdef readonly object event_type_id
    cdef readonly object attribute_identifier_list
    cdef readonly object action_type_id
    cdef readonly object number_of_remaining_suboperations
    cdef readonly object number_of_completed_suboperations
    cdef readonly object number_of_failed_suboperations
    cdef readonly object number_of_warning_suboperations
    cdef readonly object move_originator_ae_title
    cdef readonly object move_originator_message_id
    cpdef bytes encode(self)
    cdef int _put_elements(self, Writer* out) except -1


@cython.final
cdef class Message:
    cdef readonly int context_id
    cdef readonly Command command
    cdef readonly object data
    cdef readonly object error
    cdef readonly bytes encoded


@cython.final
cdef class MessageReader:
    cdef public list events
    cdef public object open_sink
    cdef readonly bint busy
    cdef unsigned char _accepted[256]
    cdef bytearray _command_bytes
    cdef Command _command
    cdef bytes _encoded
    cdef object _sink, _error
    cdef list _views
    cdef int _context_id, _control
    cdef long long _empty, _command_limit, _empty_limit
    cdef readonly bint in_data
    cdef bint _taken, _refused
    cdef int begin(self, int context_id, int control) except -1
    cdef int take(self, object view, Py_ssize_t start, Py_ssize_t stop) except -1
    cdef int end(self) except -1
    cdef int flush(self) except -1
    cdef int cancel(self) except -1
    cdef int _finish_command(self) except -1
    cdef int _emit(self) except -1
    cdef void _rest(self)
    cdef int _refuse(self) except -1
    cdef int _close_sink(self) except -1


cdef bytes pdu_headers(
    int context_id, Py_ssize_t total, Py_ssize_t size, Py_ssize_t count, bint command, bint last)
cpdef list frame(int context_id, object buffer, Py_ssize_t size, bint command, bint last)
