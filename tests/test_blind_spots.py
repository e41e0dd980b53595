from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ci_defer.blind_spots import MAX_FILES, MAX_TEXT, BlindSpots, Texts
from ci_defer.comparison import Changes
from ci_defer.manifest import Manifest
from ci_defer.report import Removed
from ci_defer.selection import Explained
from tests.samples import COMMIT
from tests.test_comparison import macro, made
from tests.test_selection import EXPOSURE, SEED, SOURCE, A, B, C, configured, reads

WORKFLOW = ".github/workflows/ci.yml"
VARS = "dbt_project.yml"
USES_VAR = "where region = '{{ var('region') }}'"
USES_ENV = "where region = '{{ env_var('DBT_REGION') }}'"


def said(
    ours: Manifest,
    files: Mapping[str, tuple[str | None, str | None]],
    *,
    planned: Collection[str] = (),
    theirs: Manifest | None = None,
    prefix: str = "",
    tracked: Iterable[str] | None = None,
    gone: Iterable[Removed] = (),
) -> list[str]:
    """The warnings for changed `files`: what was in each, and what is in it now."""
    new = {path for path in files if tracked is not None and path not in tracked}
    changes = Changes(
        commit=COMMIT,
        prefix=prefix,
        files=frozenset({*files} - new),
        tracked=frozenset(files if tracked is None else tracked),
        new=frozenset(new),
    )
    none = (None, None)
    texts = Texts(
        before=lambda path: files.get(path, none)[0], now=lambda path: files.get(path, none)[1]
    )
    explained = Explained(ours, theirs or ours, compares_unrendered=True)
    return [*BlindSpots(planned, ours, explained, changes, texts).warnings(gone)]


# Vars -----------------------------------------------------------------------------------------


def var_changed(names: str, file: str = VARS, name: str = "region") -> list[str]:
    return [
        (
            f"The var {name} changed in {file}, and dbt does not compare vars. Not selected, "
            f"though it is used there: {names}."
        )
    ]


EU, US = "vars:\n  region: eu\n", "vars:\n  region: us\n"


@pytest.mark.parametrize("prefix", ["", "transform/"])
@pytest.mark.parametrize(
    ("before", "now"),
    [
        (EU, US),
        (EU, "vars: {}"),
        (EU, "name: shop"),
        (None, US),
        ("", EU),
        (EU, None),
        ("vars: {shop: {region: eu}}", "vars: {shop: {region: us}}"),
        ("vars: {region: eu}", "vars: {shop: {region: us}}"),
        ("vars: {region: [a, b]}", "vars: {region: [b, a]}"),
        ("vars: {region: {a: 1}}", "vars: {region: {a: 2}}"),
        ("vars: {region: '1'}", "vars: {region: 1}"),
    ],
)
@pytest.mark.parametrize("file", ["dbt_project.yml", "vars.yml"])
def test_vars__that_changed_name_who_uses_them(
    file: str, before: str | None, now: str | None, prefix: str
) -> None:
    ours = made(reads(A, raw_code=USES_VAR), reads(B, raw_code="select 'region'"))
    found = said(ours, {f"{prefix}{file}": (before, now)}, prefix=prefix)
    assert found[:1] == var_changed("a", file)
    # One that moved into a scope may be said of either place.
    assert set(found) == set(var_changed("a", file))


@pytest.mark.parametrize(
    "node",
    [
        reads(A, raw_code="{{ var('region') }}"),
        reads(A, raw_code='{{ var("region", "x") }}'),
        reads(A, raw_code="{{ var(\n  'region') }}"),
        reads(A, raw_code="{{ var( 'region' ) }}"),
        reads(A, **configured(schema="{{ var('region') }}")),
        reads(A, **configured(schema='x_{{ var("region") }}')),
        reads(A, **configured(meta={"a": [{"b": '{{ var("region") }}'}]})),
        reads(A, macros=("macro.shop.near",)),
    ],
)
def test_vars__are_found_in_code_in_configs_and_behind_macros(node: Any) -> None:
    macros = [
        macro("macro.shop.near", "{{ far() }}", "macro.shop.far"),
        macro("macro.shop.far", "{{ var('region') }}"),
    ]
    ours = made(node, reads(B), macros=macros)
    assert said(ours, {VARS: (EU, US)}) == var_changed("a")


def test_vars__are_found_where_a_source_is() -> None:
    ours = made(reads(SOURCE, unrendered_schema="{{ var('region') }}", name="orders"))
    assert said(ours, {VARS: (EU, US)}) == var_changed("orders")
    ours = made(reads(SOURCE, unrendered_database="{{ var('region') }}", name="orders"))
    assert said(ours, {VARS: (EU, US)}) == var_changed("orders")


def test_vars__name_only_those_that_were_not_selected() -> None:
    ours = made(*(reads(unique_id, raw_code=USES_VAR) for unique_id in (A, B, C)))
    assert said(ours, {VARS: (EU, US)}) == var_changed("a, b, c")
    assert said(ours, {VARS: (EU, US)}, planned=[B]) == var_changed("a, c")
    assert said(ours, {VARS: (EU, US)}, planned=[A, B, C]) == []


def test_vars__of_many_users_name_a_few() -> None:
    ours = made(*(reads(f"model.shop.m{number}", raw_code=USES_VAR) for number in range(1203)))
    assert said(ours, {VARS: (EU, US)}) == var_changed("m0, m1, m2 and 1,200 more")


@pytest.mark.parametrize(
    "code",
    [
        "select region",
        "{{ var('regions') }}",
        "{{ var('my_region') }}",
        "{{ my_var('region') }}",
        "{{ env_var('region') }}",
        "{{ var(region) }}",
    ],
)
def test_vars__that_nobody_uses_are_no_matter(code: str) -> None:
    assert said(made(reads(A, raw_code=code)), {VARS: (EU, US)}) == []


def test_vars__that_are_what_they_were_are_no_matter() -> None:
    ours = made(reads(A, raw_code=USES_VAR))
    for now in ("# more\n" + EU, "name: shop\nvars: {region: 'eu', other: 1}", EU):
        assert said(ours, {VARS: (EU, now)}) == []
    # Of another project of the repository, or of no project at all.
    assert said(ours, {VARS: (EU, US)}, prefix="transform/") == []
    assert said(ours, {"models/vars.yml": (EU, US)}) == []


def test_vars__of_hooks_are_not_named() -> None:
    # dbt runs all hooks anyway.
    hook = reads("operation.shop.hook", raw_code="{{ var('region') }}")
    assert said(made(hook), {VARS: (EU, US)}) == []


def test_vars__with_names_that_are_no_plain_words() -> None:
    ours = made(reads(A, raw_code="{{ var('a.b*(c') }}"), reads(B, raw_code="{{ var('1') }}"))
    before, now = "vars: {1: x, shop: {'a*(': 1}}", "vars: {1: y, shop: {'a*(': 2}}"
    assert said(ours, {VARS: (before, now)}) == var_changed("b", name="1")


BROKEN = [
    *("vars: [", "vars: {a", "\t- x", "vars: text", "vars: [1, 2]", "- a", "text", "42", "null"),
    *("&a [*a]", "vars: {[1]: 2}", "a: !!python/object:x {}", "---\na: 1\n---\nb: 2", "\0", "é…"),
]


@pytest.mark.parametrize("text", BROKEN)
@pytest.mark.parametrize("file", [VARS, "vars.yml", "packages.yml", "package-lock.yml"])
def test_broken_yaml__is_dbt_s_to_complain_about(file: str, text: str) -> None:
    ours = made(reads(A, raw_code=USES_VAR))
    for content in ((text, text), (text, ""), ("", text), (None, text), (text, None)):
        assert said(ours, {file: content}) == []


@given(st.text(st.characters(codec="utf-8"), max_size=80), st.sampled_from([VARS, "packages.yml"]))
def test_any_text__is_no_error(text: str, file: str) -> None:
    ours = made(reads(A, raw_code=USES_VAR))
    try:
        assert isinstance(said(ours, {file: (f"vars:\n  region: {text}", text)}), list)
    except ValueError as error:
        # What test_a_date_that_is_none shows.
        assert "out of range" in str(error) or "must be in" in str(error)  # noqa: PT017


@pytest.mark.parametrize("file", ["vars.yml", "packages.yml"])
def test_a_date_that_is_none__is_no_error(file: str) -> None:
    # dbt 1.11 does not read a vars.yml: it may be anybody's.
    assert said(made(), {file: ("day: 2026-02-28", "day: 2026-02-30")}) == []


def test_yaml_that_nests_deeply__is_no_error() -> None:
    assert said(made(), {"vars.yml": ("", "[" * 10_000)}) == []


@pytest.mark.parametrize(("before", "now"), [("1", "true"), ("0", "false"), ("1", "1.0")])
def test_vars__that_are_equal_only_to_python_have_changed(before: str, now: str) -> None:
    ours = made(reads(A, raw_code=USES_VAR))
    files = {VARS: (f"vars: {{region: {before}}}", f"vars: {{region: {now}}}")}
    assert said(ours, files) == var_changed("a")


def test_vars__inside_of_a_mapping_are_no_vars() -> None:
    ours = made(reads(A, raw_code=USES_VAR))
    files = {
        VARS: (
            "vars: {region: eu, limits: {region: 1}}",
            "vars: {region: eu, limits: {region: 2}}",
        )
    }
    assert said(ours, files) == []


def test_vars__of_another_package_are_of_its_nodes_alone() -> None:
    ours = made(
        reads(A, raw_code=USES_VAR), reads("model.util.dates", raw_code="{{ var('region') }}")
    )
    files = {VARS: ("vars: {util: {region: eu}}", "vars: {util: {region: us}}")}
    assert said(ours, files) == var_changed("dates")


# The environment ------------------------------------------------------------------------------


def env_changed(names: str, file: str = WORKFLOW, name: str = "DBT_REGION") -> list[str]:
    return [
        (
            f"{file} changed where it speaks of the environment variable {name}, which dbt does "
            f"not compare. Not selected, though it is used there: {names}."
        )
    ]


IN_WORKFLOW = ("env:\n  DBT_REGION: eu\n  OTHER: 1\n", "env:\n  DBT_REGION: us\n  OTHER: 1\n")


@pytest.mark.parametrize("prefix", ["", "transform/"])
@pytest.mark.parametrize(
    "node",
    [
        reads(A, raw_code=USES_ENV),
        reads(A, raw_code='{{ env_var( "DBT_REGION", "x") }}'),
        reads(A, **configured(schema="{{ env_var('DBT_REGION') }}")),
        reads(A, **configured(schema='{{ env_var("DBT_REGION") }}')),
        reads(A, macros=("macro.shop.near",)),
        reads(EXPOSURE, name="a", **configured(meta={"x": "{{ env_var('DBT_REGION') }}"})),
        reads(SOURCE, name="a", unrendered_schema="{{ env_var('DBT_REGION') }}"),
    ],
)
def test_environment__names_who_uses_a_variable_of_a_changed_line(node: Any, prefix: str) -> None:
    macros = [
        macro("macro.shop.near", "{{ far() }}", "macro.shop.far"),
        macro("macro.shop.far", USES_ENV),
    ]
    ours = made(node, reads(B), macros=macros)
    assert said(ours, {WORKFLOW: IN_WORKFLOW}, prefix=prefix) == env_changed("a")
    assert said(ours, {WORKFLOW: IN_WORKFLOW}, planned=[node["unique_id"]], prefix=prefix) == []


@pytest.mark.parametrize(
    "files",
    [
        {"run.sh": ("", "export DBT_REGION=us")},
        {"run.sh": ("export DBT_REGION=us", "")},
        {"Makefile": (None, "DBT_REGION ?= us")},
        {".env": ("DBT_REGION=eu", None)},
        {"infra/dags.py": ("a", 'os.environ["DBT_REGION"] = "x"')},
        {"profiles.yml": ("x", "schema: \"{{ env_var('DBT_REGION') }}\"")},
    ],
)
def test_environment__may_be_set_in_any_file(files: Any) -> None:
    [file] = files
    assert said(made(reads(A, raw_code=USES_ENV)), files) == env_changed("a", file)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ("A: 1\nDBT_REGION: eu", "A: 2\nDBT_REGION: eu"),
        ("DBT_REGION: eu\nA: 1", "A: 1\nDBT_REGION: eu"),
        ("DBT_REGION_2: eu", "DBT_REGION_2: us"),
        ("MY_DBT_REGION: eu", ""),
        ("dbt_region: eu", "dbt_region: us"),
        ("", ""),
    ],
)
def test_environment__of_other_lines_is_no_matter(before: str, now: str) -> None:
    assert said(made(reads(A, raw_code=USES_ENV)), {WORKFLOW: (before, now)}) == []


def test_environment__is_said_once_for_each_variable() -> None:
    ours = made(
        reads(A, raw_code=USES_ENV), reads(B, raw_code="{{ env_var('OTHER') }}{{ env_var('X') }}")
    )
    files = {"b.sh": IN_WORKFLOW, "a.sh": ("DBT_REGION=1", "DBT_REGION=2 OTHER=2")}
    assert said(ours, files) == [
        *env_changed("a", "a.sh"),
        *env_changed("b", "a.sh", "OTHER"),
    ]


def test_environment__is_not_looked_for_in_what_dbt_reads() -> None:
    ours = made(
        reads(A, raw_code=USES_ENV),
        reads(B, raw_code=USES_ENV),
        macros=[macro("macro.shop.x", "1")],
    )
    for path in (
        *("models/a.sql", "macros/m.sql", "dbt_project.yml"),
        *("vars.yml", "packages.yml", "dependencies.yml", "package-lock.yml"),
    ):
        line = (f"# {USES_ENV} --vars", "")
        assert said(ours, {f"x/{path}": line}, planned=[A], prefix="x/") == []
        # The same path elsewhere is not dbt's.
        assert said(ours, {path: ("", USES_ENV)}, planned=[A], prefix="x/") == env_changed(
            "b", path
        )


def test_environment__is_not_looked_for_in_a_properties_file() -> None:
    path = "models/models.yml"
    line = "schema: \"{{ env_var('DBT_REGION') }}\""
    ours = made(
        reads(A, patch_path=f"shop://{path}", **configured(schema="{{ env_var('DBT_REGION') }}")),
        reads(B, raw_code=USES_ENV),
    )
    # dbt does compare what was declared of a, and selected it. Of b nothing changed.
    assert said(ours, {path: ("", line)}, planned=[A]) == []


def test_options__that_give_vars_to_dbt_are_said() -> None:
    files = {WORKFLOW: ("run: dbt build", "run: dbt build --vars '{region: us}'")}
    assert said(made(reads(A)), files) == [
        (
            f"{WORKFLOW} changed where it gives --vars to dbt, which does not compare vars: what "
            "uses them was not selected for that."
        )
    ]
    for line in ("run: dbt build --vars-file x", "run: dbt build --target ci", "vars: 1"):
        assert said(made(), {WORKFLOW: ("", line)}) == []


def test_options__that_changed_are_said_once() -> None:
    files = {WORKFLOW: ("run: dbt build --vars '{x: 1}'", "run: dbt build --vars '{x: 2}'")}
    assert len(said(made(reads(A)), files)) == 1


@pytest.mark.parametrize("path", ["logs/dbt.log", "target/manifest.json"])
def test_options__are_not_looked_for_in_what_this_job_wrote(path: str) -> None:
    text = "Command: dbt ls --vars {}\n" + USES_ENV
    ours = made(reads(A, raw_code=USES_ENV))
    # Not in git, and so nobody's change.
    assert said(ours, {path: (None, text)}, tracked=["models/a.sql"]) == []


def test_large_files__are_data() -> None:
    ours = made(reads(A, raw_code=USES_ENV + USES_VAR))
    filler = "\n#" + "x" * MAX_TEXT
    assert said(ours, {"run.sh": ("DBT_REGION=1", f"DBT_REGION=2{filler}")}) == []
    assert said(ours, {VARS: (EU, US + filler)}) == []
    assert said(ours, {VARS: (EU + filler, US)}) == []
    half = "\n#" + "x" * (MAX_TEXT // 2 - 100)
    assert said(ours, {VARS: (EU + half, US + half)}) == var_changed("a")


def test_many_files__are_not_all_read() -> None:
    ours = made(reads(A, raw_code=USES_ENV))
    asked: list[str] = []

    def now(path: str) -> str:
        asked.append(path)
        return "x"

    files = frozenset(f"data/{number:05}.csv" for number in range(5000))
    changes = Changes(commit=COMMIT, prefix="", files=files, tracked=files)
    explained = Explained(ours, ours, compares_unrendered=True)
    texts = Texts(before=lambda _: None, now=now)
    assert [*BlindSpots([], ours, explained, changes, texts).warnings([])] == []
    assert len(asked) == MAX_FILES


def test_files_without_text__are_no_error() -> None:
    ours = made(reads(A, raw_code=USES_ENV + USES_VAR))
    names = [VARS, "packages.yml", "package-lock.yml", "vars.yml", "logo.png", "a\nb"]
    assert said(ours, dict.fromkeys(names, (None, None))) == []


def test_nothing_changed__says_nothing() -> None:
    ours = made(reads(A, raw_code=USES_ENV + USES_VAR), macros=[macro("macro.shop.x", "1")])
    assert said(ours, {}) == []


# Seeds ----------------------------------------------------------------------------------------


def seed(name: str = "countries", checksum: Any = None) -> Any:
    return reads(
        f"seed.shop.{name}",
        original_file_path=f"seeds/{name}.csv",
        checksum=checksum or {"name": "path", "checksum": f"seeds/{name}.csv"},
    )


@pytest.mark.parametrize("prefix", ["", "transform/"])
def test_seeds__over_what_dbt_reads_are_named(prefix: str) -> None:
    files = dict.fromkeys([f"{prefix}seeds/countries.csv", f"{prefix}seeds/b.csv"], (None, None))
    ours = made(seed(), seed("b"), seed("c"))
    expected = (
        "The seed countries, b changed, but is larger than dbt reads to compare, so it was not "
        "selected. Add it to select, or raise dbt's limit for seeds."
    )
    assert said(ours, files, prefix=prefix) == [expected]
    assert said(ours, files, planned=[SEED], prefix=prefix) == [expected.replace("countries, ", "")]
    assert said(ours, files, planned=[SEED, "seed.shop.b"], prefix=prefix) == []


def test_seeds__that_dbt_compares_or_that_did_not_change_are_not() -> None:
    small = {"name": "sha256", "checksum": "x"}
    assert said(made(seed(checksum=small)), {"seeds/countries.csv": (None, None)}) == []
    assert said(made(seed()), {"x/seeds/countries.csv": (None, None)}) == []
    assert said(made(seed()), {}) == []
    # Of other kinds of nodes the checksum is of something else.
    model = reads(A, checksum={"name": "path", "checksum": "x"})
    assert said(made(model), {"models/a.sql": ("1", "2")}) == []


# Packages -------------------------------------------------------------------------------------


def lock(**versions: str) -> str:
    return "packages:\n" + "".join(
        f"  - name: {name}\n    package: acme/{name}\n    version: {version}\n"
        for name, version in versions.items()
    )


def packages_changed(what: str) -> list[str]:
    return [
        (
            f"Packages changed: {what}. dbt selects what their macros and models reach, and not "
            "what they change by hooks, materializations or dispatch."
        )
    ]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"package-lock.yml": (lock(a="1"), lock(a="2"))}, "acme/a 1 → 2"),
        ({"package-lock.yml": (lock(a="1"), lock(a="1", b="3"))}, "acme/b not there → 3"),
        ({"package-lock.yml": (lock(a="1", b="1"), lock(b="1"))}, "acme/a 1 → gone"),
        ({"package-lock.yml": (None, lock(a="1"))}, "acme/a not there → 1"),
        (
            {
                "packages.yml": (
                    "packages: [{package: acme/a, version: ['>=1', '<2']}]",
                    "packages: [{package: acme/a, version: ['>=2', '<3']}]",
                )
            },
            "acme/a ['>=1', '<2'] → ['>=2', '<3']",
        ),
        (
            {
                "dependencies.yml": (
                    "packages: [{git: 'https://x/y.git', revision: v1}]",
                    "packages: [{git: 'https://x/y.git', revision: v2}]",
                )
            },
            "https://x/y.git v1 → v2",
        ),
        # What was installed says more than the range of what may be.
        (
            {
                "packages.yml": (lock(a=">1"), lock(a=">2")),
                "package-lock.yml": (lock(a="1.1"), lock(a="2.1")),
            },
            "acme/a 1.1 → 2.1",
        ),
        (
            {
                "packages.yml": (lock(a="1"), lock(a="2")),
                "package-lock.yml": ("sha1_hash: a", "sha1_hash: b"),
            },
            "acme/a 1 → 2",
        ),
        (
            {
                "package-lock.yml": (
                    lock(a="1", b="1", c="1", d="1"),
                    lock(a="2", b="2", c="2", d="2"),
                )
            },
            "acme/a 1 → 2, acme/b 1 → 2, acme/c 1 → 2 and 1 more",
        ),
    ],
)
def test_packages__say_what_became_of_them(files: Any, expected: str) -> None:
    files = {
        **dict.fromkeys(["package-lock.yml", "packages.yml", "dependencies.yml"], ("", ""))
    } | {**files}
    for prefix in ("", "transform/"):
        inside = {f"{prefix}{name}": content for name, content in files.items()}
        assert said(made(), inside, prefix=prefix) == packages_changed(expected)
    assert said(made(), files, prefix="transform/") == []


@pytest.mark.parametrize(
    "text",
    [
        *("packages: text", "packages: {a: 1}", "packages: [text, 1, null]", "packages:"),
        *("packages: [{}]", "projects: [{name: x}]", "# nothing"),
    ],
)
def test_packages__without_a_version_that_changed_say_nothing(text: str) -> None:
    for content in ((text, text), ("", text), (text, "")):
        found = said(made(), dict.fromkeys(ALL_PACKAGE_FILES, content))
        assert found == [] or text == "packages: [{}]"


ALL_PACKAGE_FILES = ["package-lock.yml", "packages.yml", "dependencies.yml"]


def test_packages__of_one_repository_are_told_apart() -> None:
    def entries(one: str, other: str) -> str:
        return (
            f"packages: [{{git: 'https://x/y.git', subdirectory: one, revision: {one}}}, "
            f"{{git: 'https://x/y.git', subdirectory: other, revision: {other}}}]"
        )

    files = dict.fromkeys(ALL_PACKAGE_FILES, (entries("v1", "v1"), entries("v2", "v1")))
    assert len(said(made(), files)) == 1


# Macros ---------------------------------------------------------------------------------------


def changed_macro(
    name: str, *nodes: Any, planned: Collection[str] = (), others: Iterable[Any] = ()
) -> list[str]:
    """What is said when this macro changed, and nothing else."""
    macros = [macro(name, "2"), *others]
    ours, theirs = made(*nodes, macros=macros), made(*nodes, macros=[macro(name, "1"), *others])
    return said(ours, {"macros/m.sql": ("1", "2")}, planned=planned, theirs=theirs)


NAMES = [
    *("generate_schema_name", "generate_alias_name", "generate_database_name"),
    *("default__generate_schema_name", "snowflake__generate_alias_name"),
]


@pytest.mark.parametrize("name", NAMES)
def test_naming__is_said_when_anything_was_not_selected(name: str) -> None:
    nodes = (reads(A), reads(B), reads(C, relation_name=None))
    expected = [
        (
            f"The macro {name} changed, which names relations: dbt selects nothing for that, and "
            "what was not selected stays where it is."
        )
    ]
    assert changed_macro(f"macro.shop.{name}", *nodes) == expected
    assert changed_macro(f"macro.shop.{name}", *nodes, planned=[A]) == expected
    assert changed_macro(f"macro.shop.{name}", *nodes, planned=[A, B]) == []


@pytest.mark.parametrize("name", ["generate_schema_names", "my_generate_schema_name"])
def test_naming__is_only_what_dbt_calls(name: str) -> None:
    assert changed_macro(f"macro.shop.{name}", reads(A)) == []


def test_naming__of_a_package_is_not_asked() -> None:
    assert changed_macro("macro.util.generate_schema_name", reads(A)) == []


@pytest.mark.parametrize("name", ["generate_schema_name", "materialization_table_default"])
def test_macros__that_are_gone_give_way_to_those_of_dbt(name: str) -> None:
    ours, theirs = made(reads(A)), made(reads(A), macros=[macro(f"macro.shop.{name}", "1")])
    [found] = said(ours, {"macros/m.sql": ("1", None)}, theirs=theirs)
    assert name in found


def unseen(name: str, names: str) -> list[str]:
    return [
        (
            f"The macro {name} changed, and dbt does not see all of its uses. Not selected, though "
            f"it is named there: {names}."
        )
    ]


@pytest.mark.parametrize(
    ("name", "materialized"),
    [
        ("materialization_table_default", "table"),
        ("materialization_table_duckdb", "table"),
        ("materialization_materialized_view_postgres", "materialized_view"),
        ("materialization_my_own_kind_default", "my_own_kind"),
    ],
)
def test_materialization__names_what_is_materialized_so(name: str, materialized: str) -> None:
    kind: Any = {"config": {"materialized": materialized}}
    nodes = (reads(A, **kind), reads(B, config={"materialized": "view"}), reads(C, **kind))
    assert changed_macro(f"macro.shop.{name}", *nodes) == unseen(name, "a, c")
    assert changed_macro(f"macro.shop.{name}", *nodes, planned=[A]) == unseen(name, "c")
    assert changed_macro(f"macro.shop.{name}", *nodes, planned=[A, C]) == []
    assert changed_macro(f"macro.shop.{name}", reads(B, config={"materialized": "view"})) == []


def test_macros__passed_as_an_argument_are_seen_in_the_text() -> None:
    # Of `{{ apply(round_up) }}` dbt only knows `apply`.
    nodes = (
        reads(A, raw_code="{{ apply(round_up) }}", macros=("macro.shop.apply",)),
        reads(B, raw_code="{{ apply(round_upwards) }}", macros=("macro.shop.apply",)),
        reads(C, raw_code="select 1"),
    )
    others = [macro("macro.shop.apply", "{{ f() }}")]
    found = changed_macro("macro.shop.round_up", *nodes, others=others)
    assert found == unseen("round_up", "a")
    assert changed_macro("macro.shop.round_up", *nodes, planned=[A], others=others) == []


def test_macros__are_seen_through_others_and_in_configs() -> None:
    others = [macro("macro.shop.outer", "{{ apply(round_up) }}")]
    nodes = (
        reads(A, macros=("macro.shop.outer",)),
        reads(B, **configured(post_hook="{{ round_up }}")),
    )
    found = changed_macro("macro.shop.round_up", *nodes, others=others)
    assert found == unseen("round_up", "a, b")


def test_macros__that_dbt_sees_are_in_the_plan_or_left_out_on_purpose() -> None:
    node = reads(A, raw_code="{{ round_up(1) }}", macros=("macro.shop.round_up",))
    assert changed_macro("macro.shop.round_up", node) == []
    through = [macro("macro.shop.outer", "{{ round_up() }}", "macro.shop.round_up")]
    node = reads(A, raw_code="{{ outer() }}", macros=("macro.shop.outer",))
    assert changed_macro("macro.shop.round_up", node, others=through) == []


def test_macros__that_nobody_names_or_that_are_not_ours_are_no_matter() -> None:
    assert changed_macro("macro.shop.round_up", reads(A)) == []
    node = reads(A, raw_code="{{ apply(round_up) }}")
    assert changed_macro("macro.util.round_up", node) == []
    assert changed_macro("macro.dbt.round_up", node) == []
    same = made(node, macros=[macro("macro.shop.round_up", "1")])
    assert said(same, {"macros/m.sql": ("1", "2")}) == []
    # A macro that names itself, in a comment or a call, uses nothing.
    ours = made(reads(A), macros=[macro("macro.shop.round_up", "round_up 2")])
    theirs = replace(ours, macros={})
    assert said(ours, {}, theirs=theirs) == []


def test_macros__that_dbt_sees_in_one_place_are_still_unseen_in_another() -> None:
    seen = reads(A, raw_code="{{ round_up(1) }}", macros=("macro.shop.round_up",))
    hidden = reads(B, raw_code="{{ apply(round_up) }}", macros=("macro.shop.apply",))
    others = [macro("macro.shop.apply", "{{ f() }}")]
    found = changed_macro("macro.shop.round_up", seen, hidden, planned=[A], others=others)
    assert found == unseen("round_up", "b")


# Gone -----------------------------------------------------------------------------------------


def test_gone__names_what_still_reads_it() -> None:
    gone = [
        Removed(unique_id="model.shop.old", name="old", resource_type="model", read_by=[A, B]),
        Removed(unique_id="model.shop.alone", name="alone", resource_type="model"),
        Removed(
            unique_id="model.shop.off",
            name="off",
            resource_type="model",
            disabled=True,
            read_by=[A],
        ),
    ]
    assert said(made(reads(A), reads(B)), {}, gone=gone) == [
        "old is gone, and what read it in production remains: a, b."
    ]
    many = replace(gone[0], read_by=[f"model.shop.m{number}" for number in range(5)])
    [found] = said(made(), {}, gone=[many])
    assert found.endswith(": m0, m1, m2 and 2 more.")


def test_packages__whose_lock_nobody_committed_have_not_changed() -> None:
    # `dbt deps` writes it in every job.
    files = {"package-lock.yml": (None, lock(a="1"))}
    assert said(made(reads(A)), files, tracked=["models/a.sql"]) == []
