"""Shipped fakes: model servers and a provider that follow a script. For tests of your own tools, and for trying out
Conductor without an account. They listen on loopback only."""

from conductor_ai.testing.script import Call, Failure, Reply, Script
from conductor_ai.testing.scripted import Recorder, ScriptedProvider

__all__ = ["Call", "Failure", "Recorder", "Reply", "Script", "ScriptedProvider"]
