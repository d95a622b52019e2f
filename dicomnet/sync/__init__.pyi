from .association import Association as Association
from .association import connect as connect
from .listener import Listener as Listener
