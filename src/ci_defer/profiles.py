"""The user's profiles.yml with another schema in one target, in a folder that goes away again.

dbt reads the schema of a target from there and from nowhere else. Jinja stays as it is, so that no
secret is resolved into the copy, which only its owner can read. Owns how that file is found, as dbt
finds it, and how one value in it is replaced. Knows nothing of pull requests.

Source of the search order:
https://docs.getdbt.com/docs/core/connect-data-platform/connection-profiles
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ci_defer.errors import ConfigurationError

PROFILES_FILE = "profiles.yml"
DEFAULT_TARGET = "default"
MERGE = "tag:yaml.org,2002:merge"
STRING = "tag:yaml.org,2002:str"
# Every adapter calls it `schema`; that of BigQuery has another name for it as well.
SCHEMA_FIELDS = ("schema", "dataset")
CURES = {"target": "the setting target", "profile": "--profile in dbt-args"}
# The one kind of Jinja whose value we know as dbt does.
ENV_VAR = re.compile(
    r"""\s*\{\{-?\s*env_var\(\s*(?P<q>['"])(?P<name>\w+)(?P=q)\s*"""
    r"""(?:,\s*(?P<d>['"])(?P<default>[^'"{}\\]*)(?P=d)\s*)?\)\s*-?\}\}\s*"""
)


def find_profiles(
    profiles_dir: Path | None, working_directory: Path, environ: Mapping[str, str]
) -> Path:
    """The profiles.yml that dbt would take. Raises ConfigurationError when there is none."""
    named = environ.get("DBT_ENGINE_PROFILES_DIR") or environ.get("DBT_PROFILES_DIR")
    home = Path(environ.get("HOME") or environ.get("USERPROFILE") or ".") / ".dbt"
    if profiles_dir:
        folders = [profiles_dir]
    elif named:
        folders = [working_directory / named]
    else:
        folders = [working_directory, home]
    for folder in folders:
        if (folder / PROFILES_FILE).is_file():
            return folder / PROFILES_FILE
    raise ConfigurationError(
        f"There is no {PROFILES_FILE} in {' or '.join(map(str, folders))}.",
        "Set profiles-dir to its folder.",
    )


@contextlib.contextmanager
def own_schema(
    profiles: Path, schema: str, *, profile: str, target: str | None, environ: Mapping[str, str]
) -> Iterator[Path]:
    """A folder with a copy of `profiles` in which one target has another schema.

    `profile` is what dbt_project.yml or `--profile` says, `target` None for the profile's default.
    The folder is removed afterwards. Raises ConfigurationError.
    """
    try:
        text = profiles.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{profiles} cannot be read: {error}.") from error
    changed = with_schema(text, schema, profile=profile, target=target, environ=environ)
    # mkdtemp makes it for its owner alone.
    folder = Path(tempfile.mkdtemp(prefix="ci-defer-profiles-"))
    try:
        handle = os.open(folder / PROFILES_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(changed)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def with_schema(
    text: str, schema: str, *, profile: str, target: str | None, environ: Mapping[str, str]
) -> str:
    """The text of a profiles.yml with another schema in one target. Raises ConfigurationError.

    Every other scalar keeps its text, its style and its type; comments go, and anchors get other
    names. What a YAML anchor shares with other targets is changed for this one only.
    """
    root = _compose(text)
    name = _resolved(profile, environ, "profile")
    _check_variable("profile", name, environ)
    found = _lookup(root, name)
    if not isinstance(found, yaml.MappingNode):
        raise ConfigurationError(
            f"{PROFILES_FILE} has no profile {name!r}.",
            "Correct `profile` in dbt_project.yml, or profiles-dir.",
        )
    output = target or _default_target(found, environ)
    if target is None:
        _check_variable("target", output, environ)
    outputs = _lookup(found, "outputs")
    known = _keys(outputs) if isinstance(outputs, yaml.MappingNode) else []
    if output not in known or not isinstance(_lookup(outputs, output), yaml.MappingNode):
        raise ConfigurationError(
            f"The profile {name!r} has no target {output!r}.",
            f"Set target to one of its targets: {', '.join(known) or 'it has none'}.",
        )

    def change_output(node: Any) -> yaml.MappingNode:
        taken = next((field for field in SCHEMA_FIELDS if _lookup(node, field)), SCHEMA_FIELDS[0])
        # Quoted, as ours to vouch for: not a number, whatever it looks like.
        return _with(node, taken, lambda _: yaml.ScalarNode(STRING, schema, style='"'))

    def change_outputs(node: Any) -> yaml.MappingNode:
        return _with(node, output, change_output)

    root = _with(root, name, lambda node: _with(node, "outputs", change_outputs))
    serialized: str = yaml.serialize(
        root, Dumper=yaml.SafeDumper, allow_unicode=True, width=float("inf")
    )
    return serialized


def _compose(text: str) -> yaml.MappingNode:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # What YAML says of it quotes the file, and that may hold a password.
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise ConfigurationError(
            f"{PROFILES_FILE} is no YAML{where}.", "Run `dbt debug` to see what dbt says of it."
        ) from None
    if not isinstance(root, yaml.MappingNode):
        raise ConfigurationError(f"{PROFILES_FILE} holds no profiles.")
    return root


def _default_target(profile: yaml.MappingNode, environ: Mapping[str, str]) -> str:
    node = _lookup(profile, "target")
    if not isinstance(node, yaml.ScalarNode):
        return DEFAULT_TARGET
    return _resolved(node.value, environ, "target")


def _check_variable(setting: str, value: str, environ: Mapping[str, str]) -> None:
    """Raise ConfigurationError when a variable says otherwise: some versions of dbt heed it.

    https://docs.getdbt.com/reference/global-configs/about-global-configs
    """
    for variable in (f"DBT_ENGINE_{setting.upper()}", f"DBT_{setting.upper()}"):
        if environ.get(variable, "") not in ("", value):
            raise ConfigurationError(
                f"The variable {variable} says another {setting} than {value!r}, and some versions "
                "of dbt heed it.",
                f"pr-schema changes one target of one profile: say which with {CURES[setting]}, "
                f"and unset {variable}.",
            )


def _resolved(text: str, environ: Mapping[str, str], setting: str) -> str:
    """A name, which may be taken from an environment variable."""
    if "{{" not in text and "{%" not in text:
        return text
    found = ENV_VAR.fullmatch(text)
    value = environ.get(found["name"], found["default"]) if found else None
    if value is None:
        raise ConfigurationError(
            f"Which {setting} is meant cannot be told from {text.strip()}.",
            f"pr-schema changes one target of one profile: say which with {CURES[setting]}.",
        )
    return value


def _keys(mapping: yaml.MappingNode) -> list[str]:
    own = [key.value for key, _ in mapping.value if key.tag != MERGE]
    merged = [name for other in _merged(mapping) for name in _keys(other)]
    return list(dict.fromkeys((*own, *merged)))


def _lookup(mapping: Any, key: str) -> yaml.Node | None:
    """The value of a key, its own or a merged one, as YAML 1.1 says: the last and the first win."""
    for name, value in reversed(mapping.value):
        if isinstance(name, yaml.ScalarNode) and name.value == key and name.tag != MERGE:
            found: yaml.Node = value
            return found
    for other in _merged(mapping):
        if value := _lookup(other, key):
            return value
    return None


def _merged(mapping: yaml.MappingNode) -> Iterator[yaml.MappingNode]:
    """The mappings that `<<` takes in."""
    for name, value in mapping.value:
        if name.tag == MERGE:
            others = value.value if isinstance(value, yaml.SequenceNode) else [value]
            yield from (other for other in others if isinstance(other, yaml.MappingNode))


def _with(
    mapping: Any, key: str, change: Callable[[yaml.Node | None], yaml.Node]
) -> yaml.MappingNode:
    """A copy of the mapping in which `key` has another value; what it shares stays as it is."""
    new = change(_lookup(mapping, key))
    pairs = [
        (name, value) for name, value in mapping.value if name.tag == MERGE or name.value != key
    ]
    pairs.append((yaml.ScalarNode(STRING, key), new))
    return yaml.MappingNode(mapping.tag, pairs, flow_style=mapping.flow_style)
