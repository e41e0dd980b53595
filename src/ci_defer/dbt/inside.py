"""What runs inside of the user's own dbt Core: several commands in one process, one parse.

A program of one file, started by `driver` with the interpreter that the user's `dbt` belongs to. So
it imports the standard library and dbt, and nothing of ci-defer, and runs on Python 3.9. Commands
are run as dbt's own entry point runs them (`dbt.cli.main.cli`, with the `obj` that `dbtRunner`
hands over): output, log, results and exit codes are dbt's.

Owns what is saved between commands, and what is not written because nobody reads it. All of that
reaches into dbt, so each piece is put in by itself and left out, with a notice, where dbt has no
such place. Knows nothing of stores, bundles or pull requests.

A request is a line of JSON on one descriptor, an answer a line on another (`driver` has the types).
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import dataclasses
import functools
import gc
import hashlib
import importlib
import importlib.util
import json
import os
import re
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, NoReturn

# While dbt makes its objects there is little to collect: with the default, looking for it takes a
# quarter of a full parse, and half of loading one. A full parse does leave cycles behind, and takes
# twice the memory without any collector.
THRESHOLDS = (50_000, 20, 20)

# Events of dbt that say why a project was parsed in full.
REASONS = {"UnableToPartialParse", "ParsedFileLoadFailed"}
# The levels of those that are shown even where nothing else is.
WARNINGS = {"warn", "error"}
# What dbt says where there is no saved parse: that is known.
NO_SAVED_PARSE = "saved manifest not found"

# What dbt warns of each time that it has loaded a project. Not every version knows all of them.
CHECKED_AT_EACH_LOAD = (
    "check_for_model_deprecations",
    "check_for_spaces_in_resource_names",
    "check_for_microbatch_deprecations",
    "check_forcing_batch_concurrency",
    "check_microbatch_model_has_a_filtered_input",
    "check_function_default_arguments_ordering",
)

# What `state:` selectors compare.
COMPARED = (
    *("nodes", "sources", "macros", "docs", "exposures", "metrics", "groups", "selectors"),
    *("disabled", "semantic_models", "unit_tests", "saved_queries", "functions"),
)
# Those of them that are told apart item by item. ci-defer reads nothing of the others.
COMPARED_BY_ID = tuple(name for name in COMPARED if name not in ("groups", "selectors", "disabled"))
# What has a name of a schema besides that of its node.
NAMED_ELSEWHERE = ("exports", "node_relation")
# What else a manifest.json has, as the manifest in memory has it.
AS_IN_MEMORY = frozenset({"selectors", "parent_map", "child_map", "group_map"})
# What is of this run, and not of main, in an item that has not changed since the saved parse.
OF_THIS_RUN = frozenset({"schema", "relation_name", "root_path", "created_at"})
# What is only in memory of an item: what it may be deferred to.
DEFERRED = frozenset({"defer_relation", "defer_function"})
LINKS = ("nodes", "macros")
# dbt fills it in after each parse, saved or not, and shows it to nobody but `dbt ls`.
MADE_OF_LINKS = ("direct_parents",)
DEFINED_IN_YML = ("exposures", "metrics", "semantic_models", "saved_queries", "unit_tests")
# What dbt takes of a node that is deferred to, besides its config.
OF_A_RELATION = (
    *("database", "schema", "alias", "relation_name", "name", "description", "compiled_code"),
    *("meta", "tags"),
)

# Types of values that are the same in JSON, these if there is nothing in them.
PLAIN = frozenset({str, int, bool})
EMPTY = frozenset({list, dict})

# A test is a macro that is named after it.
MACRO = re.compile(r"\{%-?\s*(macro|test)\s+(\w+)")
# As a shell says it of a program that Ctrl-C has ended.
INTERRUPTED = 130

# hashlib.scrypt: 16 MB and some 40 ms.
SCRYPT = {"n": 2**14, "r": 8, "p": 1}


MOST_DESCRIPTORS = 1024
# What dbt imports late or what needs nothing of it, the longest first. Not all of it is there.
COMPILED_BESIDE = (
    "networkx",
    "sqlglot",
    "daff",
    "agate",
    "pydantic",
    "requests",
    "yaml",
    "dbt.task.build",
)


class Surprise(Exception):
    """dbt, or a saved parse, is not what this file knows; what it says is for the log."""


class Dbt:
    """dbt Core in this process. Raises ImportError where there is none of a kind known here."""

    def __init__(self) -> None:
        # The first import takes more than a second, so nothing of dbt is imported by this module.
        with _collector(is_off=True):
            import click
            from dbt.cli.main import cli
            from dbt.version import __version__

        self._click = click
        self._cli = cli
        self.version = str(__version__)
        self.notices: list[str] = []
        self._manifest: Any = None
        self._pending: dict[str, Callable[[], None]] = {}
        self._has_put_off = False
        self._reasons: list[str] = []
        self._warnings = 0
        self._error: BaseException | None = None
        self._saved: SavedParse | None = None
        self._loader: Any = None
        self._is_without_warnings = False
        self._before_each: list[Callable[[], None]] = []
        self._after_each: list[Callable[[], None]] = []
        self._runtime_config: Any = None
        self._states: dict[str, Any] = {}
        self._only_deferred_to = ""
        # The items that are as in the saved parse, by collection, and what is built of all.
        self._kept: dict[str, dict[str, Any]] = {}
        self._selected: set[str] = set()
        for shortcut in (
            self._remember_states,
            self._remember_searches,
            self._write_json_at_once,
            self._write_manifests_later,
            self._write_what_is_known,
            self._leave_out_diagnostics,
            self._begin_as_a_new_process,
            self._look_for_cycles_once,
            self._describe_defaults_as_they_are,
            self._let_go_of_the_warehouse,
            self._restore_parses,
        ):
            try:
                shortcut()
            except (ImportError, AttributeError) as error:
                self.notices.append(f"{shortcut.__name__.strip('_')}: {error}")

    def run(self, arguments: list[str], restore: dict[str, Any] | None, to: str) -> dict[str, Any]:
        """Run one command as the program dbt would, and say how it ended and how it parsed.

        What others want of the manifest goes to the file `to`, because that is less than all of it.
        """
        had_manifest = self._manifest is not None
        if not had_manifest:
            self._saved = SavedParse(restore) if restore else None
        self._reasons.clear()
        self._error = None
        self._has_put_off = False
        self._only_deferred_to = _value_of("--defer-state", arguments)
        if self._only_deferred_to == _value_of("--state", arguments):
            self._only_deferred_to = ""
        # dbt writes the command line into its artifacts.
        sys.argv = ["dbt", *arguments]
        for prepare in self._before_each:
            prepare()
        obj: dict[str, Any] = {"manifest": self._manifest, "callbacks": [self._listen]}
        with _collector(is_off=restore is not None and not had_manifest):
            exit_code, result = self._invoke(arguments, obj)
        self._manifest = obj.get("manifest")
        self._runtime_config = obj.get("runtime_config") or self._runtime_config
        answer = {
            "exit_code": exit_code,
            "parsed": "" if had_manifest else self._how_it_parsed(),
            "distrusted": self._surprise(),
            "wrote": "",
            "connection": None,
        }
        try:
            for tidy_up in self._after_each:
                tidy_up()
            answer.update(self._about(arguments[0], exit_code, result, to))
            if not answer["wrote"]:
                self.write()
        except Exception as error:  # The command has ended: nothing of this may change how.
            answer["distrusted"] = answer["distrusted"] or repr(error)
        return answer

    def _about(self, command: str, exit_code: int, result: Any, to: str) -> dict[str, Any]:
        """What is told of a command besides how it ended."""
        told: dict[str, Any] = {"connection": self._connection()}
        if command == "ls" and not exit_code:
            saved = self._saved if self._saved and self._saved.is_used else None
            self._selected = set(_ids(result))
            if saved and (doubt := saved.doubt(self._manifest) or self._doubt(self._selected)):
                told["distrusted"] = doubt
            elif saved and saved.as_it_was:
                self._kept = saved.kept(self._manifest)
                told["wrote"] = self._write_difference(to)
            else:
                self._put_off_manifest()
        elif command == "build" and self._has_put_off:
            told["wrote"] = self._write_compiled(to)
        return told

    def write(self) -> None:
        """Write the artifacts that were put off."""
        while self._pending:
            _, write = self._pending.popitem()
            write()

    def _connection(self) -> dict[str, Any] | None:
        """What it was connected to, when the profile could be read."""
        credentials = getattr(self._runtime_config, "credentials", None)
        if credentials is None:
            return None
        return {
            "schema": str(credentials.schema),
            "database": credentials.database,
            "versions": versions_of(credentials.type),
        }

    def _write_difference(self, to: str) -> str:
        """What the manifest has that the saved one has not, and where the rest is to be built.

        In the shape of a manifest.json; `same` has those that are as they were, by collection, with
        schema and relation name.
        """
        made: dict[str, Any] = {
            "metadata": self._manifest.metadata.to_dict(omit_none=False),
            "disabled": _disabled(self._manifest),
        }
        same: dict[str, Any] = {}
        for name, kept in self._kept.items():
            items = getattr(self._manifest, name).items()
            made[name] = {key: _as_artifact(item) for key, item in items if key not in kept}
            same[name] = {
                key: (getattr(item, "schema", None), getattr(item, "relation_name", None))
                for key, item in kept.items()
            }
        self._write_document(to, {**made, "same": same})
        return to

    def _write_compiled(self, to: str) -> str:
        """The compiled code of what has some, in the shape of a manifest.json."""
        made: dict[str, Any] = {"metadata": self._manifest.metadata.to_dict(omit_none=False)}
        for name in ("nodes", "unit_tests", "functions"):
            made[name] = {
                key: {"compiled_code": item.compiled_code, "compiled_path": item.compiled_path}
                for key, item in (getattr(self._manifest, name, None) or {}).items()
                if getattr(item, "compiled_path", None) or getattr(item, "compiled_code", None)
            }
        self._write_document(to, made)
        return to

    def _write_document(self, to: str, document: dict[str, Any]) -> None:
        from dbt_common.utils.encoding import JSONEncoder

        with open(to, "w", encoding="utf-8") as file:
            file.write(json.dumps(document, cls=JSONEncoder))

    def _invoke(self, arguments: list[str], obj: dict[str, Any]) -> tuple[int, Any]:
        """As click does in its standalone mode, but for the end of the process."""
        click = self._click
        try:
            made = self._cli.main(
                args=list(arguments), prog_name="dbt", obj=obj, standalone_mode=False
            )
        except click.exceptions.Exit as error:
            return error.exit_code, None
        except click.ClickException as error:
            error.show()
            self._error = getattr(error, "exception", None)
            return error.exit_code, None
        except click.Abort:
            click.echo("Aborted!", file=sys.stderr)
            return 1, None
        except SystemExit as error:
            return _exit_code(error), None
        # Not standalone, click returns the code of `--help` and the like.
        if isinstance(made, int):
            return made, None
        return 0, made[0] if isinstance(made, tuple) else made

    def _listen(self, event: Any) -> None:
        self._warnings += str(event.info.level) in WARNINGS
        if event.info.name in REASONS:
            said = getattr(event.data, "reason", "") or getattr(event.data, "exc", "")
            if NO_SAVED_PARSE not in said:
                self._reasons.append(str(said))

    def _surprise(self) -> str:
        """An error that dbt does not know either: it may be of this file's making."""
        from dbt_common.exceptions import DbtBaseException

        if self._error is None or isinstance(self._error, (DbtBaseException, KeyboardInterrupt)):
            return ""
        return repr(self._error)

    def _how_it_parsed(self) -> str:
        """Empty after a partial parse; why it was a full one, else."""
        if self._saved is None or (self._saved.is_used and not self._reasons):
            return ""
        return "; ".join(dict.fromkeys([self._saved.why_not, *self._reasons])).strip("; ")

    # --- What is saved between commands -----------------------------------------------------------

    def _remember_states(self) -> None:
        """--state and --defer-state are read once for all commands, and no more than is needed."""
        from dbt.contracts import state as states
        from dbt.contracts.graph.manifest import Manifest
        from dbt.task import runnable

        original = runnable.PreviousState
        merge = Manifest.merge_from_artifact

        @functools.wraps(original)
        def previous_state(state_path: Any, target_path: Any, project_root: Any) -> Any:
            key = str(state_path)
            if key in self._states:
                return self._states[key]
            stand: Any = None
            if self._saved and self._saved.is_used and key == self._saved.stands_for:
                stand = _StandIn(self._saved.before)
            elif key == self._only_deferred_to:
                stand = _Relations(states.WritableManifest, states.Manifest)
            replaced = _replaced(states, WritableManifest=stand, Manifest=stand)
            with replaced if stand else contextlib.nullcontext():
                self._states[key] = original(
                    state_path=state_path, target_path=target_path, project_root=project_root
                )
            return self._states[key]

        def merge_from_artifact(manifest: Any, other: Any, *more: Any, **named: Any) -> Any:
            if not isinstance(other, _Relations):
                return merge(manifest, other, *more, **named)
            try:
                return merge(manifest, other, *more, **named)
            except Exception:  # It asks for more than it did when this was written.
                return merge(manifest, other.in_full(), *more, **named)

        runnable.PreviousState = previous_state
        Manifest.merge_from_artifact = merge_from_artifact

    def _remember_searches(self) -> None:
        """`dbt build` searches by `state:` three times, after `dbt ls` did: the answer is the same.

        Unless it was said with a warning, which then is to be said as often as dbt does.
        """
        from dbt.graph.selector_methods import StateSelectorMethod

        original = StateSelectorMethod.search
        remembered: dict[Any, list[Any]] = {}

        @functools.wraps(original)
        def search(method: Any, included_nodes: Any, selector: str) -> Iterator[Any]:
            same = (id(method.manifest), id(method.previous_state))
            key = (*same, frozenset(included_nodes), selector)
            if key not in remembered:
                said = self._warnings
                found = list(original(method, included_nodes, selector))
                if self._warnings > said:
                    return iter(found)
                remembered[key] = found
            return iter(remembered[key])

        compare = StateSelectorMethod.check_modified_content
        # Raises AttributeError where there is none.
        _ = StateSelectorMethod.check_macros_modified

        def check_modified_content(
            method: Any, old: Any, new: Any, *more: Any, **named: Any
        ) -> Any:
            # What is not another object has not changed, but for the macros that it uses.
            if old is new:
                return method.check_macros_modified(new)
            return compare(method, old, new, *more, **named)

        StateSelectorMethod.check_modified_content = check_modified_content
        StateSelectorMethod.search = search

    def _write_json_at_once(self) -> None:
        """The same text: json.dump writes it character by character, almost, and not in C."""
        from dbt.artifacts.schemas import base
        from dbt_common.utils.encoding import JSONEncoder

        encode = functools.partial(json.dumps, cls=JSONEncoder)

        def write_json(path: str, data: Any) -> bool:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.writelines(_pieces(data, encode))
            return True

        _replace(base, "write_json", write_json)

    def _write_manifests_later(self) -> None:
        """manifest.json is written when asked for: each command of dbt writes it once or twice."""
        from dbt.parser import manifest as parser
        from dbt.task import runnable

        original = parser.write_manifest

        def write_manifest(manifest: Any, target_path: Any, *more: Any, **named: Any) -> None:
            self._has_put_off = True
            self._pending[str(target_path)] = functools.partial(
                original, manifest, target_path, *more, **named
            )

        if runnable.write_manifest is not original:
            raise AttributeError("two functions write the manifest")
        parser.write_manifest = runnable.write_manifest = write_manifest

    def _write_what_is_known(self) -> None:
        """manifest.json from the one beside the saved parse: to make all of it anew takes long."""
        from dbt.contracts.graph.manifest import Manifest, WritableManifest

        original = Manifest.writable_manifest

        def writable_manifest(manifest: Any) -> Any:
            if manifest is self._manifest and self._kept:
                with contextlib.suppress(Exception):  # Then it is made anew.
                    fields = dataclasses.fields(WritableManifest)
                    document = self._document([field.name for field in fields])
                    made = WritableManifest.__new__(WritableManifest)
                    made.write = functools.partial(_write_json, document)
                    return made
            return original(manifest)

        Manifest.writable_manifest = writable_manifest

    def _document(self, names: Iterable[str]) -> dict[str, Any]:
        """What manifest.json is to say, by the names of its fields. Raises Surprise."""
        manifest, saved = self._manifest, self._saved
        if saved is None:
            raise Surprise("no saved parse")
        for prepare in ("build_parent_and_child_maps", "build_group_map", "fill_tracking_metadata"):
            getattr(manifest, prepare)()
        with open(os.path.join(saved.stands_for, "manifest.json"), encoding="utf-8") as file:
            before: dict[str, Any] = json.load(file)
        document: dict[str, Any] = {}
        for name in names:
            if name == "metadata":
                document[name] = manifest.metadata.to_dict(omit_none=False)
            elif name == "disabled":
                document[name] = _disabled(manifest)
            elif name == "groups":
                document[name] = {key: _as_artifact(item) for key, item in manifest.groups.items()}
            elif name in AS_IN_MEMORY:
                document[name] = getattr(manifest, name)
            elif name in self._kept:
                document[name] = self._items(name, before[name])
            else:
                raise Surprise(f"{name} in a manifest")
        return document

    def _items(self, name: str, before: dict[str, Any]) -> dict[str, Any]:
        """A collection of the manifest, of which `before` has the items as they were on main."""
        kept, items = self._kept[name], getattr(self._manifest, name)
        made = {}
        for key, item in items.items():
            is_kept = key in kept and key not in self._selected and _is_the_same(item, kept[key])
            made[key] = before[key] if is_kept else _as_artifact(item)
            if is_kept:
                for field in OF_THIS_RUN & made[key].keys():
                    made[key][field] = getattr(item, field)
        return made

    def _put_off_manifest(self) -> None:
        """As after a command that has parsed: one that had no need to writes none."""
        from dbt.parser import manifest as parser

        if not self._pending:
            parser.write_manifest(self._manifest, self._runtime_config.project_target_path)

    def _begin_as_a_new_process(self) -> None:
        """What every process of dbt says of a project when it has loaded it, parsed or not."""
        from dbt import deprecations
        from dbt.cli import requires
        from dbt.parser import manifest as parser
        from dbt.task.runnable import GraphRunnableTask

        original_load = parser.ManifestLoader.load
        original_init = GraphRunnableTask.__init__
        check_manifest = parser._check_manifest  # noqa: SLF001 - as dbt's own loader calls it

        def load(loader: Any) -> Any:
            self._loader = loader
            return original_load(loader)

        def check(manifest: Any, config: Any) -> None:
            said = self._warnings
            check_manifest(manifest, config)
            self._is_without_warnings = self._warnings == said

        def initialize(
            task: Any, args: Any, config: Any, manifest: Any, *more: Any, **named: Any
        ) -> None:
            if self._loader and manifest is self._manifest:
                # Who runs it: the results of the command have the same id.
                manifest.metadata = config.get_metadata()
                for name in CHECKED_AT_EACH_LOAD:
                    getattr(self._loader, name, _nothing)()
                # It takes long, and has nothing else to say when it is asked again.
                if not self._is_without_warnings:
                    check_manifest(manifest, config)
                if fire := getattr(requires, "fire_deferred_events", None):
                    fire(event_group_type=requires.EventGroupType.PARSE)
            original_init(task, args, config, manifest, *more, **named)

        self._before_each.append(deprecations.reset_deprecations)
        parser.ManifestLoader.load = load
        parser._check_manifest = check  # noqa: SLF001
        GraphRunnableTask.__init__ = initialize

    def _let_go_of_the_warehouse(self) -> None:
        """What an adapter leaves to the end of a process: DuckDB would keep its file locked."""
        from dbt.adapters.factory import FACTORY

        def close_connections() -> None:
            for adapter in FACTORY.adapters.values():
                getattr(adapter.connections, "close_all_connections", _nothing)()

        self._after_each.append(close_connections)

    def _leave_out_diagnostics(self) -> None:
        """graph.gpickle and graph_summary.json are for those who work on dbt."""
        from dbt.compilation import Compiler, Linker

        original = Compiler.compile

        @functools.wraps(original)
        def compile_without(compiler: Any, *arguments: Any, **named: Any) -> Any:
            made = original(compiler, *arguments, **named)
            with contextlib.suppress(OSError):
                os.remove(os.path.join(compiler.config.project_target_path, "graph_summary.json"))
            return made

        def write_no_graph(*_arguments: Any) -> None:
            return None

        def no_summary(*_arguments: Any) -> dict[int, Any]:
            return {}

        _replace(Linker, "get_graph_summary", no_summary)
        _replace(Compiler, "write_graph_file", write_no_graph)
        Compiler.compile = compile_without

    def _look_for_cycles_once(self) -> None:
        """That a graph has none is soon known; which one it has is searched for with all edges."""
        from dbt.compilation import Linker
        from networkx import is_directed_acyclic_graph

        original = Linker.find_cycles

        def find_cycles(linker: Any) -> Any:
            return None if is_directed_acyclic_graph(linker.graph) else original(linker)

        Linker.find_cycles = find_cycles

    def _describe_defaults_as_they_are(self) -> None:
        """What yml is validated with has defaults, and most of them are the same in JSON.

        To serialize them, a class is made for each one.
        """
        from mashumaro.jsonschema import schema

        original = schema._default  # noqa: SLF001

        def default(declared: Any, value: Any, *more: Any) -> Any:
            if value is None or type(value) in PLAIN:
                return value
            if type(value) in EMPTY and not value:
                return type(value)()
            return original(declared, value, *more)

        schema._default = default  # noqa: SLF001

    def _restore_parses(self) -> None:
        """A parse of elsewhere takes the place of the one in the target path."""
        from dbt.parser.base import RelationUpdate
        from dbt.parser.manifest import ManifestLoader

        original_read = ManifestLoader.read_manifest_for_partial_parse
        original_write = ManifestLoader.write_manifest_for_partial_parse
        self._relation_update = RelationUpdate

        def read(loader: Any) -> Any:
            # Nested: dbt loads a project's macros with a loader of its own.
            if self._saved is None or self._saved.is_tried:
                return original_read(loader)
            return self._saved.read(loader)

        def write(loader: Any) -> None:
            # The next command of this process has it in memory.
            if not (self._saved and self._saved.is_used):
                original_write(loader)

        ManifestLoader.read_manifest_for_partial_parse = read
        ManifestLoader.write_manifest_for_partial_parse = write

    def _doubt(self, unique_ids: Iterable[str]) -> str:
        """The first node whose name dbt would make otherwise: of these, and what they read from."""
        if not self._saved or not self._saved.is_renamed:
            return ""
        nodes = self._manifest.nodes
        selected = [nodes[key] for key in unique_ids if key in nodes]
        parents = {parent for node in selected for parent in _links(node)[0]}
        wanted = {node.unique_id: node for node in selected}
        wanted.update((key, nodes[key]) for key in parents if key in nodes)
        updates = {
            component: self._relation_update(self._runtime_config, self._manifest, component)
            for component in ("database", "schema", "alias")
        }
        for node in wanted.values():
            if not node.is_relational:
                continue
            for component, update in updates.items():
                ours = getattr(node, component)
                update(node, getattr(node.config, component, None))
                theirs = getattr(node, component)
                setattr(node, component, ours)
                if theirs != ours and not _is_of_snapshot(node, component, ours):
                    return f"dbt says {theirs} for the {component} of {node.unique_id}, not {ours}"
        return ""


class SavedParse:
    """A partial parse of another checkout, fitted to this one.

    `terms` says how it was made: `file`, `texts` (a file with a digest of each text that it was
    made from), `schema` and `database` of its connection, `carries_over` (whether nothing of the
    connection but these two is known to it), `versions`, `salt`, and `variables_digest`.
    """

    def __init__(self, terms: dict[str, Any]) -> None:
        self._terms = terms
        self.stands_for = terms["stands_for"]
        self.as_it_was: Any = None
        self._states: dict[int, _State] = {}
        self._named: dict[str, set[tuple[str, str]]] = {}
        self.is_tried = False
        self.is_used = False
        self.is_renamed = False
        self.why_not = ""

    def read(self, loader: Any) -> Any:
        """The manifest to parse on from; None when dbt has to parse in full, as `why_not` says."""
        self.is_tried = True
        try:
            manifest = self._load(loader)
            is_usable, _ = loader.is_partial_parsable(manifest)
            if is_usable and self.stands_for:
                self.as_it_was = _copied(manifest)
                items = _of(manifest, *COMPARED_BY_ID)
                self._states = {id(item): _State(item) for item in items}
        except Exception as error:  # Whatever is wrong with it, dbt can parse without.
            self.why_not = f"{error}" if isinstance(error, Surprise) else repr(error)
            return None
        if not is_usable:
            return None
        self._named = {key: made for key, file in manifest.files.items() if (made := _named(file))}
        self.is_used = True
        return manifest

    def doubt(self, manifest: Any) -> str:
        """What is in the manifest and not in yml any more.

        dbt parses it from the yml as it was, when something that it depends on has changed, too.
        """
        for file_id, names in self._named.items():
            file = manifest.files.get(file_id)
            gone = names - _named(file) if file else names
            for collection, name in sorted(gone):
                for item in (getattr(manifest, collection, None) or {}).values():
                    if item.name == name and getattr(item, "file_id", file_id) == file_id:
                        return f"{item.unique_id} is gone, and dbt still has it"
        return ""

    def kept(self, manifest: Any) -> dict[str, dict[str, Any]]:
        """The items of a manifest that are as they were, by collection."""
        kept = {}
        for name in COMPARED_BY_ID:
            ours, theirs = getattr(manifest, name, None), getattr(self.as_it_was, name, None)
            # Not all versions of dbt have all of them.
            if ours is not None and theirs is not None:
                kept[name] = {
                    key: item
                    for key, item in ours.items()
                    if item is theirs.get(key) and self._has_kept(item)
                }
        return kept

    def _has_kept(self, item: Any) -> bool:
        """Whether an item of it is still as it was, but for the name of one relation."""
        if any(getattr(item, name, None) for name in NAMED_ELSEWHERE):
            return False
        return id(item) in self._states and self._states[id(item)].is_of(item)

    @functools.cached_property
    def before(self) -> Any:
        """The manifest that it is of. What dbt has changed in place since is another object now."""
        for name in COMPARED_BY_ID:
            items = getattr(self.as_it_was, name, None) or {}
            for key, item in items.items():
                if not self._states[id(item)].is_of(item):
                    items[key] = self._states[id(item)].restored(item)
        return self.as_it_was

    def _load(self, loader: Any) -> Any:
        from dbt.contracts.graph.manifest import Manifest
        from dbt.parser import manifest as parser

        _check_versions(self._terms["versions"], loader.root_project.credentials.type)
        with open(self._terms["file"], "rb") as file:
            packed = file.read()
        decoder = getattr(parser, "extended_mashumuro_decoder", None)
        manifest = (
            Manifest.from_msgpack(packed, decoder=decoder)
            if decoder
            else Manifest.from_msgpack(packed)
        )
        del packed
        self._move(manifest, loader)
        _check_macros(manifest, loader)
        self._refresh_variables(manifest)
        self._refresh_checks(manifest, loader)
        self._rename(manifest, loader.root_project.credentials)
        _date_back(manifest, loader.started_at)
        # Who runs dbt here, and when.
        manifest.metadata = loader.manifest.metadata
        # dbt takes them over only when it has something to parse.
        manifest.selectors = loader.root_project.manifest_selectors
        return manifest

    def _move(self, manifest: Any, loader: Any) -> None:
        """To this checkout: roots, and which texts are the same here, to the last character."""
        roots = {name: str(project.project_root) for name, project in loader.all_projects.items()}
        with open(self._terms["texts"], encoding="utf-8") as file:
            texts: dict[str, str] = json.load(file)
        for file_id, source in manifest.files.items():
            root = roots.get(source.project_name)
            if root is None:
                # A package that is gone: dbt sees that its files are.
                continue
            source.path.project_root = root
            # What a source had is left there when it has that no more; each parse of it puts it in.
            for name in ("unrendered_databases", "unrendered_schemas"):
                if hasattr(source, name):
                    setattr(source, name, {})
            # dbt takes a file of this time for unchanged, or one with the same words in it.
            source.path.modification_time = -1.0
            if source.parse_file_type == "seed":
                continue
            here = _below(root, source.path.searched_path, source.path.relative_path)
            digest = digest_of_file(here) if here else ""
            if digest and digest == texts.get(file_id):
                with contextlib.suppress(OSError):
                    source.path.modification_time = os.path.getmtime(here)
            else:
                source.checksum.checksum = ""
        for node in _all_nodes(manifest):
            if getattr(node, "root_path", None):
                node.root_path = roots.get(node.package_name, "")

    def _refresh_variables(self, manifest: Any) -> None:
        """Environment variables: their values were not published."""
        wanted = sorted(name for name, value in manifest.env_vars.items() if value == "")
        if not wanted:
            return
        values = {name: os.environ.get(name) for name in wanted}
        are_the_same = self._digest(json.dumps(values)) == self._terms["variables_digest"]
        for name in wanted:
            # What no variable can hold is always another value.
            manifest.env_vars[name] = (values[name] or "") if are_the_same else "\0"

    def _refresh_checks(self, manifest: Any, loader: Any) -> None:
        """The hashes of what may hold secrets were published in another form."""
        theirs, ours = manifest.state_check, loader.manifest.state_check
        if self._terms["carries_over"]:
            theirs.profile_hash = ours.profile_hash
        elif theirs.profile_hash.checksum == self._digest(ours.profile_hash.checksum):
            theirs.profile_hash.checksum = ours.profile_hash.checksum
        hashed, wanted = theirs.project_env_vars_hash, ours.project_env_vars_hash.checksum
        if hashed.checksum != wanted and hashed.checksum == self._digest(wanted):
            hashed.checksum = wanted

    def _rename(self, manifest: Any, credentials: Any) -> None:
        """To the schema of this connection, which it knows only by the names of relations."""
        if not self._terms["carries_over"]:
            return
        if credentials.database != self._terms["database"]:
            raise Surprise(f"the database is {credentials.database}, not {self._terms['database']}")
        placeholder, schema = self._terms["schema"], credentials.schema
        self.is_renamed = True

        for node in _all_nodes(manifest):
            for holder, fields in _names(node):
                for field in fields:
                    value = getattr(holder, field, None)
                    if value is not None and placeholder in value:
                        setattr(holder, field, value.replace(placeholder, schema))

    def _digest(self, text: str) -> str:
        return slow_digest(text, self._terms["salt"])


class _State:
    """What an item was: dbt changes it in place, as when a new yml file describes it.

    It replaces the values then. Only the lists of what an item depends on are changed themselves.
    """

    __slots__ = ("_links", "_values")

    def __init__(self, item: Any) -> None:
        self._values = vars(item).copy()
        self._links = _links(item)

    def is_of(self, item: Any) -> bool:
        # Most are the same objects, which a dictionary looks at first.
        if self._links != _links(item):
            return False
        made = {name: self._values[name] for name in MADE_OF_LINKS if name in self._values}
        return bool(self._values == ({**vars(item), **made} if made else vars(item)))

    def restored(self, item: Any) -> Any:
        was = copy.copy(item)
        vars(was).clear()
        vars(was).update(self._values)
        if hasattr(was, "depends_on"):
            was.depends_on = copy.copy(was.depends_on)
            for number, name in enumerate(LINKS):
                if hasattr(was.depends_on, name):
                    setattr(was.depends_on, name, [*self._links[number]])
        return was


def _as_artifact(item: Any) -> Any:
    """An item of a manifest as manifest.json has it."""
    resource = item.to_resource() if hasattr(item, "to_resource") else item
    return resource.to_dict(omit_none=False, context={"artifact": True})


def _disabled(manifest: Any) -> dict[str, Any]:
    return {key: [_as_artifact(item) for item in items] for key, items in manifest.disabled.items()}


def _is_the_same(item: Any, before: Any) -> bool:
    """Whether nothing that manifest.json has of an item is another since: dbt copies and fills in.

    Only what it may defer to is not in there.
    """
    if getattr(item, "compiled", None) or getattr(item, "compiled_path", None):
        return False
    return item is before or all(
        getattr(item, field.name) is getattr(before, field.name)
        for field in dataclasses.fields(item)
        if field.name not in DEFERRED
    )


def _pieces(value: Any, encode: Callable[[Any], str], depth: int = 2) -> Iterator[str]:
    """The text of a document, an item of a collection at a time: all of it is half as much again.

    A text of one piece before it is written would be, besides the document.
    """
    # What is no text as a key would need the encoder's rules for keys.
    if not depth or not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        yield encode(value)
        return
    yield "{"
    separator = ""
    for key, item in value.items():
        yield f"{separator}{encode(key)}: "
        yield from _pieces(item, encode, depth - 1)
        separator = ", "
    yield "}"


def _write_json(document: Any, path: str) -> None:
    from dbt.artifacts.schemas import base

    base.write_json(path, document)


class _StandIn:
    """In the place of the classes that read a manifest: for one that is there already."""

    def __init__(self, manifest: Any) -> None:
        self._manifest = manifest

    def read_and_check_versions(self, _path: str) -> None:
        return None

    def from_writable_manifest(self, _writable: None) -> Any:
        return self._manifest


class _Relations:
    """In the place of the classes that read a manifest, and of the manifest: for deferring to it.

    dbt makes objects of everything twice to take a few names and a config of some of it. `nodes`
    has those, as they are in the file; `in_full` is the manifest as dbt reads it.
    """

    def __init__(self, writable: Any, manifest: Any) -> None:
        from dbt.version import __version__

        self._writable, self._manifest = writable, manifest
        self._versions = (str(writable.dbt_schema_version), __version__)
        self._path = ""
        self.nodes: dict[str, Any] = {}
        self.functions: dict[str, Any] = {}

    def read_and_check_versions(self, path: str) -> Any:
        self._path = path
        return None

    def from_writable_manifest(self, _writable: None) -> Any:
        try:
            with open(self._path, encoding="utf-8") as file:
                document = json.load(file)
            metadata = document["metadata"]
            made_by = (metadata["dbt_schema_version"], metadata["dbt_version"])
            # Of another version, dbt has to bring it up to date first. Functions are seldom.
            if made_by != self._versions or document.get("functions"):
                return self.in_full()
            self.nodes = _relations(document["nodes"])
        except Exception:  # dbt says what is wrong with it, if anything is.
            return self.in_full()
        return self

    def in_full(self) -> Any:
        writable = self._writable.read_and_check_versions(self._path)
        return self._manifest.from_writable_manifest(writable)


def _relations(nodes: dict[str, Any]) -> dict[str, Any]:
    """Of the nodes of a manifest.json those that a ref() may mean, as far as they are relations."""
    from dbt.artifacts.resources import ModelConfig, SeedConfig, SnapshotConfig
    from dbt.node_types import NodeType

    configs = {
        NodeType.Model: ModelConfig,
        NodeType.Seed: SeedConfig,
        NodeType.Snapshot: SnapshotConfig,
    }
    made: dict[str, Any] = {}
    # Most nodes have the config of some other one.
    known: dict[tuple[Any, str], Any] = {}
    for key, node in nodes.items():
        resource_type = NodeType(node["resource_type"])
        if resource_type not in configs:
            continue
        same = (resource_type, json.dumps(node["config"]))
        if same not in known:
            known[same] = configs[resource_type].from_dict(node["config"])
        config = known[same]
        made[key] = types.SimpleNamespace(
            **{name: node.get(name) for name in OF_A_RELATION},
            resource_type=resource_type,
            config=config,
            is_ephemeral=config.materialized == "ephemeral",
        )
    return made


def _copied(manifest: Any) -> Any:
    """The same nodes in other dictionaries: there dbt puts new ones in the place of old ones."""
    from dbt.contracts.graph.manifest import Manifest

    names = [name for name in COMPARED if name in Manifest.__dataclass_fields__]
    copied = Manifest(**{name: dict(getattr(manifest, name)) for name in names})
    # Of these it changes the lists.
    copied.disabled = {key: list(items) for key, items in manifest.disabled.items()}
    return copied


def _date_back(manifest: Any, started_at: float) -> None:
    """Let nothing be younger than this parse, which dbt would work on: clocks may be ahead."""
    for item in (*_all_nodes(manifest), *_of(manifest, "macros", "exposures", "metrics")):
        if getattr(item, "created_at", 0.0) >= started_at:
            item.created_at = 0.0


def _below(root: str, *parts: str) -> str:
    """A path below a folder; empty when it leads out of it."""
    path = os.path.normpath(os.path.join(*parts))
    is_outside = os.path.isabs(path) or path.split(os.sep)[0] == os.pardir
    return "" if is_outside else os.path.join(root, path)


def slow_digest(text: str, salt: str) -> str:
    """Says whether two texts are the same, and takes long to guess one from."""
    return hashlib.scrypt(text.encode(), salt=bytes.fromhex(salt), **SCRYPT).hex()


def digest_of_file(path: str) -> str:
    """A digest of a file's bytes, empty when there is none: short, for no adversary's sake."""
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()[:16]
    except OSError:
        return ""


@functools.lru_cache
def versions_of(adapter: str) -> dict[str, str]:
    """What a parse depends on besides the project: the versions of all that makes it."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": "{}.{}".format(*sys.version_info)}
    for name in ("dbt-core", "dbt-common", "dbt-adapters", f"dbt-{adapter}"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


def _check_versions(theirs: dict[str, str], adapter: str) -> None:
    ours = versions_of(adapter)
    for name in sorted({*theirs, *ours}):
        if theirs.get(name) != ours.get(name):
            raise Surprise(f"{name} is {ours.get(name)} here, and was {theirs.get(name)}")


def _named(file: Any) -> set[tuple[str, str]]:
    """What a file of yml defines by name, of the collections that only yml does."""
    document = getattr(file, "dict_from_yaml", None) or {}
    return {
        (key, str(item["name"]))
        for key in DEFINED_IN_YML
        for item in document.get(key) or ()
        if isinstance(item, dict) and "name" in item
    }


def _check_macros(manifest: Any, loader: Any) -> None:
    """A macro that takes the place of another one is a surprise.

    dbt parses again what depends on a macro that changes, and not what would depend on a new one:
    it takes its own, or that of a package, for what is called.
    """
    known = {macro.name.rpartition("__")[2] for macro in manifest.macros.values()}
    for project in loader.all_projects.values():
        for file_id, text in _new_texts(manifest, project):
            old = manifest.files.get(file_id)
            before = {key.rpartition(".")[2] for key in old.macros} if old else set()
            for kind, name in MACRO.findall(text):
                made = f"{kind}_{name}" if kind != "macro" else name
                if made not in before and made.rpartition("__")[2] in known:
                    raise Surprise(
                        f"macro {made} of {file_id} may be called instead of another one"
                    )


def _new_texts(manifest: Any, project: Any) -> Iterator[tuple[str, str]]:
    """The files with macros of a project that are not as they were, by their ids."""
    root = str(project.project_root)
    folders = (*project.macro_paths, *(f"{path}/generic" for path in project.test_paths))
    for folder in folders:
        for path, _, names in os.walk(os.path.join(root, folder), followlinks=True):
            for name in names:
                file = os.path.join(path, name)
                file_id = f"{project.project_name}://{os.path.relpath(file, root)}"
                old = manifest.files.get(file_id)
                if name.endswith(".sql") and (old is None or not old.checksum.checksum):
                    with open(file, encoding="utf-8") as text:
                        yield file_id, text.read()


def _all_nodes(manifest: Any) -> Iterator[Any]:
    """All that may have the name of a relation."""
    yield from _of(manifest, "nodes", "sources", "semantic_models", "saved_queries")
    yield from _of(manifest, "unit_tests", "functions")
    for disabled in manifest.disabled.values():
        yield from disabled


def _of(manifest: Any, *collections: str) -> Iterator[Any]:
    """The items of some collections. Not all versions of dbt have all of them."""
    for name in collections:
        yield from (getattr(manifest, name, None) or {}).values()


def _links(item: Any) -> tuple[tuple[str, ...], ...]:
    """The nodes and macros that an item depends on: seeds have none of the former, docs neither."""
    depends_on = getattr(item, "depends_on", None)
    return tuple(tuple(getattr(depends_on, name, ())) for name in LINKS)


def _names(node: Any) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """What of a node names a schema, and the fields that do."""
    yield node, ("schema", "relation_name")
    if relation := getattr(node, "node_relation", None):
        yield relation, ("schema_name", "relation_name")
    for export in getattr(node, "exports", None) or ():
        yield export.config, ("schema_name",)


def _is_of_snapshot(node: Any, component: str, value: Any) -> bool:
    """Snapshots have configs of their own for this, which win."""
    return bool(value) and getattr(node.config, f"target_{component}", None) == value


def _ids(listed: Any) -> Iterator[str]:
    """The unique ids of `dbt ls --output json`."""
    for line in listed or ():
        with contextlib.suppress(ValueError, TypeError):
            yield json.loads(line)["unique_id"]


def _nothing() -> None:
    return None


def _exit_code(error: SystemExit) -> int:
    return error.code if isinstance(error.code, int) else int(error.code is not None)


def _value_of(flag: str, arguments: list[str]) -> str:
    return arguments[arguments.index(flag) + 1] if flag in arguments else ""


@contextlib.contextmanager
def _replaced(owner: Any, **values: Any) -> Iterator[None]:
    """Other values for some names of a module, for a while."""
    before = {name: getattr(owner, name) for name in values}
    vars(owner).update(values)
    try:
        yield
    finally:
        vars(owner).update(before)


def _replace(owner: Any, name: str, function: Any) -> None:
    """Put `function` in the place of one that is there. Raises AttributeError when it is not."""
    getattr(owner, name)
    setattr(owner, name, function)


@contextlib.contextmanager
def _collector(*, is_off: bool) -> Iterator[None]:
    """Garbage is collected seldom, or not at all while this lasts."""
    gc.set_threshold(*THRESHOLDS)
    if is_off:
        gc.disable()
    try:
        yield
    finally:
        if is_off:
            # What there is by now stays: it need not be looked at again.
            gc.freeze()
        gc.enable()


def main(requests: IO[str], answers: IO[str]) -> None:
    """Answer requests until there are no more."""

    def answer(**said: Any) -> None:
        print(json.dumps(said), file=answers, flush=True)

    try:
        dbt = Dbt()
    except Exception as error:
        return answer(ready=False, why=f"{type(error).__name__}: {error}")
    answer(ready=True, version=dbt.version, notices=dbt.notices)
    for line in requests:
        request = json.loads(line)
        made = dbt.run(**request)
        sys.stdout.flush()
        sys.stderr.flush()
        answer(**made)
        if request["arguments"][0] == "build":
            # Nobody waits for it, so it is written while the report is made.
            dbt.write()
    dbt.write()
    return None


def compile_beside() -> None:
    """Where dbt was installed just now, let another process compile a part of it meanwhile.

    Python compiles a module when it is first imported, which takes most of that import, and keeps
    what it made beside the module: who comes second finds it there.
    """
    with contextlib.suppress(Exception):
        found = importlib.util.find_spec(COMPILED_BESIDE[0])
        if (
            sys.dont_write_bytecode
            or (os.cpu_count() or 1) == 1
            or not (found and found.origin and found.cached)
            or os.path.exists(found.cached)
            or not (sys.pycache_prefix or os.access(os.path.dirname(found.origin), os.W_OK))
        ):
            return
        started = os.fork()
        if not started:
            _import_in_a_child(COMPILED_BESIDE)
        os.waitpid(started, 0)


def _import_in_a_child(names: Iterable[str]) -> NoReturn:
    """Import in a child of this process, which nobody has to wait for, and end."""
    try:
        if os.fork():
            os._exit(0)
        # Who reads from a pipe of ours waits for all who could write to it.
        os.closerange(0, MOST_DESCRIPTORS)
        for _ in range(3):
            os.open(os.devnull, os.O_RDWR)
        gc.disable()
        for name in names:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    finally:
        os._exit(0)


def _end(exit_code: int) -> NoReturn:
    # Without freeing half a gigabyte, object by object; adapters may have something to close.
    atexit._run_exitfuncs()  # noqa: SLF001 - as the interpreter does
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def _pipe(number: str, mode: str) -> IO[str]:
    os.set_inheritable(int(number), False)
    return os.fdopen(int(number), mode, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        # Asked by action/install.sh, which has just installed dbt.
        compile_beside()
        sys.exit()
    _, program, requests_number, answers_number = sys.argv
    # As when the program itself is started: where it is, and not where this file is. With -I and
    # -P neither is there.
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        sys.path[0] = os.path.dirname(program)
    try:
        compile_beside()
        main(_pipe(requests_number, "r"), _pipe(answers_number, "w"))
    except KeyboardInterrupt:
        # While dbt is imported, or between two commands: dbt itself has nothing to cancel.
        _end(INTERRUPTED)
    _end(0)
