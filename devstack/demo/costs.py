"""Shows the costs of the demo's recordings to a compliance officer."""

from datetime import UTC, datetime, timedelta
from typing import Any

from devstack import documents
from devstack.api_client import ApiClient
from devstack.demo.insights import snake_names
from devstack.demo.scene import Scene


async def show_costs(scene: Scene, officer: ApiClient) -> None:
    """Read the cost report of today and yesterday by vendor. Raises DemoFailed."""
    async with scene.step("the compliance officer reads what the recordings cost, by vendor"):
        today = datetime.now(UTC).date()
        days = {
            "since": (today - timedelta(days=1)).isoformat(),
            "until": (today + timedelta(days=1)).isoformat(),
        }
        report = (await officer.ask(documents.COST_REPORT, **days))["costReport"]
        scene.report.cost = snake_names(report)
    for group in report["groups"]:
        scene.audience.on_line(_line(group))


def _line(group: Any) -> str:
    name = " ".join(filter(None, (group["vendor"], group["modelName"])))
    return f"{name}: {group['totalUsd']:.4f} USD"
