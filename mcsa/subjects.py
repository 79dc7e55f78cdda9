"""Subjects on the bus: `mcsa.v1.<service>.<caller>.<verb>`.

The verbs are the methods of the services in `proto/`: this module reads them there, so that there is one list. The
caller's token is in the subject because the broker can enforce it there; the signature in the envelope proves it.

    mcsa.v1.authorizer.<host>.register      an MSM asks the Authorizer
    mcsa.v1.sd.<host>.announce              an MSM asks the directory
    mcsa.v1.msm.<host>.join-group           a CSM asks the MSM of its own host
    mcsa.v1.csm.<host>.group-changed        an MSM tells the CSM of its own host
    mcsa.v1.group.<authorizer>.<group id>   the Authorizer tells the members of a group
    mcsa.v1.distributor.<host>.<group id>   an MSM asks whichever member of a group serves joins
    mcsa.v1.log.<authorizer>.<log>          the Authorizer has JetStream keep a record of a log
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from mcsa.v1 import authorizer_pb2, csm_pb2, msm_pb2, sd_pb2

PREFIX = "mcsa.v1"


@dataclass(frozen=True, slots=True)
class Method:
    """One verb of a service."""

    service: str
    verb: str
    request: type[Message]
    response: type[Message]


def _methods(service: str, descriptor: ServiceDescriptor) -> dict[str, Method]:
    found = {}
    for method in descriptor.methods:
        verb = re.sub(r"(?<!^)([A-Z])", r"-\1", method.name).lower()
        request, response = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        found[verb] = Method(service, verb, request, response)
    return found


AUTHORIZER, SD, MSM, CSM, GROUP, LOG = "authorizer", "sd", "msm", "csm", "group", "log"
DISTRIBUTOR = "distributor"

SERVICES: dict[str, dict[str, Method]] = {
    AUTHORIZER: _methods(AUTHORIZER, authorizer_pb2.DESCRIPTOR.services_by_name["AuthorizerService"]),
    SD: _methods(SD, sd_pb2.DESCRIPTOR.services_by_name["SessionDirectoryService"]),
    MSM: _methods(MSM, msm_pb2.DESCRIPTOR.services_by_name["MulticastSessionService"]),
}
"""The services on the bus, by name, and their verbs."""

DISTRIBUTE = Method(DISTRIBUTOR, "distribute", authorizer_pb2.RegisterRequest, authorizer_pb2.RegisterResponse)
"""What a distributor is asked: the same as the Authorizer. The verb in the subject is the group's id."""

APPLICATION_METHODS = _methods("application", csm_pb2.DESCRIPTOR.services_by_name["ConferenceService"])
"""What an application asks its CSM, over a Unix socket."""

GROUP_CHANGED = "group-changed"


def subject(service: str, caller: str, verb: str) -> str:
    """The subject of one message."""
    return f"{PREFIX}.{service}.{caller}.{verb}"


def group_subject(authorizer: str, group_id: bytes) -> str:
    """Where an Authorizer tells the members of a group."""
    return subject(GROUP, authorizer, group_id.hex())


def distributor_subject(caller: str, group_id: bytes) -> str:
    """Where a distributor of a group is asked. They share what comes: one of them gets it."""
    return subject(DISTRIBUTOR, caller, group_id.hex())


def method_of(service: str, verb: str) -> Method:
    """The method behind a subject; `KeyError` where there is none."""
    return DISTRIBUTE if service == DISTRIBUTOR else SERVICES[service][verb]


def log_subject(authorizer: str, log: str) -> str:
    """Where the records of one of an Authorizer's logs are kept."""
    return subject(LOG, authorizer, log)


def parse_subject(text: str) -> tuple[str, str, str]:
    """Service, caller and verb of a subject; `ValueError` where it is none of ours."""
    if not text.startswith(PREFIX + "."):
        raise ValueError(text)
    service, caller, verb = text[len(PREFIX) + 1 :].split(".")
    return service, caller, verb
