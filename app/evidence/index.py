"""Writes the index of an evidence pack: the content of each part, the rule that the part answers, and how to verify the
pack. Pure.
"""

from collections.abc import Sequence

from app.evidence.model import Range, SectionReport

_HEAD = """\
# Evidence pack

Deployment: {deployment}
Range of time: from {since} until before {until} (UTC)
Pack: {pack_id}

This folder was written by `resguardo evidence` for an auditor. It needs no network and no access to the service. It \
contains ids, codes, times and digests. It contains no name, no recording, no transcript, and no text that an officer \
has written. The officers' texts (the rationale of a factor, the note of an attestation, the text of a disposition) \
are read in the service. Their SHA-256 is in the sealed documents.

Rules are those of 45 CFR.

| part | rule | where | what was found |
|---|---|---|---|
"""

_TAIL = """
"Nothing" means that the part exists and that nothing of it falls into the range of time. "Not built" means that this \
version of Resguardo does not have the part.

## How to verify this pack

You need Python 3.11 and the package `cryptography`. Run these commands in this folder.

1. The audit log: `python3 verify_audit.py log-policy.txt --tiles log/audit`
2. An attestation or a decision, by its id: `python3 verify_audit.py log-policy.txt --receipt \
attestations/ID.tlog-proof attestations/ID.event.json --export attestations/ID.document.json`. It verifies that the \
signed log contains the event, and that the digest of the event is the SHA-256 of the document. For a decision on a \
breach, the folder is `breach-assessments`.
3. The pack itself: `python3 verify_audit.py log-policy.txt --receipt evidence.tlog-proof evidence.event.json --export \
manifest.json`. The file manifest.json has the SHA-256 of every other file, in the form that `sha256sum` can check \
after `python3 -c "import json;[print(v,'',k) for k,v in json.load(open('manifest.json')).items()]" | sha256sum -c`.
"""


def compose_index(deployment: str, pack_id: object, wanted: Range, sections: Sequence[SectionReport]) -> str:
    """Return the text of the index."""
    head = _HEAD.format(
        deployment=deployment, since=wanted.since.isoformat(), until=wanted.until.isoformat(), pack_id=pack_id
    )
    rows = "".join(f"| {one.title} | {one.rule} | {one.place} | {one.sentence} |\n" for one in sections)
    return head + rows + _TAIL
