"""The command line is frozen: every verb's own flags stand in command_line.txt with type and default.

A change of a flag is a change for every user's script, so it must be made on purpose:

    python -m tests.cli.test_frozen        writes command_line.txt anew; commit it with the change

Flags that come unchanged from transformers are not listed. And every flag is read by something (law 4).
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
from pathlib import Path
from typing import Any

import pytest

from medscroll.cli.main import VERBS
from medscroll.config import parse
from medscroll.config.fields import FieldSpec, field_specs

FROZEN = Path(__file__).with_name("command_line.txt")
PACKAGE = Path(parse.__file__).resolve().parents[1]


class _Asked(Exception):
    """Carries what a verb asks of the parser."""


def asked_of_parser(verb: str) -> dict[str, Any]:
    """The arguments with which a verb calls `parse_arguments`: `classes`, `positional`, ..."""
    module = importlib.import_module(f"medscroll.cli.{verb}")

    def record(argv: list[str], classes: tuple[type, ...], **options: Any) -> None:
        raise _Asked({"classes": classes, **options})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parse, "parse_arguments", record)
        if hasattr(module, "parse_arguments"):
            patch.setattr(module, "parse_arguments", record)
        try:
            module.main([])
        except _Asked as asked:
            found: dict[str, Any] = asked.args[0]
            return found
    raise AssertionError(f"{verb} does not parse its flags with medscroll.config.parse")


def own_flags(verb: str) -> list[FieldSpec]:
    """The flags that the verb adds to those of transformers."""
    return [spec for cls in asked_of_parser(verb)["classes"] for spec in field_specs(cls) if not spec.inherited]


def command_line() -> str:
    """Every verb's own flags, a line each."""
    lines = []
    for verb in VERBS:
        asked = asked_of_parser(verb)
        assert asked["verb"] == verb
        positional = asked.get("positional")
        words = f" {positional.field.upper()}{' ...' if positional.many else ''}" if positional else ""
        lines += ["", f"medscroll {verb}{words}"]
        for spec in own_flags(verb):
            default = "required" if spec.required else repr(spec.default)
            bounds = "".join(
                f" {name} {bound:g}"
                for name, bound in (("least", spec.least), ("most", spec.most))
                if bound is not None
            )
            aliases = "".join(f" --{alias}" for alias in spec.aliases)
            lines.append(f"  --{spec.name}{aliases} <{spec.type_name}>{bounds} = {default}")
    return "\n".join(lines).lstrip() + "\n"


def test_the_command_line_is_the_frozen_one() -> None:
    assert command_line() == FROZEN.read_text("utf-8"), "changed on purpose? python -m tests.cli.test_frozen"


@pytest.mark.parametrize("verb", list(VERBS))
def test_a_flag_stands_once_and_says_what_it_does(verb: str) -> None:
    names = [spec.name for cls in asked_of_parser(verb)["classes"] for spec in field_specs(cls)]
    assert len(names) == len(set(names)), "two classes of one verb have a flag of the same name"
    assert own_flags(verb), f"{verb} has no flags at all"
    for spec in own_flags(verb):
        assert spec.help, f"medscroll {verb} --{spec.name} has no help"


def names_read() -> set[str]:
    """Every attribute that is read, or named in a string of getattr, in the package outside config/."""
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name == "config":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                found.add(node.attr)
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "getattr" and len(node.args) > 1:
                found.update([node.args[1].value] if isinstance(node.args[1], ast.Constant) else [])
    return found


def read_in_class(cls: type) -> set[str]:
    """Attributes of `self` that a dataclass of a verb reads in its own methods."""
    tree = ast.parse(Path(importlib.import_module(cls.__module__).__file__ or "").read_text("utf-8"))
    bodies = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == cls.__name__]
    return {
        node.attr
        for body in bodies
        for node in ast.walk(body)
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "self"
    }


def test_every_flag_is_read_by_something() -> None:
    import transformers

    theirs = {field.name for field in dataclasses.fields(transformers.TrainingArguments)}
    read = names_read()
    assert "no_such_attribute" not in read
    looked_at, unread = 0, []
    for verb in VERBS:
        for spec in own_flags(verb):
            if spec.name in theirs and issubclass(spec.owner, transformers.TrainingArguments):
                continue  # transformers reads it
            looked_at += 1
            if spec.name not in read and spec.name not in read_in_class(spec.owner):
                unread.append(f"medscroll {verb} --{spec.name}")
    assert looked_at > 50
    assert not unread, f"flags that nothing reads: {', '.join(unread)}"


if __name__ == "__main__":
    FROZEN.write_text(command_line(), encoding="utf-8")
    print(f"wrote {FROZEN}")


@pytest.mark.parametrize("verb", ["pretrain", "doctor"])
def test_torchrun_does_not_take_a_flag_for_an_abbreviation(verb: str) -> None:
    """`torchrun -m medscroll pretrain --monitor` failed: argparse found --monitor-interval and --monitor_interval."""
    from torch.distributed.run import get_args_parser

    options = {option for action in get_args_parser()._actions for option in action.option_strings}
    assert "--monitor-interval" in options
    names = {f"--{name}" for spec in own_flags(verb) for name in (spec.name, *spec.aliases)}
    assert not {name for name in names if any(option.startswith(name) and option != name for option in options)}
