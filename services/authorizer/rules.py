"""Policy decisions, by Cedar. Forbid wins, nothing is allowed by default, every decision names its rule.

The default rules below are the paper's classes (section 2.3) for users and hosts. An operator can replace them by a
file of his own; each rule needs an `@id`, which is the name that a refused caller reads.

What is of which domain:

    principal.domain    the user's or host's own
    resource.domain     the conference's: that of the Authorizer it was convened at
    context.domain      that of the Authorizer that decides: the same, unless it serves its hosts for one elsewhere

What is asked: "create", "join", "evict", "move" (to other addresses), and "sendOnly", to send to groups without being a
member of them.

Where no peers are configured, users and hosts of other domains don't get as far as a rule.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cedarpy

from mcsa.errors import Refused
from mcsa.v1.types_pb2 import POLICY_CLASS_OPEN, AccessControl

DEFAULT_RULES = """
@id("any-user-may-convene")
permit(principal is User, action == Action::"create", resource) when { principal.domain == context.domain };

@id("listed-creators-only")
forbid(principal, action == Action::"create", resource)
unless { context.creators.isEmpty() || context.creators.contains(principal) };

@id("users-of-peers-convene-at-home")
forbid(principal is User, action == Action::"create", resource) unless { principal.domain == context.domain };

@id("verified-user-may-join")
permit(principal is User, action == Action::"join", resource) when { principal.domain == resource.domain };

@id("user-of-a-peer-may-join-where-named")
permit(principal is User, action == Action::"join", resource)
when {
  principal.domain != resource.domain &&
  (resource.coordinator == principal || resource.acceptable_users.contains(principal))
};

@id("users-of-peers-by-name-only")
forbid(principal is User, action == Action::"join", resource)
unless {
  principal.domain == resource.domain ||
  resource.coordinator == principal || resource.acceptable_users.contains(principal)
};

@id("closed-group-admits-acceptable-users-only")
forbid(principal is User, action == Action::"join", resource)
unless { resource.open || resource.coordinator == principal || resource.acceptable_users.contains(principal) };

@id("unacceptable-user")
forbid(principal is User, action in [Action::"join", Action::"sendOnly"], resource)
when { resource.unacceptable_users.contains(principal) };

@id("host-of-the-domain-may-join")
permit(principal is Host, action == Action::"join", resource) when { principal.domain == context.domain };

@id("host-of-a-subordinate-may-join")
permit(principal is Host, action == Action::"join", resource) when { principal.domain == context.through };

@id("hosts-of-peers-register-at-home")
forbid(principal is Host, action == Action::"join", resource)
unless { principal.domain == context.domain || principal.domain == context.through };

@id("listed-hosts-only")
forbid(principal is Host, action in [Action::"join", Action::"sendOnly"], resource)
unless {
  resource.acceptable_hosts.isEmpty() || resource.acceptable_hosts.contains(principal) ||
  (action == Action::"sendOnly" && resource.acceptable_senders.contains(principal))
};

@id("unacceptable-host")
forbid(principal is Host, action in [Action::"join", Action::"sendOnly"], resource)
when { resource.unacceptable_hosts.contains(principal) };

@id("closed-group-needs-a-user")
forbid(principal is Host, action == Action::"join", resource)
unless { context.with_user || resource.open || resource.acceptable_hosts.contains(principal) };

@id("user-of-the-domain-may-send-without-joining")
permit(principal is User, action == Action::"sendOnly", resource) when { principal.domain == resource.domain };

@id("host-of-the-domain-may-send-without-joining")
permit(principal is Host, action == Action::"sendOnly", resource) when { principal.domain == resource.domain };

@id("closed-group-hears-acceptable-senders-only")
forbid(principal is User, action == Action::"sendOnly", resource)
unless { resource.open || resource.acceptable_senders.contains(principal) };

@id("closed-group-hears-hosts-for-a-user-or-by-name")
forbid(principal is Host, action == Action::"sendOnly", resource)
unless { resource.open || context.with_user || resource.acceptable_senders.contains(principal) };

@id("coordinator-evicts")
permit(principal is User, action == Action::"evict", resource) when { resource.coordinator == principal };

@id("coordinator-moves")
permit(principal is User, action == Action::"move", resource) when { resource.coordinator == principal };
"""

_SENTENCES = {
    "closed-group-admits-acceptable-users-only": "{who} is not on the Coordinator's list of acceptable users; ask "
    "the Coordinator to convene with you on it",
    "listed-creators-only": "{who} is not among the users that may create groups here; ask one of them to convene, or "
    "the operator to add you to the Authorizer's `creators`",
    "closed-group-hears-acceptable-senders-only": "to a closed group only members send, and who is on the "
    "Coordinator's list of acceptable senders, which {who} is not; join it, or ask the Coordinator to convene with you "
    "on that list",
    "closed-group-hears-hosts-for-a-user-or-by-name": "{who} is a host; to a closed group it sends for a user that "
    "signs for it, or where the Coordinator's list of acceptable senders has it by name",
    "users-of-peers-convene-at-home": "{who} is of another domain; convene at that domain's own Authorizer",
    "users-of-peers-by-name-only": "{who} is of another domain than the conference; ask the Coordinator "
    "to convene with you on the list of acceptable users, also where it is open",
    "hosts-of-peers-register-at-home": "{who} is of another domain; its own Authorizer has to take it in",
    "unacceptable-user": "{who} is on the list of users that may not take part, or was thrown out",
    "listed-hosts-only": "{who} is not on the list of hosts that may take part",
    "unacceptable-host": "{who} is on the list of hosts that may not take part, or was thrown out",
    "closed-group-needs-a-user": "{who} is a host; to a closed group it is admitted for a user that signs for it",
}


@dataclass(frozen=True)
class Resource:
    """A conference's groups, as the rules see them. Where `access` changes, make a new one: the rules keep the old."""

    name: str
    coordinator: str
    policy_class: int
    access: AccessControl
    authorizer: str

    @cached_property
    def entities(self) -> cedarpy.Entities:
        """Parsed once: with a long list that takes as long as ten signatures."""
        access = self.access
        attributes = {
            "domain": _domain(self.authorizer),
            "open": self.policy_class == POLICY_CLASS_OPEN,
            "coordinator": _reference(self.coordinator),
            "acceptable_users": [_reference(name) for name in access.acceptable_users],
            "unacceptable_users": [_reference(name) for name in access.unacceptable_users],
            "acceptable_hosts": [_reference(name) for name in access.acceptable_hosts],
            "unacceptable_hosts": [_reference(name) for name in access.unacceptable_hosts],
            "acceptable_senders": [_reference(name) for name in access.acceptable_senders],
        }
        entity = {"uid": {"type": "Group", "id": self.name}, "attrs": attributes, "parents": []}
        return cedarpy.Entities.from_json_str(json.dumps([entity]))


class Rules:
    """The rules in force at an Authorizer of this domain. `creators`: the users that may create groups, to the built-in
    rules; where there are none, every user of the domain may."""

    def __init__(self, domain: str, text: str = DEFAULT_RULES, creators: Sequence[str] = ()) -> None:
        self._domain = domain
        self._creators = [_reference(name) for name in creators]
        self._policies = cedarpy.PolicySet.from_str(text)
        parsed = json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"]
        self._names = {key: policy.get("annotations", {}).get("id", key) for key, policy in parsed.items()}

    def check(self, principal: str, action: str, resource: Resource, *, with_user: bool = True) -> str:
        """The rule that permits; raises `Refused("not-allowed")` with the rule that does not."""
        return self.check_all([principal], action, resource, with_user=with_user)[0]

    def check_all(
        self, principals: Sequence[str], action: str, resource: Resource, *, with_user: bool = True, through: str = ""
    ) -> list[str]:
        """The rules that permit it to each of them; `Refused` for the first that may not. Cheaper than one by one.

        `through`: the peer domain whose Authorizer reports this host of its own; empty where the host came by itself.
        """
        asked = {
            "action": {"type": "Action", "id": action},
            "resource": {"type": "Group", "id": resource.name},
            "context": {
                "with_user": with_user,
                "domain": self._domain,
                "through": through,
                "creators": self._creators,
            },
        }
        # Principals as objects: names in Cedar's own syntax take three times as long.
        requests = [{"principal": _uid(principal), **asked} for principal in principals]
        entities = resource.entities.with_added_json_str(json.dumps([_entity(name) for name in set(principals)]))
        results = cedarpy.is_authorized_batch(requests, self._policies, entities)
        return [self._permitted(*each, action) for each in zip(principals, results, strict=True)]

    def _permitted(self, principal: str, result: cedarpy.AuthzResult, action: str) -> str:
        named = [self._names.get(reason, reason) for reason in result.diagnostics.reasons]
        if result.allowed:
            return ", ".join(sorted(named))
        rule = ", ".join(sorted(named)) or "nothing-permits-it"
        sentences = [_SENTENCES[name] for name in sorted(named) if name in _SENTENCES]
        sentence = "; ".join(sentences) or "{who} may not {action} here"
        raise Refused("not-allowed", rule, sentence.format(who=principal, action=action))


_NAME = re.compile(r"spiffe://([^/]+)/(\w+)/.+")


def _domain(name: str) -> str:
    match = _NAME.fullmatch(name)
    return match[1] if match else ""


def _kind(name: str) -> str:
    match = _NAME.fullmatch(name)
    return match[2].capitalize() if match else "Unknown"


def _entity(principal: str) -> dict[str, object]:
    """A principal without its domain would make rules fail, and a rule that fails forbids nothing."""
    return {"uid": _uid(principal), "attrs": {"domain": _domain(principal)}, "parents": []}


def _uid(name: str) -> dict[str, str]:
    return {"type": _kind(name), "id": name}


def _reference(name: str) -> dict[str, dict[str, str]]:
    return {"__entity": _uid(name)}
