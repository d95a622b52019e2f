cdef long long total_of(list views) except -1
