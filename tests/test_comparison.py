from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ci_defer.bundle import ParsedWith
from ci_defer.comparison import Changes, Suspicion, differences
from ci_defer.manifest import DependsOn, Macro, Manifest
from ci_defer.selection import Explained
from tests.samples import COMMIT
from tests.test_selection import (
    EXPOSURE,
    FUNCTION,
    METRIC,
    PERSISTED,
    SAVED_QUERY,
    SEED,
    SEMANTIC_MODEL,
    SOURCE,
    TEST,
    UNIT_TEST,
    A,
    configured,
    project,
    reads,
)

ENVIRONMENT = "a value of it may come from the environment: a variable, the target, the profile"
OF_DBT = "changed: another version of dbt or of its adapter"
OF_PACKAGE = (
    "the package util changed, though what is declared of the packages did not: "
    "commit package-lock.yml"
)
BY_HAND = "macro.shop.cents"
OF_THE_PACKAGE = "model.util.dates"


def macro(unique_id: str, sql: str, *calls: str, path: str = "macros/m.sql") -> Macro:
    return Macro(
        unique_id=unique_id,
        name=unique_id.split(".", 2)[2],
        package_name=unique_id.split(".")[1],
        original_file_path=path,
        macro_sql=sql,
        depends_on=DependsOn(macros=list(calls)),
    )


def made(
    *nodes: Any,
    macros: Iterable[Macro] = (),
    disabled: Iterable[str] = (),
    **metadata: Any,
) -> Manifest:
    manifest = project(*nodes)
    return replace(
        manifest,
        macros={item.unique_id: item for item in macros},
        disabled={unique_id: [{}] for unique_id in disabled},
        metadata=replace(manifest.metadata, **metadata),
    )


def suspected(
    ours: Manifest,
    theirs: Manifest,
    *files: str,
    prefix: str = "",
    tracked: Iterable[str] | None = None,
    unlike: Iterable[str] = (),
) -> dict[str, str]:
    """What is suspected when all of it is planned; git knows the file of every node."""
    if tracked is None:
        tracked = (f"{prefix}{node.original_file_path}" for node in ours.resources())
    changes = Changes(
        commit=COMMIT, prefix=prefix, files=frozenset(files), tracked=frozenset(tracked)
    )
    explained = Explained(ours, theirs, compares_unrendered=True)
    found = Suspicion(explained, ours, theirs, changes, tuple(unlike))
    return found.of(node.unique_id for node in ours.resources())


def changed(unique_id: str, old: Any, new: Any, **more: Any) -> tuple[Manifest, Manifest]:
    """Two manifests with one node, which had the fields `old` and has the fields `new`."""
    return made(reads(unique_id, **{**more, **new})), made(reads(unique_id, **{**more, **old}))


# Made alike -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "ours", "expected"),
    [
        ({}, {}, []),
        (
            {"dbt_version": "1.11.0"},
            {"dbt_version": "1.12.0"},
            ["made by dbt 1.11.0, and this run uses 1.12.0"],
        ),
        ({"dbt_version": "1.11.0"}, {}, []),
        ({}, {"dbt_version": "1.11.0"}, []),
        (
            {"adapter": "duckdb"},
            {"adapter": "snowflake"},
            ["made for duckdb, and this run uses snowflake"],
        ),
        ({"adapter": "duckdb"}, {}, []),
        ({}, {"adapter": "duckdb"}, []),
        (
            {"target": "prod"},
            {"target": "ci"},
            ["made for target prod, and this run uses target ci"],
        ),
        # The default is not "unknown": it may be any target.
        (
            {"target": "prod"},
            {},
            ["made for target prod, and this run uses the default target"],
        ),
        ({}, {"target": "ci"}, ["made for the default target, and this run uses target ci"]),
        (
            {"profile": "x"},
            {},
            ["made with profile x, and this run uses the profile of the project"],
        ),
        (
            {},
            {"profile": "x"},
            ["made with the profile of the project, and this run uses profile x"],
        ),
        ({"vars_sha256": "a"}, {}, ["made with other --vars"]),
        ({}, {"vars_sha256": "a"}, ["made with other --vars"]),
        ({"vars_sha256": "a"}, {"vars_sha256": "b"}, ["made with other --vars"]),
    ],
)
def test_differences__are_said_of_what_is_known(
    theirs: dict[str, str], ours: dict[str, str], expected: list[str]
) -> None:
    assert differences(ParsedWith(**theirs), ParsedWith(**ours)) == expected


PARSED_WITH = st.builds(
    ParsedWith, **dict.fromkeys(ParsedWith.__struct_fields__, st.sampled_from(["", "a", "b"]))
)


@given(PARSED_WITH, PARSED_WITH)
def test_differences__are_one_for_each_field_that_differs_and_none_of_what_is_alike(
    one: ParsedWith, other: ParsedWith
) -> None:
    assert differences(one, one) == []
    a, b = msgspec.structs.asdict(one), msgspec.structs.asdict(other)
    unknown = {name for name in ("dbt_version", "adapter") if not (a[name] and b[name])}
    expected = {name for name in a if a[name] != b[name]} - unknown
    assert len(differences(one, other)) == len(differences(other, one)) == len(expected)


# What git explains ----------------------------------------------------------------------------

OWN, PATCH = "models/a.sql", "models/a.yml"
PATCHED: Any = {"patch_path": f"shop://{PATCH}"}
OF_PROJECT = ["dbt_project.yml", "vars.yml", "profiles.yml", "ci/profiles.yml"]
INNOCENT = [
    *("models/b.sql", "models/b.yml", "README.md", "macros/other.sql", "package-lock.yml"),
    *("packages.yml", "data/fixtures/a.csv", ".github/workflows/ci.yml"),
]
CHANGES: dict[str, tuple[Any, Any, list[str]]] = {
    # Of a model that may be too much: but whoever changed its properties meant this model.
    "body": ({"raw_code": "1"}, {"raw_code": "2"}, [OWN, PATCH]),
    "configs": (
        configured(materialized="view"),
        configured(materialized="table"),
        [OWN, PATCH, *OF_PROJECT],
    ),
    "relation": (configured(schema="a"), configured(schema="b"), [OWN, PATCH, *OF_PROJECT]),
    "contract": (
        {"contract": {"enforced": False}},
        {"contract": {"enforced": True}},
        [OWN, PATCH, *OF_PROJECT],
    ),
    "access": ({"access": "protected"}, {"access": "private"}, [OWN, PATCH, *OF_PROJECT]),
    "moved": ({"fqn": ["shop", "a"]}, {"fqn": ["shop", "x", "a"]}, [OWN, PATCH, *OF_PROJECT]),
    "description": (
        {**PERSISTED, "description": "1"},
        {**PERSISTED, "description": "2"},
        [OWN, PATCH, "README.md"],
    ),
    "description of a column": (
        {**PERSISTED, "columns": {"id": {"description": "1"}}},
        {**PERSISTED, "columns": {"id": {"description": "2"}}},
        [OWN, PATCH, "README.md"],
    ),
}


@pytest.mark.parametrize("prefix", ["", "transform/", "a b/é/"])
@pytest.mark.parametrize(("old", "new", "causes"), CHANGES.values(), ids=CHANGES)
def test_suspicion__is_of_what_no_changed_file_explains(
    old: Any, new: Any, causes: list[str], prefix: str
) -> None:
    ours, theirs = changed(A, old, new, **PATCHED)
    innocent = [f"{prefix}{path}" for path in INNOCENT if path not in causes]
    if prefix:
        # The same paths in another project of the repository.
        innocent += [path for path in causes if path not in OF_PROJECT]
    assert list(suspected(ours, theirs, *innocent, prefix=prefix)) == [A]
    for cause in causes:
        assert suspected(ours, theirs, *innocent, f"{prefix}{cause}", prefix=prefix) == {}


@given(
    change=st.sampled_from([*CHANGES.values()]),
    files=st.sets(st.sampled_from([OWN, PATCH, *OF_PROJECT, *INNOCENT])),
    prefix=st.sampled_from(["", "transform/"]),
)
def test_suspicion__is_gone_with_any_one_cause(
    change: tuple[Any, Any, list[str]], files: set[str], prefix: str
) -> None:
    ours, theirs = changed(A, *change[:2], **PATCHED)
    found = suspected(ours, theirs, *(f"{prefix}{path}" for path in files), prefix=prefix)
    assert (A in found) == files.isdisjoint(change[2])


def test_suspicion__of_several_reasons_is_gone_when_one_is_explained() -> None:
    ours, theirs = changed(
        A,
        {"raw_code": "1", **configured(materialized="view")},
        {"raw_code": "2", **configured(materialized="table")},
    )
    # Whoever sees a line of dbt_project.yml in the diff will not wonder.
    assert suspected(ours, theirs, "dbt_project.yml") == {}
    assert list(suspected(ours, theirs)) == [A]


def test_suspicion__is_of_new_nodes_too() -> None:
    ours, theirs = made(reads(A, **PATCHED)), made()
    assert suspected(ours, theirs) == {A: ENVIRONMENT}
    for cause in (OWN, PATCH, *OF_PROJECT):
        assert suspected(ours, theirs, cause) == {}


def test_suspicion__is_not_of_what_is_downstream_or_chosen() -> None:
    b = "model.shop.b"
    ours = made(reads(A, raw_code="2"), reads(b, A), reads("model.shop.c"))
    theirs = made(reads(A, raw_code="1"), reads(b, A), reads("model.shop.c"))
    assert list(suspected(ours, theirs)) == [A]
    assert suspected(ours, theirs, OWN) == {}


def test_suspicion__is_only_of_what_was_planned() -> None:
    ours, theirs = changed(A, {"raw_code": "1"}, {"raw_code": "2"})
    changes = Changes(commit=COMMIT, prefix="", files=frozenset(), tracked=frozenset({OWN}))
    explained = Explained(ours, theirs, compares_unrendered=True)
    found = Suspicion(explained, ours, theirs, changes)
    assert found.of([]) == {}
    assert found.of(["model.shop.unknown"]) == {}
    assert list(found.of([A, A])) == [A]


def test_suspicion__is_not_of_a_file_that_git_does_not_track() -> None:
    # A job that writes its models has changed them by changing anything.
    ours, theirs = changed(A, {"raw_code": "1"}, {"raw_code": "2"})
    assert suspected(ours, theirs, tracked=["models/b.sql"]) == {}
    assert suspected(ours, theirs, prefix="x/", tracked=[OWN]) == {}


@pytest.mark.parametrize(
    ("unique_id", "old", "new"),
    [
        (EXPOSURE, {"url": "a"}, {"url": "b"}),
        (METRIC, {"type": "simple"}, {"type": "ratio"}),
        (SEMANTIC_MODEL, {"model": "a"}, {"model": "b"}),
        (SAVED_QUERY, {"label": "a"}, {"label": "b"}),
    ],
)
def test_suspicion__of_exposures_and_the_like_is_gone_with_any_properties_file(
    unique_id: str, old: Any, new: Any
) -> None:
    ours, theirs = changed(unique_id, old, new, original_file_path="models/own.yml")
    for prefix in ("", "transform/"):
        for cause in ("models/own.yml", "other.yml", "x/y.yaml", "dbt_project.yml"):
            assert suspected(ours, theirs, f"{prefix}{cause}", prefix=prefix) == {}
        innocent = (f"{prefix}models/a.sql", f"{prefix}README.md")
        assert list(suspected(ours, theirs, *innocent, prefix=prefix)) == [unique_id]
    assert list(suspected(ours, theirs, ".github/ci.yml", prefix="transform/")) == [unique_id]


@pytest.mark.parametrize(
    ("unique_id", "old", "new", "path"),
    [
        (SOURCE, {"unrendered_schema": "a"}, {"unrendered_schema": "b"}, "models/sources.yml"),
        (SOURCE, {"freshness": {"x": 1}}, {"freshness": None}, "models/sources.yml"),
        (
            SEED,
            {"checksum": {"name": "sha256", "checksum": "a"}},
            {"checksum": {"name": "sha256", "checksum": "b"}},
            "seeds/countries.csv",
        ),
        (TEST, configured(severity="warn"), configured(severity="error"), "models/a.yml"),
        (FUNCTION, {"returns": 1}, {"returns": 2}, "functions/area.sql"),
    ],
)
def test_suspicion__of_others_is_gone_with_their_own_file(
    unique_id: str, old: Any, new: Any, path: str
) -> None:
    ours, theirs = changed(unique_id, old, new, original_file_path=path)
    assert list(suspected(ours, theirs, "models/other.yml", "x/y.csv")) == [unique_id]
    assert suspected(ours, theirs, path) == {}


@pytest.mark.parametrize(
    ("path", "explains"),
    [
        ("tests/fixtures/rows.csv", True),
        ("tests/fixtures/rows.sql", True),
        ("fixtures/rows.csv", True),
        ("models/a.yml", True),
        ("seeds/rows.csv", False),
        ("tests/fixtures/README.md", False),
        ("models/b.sql", False),
    ],
)
def test_suspicion__of_a_unit_test_is_gone_with_a_fixture(path: str, explains: bool) -> None:
    ours, theirs = changed(
        UNIT_TEST, {"checksum": "1"}, {"checksum": "2"}, original_file_path="models/a.yml"
    )
    assert (suspected(ours, theirs, path) == {}) == explains
    # Not of another project of the repository.
    assert list(suspected(ours, theirs, path, prefix="transform/")) == [UNIT_TEST]


# Macros ---------------------------------------------------------------------------------------


def with_macros(old: Iterable[Macro], new: Iterable[Macro], *used: str) -> tuple[Manifest, ...]:
    return made(reads(A, macros=used), macros=new), made(reads(A, macros=used), macros=old)


def test_macros__of_the_project_are_explained_by_their_file_alone() -> None:
    ours, theirs = with_macros([macro(BY_HAND, "1")], [macro(BY_HAND, "2")], BY_HAND)
    assert suspected(ours, theirs, "macros/m.sql") == {}
    assert suspected(ours, theirs, "x/macros/m.sql", prefix="x/") == {}
    # A macro is what its file says: no config and no package has a say in it.
    innocent = ("dbt_project.yml", "packages.yml", "package-lock.yml", "x/macros/m.sql")
    expected = {A: "a macro of it comes from elsewhere than git"}
    assert suspected(ours, theirs, *innocent) == expected


def test_macros__are_explained_over_any_number_of_others() -> None:
    far = "macro.shop.far"
    chain = [macro(BY_HAND, "x", "macro.shop.mid"), macro("macro.shop.mid", "x", far)]
    ours, theirs = with_macros(
        [*chain, macro(far, "1", path="macros/far.sql")],
        [*chain, macro(far, "2", path="macros/far.sql")],
        BY_HAND,
    )
    assert suspected(ours, theirs, "macros/far.sql") == {}
    assert list(suspected(ours, theirs, "macros/m.sql")) == [A]


def test_macros__that_changed_further_away_explain_too() -> None:
    # dbt's own differ with its version, and a macro of the project has really changed.
    ours, theirs = with_macros(
        [macro("macro.dbt.x", "1", BY_HAND), macro(BY_HAND, "1")],
        [macro("macro.dbt.x", "2", BY_HAND), macro(BY_HAND, "2")],
        "macro.dbt.x",
    )
    assert suspected(ours, theirs, "macros/m.sql") == {}
    assert list(suspected(ours, theirs)) == [A]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("macro.dbt.current_timestamp", f"macros of dbt {OF_DBT}"),
        ("macro.dbt_duckdb.list_relations", f"macros of dbt_duckdb {OF_DBT}"),
        ("macro.dbt_postgres.x", f"macros of dbt_postgres {OF_DBT}"),
        ("macro.util.date_spine", OF_PACKAGE),
        (BY_HAND, "a macro of it comes from elsewhere than git"),
    ],
)
def test_macros__say_where_they_are_from(name: str, expected: str) -> None:
    ours, theirs = with_macros([macro(name, "1")], [macro(name, "2")], name)
    assert suspected(ours, theirs, "models/b.sql") == {A: expected}


@pytest.mark.parametrize("name", ["macro.util.x", "macro.dbt.x"])
@pytest.mark.parametrize("file", ["packages.yml", "dependencies.yml", "package-lock.yml"])
def test_macros__of_a_package_may_change_with_what_is_declared(name: str, file: str) -> None:
    ours, theirs = with_macros([macro(name, "1")], [macro(name, "2")], name)
    assert suspected(ours, theirs, f"dbt/{file}", prefix="dbt/") == {}
    assert list(suspected(ours, theirs, file, prefix="dbt/")) == [A]


def test_macros__of_a_package_that_is_a_folder_of_the_repository() -> None:
    ours, theirs = with_macros(
        [macro("macro.util.x", "1")], [macro("macro.util.x", "2")], "macro.util.x"
    )
    for path in ("packages/util/macros/m.sql", "transform/util/macros/m.sql"):
        assert suspected(ours, theirs, path, prefix="transform/") == {}
    assert suspected(ours, theirs, "packages/util/macros/n.sql") == {A: OF_PACKAGE}


def test_macros__that_are_new_are_explained_by_their_file() -> None:
    ours = made(reads(A, macros=(BY_HAND,)), macros=[macro(BY_HAND, "1")])
    theirs = made(reads(A))
    assert suspected(ours, theirs, "macros/m.sql") == {}
    assert list(suspected(ours, theirs)) == [A]


def test_macros__that_are_gone_had_a_file() -> None:
    # What calls it stays as it is: now it may mean one of dbt.
    ours = made(reads(A, macros=(BY_HAND,)))
    theirs = made(reads(A, macros=(BY_HAND,)), macros=[macro(BY_HAND, "1")])
    assert suspected(ours, theirs, "macros/m.sql") == {}
    assert list(suspected(ours, theirs)) == [A]


# Packages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "transform/"])
def test_packages__are_explained_by_their_declaration_or_their_folder(prefix: str) -> None:
    ours, theirs = changed(
        OF_THE_PACKAGE,
        configured(enabled=True),
        configured(enabled=False),
        patch_path="util://models/properties.yml",
    )
    folder = f"{prefix}packages/util"
    for cause in (
        *(f"{prefix}{name}" for name in ("packages.yml", "dependencies.yml", "package-lock.yml")),
        *(f"{folder}/models/dates.sql", f"{folder}/models/properties.yml"),
        *(f"{folder}/dbt_project.yml", "elsewhere/util/models/dates.sql"),
    ):
        assert suspected(ours, theirs, cause, prefix=prefix) == {}, cause
    # Nobody tracks what `dbt deps` installs, and it is suspected all the same.
    innocent = (f"{folder}/models/other.sql", f"{prefix}models/b.sql", "models/dates.sql")
    assert suspected(ours, theirs, *innocent, prefix=prefix, tracked=[]) == {
        OF_THE_PACKAGE: OF_PACKAGE
    }


# The reason -----------------------------------------------------------------------------------


def test_reason__is_first_what_was_another_when_the_state_was_made() -> None:
    ours = made(reads(A, raw_code="2", macros=(BY_HAND,)), macros=[macro(BY_HAND, "2")])
    theirs = made(reads(A, raw_code="1"), dbt_version="1.10.0")
    unlike = ["made for target prod, and this run uses target ci", "made with other --vars"]
    assert suspected(ours, theirs, unlike=unlike) == {
        A: "the state was made for target prod, and this run uses target ci; made with other --vars"
    }
    # Also then only what git does not explain.
    assert suspected(ours, theirs, OWN, unlike=unlike) == {}


def test_reason__it_was_disabled_where_the_state_was_made() -> None:
    theirs = made(disabled=[A], dbt_version="1.10.0")
    expected = {A: "it was disabled where the state was made"}
    assert suspected(made(reads(A)), theirs) == expected
    # Another one of that name may be disabled beside one that is not.
    ours, theirs = made(reads(A, raw_code="2")), made(reads(A, raw_code="1"), disabled=[A])
    assert suspected(ours, theirs) == {A: ENVIRONMENT}


def test_reason__another_dbt() -> None:
    ours, theirs = changed(A, {"raw_code": "1"}, {"raw_code": " 1"})
    theirs = replace(theirs, metadata=replace(theirs.metadata, dbt_version="1.10.0"))
    assert suspected(ours, theirs) == {
        A: "the state was made by dbt 1.10.0, and this run uses 1.11.0"
    }


def test_reason__line_ends_and_white_space() -> None:
    ours, theirs = changed(A, {"raw_code": "a\r\n b "}, {"raw_code": "a\nb"})
    assert suspected(ours, theirs) == {A: "only white space or line ends differ"}
    ours, theirs = changed(A, {"raw_code": "a b"}, {"raw_code": "ab"})
    assert suspected(ours, theirs) == {A: ENVIRONMENT}


@pytest.mark.parametrize("unique_id", [A, "model.shop.é"])
def test_reason__else_the_environment(unique_id: str) -> None:
    ours, theirs = changed(unique_id, {"raw_code": "1"}, {"raw_code": "2"})
    assert suspected(ours, theirs) == {unique_id: ENVIRONMENT}


def test_reason__is_not_white_space_where_the_code_is_the_same() -> None:
    ours, theirs = changed(A, configured(schema="prod"), configured(schema="ci"))
    assert suspected(ours, theirs) == {A: ENVIRONMENT}


# Changes --------------------------------------------------------------------------------------


def test_changes__are_seen_from_the_folder_of_the_project() -> None:
    files = frozenset({"x/dbt/a", "x/dbt/b/c", "x/dbt2/d", "dbt/e", "packages.yml"})
    changes = Changes(commit=COMMIT, prefix="x/dbt/", files=files, tracked=frozenset())
    assert changes.in_project == {"a", "b/c"}
    assert [changes.has(path) for path in ("a", "b/c", "d", "e", "x/dbt/a")] == [
        *(True, True),
        *(False, False, False),
    ]
    assert not changes.packages_changed
    whole = Changes(commit=COMMIT, prefix="", files=files, tracked=frozenset())
    assert whole.in_project == files
    assert whole.packages_changed
