"""How long activities may take and how often they are tried, where more than one module needs to know."""

from datetime import timedelta

from temporalio.common import RetryPolicy

HEARTBEAT = timedelta(seconds=10)
STORE_ATTEMPT = timedelta(seconds=10)
FOREVER = RetryPolicy(initial_interval=timedelta(milliseconds=500), maximum_interval=timedelta(seconds=30))
"""For what must be written in the end: unlimited attempts."""
