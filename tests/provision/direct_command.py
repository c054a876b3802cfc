"""A person who speaks NVFlare's protocol instead of its console.

Run as ``python direct_command.py USER KIT`` with a JSON list of [channel, topic, target, content]
on standard input, where the content of a command to a site itself is the command's text. Prints the
return code and the answer of each.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from nvflare.apis.shareable import Shareable
from nvflare.fuel.f3.cellnet.defs import CellChannel, MessageHeaderKey
from nvflare.fuel.flare_api.flare_api import new_secure_session
from nvflare.private.admin_defs import Message
from nvflare.private.defs import CellMessageHeaderKeys, SysCommandTopic, new_cell_message


def main() -> None:
    """Log in, send past the server's judgement, print what comes back."""
    user, kit = sys.argv[1:]
    session = new_secure_session(user, kit)
    # Their own program need not check who answers, as NVFlare's console does.
    session.api.cell.core_cell.in_filter_reg.reg.clear()
    for channel, topic, target, content in json.load(sys.stdin):
        headers, payload = request(channel, content)
        reply = session.api.cell.send_request(
            channel=channel,
            target=target,
            topic=topic,
            request=new_cell_message(headers, payload),
            timeout=3.0,
        )
        answer = getattr(reply.payload, "body", reply.payload)
        print("ANSWER", reply.get_header(MessageHeaderKey.RETURN_CODE), answer)
    session.close()


def request(channel: str, content: Any) -> tuple[dict[str, str], Any]:
    """Headers and payload as the receiver wants them."""
    if channel == CellChannel.CLIENT_MAIN:
        return {}, Message(SysCommandTopic.SHELL, content)
    if channel == CellChannel.SERVER_PARENT_LISTENER:
        return {CellMessageHeaderKeys.JOB_ID: content.pop("job")}, content
    return {}, Shareable()


if __name__ == "__main__":
    main()
