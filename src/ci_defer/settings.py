"""The settings: each one is declared once, here, and becomes an option and a variable.

The setting `favor_state` is the option `--favor-state`, the variable CI_DEFER_FAVOR_STATE and the
action's input `favor-state`; tests hold action.yml and the README to this list. An empty value
means unset. Owns names, defaults, types and help texts; decides nothing with them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import click

from ci_defer.account import DEFAULT_URL
from ci_defer.choices import CloneIncremental, CommentWhen, IfNoState
from ci_defer.pr_schema import SchemaTemplate, parse

PREFIX = "CI_DEFER_"

ONBOARD, DEFER = frozenset({"onboard"}), frozenset({"defer"})
BOTH = ONBOARD | DEFER
COMMENT = frozenset({"comment"})
PRUNE = frozenset({"prune"})
EXPLAIN = frozenset({"explain"})
CLEANUP = frozenset({"cleanup"})

# `project` becomes the name of a folder and of an artifact.
AGE = re.compile(r"(\d{1,7})\s*([hdw]?)")
MAX_AGE = timedelta(days=36_500)
AGE_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
PROJECT_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


class AgeType(click.ParamType[timedelta]):
    """A length of time in hours, days or weeks; a number alone is in days."""

    name = "age"

    def convert(self, value: Any, param: Any, ctx: Any) -> timedelta:
        if isinstance(value, timedelta):
            return value
        match = AGE.fullmatch(str(value).strip())
        if not match:
            self.fail(f"{value!r} is no length of time: write 12h, 90d or 8w.")
        age = timedelta(**{AGE_UNITS[match[2] or "d"]: int(match[1])})
        if age > MAX_AGE:
            self.fail(f"{value!r} is more than a hundred years.")
        return age


class SelectionType(click.ParamType[tuple[str, ...]]):
    """Words in dbt's selection syntax, separated by white space."""

    name = "selection"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        words = tuple(str(value).split())
        for word in words:
            if word.startswith("-"):
                self.fail(f"{word!r} is a flag, not a selector. Flags go into dbt-args.")
        return words


class SchemaTemplateType(click.ParamType[SchemaTemplate]):
    """A name with placeholders, which makes another schema of every pull request."""

    name = "template"

    def convert(self, value: Any, param: Any, ctx: Any) -> SchemaTemplate:
        if isinstance(value, SchemaTemplate):
            return value
        try:
            return parse(str(value))
        except ValueError as error:
            self.fail(str(error))


class ProjectKeyType(click.ParamType[str]):
    """A name that is safe in a path and in the name of an artifact."""

    name = "name"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        if not PROJECT_KEY.fullmatch(str(value)):
            self.fail(f"{value!r} may only hold letters, digits, '_', '-' and '.'.")
        return str(value)


def _setting(
    default: Any,
    help_text: str,
    *,
    modes: frozenset[str],
    type: Any = str,  # noqa: A002 - click's own word for it
    secret: bool = False,
    aliases: tuple[str, ...] = (),
) -> Any:
    metadata = {
        "help": help_text,
        "modes": modes,
        "type": type,
        "secret": secret,
        "aliases": aliases,
    }
    return dataclasses.field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The values of one run. A command that does not take a setting leaves it at its default."""

    project_dir: Path = _setting(
        Path(),
        "Folder of the dbt project, from the top of the repository.",
        modes=BOTH | PRUNE | EXPLAIN | CLEANUP,
        type=click.Path(path_type=Path),
    )
    profiles_dir: Path | None = _setting(
        None,
        "Folder of profiles.yml. Empty: where dbt looks for it.",
        modes=BOTH | CLEANUP,
        type=click.Path(path_type=Path),
    )
    target: str | None = _setting(
        None,
        "Target of the profile. Empty: the default of the profile.",
        modes=BOTH | CLEANUP,
    )
    pr_target: str | None = _setting(
        None,
        "Onboard: the target that pull requests build with, so that they are compared with this "
        "commit parsed for it. Empty: each one parses its base commit again, unless the targets "
        "are the same.",
        modes=ONBOARD,
    )
    production_target: str | None = _setting(
        None,
        "Target of production: when one place holds the states of several targets, and when the "
        "base commit is parsed again.",
        modes=DEFER | PRUNE | CLEANUP,
    )
    state: str = _setting(
        "artifact",
        "Where production states live: artifact, altimate, s3://bucket/prefix, "
        "gs://bucket/prefix, az://container/prefix or a directory.",
        modes=BOTH | PRUNE | CLEANUP,
    )
    project: str | None = _setting(
        None,
        "Tells several dbt projects of one repository apart. Empty: the name in dbt_project.yml.",
        modes=BOTH | PRUNE | CLEANUP,
        type=ProjectKeyType(),
    )
    select: tuple[str, ...] = _setting(
        ("state:modified+",), "What to build, as in dbt.", modes=DEFER, type=SelectionType()
    )
    exclude: tuple[str, ...] = _setting(
        (), "What to leave out, as in dbt.", modes=DEFER, type=SelectionType()
    )
    favor_state: bool = _setting(
        False,
        "Read unselected nodes from production even where the target has them, as in dbt.",
        modes=DEFER,
        type=bool,
    )
    allow_production: bool = _setting(
        False,
        "Build even where a planned relation is one of production's own.",
        modes=DEFER,
        type=bool,
    )
    dbt_args: str = _setting(
        "",
        "Further flags for dbt, split as a shell would. Refused where they would override "
        "a setting.",
        modes=BOTH | CLEANUP,
    )
    if_no_state: IfNoState = _setting(
        IfNoState.REPARSE,
        "Without a production state: reparse the base commit, full build, skip, or fail.",
        modes=DEFER,
        type=click.Choice([choice.value for choice in IfNoState]),
    )
    pr_schema: SchemaTemplate | None = _setting(
        None,
        "Schema of its own for every pull request, such as ci_pr_{number}; also {branch}, {sha} "
        "and {run_id}. Empty: that of the target.",
        modes=DEFER | CLEANUP,
        type=SchemaTemplateType(),
    )
    clone_incremental: CloneIncremental = _setting(
        CloneIncremental.FALSE,
        "Clone changed incremental models from production before the build, so that they run as "
        "increments: false, true, or copy, for warehouses whose clones are views.",
        modes=DEFER,
        type=click.Choice([choice.value for choice in CloneIncremental]),
    )
    clone_snapshots: bool = _setting(
        False,
        "With clone-incremental: clone changed snapshots, too.",
        modes=DEFER,
        type=bool,
    )
    comment: CommentWhen = _setting(
        CommentWhen.ALWAYS,
        "When to comment on the pull request: always, changes, failures, off.",
        modes=DEFER | COMMENT | CLEANUP,
        type=click.Choice([choice.value for choice in CommentWhen]),
    )
    dry_run: bool = _setting(
        False,
        "Cleanup: only say what would be dropped.",
        modes=CLEANUP,
        type=bool,
    )
    github_token: str = _setting(
        "", "Token for comments and artifacts.", modes=BOTH | COMMENT | CLEANUP, secret=True
    )
    retention_days: int = _setting(
        90,
        "Days that GitHub keeps the artifact.",
        modes=ONBOARD,
        type=click.IntRange(1, 400),
    )
    altimate_token: str = _setting(
        "",
        "API key of the Altimate registry. Empty: ALTIMATE_API_KEY, or ~/.altimate/altimate.json.",
        modes=BOTH | CLEANUP,
        secret=True,
        aliases=("--token",),
    )
    altimate_instance: str | None = _setting(
        None,
        "Instance name in the Altimate registry. Empty: ALTIMATE_INSTANCE_NAME, or that file.",
        modes=BOTH | CLEANUP,
        aliases=("--instance-name",),
    )
    altimate_integration: str | None = _setting(
        None,
        "Integration in the Altimate registry: id or name.",
        modes=BOTH | CLEANUP,
        aliases=(
            *("--dbt_core_integration_id", "--dbt_integration_id"),
            *("--dbt_core_integration_name", "--dbt_integration_name"),
        ),
    )
    altimate_environment: str = _setting(
        "PROD",
        "Environment in the Altimate registry.",
        modes=BOTH | CLEANUP,
        aliases=("--dbt_core_integration_environment",),
    )
    altimate_url: str = _setting(
        DEFAULT_URL,
        "Address of the Altimate registry.",
        modes=BOTH | CLEANUP,
        aliases=("--backend-url",),
    )


class _Option(click.Option):
    """An option whose empty value means that it is not set, as for an input of an action."""

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        if value == "":
            value = self.get_default(ctx)
        return super().type_cast_value(ctx, value)


Command = TypeVar("Command", bound=Callable[..., Any])


def options(*modes: str) -> Callable[[Command], Command]:
    """Decorate a command with the options of every setting that one of `modes` uses."""

    def decorate(command: Command) -> Command:
        for field in reversed(list(settings_of(modes))):
            command = _option(field)(command)
        return command

    return decorate


def settings_of(modes: Iterable[str]) -> Iterable[dataclasses.Field[Any]]:
    """The declarations of the settings that one of `modes` uses."""
    wanted = frozenset(modes)
    return (field for field in dataclasses.fields(Settings) if field.metadata["modes"] & wanted)


def option_name(field: dataclasses.Field[Any]) -> str:
    """favor_state -> favor-state."""
    return field.name.replace("_", "-")


def variable_name(field: dataclasses.Field[Any]) -> str:
    """favor_state -> CI_DEFER_FAVOR_STATE."""
    return PREFIX + field.name.upper()


def default_text(field: dataclasses.Field[Any]) -> str:
    """The default as a person writes it in a workflow: the empty string when there is none."""
    default = field.default
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return " ".join(default)
    if isinstance(default, Enum):
        return str(default.value)
    return "" if default is None else str(default)


def _option(field: dataclasses.Field[Any]) -> Callable[[Command], Command]:
    name = option_name(field)
    secret = field.metadata["secret"]
    is_flag = field.metadata["type"] is bool
    default = field.default.value if isinstance(field.default, Enum) else field.default
    return click.option(
        f"--{name}/--no-{name}" if is_flag else f"--{name}",
        *field.metadata["aliases"],
        field.name,
        cls=_Option,
        envvar=variable_name(field),
        type=None if is_flag else field.metadata["type"],
        default=default,
        show_default=default_text(field) or False,
        show_envvar=not secret,
        help=field.metadata["help"],
    )
