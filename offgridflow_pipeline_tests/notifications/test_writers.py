"""What other rooms write into the outbox has words, and all that the words need.

`identity` stands below `notifications` and writes its mails as rows, without `enqueue`: this test reads its source.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import offgridflow_pipeline
from offgridflow_pipeline.notifications.templates import templates

ROOMS = Path(offgridflow_pipeline.__file__).parent
ROOM = ROOMS / "identity"
#: What `write_mails` adds to the variables of every mail about a subscription.
ADDED = {"organisation"}


def _written() -> Iterator[tuple[str, str, set[str]]]:
    """Place, template and variables of every mail that `identity` writes."""
    for path in sorted(ROOM.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            place, keywords = f"{path.name}:{node.lineno}", {word.arg: word.value for word in node.keywords}
            if isinstance(node.func, ast.Name) and node.func.id == "notify":
                yield place, _text(node.args[2]), {name for name in keywords if name and name != "key"}
            elif isinstance(node.func, ast.Attribute) and ast.unparse(node.func).endswith("outbox.add"):
                variables = keywords["variables"]
                if isinstance(variables, ast.Dict):  # else `notify` itself, which passes its callers' on
                    yield place, _text(node.args[1]), {_text(key) for key in variables.keys if key is not None}


def _text(node: ast.expr) -> str:
    assert isinstance(node, ast.Constant), "the test reads literal names only"
    return str(node.value)


def test_every_mail_that_identity_writes_has_words_and_what_they_need() -> None:
    written = list(_written())
    assert {template for _, template, _ in written} == {
        "password_reset", "invitation", "login_notice", "password_changed", "second_factor_changed",
    }  # fmt: skip
    for place, template, variables in written:
        assert templates()[template].variables <= variables, place
        assert not templates()[template].declinable, place


def _billing_mails() -> Iterator[tuple[str, str, set[str]]]:
    """Place, template and variables of every mail that `subscriptions` makes."""
    for path in sorted((ROOMS / "subscriptions").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "BillingMail":
                template, _, variables = node.args
                assert isinstance(variables, ast.Dict), "the test reads literal variables only"
                yield (
                    f"{path.name}:{node.lineno}",
                    _text(template),
                    {_text(key) for key in variables.keys if key is not None},
                )


def test_every_mail_about_a_subscription_has_words_and_what_they_need_and_every_such_template_is_written() -> None:
    written = list(_billing_mails())
    money = {name for name, template in templates().items() if template.link == "billing"}
    assert money == {
        "payment_failed", "payment_action_required", "subscription_restricted", "subscription_suspended",
        "subscription_active", "trial_ending",
    }  # fmt: skip
    assert {template for _, template, _ in written} == money | {"report_ready", "report_failed"}
    for place, template, variables in written:
        assert templates()[template].variables <= variables | ADDED, place


def test_nobody_can_decline_to_hear_of_money() -> None:
    assert not [name for name, template in templates().items() if template.link == "billing" and template.declinable]
