"""Whose fault an error is.

Three kinds, and only three:

- a bug of ours is any other exception: it crashes the service, loudly;
- `Refused`: a request that was understood and authentic, and that policy or state does not allow. It is
  answered with a code, the rule that decided and a sentence with the way out;
- `Rejected`: bytes that are malformed or not authentic. They are dropped and counted by cause, never answered
  and never logged one by one, since an attacker chooses how many there are.
"""

from __future__ import annotations


class Refused(Exception):  # noqa: N818 - the word of the design, and what is read at `raise Refused(...)`
    """A request that is not allowed. `code` is for programs, `rule` names what decided, `sentence` is for people."""

    def __init__(self, code: str, rule: str, sentence: str) -> None:
        super().__init__(f"{sentence} [{code}; rule: {rule}]")
        self.code = code
        self.rule = rule
        self.sentence = sentence

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Refused) and (self.code, self.rule) == (other.code, other.rule)

    def __hash__(self) -> int:
        return hash((self.code, self.rule))


class Rejected(Exception):  # noqa: N818 - see above
    """Bytes that are dropped. `cause` is one word of a fixed set, a counter's label; `detail` is for debugging."""

    def __init__(self, cause: str, detail: str = "") -> None:
        super().__init__(f"{cause}: {detail}" if detail else cause)
        self.cause = cause
        self.detail = detail
