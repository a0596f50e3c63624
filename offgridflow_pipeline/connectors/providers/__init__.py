"""Asking the clouds: clients and credentials of AWS, Azure and Google, one budget for retries, and what errors mean.

No kind of bill or statement is known here; object storage and BigQuery have rooms of their own.
"""
