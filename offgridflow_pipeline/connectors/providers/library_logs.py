"""Keeps secrets out of the debug logs of cloud libraries, which write whole answers and signed addresses there.

Measured with a planted secret and every logger at DEBUG (boto3 1.44.5, urllib3 2): the four loggers below show values
of Secrets Manager, session tokens of assumed roles, or signatures of a SAS. Other loggers did not.
"""

from __future__ import annotations

import logging

TALKATIVE = ("botocore.parsers", "botocore.endpoint", "botocore.auth", "urllib3.connectionpool")


def keep_secrets_out_of_logs() -> None:
    """Drop debug records of the talkative loggers in this process, whatever level anybody sets; done once."""
    for name in TALKATIVE:
        logging.getLogger(name).addFilter(_above_debug)


def _above_debug(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG
