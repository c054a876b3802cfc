"""What a reader gets to see: instructions, and a page that asks item by item, without a network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from jinja2 import ChoiceLoader, Environment, PackageLoader

from report.page.render import environment
from report.readers.design import BETTER, CLOSER, PREFERENCE, TURING, Item
from report.readers.key import EQUAL, LEFT, REAL, RIGHT, TRANSLATED, Key


@dataclass(frozen=True)
class Answer:
    """One of the answers to a question.

    Attributes:
        value: as on the sheet.
        name: as on the page.
        code: the key that gives it, as browsers name it.
        key: the same for people.
    """

    value: str
    name: str
    code: str
    key: str


@dataclass(frozen=True)
class Question:
    """What a task asks.

    Attributes:
        title: of the task.
        text: the question.
        answers: from left to right.
    """

    title: str
    text: str
    answers: tuple[Answer, ...]


_SIDES = (
    Answer(LEFT, "Left", "ArrowLeft", "←"),
    Answer(EQUAL, "No difference", "ArrowDown", "↓"),
    Answer(RIGHT, "Right", "ArrowRight", "→"),
)
_TURING = Question(
    "Real or translated?",
    "Is this a real picture, or was it translated by a computer from another one?",
    (Answer(REAL, "Real", "r", "R"), Answer(TRANSLATED, "Translated", "t", "T")),
)
_PREFERENCE = {
    CLOSER: Question(
        "Which is closer?", "Which picture is closer to the target, the left or the right?", _SIDES
    ),
    BETTER: Question(
        "Which is better?", "Which picture of this patient would you rather work with?", _SIDES
    ),
}


def questions(key: Key) -> dict[str, Question]:
    """Task to question, for the tasks of a study."""
    all_of_them = {TURING: _TURING, PREFERENCE: _PREFERENCE[key.plan.question]}
    return {task: all_of_them[task] for task in key.tasks}


def reader_templates() -> Environment:
    """The report's templates, formats and look, and beside them those of reader studies."""
    report = environment()
    assert report.loader is not None
    loaders = ChoiceLoader([PackageLoader("report.readers"), report.loader])
    return report.overlay(loader=loaders)


def instructions(key: Key) -> str:
    """The text that lies beside a reader's pictures."""
    return (
        reader_templates()
        .get_template("instructions.txt")
        .render(computed=key.computed, questions=questions(key))
    )


def render_form(
    key: Key, reader: str, items: Sequence[Item], files: Mapping[str, Mapping[str, bytes]]
) -> str:
    """The page that asks; it holds its pictures and refers to no other file or address.

    Args:
        key: of which only the study's name and its questions reach the page.
        reader: whose page it is.
        items: in the order in which they are asked.
        files: item number to picture files, from left to right.
    """
    asked = [
        {
            "item": item.number,
            "task": item.case.task,
            "pictures": [
                "data:image/png;base64," + base64.b64encode(content).decode()
                for content in files[item.number].values()
            ],
        }
        for item in items
    ]
    return (
        reader_templates()
        .get_template("form.html")
        .render(
            computed=key.computed,
            reader=reader,
            questions=questions(key),
            count=len(items),
            data={
                "study": key.study,
                "reader": reader,
                "items": asked,
                "questions": {task: asdict(one) for task, one in questions(key).items()},
                "captions": {"1": [""], "2": ["Left", "Right"], "3": ["Left", "Target", "Right"]},
            },
        )
    )
