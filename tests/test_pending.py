"""Comments for forks: what a stranger's report can do, with the real client on the fake GitHub."""

from __future__ import annotations

import dataclasses
import io
import json
import tracemalloc
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from ci_defer.choices import CommentWhen
from ci_defer.comment import Commented
from ci_defer.errors import ConfigurationError, RestError
from ci_defer.event import Event, FinishedRun, read_event, read_finished_run
from ci_defer.pending import artifact_name, comment_pending
from ci_defer.pulls import Pulls
from ci_defer.report import Change, NodeOutcome, NodeReport, Outcome, Report, State, encode
from ci_defer.rest import GitHubRest
from tests.harness.gfm import links, render
from tests.harness.github import LONGEST_COMMENT, FakeGitHub, PullRequest, Run, zip_files
from tests.hostile import WORDS
from tests.samples import Log
from tests.test_report import FULL

TOKEN = "ghs_aVeryLongTokenThatMustNotLeakAnywhere"
FORK = "mallory/shop"
HEAD = "5" * 40
OTHERS_HEAD = "6" * 40
RUN = Run(
    4001, event="pull_request", head_branch="feature", head_sha=HEAD, head_repository=FORK,
    path=".github/workflows/dbt-pull-request.yml", name="dbt pull request",
)  # fmt: skip
REPOSITORY_URL = "https://github.com/acme/shop"
NAME = "ci-defer-report-shop"
LIST = "/repos/acme/shop/actions/runs/4001/artifacts"
ZIP = r"/repos/.*/zip"
ENVIRON = {
    "GITHUB_EVENT_NAME": "workflow_run",
    "GITHUB_REPOSITORY": "acme/shop",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_RUN_ID": "5000",
}

RED = replace(FULL, problem=None, head_commit=HEAD, repository_url=REPOSITORY_URL)
GOOD = replace(RED, project="good")


class Place:
    """Pull request 7 of a fork, 8 of somebody else, and the run of 7 that has finished."""

    def __init__(self, github: FakeGitHub) -> None:
        self.github = github
        github.add_pull(PullRequest(7, head_sha=HEAD, head_repository=FORK))
        github.add_pull(PullRequest(8, head_sha=OTHERS_HEAD, head_repository="eve/shop"))
        self.run = github.add_run(RUN)
        self.log = Log()
        self.waited: list[float] = []

    def leave(
        self,
        content: Report | bytes | dict[str, str | bytes] = RED,
        *,
        name: str = NAME,
        run: Run = RUN,
        digest: str | None = "",
    ) -> None:
        """The run has left an artifact: a report, the bytes of the archive, or its files."""
        files = {"report.json": encode(content)} if isinstance(content, Report) else content
        self.github.add_artifact(name, files, run.id, digest=digest)

    def comment(
        self, *, run: Run | None = None, when: CommentWhen = CommentWhen.ALWAYS
    ) -> Commented:
        """What the job of the third workflow does."""
        rest = GitHubRest(
            self.github.url, "acme/shop", TOKEN, log=self.log, sleep=self.waited.append
        )
        payload = self.github.workflow_run_event(run or self.run)
        return comment_pending(
            read_event(ENVIRON, payload),
            read_finished_run(payload),
            rest,
            Pulls(rest),
            when=when,
            log=self.log,
        )

    @property
    def bodies(self) -> list[str]:
        return [one.body for one in self.github.comments(7)]

    @property
    def said(self) -> str:
        return "\n".join(self.log.lines)

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.log.lines if line.startswith("warning: ")]

    def asked(self, part: str) -> int:
        return sum(part in record.path for record in self.github.requests)


@pytest.fixture
def place() -> Iterator[Place]:
    with FakeGitHub() as github:
        place = Place(github)
        yield place
        assert github.violations == []
        assert github.pending_faults == []
        assert TOKEN not in "\n".join([place.said, *place.bodies])
        # Whatever a report says, nobody else's pull request hears of it.
        assert github.comments(8) == []
        # The files are on another host, which must never see the token.
        assert not any(record.authorized for record in github.requests if "/blob/" in record.path)
        for body in place.bodies:
            assert len(body) <= LONGEST_COMMENT
            for link in links(render(body)):
                assert link.startswith(f"{REPOSITORY_URL}/")
                # A browser would follow them out of the repository.
                assert not {"..", "%2e%2e"} & set(link.lower().split("/"))


# Which pull request, and with what.


def test_comment__is_on_the_pull_request_of_the_fork(place: Place) -> None:
    place.leave()
    commented = place.comment()
    (made,) = place.github.comments(7)
    assert commented == Commented(f"{REPOSITORY_URL}/pull/7#issuecomment-{made.id}")
    assert made.body.startswith("<!-- ci-defer: project=shop@. run=4001 -->\n## ❌ 1 node failed\n")
    assert "from the run of a fork" in made.body
    assert f"{REPOSITORY_URL}/actions/runs/4001" in made.body
    assert place.warnings == []


def test_comment__is_found_though_github_knows_no_pull_request_of_the_commit(place: Place) -> None:
    rest = GitHubRest(place.github.url, "acme/shop", TOKEN, log=place.log)
    assert rest.get(f"commits/{HEAD}/pulls") == []
    place.leave()
    assert place.comment().url


def test_comment__is_edited_by_the_next_run(place: Place) -> None:
    place.leave()
    first = place.comment()
    head = "7" * 40
    place.github.add_pull(PullRequest(7, head_sha=head, head_repository=FORK))
    second = place.github.add_run(dataclasses.replace(RUN, id=4002, head_sha=head))
    place.leave(replace(RED, outcome=Outcome.SUCCESS, headline="1 node built"), run=second)
    assert place.comment(run=second) == first
    (body,) = place.bodies
    assert body.startswith("<!-- ci-defer: project=shop@. run=4002 -->\n## ✅ 1 node built\n")
    assert f"/blob/{HEAD}" not in body


def test_comment__for_dependabot_warns_of_no_stranger(place: Place) -> None:
    place.github.add_pull(PullRequest(9, head_sha=OTHERS_HEAD, head_ref="dependabot/pip/x"))
    run = place.github.add_run(
        dataclasses.replace(
            RUN, id=4002, head_repository="", head_branch="dependabot/pip/x", head_sha=OTHERS_HEAD
        )
    )
    place.leave(run=run)
    assert place.comment(run=run).url
    (made,) = place.github.comments(9)
    assert "from the run of a fork" not in made.body
    assert place.bodies == []


def test_comment__is_on_each_pull_request_of_the_branch(place: Place) -> None:
    place.github.add_pull(PullRequest(9, head_sha=HEAD, head_repository=FORK, base_ref="release"))
    place.leave()
    place.comment()
    assert (len(place.bodies), len(place.github.comments(9))) == (1, 1)


def test_comment__of_a_report_that_claims_to_be_of_another_is_on_its_own(place: Place) -> None:
    evil = "https://evil.example/acme/shop"
    place.leave(
        replace(
            RED,
            head_commit=OTHERS_HEAD,
            base_commit=OTHERS_HEAD,
            repository_url=evil,
            run_url=f"{evil}/actions/runs/1",
            state=State(location=evil, has_provenance=True, commit=OTHERS_HEAD, age_commits=0),
            nodes=[
                replace(FULL.nodes[0], path="models/a.sql", line=3, compiled_path="target/a.sql")
            ],
        )
    )
    place.comment()
    (body,) = place.bodies
    assert f"{REPOSITORY_URL}/blob/{HEAD}/models/a.sql#L3" in body
    assert f"{evil}/" not in body
    assert f"blob/{OTHERS_HEAD}" not in body


def test_comment__stands_beside_the_warnings_that_a_report_brings(place: Place) -> None:
    place.leave(replace(RED, warnings=[f"warning {number}" for number in range(100)]))
    place.comment()
    (body,) = place.bodies
    assert "from the run of a fork" in body


def test_comment__of_two_projects_is_two_comments(place: Place) -> None:
    place.leave(RED, name=artifact_name("shop"))
    place.leave(GOOD, name=artifact_name("good"))
    place.comment()
    assert sorted(body.splitlines()[0] for body in place.bodies) == [
        "<!-- ci-defer: project=good@. run=4001 -->",
        "<!-- ci-defer: project=shop@. run=4001 -->",
    ]


def test_comment__when_is_asked_for(place: Place) -> None:
    place.leave(replace(RED, outcome=Outcome.SUCCESS))
    for when in (CommentWhen.OFF, CommentWhen.FAILURES):
        assert place.comment(when=when) == Commented()
    assert place.bodies == []
    assert place.comment(when=CommentWhen.CHANGES).url


# When there is nothing to do.


def test_nothing__for_a_head_that_is_outdated(place: Place) -> None:
    place.leave()
    place.github.add_pull(PullRequest(7, head_sha="7" * 40, head_repository=FORK))
    assert place.comment() == Commented()
    assert place.bodies == []
    assert f"No open pull request has the head {HEAD[:12]}" in place.said
    assert place.asked("/zip") == 0


def test_nothing__for_a_pull_request_that_is_closed(place: Place) -> None:
    place.leave()
    place.github.add_pull(PullRequest(7, head_sha=HEAD, head_repository=FORK, state="closed"))
    assert place.comment() == Commented()
    assert place.bodies == []


@pytest.mark.parametrize("event", ["push", "schedule", "pull_request_target", "workflow_run"])
def test_nothing__for_a_run_of_another_event(place: Place, event: str) -> None:
    place.leave()
    run = place.github.add_run(dataclasses.replace(RUN, event=event))
    assert place.comment(run=run) == Commented()
    assert place.bodies == []
    assert f"Run 4001 was started by {event}" in place.said
    assert place.github.requests == []


def test_nothing__of_a_run_that_has_left_no_report(place: Place) -> None:
    other = place.github.add_run(dataclasses.replace(RUN, id=4002))
    place.leave(run=other)
    place.leave(name="ci-defer-state-shop")
    place.leave(name=f"other-{NAME}")
    assert place.comment() == Commented()
    assert place.bodies == []
    assert "Run 4001 has left no report" in place.said
    assert place.warnings == []


def test_nothing__outside_of_a_workflow_run(place: Place) -> None:
    rest = GitHubRest(place.github.url, "acme/shop", TOKEN, log=place.log)
    with pytest.raises(ConfigurationError, match="no finished workflow run") as raised:
        comment_pending(
            Event(), FinishedRun(), rest, Pulls(rest), when=CommentWhen.ALWAYS, log=place.log
        )
    assert "on: workflow_run" in raised.value.hint


# GitHub's faults.


def test_fault__of_the_list_is_an_error(place: Place) -> None:
    place.leave()
    place.github.fail_next("GET", LIST, status=404)
    with pytest.raises(RestError, match="with 404"):
        place.comment()


def test_fault__that_passes_is_tried_again(place: Place) -> None:
    place.leave()
    place.github.fail_next("GET", LIST, status=502)
    place.github.drop_next("GET", ZIP)
    place.github.cut_next("GET", "/blob/.*", after=10)
    assert place.comment().url
    assert len(place.waited) == 3


@pytest.mark.parametrize("status", [404, 410, 403, 422])
def test_fault__of_one_report_is_not_that_of_the_others(place: Place, status: int) -> None:
    place.leave(RED)
    place.leave(GOOD, name=artifact_name("good"))
    place.github.fail_next("GET", ZIP, status=status)
    assert place.comment().url
    assert len(place.bodies) == 1
    (warning,) = place.warnings
    assert "A report of run 4001 is passed over: GitHub answered" in warning


def test_fault__a_token_that_can_only_read_says_which_permission(place: Place) -> None:
    place.leave()
    place.github.add_token(TOKEN, read_only=True)
    assert place.comment() == Commented(is_pending=True)
    assert "pull-requests: write" in place.said


def test_fault__corrupted_bytes_are_noticed(place: Place) -> None:
    place.leave()
    place.github.corrupt_next("GET", "/blob/.*")
    assert place.comment() == Commented()
    assert "digest is not the one that GitHub lists" in place.said


def test_fault__a_redirect_to_plain_http_elsewhere_is_not_followed(place: Place) -> None:
    place.leave()
    place.github.redirect_next("GET", ZIP, to="http://evil.example/file")
    assert place.comment() == Commented()
    assert "did not say where" in place.said


# Reports of strangers: every one of them beside a good one, which must be heard.


def document(**more: Any) -> bytes:
    """A report with something wrong in it."""
    return json.dumps({**json.loads(encode(RED)), **more}).encode()


def with_seconds(literal: str) -> bytes:
    text = encode(RED).decode()
    assert text.count('"seconds": 1.5,') == 1
    return text.replace('"seconds": 1.5,', f'"seconds": {literal},').encode()


def without(name: str) -> bytes:
    found = json.loads(encode(RED))
    del found[name]
    return json.dumps(found).encode()


NO_REPORTS = {
    "empty": b"",
    "html": b"<html>",
    "binary": bytes(range(256)),
    "not utf-8": document(headline="x").replace(b'"x"', b'"\xff\xfe"'),
    "lone surrogate": document(headline="x").replace(b'"x"', rb'"\ud800"'),
    "truncated": encode(RED)[:-30],
    "two": encode(RED) * 2,
    "null": b"null",
    "list": b"[]",
    "no fields": b"{}",
    "deep lists": b"[" * 1_000_000,
    "deep in a field": document(nodes="x").replace(b'"nodes": "x"', b'"nodes": ' + b"[" * 10**6),
    "deep objects": b'{"problem":' * 100_000,
    "unknown field": document(pull_request=8),
    "unknown field inside": document(counts={"built": 1, "x": 1}),
    "no project": without("project"),
    "wrong type": document(project=1),
    "wrong list": document(nodes={}),
    "wrong nodes": document(nodes=[1, "x", None]),
    "unknown outcome": document(outcome="fine"),
    "newer version": document(schema_version=2),
    "older version": document(schema_version=0),
    "version of text": document(schema_version="1"),
    "infinite": with_seconds("1e999"),
    "infinity": with_seconds("Infinity"),
    "not a number": with_seconds("NaN"),
    "negative": with_seconds("-1"),
    "endless": with_seconds("1e300"),
    "huge count": document(selected_count=10**30),
    "huge digits": document(selected_count=0).replace(
        b'"selected_count": 0', b'"selected_count": ' + b"9" * 100_000
    ),
    "negative count": document(counts={"built": -1}),
    "negative age": document(state={"location": "x", "has_provenance": True, "age_commits": -1}),
}


@pytest.mark.parametrize("raw", NO_REPORTS.values(), ids=NO_REPORTS.keys())
def test_stranger__what_is_no_report_is_passed_over(place: Place, raw: bytes) -> None:
    place.leave({"report.json": raw})
    place.leave(GOOD, name=artifact_name("good"))
    assert place.comment().url
    (body,) = place.bodies
    assert body.startswith("<!-- ci-defer: project=good@.")
    (warning,) = place.warnings
    assert "A report of run 4001 is passed over: It does not have the shape of a report" in warning
    assert len(warning) < 1_000


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members:
            file.writestr(name, data)
    return archive.getvalue()


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return info


def compressed(how: int, data: bytes = encode(RED)) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", how) as file:
        file.writestr("report.json", data)
    return archive.getvalue()


def with_offset(change: int) -> bytes:
    """An archive whose end says that its list of members is elsewhere."""
    raw = bytearray(compressed(zipfile.ZIP_STORED))
    end = raw.rindex(b"PK\x05\x06")
    offset = int.from_bytes(raw[end + 16 : end + 20], "little") + change
    raw[end + 16 : end + 20] = offset.to_bytes(4, "little")
    return bytes(raw)


def damaged(how: int) -> bytes:
    """An archive that is sound but for the compressed bytes themselves."""
    raw = bytearray(compressed(how))
    start = 30 + len("report.json")
    raw[start : start + 40] = b"\xff" * 40
    return bytes(raw)


REPORT_FILE = ("report.json", encode(RED))
NO_ARCHIVES = {
    "html": (b"<html>", "damaged"),
    "empty": (b"", "damaged"),
    "truncated": (zipped(REPORT_FILE)[:-30], "damaged"),
    "no members": (zipped(), "There is no report.json"),
    "another file": (zipped(("other.json", b"{}")), "There is no report.json"),
    "below a folder": (zipped(("x/report.json", encode(RED))), "There is no report.json"),
    "..": (zipped(("../report.json", b""), REPORT_FILE), "leads out of it"),
    "absolute": (zipped(("/tmp/report.json", b""), REPORT_FILE), "leads out of it"),
    "backslash": (zipped(("a\\..\\b", b""), REPORT_FILE), "leads out of it"),
    "link": (zipped((link("report.json"), b"/etc/passwd")), "link or a device"),
    "many": (zipped(*((str(n), b"") for n in range(101)), REPORT_FILE), "102 members"),
    "bytes": (damaged(zipfile.ZIP_DEFLATED), "damaged"),
    "name": (zipped(("é", b""), REPORT_FILE).replace("é".encode(), b"\xc3\x28"), "damaged"),
    "offset": (with_offset(10), "damaged"),
    "lzma": (damaged(zipfile.ZIP_LZMA), "unusual way"),
    "bzip2": (damaged(zipfile.ZIP_BZIP2), "unusual way"),
}


@pytest.mark.parametrize(("archive", "reason"), NO_ARCHIVES.values(), ids=NO_ARCHIVES.keys())
def test_stranger__an_archive_that_is_none_of_ours_is_passed_over(
    place: Place, archive: bytes, reason: str
) -> None:
    place.leave(archive)
    place.leave(GOOD, name=artifact_name("good"))
    assert place.comment().url
    assert len(place.bodies) == 1
    (warning,) = place.warnings
    assert "A report of run 4001 is passed over" in warning
    assert reason in warning


def test_stranger__a_name_twice_in_an_archive_is_passed_over(place: Place) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        place.leave(zipped(REPORT_FILE, REPORT_FILE))
    assert place.comment() == Commented()
    assert "twice" in place.said


def test_stranger__other_files_beside_the_report_do_nothing(place: Place) -> None:
    place.leave(zip_files({"report.json": encode(RED), "run.sh": "exit 1", "summary.md": "@all"}))
    assert place.comment().url
    assert "@all" not in place.bodies[0]


def test_stranger__a_bomb_is_stopped_where_the_limit_is(place: Place) -> None:
    # Spaces are JSON: nothing is wrong with it but its size.
    place.leave(compressed(zipfile.ZIP_DEFLATED, encode(RED) + b" " * 60_000_000))
    assert place.comment() == Commented()
    assert "unpacks to more than it may" in place.said


@pytest.mark.parametrize("how", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_stranger__a_bomb_of_another_method_takes_no_memory(place: Place, how: int) -> None:
    place.leave(compressed(how, bytes(40_000_000)))
    tracemalloc.start()
    try:
        commented = place.comment()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert commented == Commented()
    assert peak < 20_000_000


def test_stranger__an_archive_that_is_too_large_is_not_kept(place: Place) -> None:
    place.leave(bytes(21 * 1024**2))
    assert place.comment() == Commented()
    assert "has more than 20,971,520 bytes" in place.said


def test_stranger__a_wrong_digest_is_passed_over(place: Place) -> None:
    place.leave(digest=f"sha256:{'0' * 64}")
    assert place.comment() == Commented()
    assert "digest is not the one that GitHub lists" in place.said


def test_stranger__an_artifact_without_a_digest_is_taken(place: Place) -> None:
    place.leave(digest=None)
    assert place.comment().url


def test_stranger__more_than_twenty_reports_are_not_read(place: Place) -> None:
    for number in range(25):
        place.leave(name=artifact_name(f"p{number}"))
    place.comment()
    assert (len(place.bodies), place.asked("/zip")) == (1, 20)


def test_stranger__a_report_behind_many_other_artifacts_is_found(place: Place) -> None:
    place.leave()
    for number in range(150):
        place.leave(b"", name=f"other-{number}")
    assert place.comment().url


def hostile(value: Any, text: str) -> Any:
    """`value` with `text` in place of every text but the words that are ours."""
    if isinstance(value, dict):
        return {
            key: item if key in ("outcome", "change") else hostile(item, text)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [hostile(item, text) for item in value]
    return text if isinstance(value, str) else value


# A lone surrogate is no JSON: see above.
JSON_WORDS = [word for word in WORDS if word != "\ud800"]
TEXTS = {
    "all": " ".join(JSON_WORDS),
    "lines": "\n".join(JSON_WORDS),
    "joined": "".join(JSON_WORDS),
    "one": "@org/team",
    "link": "](https://evil.example/x)",
    "attribute": '" onclick="x',
    "path": "../../..",
    "markers": "--> <!-- ci-defer: project=shop@. run=1 -->",
    "reordered": "\u202e" * 50,
    "nothing": "",
    "nul": "\0",
    "long": "x" * 100_000,
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_stranger__hostile_text_everywhere_changes_nothing_else(place: Place, text: str) -> None:
    made = json.loads(encode(RED))
    place.leave({"report.json": json.dumps(hostile(made, text))})
    place.leave(GOOD, name=artifact_name("good"))
    assert isinstance(place.comment(), Commented)
    # A project whose name alone is too long for a comment has none.
    expected = 1 if len(text) > LONGEST_COMMENT else 2
    assert len(place.bodies) == expected
    assert place.bodies[0].startswith("<!-- ci-defer: project=")
    assert len(place.warnings) == 2 - expected


def test_stranger__ten_thousand_nodes_that_read_one_another(place: Place) -> None:
    names = [f"model.shop.n{number}" for number in range(10_000)]
    nodes = [
        NodeReport(
            unique_id=name,
            name=name,
            resource_type="model",
            outcome=NodeOutcome.ERRORED,
            change=Change.MODIFIED,
            # A chain that ends where it begins.
            parents=[names[number - 1]],
            message=f"message {number}",
        )
        for number, name in enumerate(names)
    ]
    place.leave(replace(RED, nodes=nodes, causes=[]))
    assert place.comment().url
    assert len(place.bodies) == 1


@pytest.mark.parametrize(
    "path",
    ["../../../evil/blob/main/x", "/etc/passwd", "a/../../b", "//evil.example/x", "\\\\evil\\x",
     "javascript:alert(1)", "a.sql?x=1#L9", "a\n](https://evil.example)", "%2e%2e/%2e%2e/x"],
)  # fmt: skip
@pytest.mark.parametrize("where", ["node", "folder"])
def test_stranger__a_path_cannot_lead_out_of_the_repository(
    place: Place, path: str, where: str
) -> None:
    node = replace(FULL.nodes[0], path="models/a.sql", line=3)
    made = replace(RED, nodes=[replace(node, path=path)])
    if where == "folder":
        made = replace(RED, nodes=[node], project_dir=path)
    place.leave(made)
    place.comment()
    # Where its links lead is looked at after each test.
    assert len(place.bodies) == 1


def test_stranger__other_facts_of_the_event_are_githubs(place: Place) -> None:
    """A report has no field for a pull request, and no other one can stand for it."""
    place.leave(replace(RED, headline="#8", project_dir="../../pull/8"))
    place.comment()
    assert len(place.bodies) == 1
