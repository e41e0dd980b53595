from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_defer.names import carries, plain


@pytest.mark.parametrize(
    ("schema", "pr_schema", "expected"),
    [
        ("ci_pr_2", "ci_pr_2", True),
        ("ci_pr_2_marts", "ci_pr_2", True),
        ("x_ci_pr_2", "ci_pr_2", True),
        ("x_ci_pr_2_marts", "ci_pr_2", True),
        ("CI_PR_2", "ci_pr_2", True),
        ('"ci_pr_2"', "CI_PR_2", True),
        ("marts-ci_pr_2.x", "ci_pr_2", True),
        ("ci_pr_23", "ci_pr_2", False),
        ("ci_pr_12", "pr_2", False),
        ("ci_pr_23_ci_pr_2", "ci_pr_2", True),
        ("xci_pr_2", "ci_pr_2", False),
        ("ci_pr_2marts", "ci_pr_2", False),
        ("äci_pr_2", "ci_pr_2", False),
        ("ci_pr_2²", "ci_pr_2", False),
        ("ciXpr_2", "ci.pr_2", False),
        ("analytics", "ci_pr_2", False),
        ("analytics", "", False),
        ("", "", False),
        ("analytics", '""', False),
    ],
)
def test_carries__a_word_of_its_own(schema: str, pr_schema: str, expected: bool) -> None:
    assert carries(schema, pr_schema) == expected


@given(
    st.integers(1, 300), st.integers(1, 300), st.sampled_from(["", "_marts", "_dbt_test__audit"])
)
def test_carries__no_other_pull_requests_schema(one: int, other: int, custom: str) -> None:
    assert carries(f"ci_pr_{one}{custom}", f"ci_pr_{other}") == (one == other)


@given(st.text(max_size=20))
def test_plain__is_the_same_for_any_case_and_quotes(name: str) -> None:
    assert plain(f'"{name}"') == plain(f"`{name}`") == plain(name)
    assert plain(plain(name)) == plain(name)
