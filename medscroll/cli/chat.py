"""`medscroll chat RUN`: talk to a trained model; with `--prompt` one answer, without it line by line."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from medscroll.errors import ConfigError

SUMMARY = "talk to the trained model of a run, checkpoint or export"


@dataclass
class ChatArguments:
    """Which model, and how it answers."""

    source: str = field(default="", metadata={"help": "Run folder, checkpoint, adapter or exported model."})
    prompt: str | None = field(default=None, metadata={"help": "Answer this and end; without it, read lines."})
    max_new_tokens: int = field(default=256, metadata={"help": "Longest answer in tokens."})
    temperature: float = field(default=0.7, metadata={"help": "Of sampling; 0 takes the likeliest token."})
    dtype: str = field(
        default="auto",
        metadata={"help": "Precision; auto: as saved.", "choices": ["auto", "bfloat16", "float16", "float32"]},
    )

    def __post_init__(self) -> None:
        problems = []
        if not self.source:
            problems.append(ConfigError("no run given", where="medscroll chat RUN", remedy="name a run folder"))
        if self.max_new_tokens < 1:
            problems.append(ConfigError("at least one token", where="--max_new_tokens"))
        if self.temperature < 0:
            problems.append(ConfigError("a temperature is 0 or more", where="--temperature"))
        if self.prompt is not None and not self.prompt.strip():
            problems.append(ConfigError("the prompt is empty", where="--prompt"))
        if problems:
            raise ConfigError.collect(problems)


def main(argv: list[str]) -> int:
    """Runs the verb; see `medscroll chat --help`."""
    from medscroll.config.parse import Positional, parse_arguments

    (arguments,) = parse_arguments(
        argv,
        (ChatArguments,),
        verb="chat",
        positional=Positional(field="source", many=False, help="run folder, checkpoint or exported model"),
    )
    from medscroll.model.chat import Speaker

    speaker = Speaker(arguments.source, dtype=arguments.dtype)
    options = {"max_new_tokens": arguments.max_new_tokens, "temperature": arguments.temperature}
    if arguments.prompt is not None:
        print(speaker.answer(arguments.prompt, **options))
        return 0
    kind = "chat" if speaker.chats else "continuation (the tokenizer has no chat template)"
    print(f"{kind} on {speaker.device}; an empty line or Ctrl-D ends", file=sys.stderr)
    while True:
        try:
            line = input("> ")
        except (EOFError, KeyboardInterrupt):
            return 0
        if not line.strip():
            return 0
        speaker.answer(line, stream=True, **options)
