"""What a user asks of the corpus stage, as plain values, and the pipeline that it means."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from medscroll.corpus.configuration import CorpusConfig, load_corpus_config
from medscroll.corpus.options import ReadOptions
from medscroll.corpus.pipeline import Pipeline
from medscroll.corpus.readers_records import template_fields
from medscroll.errors import ConfigError, UserError


@dataclass(frozen=True)
class CorpusRequest:
    """The flags of `medscroll prepare` that decide what documents become; see `PrepareArguments` for each."""

    corpus_config: str | None = None
    deidentify: str | None = None
    text_field: str | None = None
    text_template: str | None = None
    group_by: tuple[str, ...] = ()
    order_by: tuple[str, ...] = ()
    split_by: tuple[str, ...] = ()
    strict: bool = False

    @classmethod
    def of(cls, arguments: Any) -> CorpusRequest:
        """The request in the flags of a verb; flags that the verb does not have keep their defaults."""
        return cls(
            corpus_config=getattr(arguments, "corpus_config", None),
            deidentify=getattr(arguments, "deidentify", None),
            text_field=getattr(arguments, "text_field", None),
            text_template=getattr(arguments, "text_template", None),
            group_by=_names(getattr(arguments, "group_by", None)),
            order_by=_names(getattr(arguments, "order_by", None)),
            split_by=_names(getattr(arguments, "split_by", None)),
            strict=bool(getattr(arguments, "strict", False)),
        )

    def config(self) -> CorpusConfig:
        """The configuration of the steps, flags over file over preset.

        Raises:
            ConfigError: with every mistake.
        """
        overrides: dict[str, dict[str, Any]] = {}
        if self.deidentify in ("off", "false"):
            overrides["deidentify"] = {"enabled": False}
        elif self.deidentify is not None:
            mode = "replace" if self.deidentify == "true" else self.deidentify
            overrides["deidentify"] = {"enabled": True, "mode": mode}
        return load_corpus_config(self.corpus_config, **overrides)

    def pipeline(self) -> Pipeline:
        """The pipeline that this means.

        Raises:
            ConfigError: with every mistake.
        """
        problems: list[UserError] = []
        config = CorpusConfig()
        try:
            config = self.config()
        except UserError as error:
            problems.append(error)
        if self.text_template is not None:
            try:
                template_fields(self.text_template)
            except UserError as error:
                problems.append(error)
            if self.text_field is not None:
                what = "--text_template and --text_field both say where the text is"
                problems.append(ConfigError(what, remedy="give one of them"))
        if self.order_by and not self.group_by:
            what = "--order_by orders the rows that --group_by joins, and there is no --group_by"
            problems.append(ConfigError(what, remedy="add --group_by, or leave --order_by out"))
        if problems:
            raise ConfigError.collect(problems)
        steps, corpus_steps = config.build()
        read = config.read
        options = ReadOptions(
            text_field=self.text_field, text_template=self.text_template, group_by=self.group_by,
            order_by=self.order_by, split_by=self.split_by, tolerant=True, **read,
        )  # fmt: skip
        return Pipeline(options, tuple(steps), tuple(corpus_steps), examples=config.examples)

    def key(self) -> str:
        """Changes with all that the flags and the files they name say."""
        pipeline = self.pipeline()
        return json.dumps([asdict(self), pipeline.fingerprint(), pipeline.corpus_fingerprint()], sort_keys=True)


def _names(value: Any) -> tuple[str, ...]:
    """Names given as `a,b` or as several words."""
    words = [value] if isinstance(value, str) else list(value or ())
    return tuple(name.strip() for word in words for name in word.split(",") if name.strip())
