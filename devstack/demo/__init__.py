"""The demo: one consultation from its registration to the audit log, with attacks that must fail.

Each step of the demo does what a user or an attacker would do, through the interfaces that they would use, and
checks the answer. The first failed check ends the demo.
"""

from devstack.demo.report import DemoFailed, Project, Report, Step
from devstack.demo.run import run_demo
from devstack.demo.scene import Audience
from devstack.demo.sources import BadFile, Sources, require_playable

__all__ = [
    "Audience",
    "BadFile",
    "DemoFailed",
    "Project",
    "Report",
    "Sources",
    "Step",
    "require_playable",
    "run_demo",
]
