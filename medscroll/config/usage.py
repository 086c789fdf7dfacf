"""`medscroll VERB --help`: the flags in groups, each with type, default and one sentence."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from medscroll.config.aliases import Alias, Aliases, Refused
from medscroll.config.fields import FieldSpec

if TYPE_CHECKING:
    from medscroll.config.parse import Positional

WIDTH = 100
# Flags of transformers that most runs name: explained in the short help too.
COMMON = frozenset(
    {
        "output_dir", "resume_from_checkpoint", "deepspeed", "max_steps", "eval_steps", "fp16", "optim", "use_cpu",
        "dataloader_num_workers", "ddp_timeout",
    }
)  # fmt: skip


def print_usage(
    verb: str,
    specs: Iterable[FieldSpec],
    positional: Positional | None,
    aliases: Aliases,
    allow_config_file: bool,
    *,
    in_full: bool = False,
) -> None:
    """Print the help of a verb to standard output; `in_full` explains the flags of transformers too."""
    listed = [spec for spec in specs if not isinstance(aliases.get(spec.name), (Alias, Refused))]
    words = f" {positional.field.upper()}{' ...' if positional.many else ''}" if positional else ""
    recipe = " [RECIPE.yaml]" if allow_config_file else ""
    print(f"usage: medscroll {verb}{recipe}{words} [--flag value ...]\n")
    if positional and positional.help:
        _entry(positional.field.upper(), positional.help)
    if allow_config_file:
        print("Keys of RECIPE.yaml are the names of the flags; flags win. Booleans: --flag, --no_flag.\n")
    for owner in dict.fromkeys(spec.owner for spec in listed):
        own = [spec for spec in listed if spec.owner is owner]
        doc = (owner.__doc__ or owner.__name__).strip().splitlines()[0]
        print(doc)
        for spec in (spec for spec in own if in_full or not _listed_only(spec)):
            if positional is None or spec.name != positional.field:
                kind = spec.type_name if in_full or len(spec.type_name) < WIDTH else "name"
                _entry(f"--{spec.name} {kind}", f"{spec.help} {_default(spec)}".strip())
        listed_only = [spec.name for spec in own if _listed_only(spec) and not in_full]
        if listed_only:
            names = textwrap.fill(", ".join(listed_only), WIDTH - 4)
            print(f"  and {len(listed_only)} flags of transformers.TrainingArguments, with its defaults (--help_all):")
            print(textwrap.indent(names, "    "))
        print()
    if aliases:
        print("Flags of MedicalGPT are understood or refused with what to use instead; see docs/guide.md.")


def _listed_only(spec: FieldSpec) -> bool:
    return spec.inherited and spec.name not in COMMON


def _default(spec: FieldSpec) -> str:
    if spec.required:
        return "(required)"
    default: Any = spec.default
    if default is None or default in ("", []):
        return ""
    return f"(default: {str(default).lower() if isinstance(default, bool) else default})"


def _entry(head: str, text: str) -> None:
    print(f"  {head}")
    if text:
        print(textwrap.fill(text, WIDTH, initial_indent="      ", subsequent_indent="      "))
