"""A person who speaks NVFlare's protocol instead of its console: a command straight to a site.

Run as ``python direct_command.py USER KIT SITE COMMAND``; prints the return code and the answer.
"""

from __future__ import annotations

import sys

from nvflare.fuel.f3.cellnet.defs import CellChannel, MessageHeaderKey
from nvflare.fuel.flare_api.flare_api import new_secure_session
from nvflare.private.admin_defs import Message
from nvflare.private.defs import SysCommandTopic, new_cell_message


def main() -> None:
    """Log in, send the command past the server's judgement, print what comes back."""
    user, kit, site, command = sys.argv[1:]
    session = new_secure_session(user, kit)
    # Their own program need not check who answers, as NVFlare's console does.
    session.api.cell.core_cell.in_filter_reg.reg.clear()
    request = new_cell_message({}, Message(SysCommandTopic.SHELL, command))
    reply = session.api.cell.send_request(
        channel=CellChannel.CLIENT_MAIN, target=site, topic="x", request=request, timeout=5.0
    )
    answer = getattr(reply.payload, "body", reply.payload)
    print("ANSWER", reply.get_header(MessageHeaderKey.RETURN_CODE), answer)
    session.close()


if __name__ == "__main__":
    main()
