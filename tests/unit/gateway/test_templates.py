"""Path templates, and which of them a path fits."""

import pytest

from gateway.transcode.templates import Router, Template, TemplateError


def router(*paths: str) -> Router[str]:
    made: Router[str] = Router()
    for path in paths:
        made.add(Template.parse(path), "GET", path)
    return made


def found(made: Router[str], path: str) -> str | None:
    match = made.find(path)
    return match[0]["GET"] if match else None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/v1/companies", "/v1/companies"),
        ("/v1/companies/{company.id}", "/v1/companies/{company_id}"),
        ("/v1/plans/{plan_id}:publish", "/v1/plans/{plan_id}:publish"),
        ("/v1/{name=plans/*/rates/*}:copy", "/v1/{name}:copy"),
        ("/v1/files/{path=**}", "/v1/files/{path}"),
        ("/v1/*/things", "/v1/*/things"),
    ],
)
def test_a_template_is_read_and_shown(text: str, shown: str):
    assert str(Template.parse(text)) == shown


@pytest.mark.parametrize(
    "text", ["", "v1", "/", "/v1/", "/v1/{", "/v1/{a}b", "/v1//x", "/v1/{p=**}/x", "/v1/x:y/z", "/v1/{A}"]
)
def test_what_is_no_template_is_refused(text: str):
    with pytest.raises(TemplateError):
        Template.parse(text)


def test_variables_take_their_segments_unquoted():
    template = Template.parse("/v1/{name=plans/*}/rates/{rate}")
    assert template.values(["v1", "plans", "p%201", "rates", "a%2Fb"]) == ["plans/p 1", "a/b"]
    assert Template.parse("/v1/{path=**}").values(["v1", "a", "b%20c"]) == ["a/b c"]


def test_a_literal_wins_over_a_variable_and_a_variable_takes_what_is_left():
    made = router("/v1/plans/{id}", "/v1/plans/default", "/v1/plans/{id}/rates", "/v1/{rest=**}")
    assert found(made, "/v1/plans/default") == "/v1/plans/default"
    assert found(made, "/v1/plans/other") == "/v1/plans/{id}"
    assert found(made, "/v1/plans/default/rates") == "/v1/plans/{id}/rates"
    assert found(made, "/v1/plans/default/prices") == "/v1/{rest=**}"


def test_a_verb_is_what_follows_the_colon_and_a_quoted_colon_is_none():
    made = router("/v1/plans/{id}", "/v1/plans/{id}:publish", "/v1/plans:import")
    assert found(made, "/v1/plans/a:publish") == "/v1/plans/{id}:publish"
    assert found(made, "/v1/plans:import") == "/v1/plans:import"
    assert found(made, "/v1/plans/a%3Apublish") == "/v1/plans/{id}"
    assert found(made, "/v1/plans/a:paint") is None
    assert found(made, "/v1/plans/a:") is None


@pytest.mark.parametrize(
    "path", ["", "/", "//", "/v1", "/v1/plans/", "/v1/plans/a/", "/v1//a", "/v1/plans/a/b", "*", "v1/plans/a"]
)
def test_other_paths_fit_nothing(path: str):
    assert found(router("/v1/plans/{id}"), path) is None


def test_one_path_belongs_to_one_method():
    made = router("/v1/plans/{id}")
    with pytest.raises(TemplateError, match="two methods"):
        made.add(Template.parse("/v1/plans/{plan_id}"), "GET", "again")
