"""dicomnet: the DICOM network stack for Python.

A provider and a user in a few lines::

    import dicomnet as dn

    with dn.connect("ARCHIVE@pacs.local:11112", contexts=dn.contexts.verification()) as pacs:
        pacs.echo()

Names are loaded when they are first used: importing dicomnet imports neither pydicom nor numpy nor cryptography, and
neither ``asyncio`` nor ``socket``.
"""

__version__ = "0.1.0"

# Where each public name lives; `__init__.pyi` says the same to type checkers.
_HOMES = {
    ".config": ("Entity", "Limits", "Timeouts"),
    ".dataset.codec": ("Lossy",),
    ".errors": (
        "AssociationAborted",
        "AssociationError",
        "AssociationRejected",
        "CannotListen",
        "ConnectionFailed",
        "DeadlineExceeded",
        "DicomNetError",
        "InputFileError",
        "InvalidArgument",
        "LocalProtocolError",
        "MalformedPDU",
        "NoAcceptedContext",
        "OutputFileError",
        "RemoteProtocolError",
        "ServiceFailure",
        "TLSFailed",
    ),
    ".protocol.exchange": ("Exchange",),
    ".protocol.negotiation": (
        "AcceptancePolicy",
        "Caller",
        "Extras",
        "PresentationContext",
        "ProposedContext",
        "SecureLink",
        "UserIdentity",
    ),
    ".protocol.peer_profile": ("Peer", "Relaxation"),
    ".services.user": ("Commitment", "Reply"),
    ".services.provider_requests": (
        "EchoRequest",
        "FindRequest",
        "GetRequest",
        "MoveRequest",
        "NormalizedRequest",
        "StoreRequest",
    ),
    ".services.scp": ("Provider",),
    ".services.scu": ("Match", "RetrieveProgress", "StoreResult"),
    ".status": ("Category", "Status"),
    ".sync": ("Association", "Listener", "connect"),
    ".protocol.trace": ("MessageSeen", "PDUSeen", "Tap", "TapQueue", "TransitionSeen"),
    ".net.tls": ("TLS",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_MODULES = {"aio": ".aio", "client": ".client", "contexts": ".services.presentation_contexts", "uids": ".uids"}

__all__ = ["__version__", *sorted(_HOME_OF), *sorted(_MODULES)]


def __getattr__(name: str) -> object:
    home = _MODULES.get(name) or _HOME_OF.get(name)
    if home is None:  # also asked for by Python itself, before it looks for a module of this name
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Loaded here: with the warnings that it brings along it would be half of what importing dicomnet takes.
    from importlib import import_module

    module = import_module(home, __name__)
    value: object = module if name in _MODULES else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
