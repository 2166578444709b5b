#!/usr/bin/env python3
"""Verifies Resguardo's audit log offline, under the auditor's own policy file (https://c2sp.org/tlog-policy).

    verify_audit.py POLICY --tiles FOLDER... [--known CHECKPOINT...]      downloads of `audit/` from one or more buckets
    verify_audit.py POLICY --receipt RECEIPT.tlog-proof EVENT.json        one event
    verify_audit.py POLICY --export FILE [--tiles FOLDER...] [--receipt RECEIPT EVENT]   NDJSON by line, a whole file

It needs Python 3.11 and `cryptography`. Exit code 0: no finding, 1: findings, 2: a file cannot be read. Keep the newest
checkpoint of each download for `--known`: it finds a log that lost its newest events or shows another history.
"""

import argparse
import base64
import bisect
import json
import re
from collections import Counter
from datetime import datetime
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ED25519, ED25519_COSIGNATURE, ML_DSA_44 = 1, 4, 6
SEALING_SECONDS = 600  # an event that was sealed later than this after its own time is a finding
CLOCK_SECONDS = 60  # an event that was sealed earlier than this before its own time is a finding
SIZE = r"(0|[1-9][0-9]{0,18})"
NOTE = rf"(([^\n]+)\n{SIZE}\n(\S{{44}})\n)\n((?:— \S+ \S+\n)+)"
RECEIPT = rf"c2sp\.org/tlog-proof@v1\nextra (\S{{24}})\nindex {SIZE}((?:\n\S{{44}}){{0,63}})\n\n"
LINE = rf'\{{"log":"([!#-~]+)","index":(?:{SIZE}|null),"salt":(?:"([0-9a-f]{{32}}|)"|null),"event":(\{{.*\}})\}}\n?'
FOUND = Counter[str]()
decode = partial(base64.b64decode, validate=True)


def report(name: str, sentence: str) -> str:
    FOUND[name] += 1
    if FOUND[name] <= 20:  # the others are counted
        print(f"FINDING {name}: {sentence}")
    return ""


def fold(hashes: list[bytes]) -> bytes:
    """Return the root of the Merkle tree (RFC 6962) above these hashes."""
    while len(hashes) > 1:
        nodes = [sha256(b"\1" + a + b).digest() for a, b in zip(hashes[::2], hashes[1::2], strict=False)]
        hashes = nodes + hashes[2 * len(nodes) :]
    return hashes[0] if hashes else sha256(b"").digest()


class Key:  # a vkey (https://c2sp.org/signed-note)
    def __init__(self, vkey: str, *types: int) -> None:
        self.name, key_id, material = vkey.split("+", 2)
        self.type, self.public = decode(material)[0], decode(material)[1:]
        self.id = sha256(self.name.encode() + b"\n" + decode(material)).digest()[:4]
        if self.id.hex() != key_id or self.type not in types:
            raise ValueError("the policy has a malformed key, or a key of another role")

    def verify(self, text: bytes, signature: bytes) -> int:
        """Return the time of a cosignature (https://c2sp.org/tlog-cosignature), 0 for a log's plain signature."""
        time = b"" if self.type == ED25519 else signature[:8]
        seconds, signature = int.from_bytes(time, "big"), signature[len(time) :]
        if self.type == ML_DSA_44:
            from cryptography.hazmat.primitives.asymmetric import mldsa  # older versions do not have it

            origin, size, root = text.split(b"\n")[:3]
            name, log = (bytes([len(one)]) + one for one in (self.name.encode(), origin))
            tree = bytes(8) + int(size).to_bytes(8, "big") + decode(root)
            tree = b"subtree/v1\n\0" + name + time + log + tree
            mldsa.MLDSA44PublicKey.from_public_bytes(self.public).verify(signature, tree)
        else:
            head = b"cosignature/v1\ntime %d\n" % seconds if time else b""
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, head + text)
        return seconds


class Checkpoint(NamedTuple):
    origin: str
    size: int
    root: bytes
    time: int  # the latest time of a witness, 0 without one
    source: str


class Policy:
    def __init__(self, content: str) -> None:
        self.logs, self.witnesses, quorums, used = list[Key](), dict[str, Key](), list[str](), list[str]()
        self.groups: dict[str, tuple[int, list[str]]] = {"none": (0, [])}
        for line in content.split("\n"):
            defined = {*self.witnesses, *self.groups}
            match re.findall(r"[^ \t]+", line):
                case ["log", vkey] | ["log", vkey, _]:
                    self.logs.append(Key(vkey, ED25519, ML_DSA_44))
                case ["witness", name, vkey] | ["witness", name, vkey, _] if name not in defined:
                    self.witnesses[name] = Key(vkey, ED25519_COSIGNATURE, ML_DSA_44)
                case ["group", name, k, *members] if name not in defined and defined.issuperset(members):
                    self.groups[name] = {"any": 1, "all": len(members)}.get(k) or int(k), members
                    used += members if 0 < self.groups[name][0] <= len(members) else ["none"]
                case ["quorum", name] if name in defined:
                    quorums.append(name)
                case [word, *_] if not word.startswith("#"):
                    raise ValueError("the policy has a malformed line")
        self.quorum, self.keys = quorums[-1], [*self.logs, *self.witnesses.values()]
        used += [f"{key in self.logs} {key.public.hex()}" for key in self.keys]
        if len(quorums) > 1 or "none" in used or len(used) > len(set(used)):
            raise ValueError("the policy has a malformed group, two quorums, or a key or member twice")

    def verify(self, source: Path, head: str = "") -> Checkpoint | None:
        """Return the checkpoint of a file after its `head`, or report why it does not meet the policy."""
        found = re.fullmatch(NOTE, source.read_bytes().decode(errors="replace").removeprefix(head))
        times = dict[Key, int]()
        try:
            for name, signature in re.findall(r"— (\S+) (\S+)\n", found[5] if found else ""):
                keys = [key for key in self.keys if (key.name, key.id) == (name, decode(signature)[:4])]
                times |= {key: key.verify(found[1].encode(), decode(signature)[4:]) for key in keys if found}
        except (InvalidSignature, ValueError):
            found = None
        if not found:
            report("checkpoint-forged", f"{source} is malformed or has a wrong signature")
            return None
        reached = {name for name, key in self.witnesses.items() if key in times}
        latest = max((times[self.witnesses[name]] for name in reached), default=0)
        for name, (threshold, members) in self.groups.items():
            reached |= {name} if len(reached.intersection(members)) >= threshold else set()
        origin = next((key.name for key in self.logs if key.name == found[2] and key in times), "")
        if not origin:
            report("checkpoint-forged", f"no log of the policy has signed {source}")
        elif self.quorum not in reached:
            report("quorum-missing", f"too few witnesses of the policy have cosigned {source}")
        else:
            return Checkpoint(origin, int(found[3]), decode(found[4]), latest, str(source))
        return None


class Log:  # a folder with the checkpoints and the tiles of one log (https://c2sp.org/tlog-tiles)
    def __init__(self, folder: Path, policy: Policy) -> None:
        self.folder, self.read_again, home = folder, lru_cache(4)(self.read), folder.resolve().as_posix()
        self.levels: list[list[bytes]] = [[] for _ in range(9)]  # the hashes of the last tile of each level
        files = (folder / "checkpoints").iterdir()
        self.checkpoints = sorted(one for file in files if (one := policy.verify(file)))
        self.origin, self.size = self.checkpoints[-1][:2] if self.checkpoints else ("", 0)
        if not self.checkpoints:
            report("checkpoint-missing", f"{folder} has no checkpoint that meets the policy")
        for old, one in zip(self.checkpoints[:1] + self.checkpoints, self.checkpoints, strict=False):
            if one.source != f"{folder}/checkpoints/{one.size}" or not home.endswith(f"/{one.origin}"):
                report("checkpoint-misplaced", f"{one.source} has size {one.size} and is of {one.origin}")
            if old.time and one.time - old.time > 7200:  # a checkpoint is due each hour
                print(f"NOTE {(one.time - old.time) // 60} minutes without a checkpoint before {one.source}")

    def verify(self, every: list[Checkpoint]) -> None:
        """Compare the tiles with one another, and all checkpoints of this log with the tiles."""
        checks = sorted((one for one in every if one.origin == self.origin), reverse=True)
        for index in range((self.size + 255) // 256):
            entries = [one.removeprefix(b"\0\x20") for one in self.read("entries", index, 34)]
            self.levels[0] = self.compare(0, index, [sha256(b"\0" + one).digest() for one in entries])
            if not self.levels[0]:
                report("not-verified", f"{self.folder}: the events from {index * 256} on")
                return
            while checks and checks[-1].size <= index * 256 + len(self.levels[0]):
                self.compare_root(checks.pop(), index)
            level = 0
            while len(self.levels[level]) == 256:
                self.levels[level + 1].append(fold(self.levels[level]))
                self.levels[level], level = [], level + 1
                if len(self.levels[level]) == 256:
                    self.compare(level, index >> 8 * level, self.levels[level])
        for level in [level for level in range(1, 9) if self.levels[level]]:
            self.compare(level, self.size >> 8 * (level + 1), self.levels[level])
        if checks and checks[0].size > self.size:
            report("rolled-back", f"{self.folder} ends at {self.size} events, before {checks[0].source}")

    def compare_root(self, one: Checkpoint, index: int) -> None:
        hashes = self.levels[0][: one.size - index * 256]
        for above in self.levels[1:]:
            hashes = [*above, fold(hashes)] if hashes else above
        if fold(hashes) != one.root:
            name = "root-differs" if one.source.startswith(f"{self.folder}/") else "split-view"
            report(name, f"the tiles of {self.folder} have another root than {one.source}")

    def compare(self, level: int, index: int, computed: list[bytes]) -> list[bytes]:
        """Return the hashes of a tile, after a comparison with what the level below it gives."""
        tile = self.read(str(level), index)
        for n, pair in enumerate(zip(tile, computed, strict=False)):
            if pair[0] != pair[1]:
                first = (index * 256 + n) << 8 * level
                name = f"{self.folder}/tile/{level} of the events {first} to {first + 256**level - 1}"
                report("tile-changed", f"the hash in {name} is not the hash below it")
        return tile or computed

    def read(self, level: str, index: int, unit: int = 32) -> list[bytes]:
        """Return the hashes of a tile, nothing if it is missing. Compare its older partial tiles with it."""
        width = min(256, (self.size >> 8 * int(level.replace("entries", "0"))) - index * 256)
        digits = f"{index:0{-(-len(str(index)) // 3) * 3}}"
        path = self.folder / "tile" / level / re.sub("(...)(?=.)", r"x\1/", digits)
        older = {int(one.name): one.read_bytes() for one in path.with_name(f"{path.name}.p").glob("*")}
        content = (path.read_bytes() if path.exists() else older.get(width, b""))[: width * unit]
        for count, one in older.items():
            if count <= width and one != content[: count * unit]:
                report("tile-changed", f"{path}.p/{count} is not the beginning of its tile")
        if len(content) == width * unit:
            return [content[start : start + unit] for start in range(0, len(content), unit)]
        report("tile-changed" if content else "tile-missing", f"{path} does not have {width} hashes")
        return []

    def verify_event(self, index: int, salt: bytes, event: bytes, line: str) -> None:
        """Compare an event with its leaf, and its time with the checkpoints before and after it."""
        leaf = sha256(b"\0" + sha256(salt + event).digest()).digest()
        if self.read_again("0", index // 256)[index % 256 :][:1] != [leaf]:
            report("event-changed", f"{line} is not the event {index} of {self.origin}")
            return
        after = bisect.bisect_right(self.checkpoints, index, key=lambda one: one.size)
        verify_time(event, self.checkpoints[after - 1].time if after else 0, self.checkpoints[after])


def verify_time(event: bytes, earliest: int, checkpoint: Checkpoint) -> None:
    """Compare the time of an event with the times of the checkpoints before and after it."""
    stated = json.loads(event)["recorded_at"]
    time = datetime.fromisoformat(stated).timestamp()
    if time < earliest - SEALING_SECONDS or not checkpoint.origin.endswith(f"/{stated[:4]}"):
        report("backdated", f"an event of {stated} was sealed later, before {checkpoint.source}")
    if checkpoint.time and time > checkpoint.time + CLOCK_SECONDS:
        report("clock-leap", f"an event of {stated} was sealed earlier, before {checkpoint.source}")


def root_of(node: bytes, index: int, size: int, proof: list[bytes]) -> bytes:
    """Return the root that an inclusion proof leads to, and other bytes if the proof has another length."""
    if size <= 1 or not proof:
        return node if (index, size, proof) == (0, 1, []) else b""
    half = 1 << (size - 1).bit_length() - 1
    if index < half:
        return sha256(b"\1" + root_of(node, index, half, proof[:-1]) + proof[-1]).digest()
    return sha256(b"\1" + proof[-1] + root_of(node, index - half, size - half, proof[:-1])).digest()


def verify_receipt(policy: Policy, receipt: Path, path: Path) -> str:
    """Verify that a receipt (https://c2sp.org/tlog-proof) proves an event. Return the event's digest."""
    found = re.match(RECEIPT, receipt.read_bytes().decode(errors="replace"))
    checkpoint, content = policy.verify(receipt, found[0] if found else ""), path.read_bytes()
    if not found or not checkpoint:
        return report("receipt-malformed", f"{receipt} is no receipt with a checkpoint that meets the policy")
    leaf = sha256(b"\0" + sha256(decode(found[1]) + content).digest()).digest()
    if root_of(leaf, int(found[2]), checkpoint.size, [*map(decode, found[3].split())]) != checkpoint.root:
        return report("event-changed", f"{receipt} does not prove {path}")
    verify_time(content, 0, checkpoint)
    return str(json.loads(content)["digest"])


def verify_export(path: Path, logs: dict[str, Log]) -> str:
    """Compare each line of an NDJSON export with the tiles. Return how many lines it has."""
    unsealed = redacted = number = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            found, name = re.fullmatch(LINE.encode(), line), f"{path} line {number}"
            log = logs.get(found[1].decode()) if found else None
            if not found or (found[2] is None) != (found[3] is None):
                report("export-malformed", f"{name} is not a line of an export")
            elif not found[3]:
                unsealed, redacted = unsealed + (found[2] is None), redacted + (found[3] == b"")
            elif not log or int(found[2]) >= log.size:
                report("not-verified", f"{name}: the tiles do not reach this event")
            else:
                log.verify_event(int(found[2]), bytes.fromhex(found[3].decode()), found[4], name)
    return f"{number} lines of {path}, {unsealed} of them not sealed yet, {redacted} redacted"


def verify(given: argparse.Namespace) -> str:
    """Verify the files of the command. Return what was verified. Raises OSError, LookupError, ValueError."""
    policy = Policy(given.policy.read_text(encoding="utf-8"))
    known = [one for path in given.known if (one := policy.verify(path))]
    folders = [one.parent for folder in given.tiles for one in sorted(folder.glob("**/checkpoints"))]
    logs = [Log(folder, policy) for folder in folders]
    for log in logs:
        log.verify([*known, *(one for other in logs for one in other.checkpoints)])
    verified = [f"{log.size} events of {log.origin}" for log in logs]
    if given.receipt:
        digest = verify_receipt(policy, *given.receipt)
        verified.append(f"the event of {given.receipt[0]}")
        if given.export and digest != sha256(given.export.read_bytes()).hexdigest():
            report("export-changed", f"{given.export} is not the file of the event")
    if given.export and logs:
        verified.append(verify_export(given.export, {log.origin: log for log in logs}))
    if (missing := {one.origin for one in known} - {log.origin for log in logs}) or not verified:
        report("checkpoint-missing", f"no folder has `checkpoints` of {', '.join(missing) or 'any log'}")
    return ", ".join(verified)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("policy", type=Path)
    for name, count in (("--tiles", "+"), ("--known", "+"), ("--receipt", 2), ("--export", None)):
        parser.add_argument(name, type=Path, nargs=count, default=[] if count == "+" else None)
    try:
        verified = verify(parser.parse_args())
    except (OSError, LookupError, ValueError, ImportError) as error:
        parser.exit(2, f"verify_audit: a file cannot be read: {error!r}\n")
    findings = ", ".join(f"{count} {name}" for name, count in FOUND.items())
    print(f"verify_audit: {verified}: {findings or 'verified'}")
    parser.exit(1 if FOUND else 0)
