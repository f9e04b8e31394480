"""docs/reference/node-api.md names every public method of Node's client, as it is installed here."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
TABLE = (HERE.parents[1] / "docs" / "reference" / "node-api.md").read_text(encoding="utf-8")

# Visible in JavaScript, and there for BullMQ's own modules.
INTERNAL = {
    "Queue": """Job addJob base64Name baseGetClients checkConnectionError clientName commandByType
        jobScheduler parseClientList sanitizeJobTypes trace""",
    "Job": """createBackend getSpanOperation isInState recordJobMetrics setSpanJobAttributes shouldRetryJob
        updateStacktrace validateOptions""",
    "Worker": """Job _getNextJob base64Name callProcessJob checkConnectionError clientName createJob
        createLockManager createSandbox delay getBlockTimeout getRateLimitDelay getUnrecoverableErrorMessage
        handleCompleted handleFailed isRateLimited jobScheduler mainLoop maximumBlockTimeout
        minimumBlockTimeout moveLimitedBackToWait moveStalledJobsToWait moveToActive nextJobFromJobData
        retryIfFailed stalledChecker trace updateDelays waitForJob waitForRateLimit
        whenCurrentJobsFinished""",
    "QueueEvents": "Job base64Name checkConnectionError clientName consumeEvents trace",
    "QueueEventsProducer": "Job base64Name checkConnectionError clientName trace",
    "FlowProducer": """Job addChildren addNode addNodes collectFlowEntry getChildren getNode queueFromNode
        toFlowError validateFlowJobs""",
    "errors": """SchemaMigrationRequiredError SchemaVersionMismatchError UnsupportedPostgresVersionError
        RelayError""",
}


@pytest.fixture(scope="module")
def names(_node_process: Any) -> dict[str, list[str]]:
    done = subprocess.run(
        ["node", "node/names.mjs"], cwd=HERE, capture_output=True, text=True, timeout=60, check=True
    )
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def told() -> set[str]:
    left = (row.split(" | ")[0] for row in TABLE.splitlines() if row.startswith("| "))
    return {name for cell in left for name in re.findall(r"`([\w.]+)`", cell)}


@pytest.mark.parametrize("kind", INTERNAL)
def test_every_public_method_of_node_has_its_row(names: dict[str, list[str]], kind: str):
    internal = set(INTERNAL[kind].split())
    assert len(names[kind]) > 5
    rows = told()
    missing = {
        name
        for name in names[kind]
        if name not in internal and name not in rows and f"{kind}.{name}" not in rows
    }
    assert not missing


@pytest.mark.parametrize("kind", INTERNAL)
def test_what_is_called_internal_is_there(names: dict[str, list[str]], kind: str):
    assert set(INTERNAL[kind].split()) <= set(names[kind])
