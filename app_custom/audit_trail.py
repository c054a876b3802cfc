"""A refusal is one line of the audit trail, under its sender's name, whatever the sender wrote.

Names of messages, keys of models and paths in jobs come from whoever sent them, and sentences about
refusals quote them. NVFlare writes a sentence into the trail as it stands: with a line break in
such a name its sender would add a line of their own making, in another participant's name.
"""

from __future__ import annotations

from nvflare.fuel.sec.audit import AuditService

_MOST_CHARACTERS = 1000


def one_line(text: object, most: int = _MOST_CHARACTERS) -> str:
    """Make a text one line of printable characters; others are written as Python escapes.

    Args:
        text: what to write.
        most: the most characters of the line; what is longer is cut.
    """
    shown = (
        one if one.isprintable() else one.encode("unicode_escape").decode("ascii")
        for one in str(text)[:most]
    )
    return "".join(shown)[:most]


def audit(user: str, action: str, sentence: object) -> None:
    """Add a line to the audit trail of this process, where it keeps one.

    Args:
        user: the participant or person who did it.
        action: what was refused, such as ``update.refused``.
        sentence: why; it may quote what the user sent.
    """
    AuditService.add_event(user=one_line(user), action=action, msg=one_line(sentence))
