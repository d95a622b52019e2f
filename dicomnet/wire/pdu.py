"""The seven PDUs and their items (PS3.8 Section 9.3): the public name of the compiled module `dicomnet._pdu`."""

from .._pdu import *  # noqa: F403
from .._pdu import __all__  # noqa: F401
