"""Production's state in a bucket, with the action: what a team does that has outgrown artifacts."""

from __future__ import annotations

import json

import pytest

from tests.e2e.action_shop import Shop, outputs_of, pull_request_files, summary_of
from tests.harness.consumer import git
from tests.harness.objects import S3Server

pytestmark = [pytest.mark.action, pytest.mark.dbt, pytest.mark.server]

PLACE = "s3://acme-dbt/analytics"


def test_action__onboards_to_a_bucket_and_defers_from_it(action_shop: Shop, s3: S3Server) -> None:
    s3.create("acme-dbt")
    shop = action_shop
    shop.variables = s3.environ()
    shop.use_dbt("1.12")
    shop.build_production()
    shop.use_workflows(install="", state=PLACE)
    pushed = shop.push()
    main = git(shop.repository, "rev-parse", "HEAD")
    assert pushed.returncode == 0, pushed.log
    published = outputs_of(pushed)
    assert (published["outcome"], published["state-commit"]) == ("success", main)
    assert published["state-source"] == f"{PLACE}/bike_rental"
    folder = f"analytics/bike_rental/prod/{main}"
    names = s3.names("acme-dbt")
    assert f"{folder}/state.json" in names
    pointer = json.loads(s3.read("acme-dbt", "analytics/bike_rental/prod/latest.json"))
    assert pointer["commit"] == main
    # The bucket alone has it.
    assert shop.github.artifacts == []

    ran = shop.pull_request(pull_request_files())
    assert ran.returncode == 0, ran.log
    found = outputs_of(ran)
    assert (found["outcome"], found["selected-count"]) == ("success", "23")
    assert (found["deferred-count"], found["state-commit"]) == ("3", main)
    assert (found["state-source"], found["state-age-commits"]) == (f"{PLACE}/bike_rental", "0")
    assert s3.names("acme-dbt") == names
    assert "its code changed" in summary_of(ran)
    secret = s3.environ()["AWS_SECRET_ACCESS_KEY"]
    assert secret not in summary_of(ran) + json.dumps(found) + summary_of(pushed)
