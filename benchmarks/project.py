"""A dbt project of any size, for DuckDB: what the benchmark runs on.

It has the shape of projects that people have: raw tables and seeds, then staging (40 % of the
models), intermediate (35 %) and marts (25 %), in areas of 50 models each; one file of properties
for each folder, columns with descriptions, about 1.5 data tests and 0.4 sources for each model, and
macros that a third of the models use. All models are views, so that the warehouse takes next to no
time. Nothing is random: the same number of models gives the same bytes, on every Python.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

STAGING, INTERMEDIATE, MARTS = "staging", "intermediate", "marts"
SHARES = {STAGING: 0.40, INTERMEDIATE: 0.35}
PREFIXES = {STAGING: "stg", INTERMEDIATE: "int", MARTS: "mart"}
MODELS_PER_AREA = 50
SEEDS = 5
ROWS = 20
RAW_SCHEMA = "raw"
# How much a pull request of the usual kind reaches, in models below the changed one.
USUAL_REACH = 7

AREAS = ("orders", "ledger", "leads", "catalog", "tickets", "freight", "staff", "fleet")
COLUMNS = {
    "id": "One row for each.",
    "parent_id": "The record that this one belongs to.",
    "amount": "In euros, without tax.",
    "status": "Where the record stands, in lower case.",
    "updated_at": "When it last changed, in UTC.",
}
# What a pull request adds to a model. The result is the same.
LAST_LINE = "where id is not null\n"
CHANGED_LINE = "where id is not null and id > 0\n"

DBT_PROJECT = """\
name: benchmark
version: "1.0"
profile: benchmark
flags:
  send_anonymous_usage_stats: false
models:
  benchmark:
    +materialized: view
    staging:
      +tags: [staging]
    marts:
      +tags: [marts]
"""

WAREHOUSE_VARIABLE = "BENCHMARK_WAREHOUSE"
PROFILES = f"""\
benchmark:
  target: prod
  outputs:
    prod: &duckdb
      type: duckdb
      path: "{{{{ env_var('{WAREHOUSE_VARIABLE}', 'warehouse.duckdb') }}}}"
      schema: analytics
      threads: 4
    ci:
      <<: *duckdb
      schema: ci_pr
"""

# dbt v2 would add the last one itself, into the checkout.
IGNORED = "target/\nlogs/\n.user.yml\n*.duckdb\n*.duckdb.wal\ndbt_internal_packages/\n"

MACROS = {
    "in_euros": """\
{% macro in_euros(column, scale=2) -%}
    round(cast({{ column }} as double) / 100, {{ scale }})
{%- endmacro %}
""",
    "known": """\
{% macro known(column, otherwise='unknown') -%}
    coalesce({{ column }}, '{{ otherwise }}')
{%- endmacro %}
""",
    "tidy": """\
{% macro tidy(column) -%}
    lower(trim({{ known(column) }}))
{%- endmacro %}
""",
}
LABEL = """\
{{% macro label_{number}(column) -%}}
    case when {{{{ column }}}} is null then 'none {number}' else {{{{ tidy(column) }}}} end
{{%- endmacro %}}
"""


@dataclass(frozen=True)
class Model:
    """One model: where it is, and the names of the models that it reads."""

    name: str
    layer: str
    area: str
    number: int
    reads: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        return f"models/{self.layer}/{self.area}/{self.name}.sql"


@dataclass(frozen=True)
class Project:
    """The project: its files by path, its models by name, and the tables that it reads.

    `raw_tables` are to be made in the schema RAW_SCHEMA, by `raw_table_sql`.
    """

    files: dict[str, str] = field(default_factory=dict)
    models: dict[str, Model] = field(default_factory=dict)
    raw_tables: list[str] = field(default_factory=list)
    tests: int = 0

    def write(self, folder: Path) -> None:
        """Write all files below `folder`."""
        for path, text in self.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")

    def changed(self, name: str) -> tuple[str, str]:
        """Path and text of a model whose body has changed, and whose rows have not."""
        path = self.models[name].path
        return path, self.files[path].removesuffix(LAST_LINE) + CHANGED_LINE

    def below(self, name: str) -> set[str]:
        """The models that read this one, directly or not."""
        return self._reached({name}, self._readers())

    def above(self, name: str) -> set[str]:
        """The models that this one reads, directly or not."""
        return self._reached({name}, {model.name: model.reads for model in self.models.values()})

    def usual_change(self) -> str:
        """The staging model whose change reaches as much as a pull request usually does."""
        readers = self._readers()
        staging = [model.name for model in self.models.values() if model.layer == STAGING]
        reach = {name: len(self._reached({name}, readers)) for name in staging}
        return min(staging, key=lambda name: (abs(reach[name] - USUAL_REACH), name))

    def others(self, changed: str, count: int) -> list[str]:
        """`count` models of all layers that neither read `changed` nor are read by it."""
        related = {changed} | self.below(changed) | self.above(changed)
        free = [name for name in self.models if name not in related]
        return [free[len(free) * number // count] for number in range(count)]

    def _readers(self) -> dict[str, tuple[str, ...]]:
        readers: dict[str, list[str]] = {name: [] for name in self.models}
        for model in self.models.values():
            for name in model.reads:
                readers[name].append(model.name)
        return {name: tuple(found) for name, found in readers.items()}

    @staticmethod
    def _reached(start: set[str], edges: dict[str, tuple[str, ...]]) -> set[str]:
        seen: set[str] = set()
        left = list(start)
        while left:
            for name in edges[left.pop()]:
                if name not in seen:
                    seen.add(name)
                    left.append(name)
        return seen


def make_project(count: int) -> Project:
    """Make the project with `count` models, which are three or more."""
    project = Project()
    areas = [_area(number) for number in range(max(1, round(count / MODELS_PER_AREA)))]
    labels = max(4, count // 100)
    names = _names(count, areas)
    tests = 0
    for area in areas:
        for layer in PREFIXES:
            properties = []
            for number, name in enumerate(names[layer, area]):
                model = Model(name, layer, area, number, _reads(layer, area, number, names))
                project.models[name] = model
                origin = _origin(model)
                if layer == STAGING and origin.startswith("source("):
                    project.raw_tables.append(_raw_table(model))
                project.files[model.path] = _sql(model, origin, labels)
                text, more = _properties(model)
                properties.append(text)
                tests += more
            if properties:
                path = f"models/{layer}/{area}/schema.yml"
                project.files[path] = "models:\n" + "".join(properties)
        tables = [name for name in project.raw_tables if name.rpartition("_")[0] == area]
        if tables:
            project.files[f"models/staging/{area}/sources.yml"] = _sources(area, tables)
    project.files.update(
        {"dbt_project.yml": DBT_PROJECT, "profiles.yml": PROFILES, ".gitignore": IGNORED}
    )
    project.files.update({f"macros/{name}.sql": text for name, text in MACROS.items()})
    for number in range(labels):
        project.files[f"macros/labels/label_{number}.sql"] = LABEL.format(number=number)
    for number in range(SEEDS):
        project.files[f"seeds/reference_{number}.csv"] = _seed(number)
    return Project(project.files, project.models, project.raw_tables, tests)


def raw_table_sql(name: str) -> str:
    """The statement that makes one of the raw tables."""
    return (
        f"create table {RAW_SCHEMA}.{name} as select i as id, i % 5 + 1 as parent_id, "
        "i * 10 as amount, ['new', 'open', 'closed'][1 + i % 3] as status, "
        "timestamp '2026-01-01' + to_days(cast(i as integer)) as updated_at "
        f"from range(1, {ROWS + 1}) as made(i)"
    )


def _pick(count: int, *key: object) -> int:
    """A number below `count` that looks random and is always the same."""
    return crc32("/".join(map(str, key)).encode()) % count


def _area(number: int) -> str:
    name = AREAS[number % len(AREAS)]
    return name if number < len(AREAS) else f"{name}_{number // len(AREAS)}"


def _names(count: int, areas: list[str]) -> dict[tuple[str, str], list[str]]:
    """The names of all models, by layer and area: dealt out in turn."""
    counts = {layer: round(count * share) for layer, share in SHARES.items()}
    counts[MARTS] = count - sum(counts.values())
    return {
        (layer, area): [
            f"{PREFIXES[layer]}_{area}_{number:03d}"
            for number in range(len(range(position, counts[layer], len(areas))))
        ]
        for layer in PREFIXES
        for position, area in enumerate(areas)
    }


def _reads(
    layer: str, area: str, number: int, names: dict[tuple[str, str], list[str]]
) -> tuple[str, ...]:
    """Two or three models of the layer below, mostly of the same area."""
    if layer == STAGING:
        return ()
    below = STAGING if layer == INTERMEDIATE else INTERMEDIATE
    areas = [found for at, found in names if at == below and names[at, found]]
    from_here = area if names[below, area] else areas[0]
    found = []
    for parent in range(2 + (_pick(3, layer, area, number) == 0)):
        key = (layer, area, number, parent)
        # Some lineage crosses areas.
        where = areas[_pick(len(areas), "area", *key)] if _pick(12, *key) == 0 else from_here
        pool = names[below, where]
        found.append(pool[_pick(len(pool), "model", *key)])
    if number and _pick(5, "chain", layer, area, number) == 0:
        # A model of the same layer, which is in the first half and so no circle.
        found[-1] = names[layer, area][_pick((number + 1) // 2, "link", layer, area, number)]
    return tuple(dict.fromkeys(found))


def _origin(model: Model) -> str:
    """What a staging model reads: one in twenty a seed, the others a table of their own."""
    if _pick(20, "seed", model.name) == 0:
        return f"ref('reference_{_pick(SEEDS, model.name)}')"
    return f"source('{model.area}', '{_raw_table(model)}')"


def _raw_table(model: Model) -> str:
    return f"{model.area}_{model.number:03d}"


def _sql(model: Model, origin: str, labels: int) -> str:
    origins = [f"ref('{name}')" for name in model.reads] or [origin]
    config = ""
    if _pick(5, "config", model.name) < 2:  # noqa: PLR2004 - two of five
        tag = ("hourly", "daily")[_pick(2, model.name)]
        config = f"{{{{ config(tags=['{tag}']) }}}}\n\n"
    parts = [
        f"read_{at} as (\n    select * from {{{{ {text} }}}}\n)" for at, text in enumerate(origins)
    ]
    amount, status = "read_0.amount", "read_0.status"
    if _pick(3, "macro", model.name) == 0:
        amount = "{{ in_euros('read_0.amount') }}"
        label = f"label_{_pick(labels, model.name)}" if _pick(2, "label", model.name) else "tidy"
        status = f"{{{{ {label}('read_0.status') }}}}"
    joins = "".join(
        f"\n    left join read_{at} on read_{at}.id = read_0.id" for at in range(1, len(origins))
    )
    parts.append(
        "joined as (\n"
        "    select\n"
        "        read_0.id,\n"
        "        read_0.parent_id,\n"
        f"        {amount} as amount,\n"
        f"        {status} as status,\n"
        "        read_0.updated_at\n"
        f"    from read_0{joins}\n"
        ")"
    )
    return f"{config}with " + ",\n\n".join(parts) + "\n\nselect * from joined\n" + LAST_LINE


def _properties(model: Model) -> tuple[str, int]:
    """The YAML of one model, and how many data tests are in it."""
    lines = [
        f"  - name: {model.name}",
        f"    description: A model of the layer {model.layer}, about {model.area}.",
        "    columns:",
    ]
    tests = 0
    for column, description in COLUMNS.items():
        lines += [f"      - name: {column}", f"        description: {description}"]
        wanted = _tests(model, column)
        if wanted:
            lines += ["        data_tests:", *wanted]
            tests += sum(line.startswith("          - ") for line in wanted)
    return "\n".join(lines) + "\n", tests


def _tests(model: Model, column: str) -> list[str]:
    """Lines of YAML. About 1.5 tests for each model: 0.6, 0.6, 0.2 and 0.1."""

    def share(tenths: int, kind: str) -> bool:
        return _pick(10, kind, model.name) < tenths

    if column == "id":
        return [f"          - {kind}" for kind in ("unique", "not_null") if share(6, kind)]
    if column == "parent_id" and share(2, "parent"):
        return ["          - not_null"]
    if column == "status" and share(1, "status"):
        return [
            "          - accepted_values:",
            "              arguments:",
            "                values: [new, open, closed]",
        ]
    return []


def _sources(area: str, tables: list[str]) -> str:
    lines = ["sources:", f"  - name: {area}", f"    schema: {RAW_SCHEMA}", "    tables:"]
    for table in tables:
        lines += [f"      - name: {table}", f"        description: {area}, as it comes in."]
    return "\n".join(lines) + "\n"


def _seed(number: int) -> str:
    lines = [",".join(COLUMNS)]
    for row in range(1, ROWS + 1):
        status = ("new", "open", "closed")[_pick(3, number, row)]
        lines.append(f"{row},{row % 5 + 1},{row * 10},{status},2026-01-{row:02d} 00:00:00")
    return "\n".join(lines) + "\n"
