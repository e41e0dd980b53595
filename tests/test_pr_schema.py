from __future__ import annotations

import re
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_defer.errors import ConfigurationError
from ci_defer.event import Event
from ci_defer.names import carries
from ci_defer.pr_schema import MAX_LENGTH, parse

EVENT = Event(
    name="pull_request",
    pull_request=23,
    head_branch="feature/Orders",
    head_repository="acme/shop",
    head_sha="a1b2c3d4" * 5,
    run_id="9876543210",
)
SAFE = re.compile(r"[a-z_][a-z0-9_]{0,62}")


def named(template: str, event: Event = EVENT) -> str:
    return parse(template).render(event, commit="f" * 40, branch="here")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("ci_pr_{number}", "ci_pr_23"),
        ("CI_PR_{number}", "ci_pr_23"),
        ("_{number}", "_23"),
        ("ci_{run_id}", "ci_9876543210"),
        ("pr{number}_{sha}", "pr23_a1b2c3d4a1b2"),
        ("ci_{branch}", "ci_feature_orders_80b87f1d"),
    ],
)
def test_name__of_a_pull_request(template: str, expected: str) -> None:
    assert named(template) == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("ci_pr", "would be the same for several pull requests"),
        ("ci_{sha}", "would be the same for several pull requests"),
        ("{number}", "does not begin with a letter"),
        ("1_{number}", "does not begin with a letter"),
        ("ci-{number}", "may only hold letters, digits and '_'"),
        ("ci {number}", "may only hold"),
        ("../ci_{number}", "may only hold"),
        ('ci"_{number}', "may only hold"),
        ("ci_{number};drop table orders", "may only hold"),
        ("cï_{number}", "may only hold"),
        ("prod.ci_{number}", "may only hold"),
        ("ci_{{number}}", "may only hold"),
        ("ci_{pr}", r"unknown placeholder. There are \{number\}, \{branch\}, \{sha\}, \{run_id\}"),
        ("ci_{}", "unknown placeholder"),
        ("ci_{0}", "unknown placeholder"),
        ("ci_{number!r}", "unknown placeholder"),
        ("ci_{number:>9}", "unknown placeholder"),
        ("ci_{number.real}", "unknown placeholder"),
        ("ci_{number", "is no template"),
        ("ci_}number{", "is no template"),
        ("", "would be the same"),
    ],
)
def test_template__that_cannot_be_used_is_refused(template: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        parse(template)


@pytest.mark.parametrize("template", ["ci_{number}", "ci_{branch}", "ci_{run_id}"])
def test_name__needs_what_the_template_speaks_of(template: str) -> None:
    with pytest.raises(ConfigurationError, match="and this run has none"):
        parse(template).render(Event(), commit="", branch="")


def test_name__too_long_for_a_warehouse_is_refused() -> None:
    room = MAX_LENGTH - len("23")
    assert len(named("c" * room + "{number}")) == MAX_LENGTH
    with pytest.raises(ConfigurationError, match="has 64 characters"):
        named("c" * (room + 1) + "{number}")


def test_name__outside_of_github_is_of_what_is_checked_out() -> None:
    made = parse("ci_{branch}_{sha}").render(Event(), commit="f" * 40, branch="my-work")
    assert made == "ci_my_work_31db7e63_ffffffffffff"


def test_name__of_a_merge_group_is_that_of_its_pull_request() -> None:
    branch = "gh-readonly-queue/main/pr-23-0123456789abcdef0123456789abcdef01234567"
    group = Event(name="merge_group", head_branch=branch)
    assert named("ci_pr_{number}", group) == "ci_pr_23"
    # Anybody can name a branch so.
    with pytest.raises(ConfigurationError):
        named("ci_pr_{number}", Event(name="push", head_branch=branch))


BRANCHES = st.one_of(
    st.text(min_size=1, max_size=300),
    st.sampled_from(
        [
            *("a/b", "a_b", "A_B", "a-b", "a__b", "Ünïcode/ß", "日本", "..", "../../etc"),
            *(
                "'; drop table orders; --",
                '"orders"',
                "`x`",
                "{{ 1 }}",
                "$(id)",
                "-",
                "0",
                "x" * 250,
            ),
        ]
    ),
)


@given(BRANCHES)
def test_name__is_safe_whatever_a_branch_is_called(branch: str) -> None:
    made = named("ci_{branch}", Event(head_branch=branch))
    assert SAFE.fullmatch(made)
    # With room for what custom schemas and dbt's tests add.
    assert len(made) <= 40


@given(st.lists(BRANCHES, min_size=2, max_size=5, unique=True), st.sampled_from(["", "_old", "_1"]))
def test_name__of_one_branch_is_never_in_that_of_another(branches: list[str], custom: str) -> None:
    made = [named("ci_{branch}", Event(head_branch=branch)) for branch in branches]
    for one, other in combinations(made, 2):
        assert not carries(one + custom, other)
        assert not carries(other + custom, one)


def test_name__tells_the_same_branch_of_two_forks_and_two_pull_requests_apart() -> None:
    events = [
        Event(head_branch="patch-1", head_repository=owner, pull_request=number)
        for owner, number in (("ada/shop", 1), ("bram/shop", 2), ("bram/shop", 3))
    ]
    assert len({named("ci_{branch}", event) for event in events}) == 3
