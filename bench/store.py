"""The store: a directory with `results.jsonl`, one record a line, and `run.json`, what run it was.

Lines are only ever appended; the last line of a case is the one that counts. Nothing in the directory has the
user's name or home. Imports no torch.
"""

from __future__ import annotations

import fcntl
import operator
import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from bench import files, private, signals, starts
from bench.case import Case
from bench.errors import UsageError
from bench.record import SCHEMA_VERSION, UNREADABLE, Record
from bench.starts import Run as Run

RESULTS: Final = "results.jsonl"
RUN: Final = "run.json"
_RECORDS: Final = msgspec.json.Decoder(Record)
_CASE: Final = operator.attrgetter(*Case.__struct_fields__)
"""What tells records apart, at a third of the time that it takes to make their cases."""


class Stored(msgspec.Struct, frozen=True):
    """What a results file holds."""

    records: list[Record]
    """The last line of each case, in the order in which the cases first appeared."""
    messages: list[str]
    """One line for each line of the file that was left out, and why; and one where not all is of the same code."""


class Store:
    """A run's directory, open for appending, and no one else's as long as it is open. A context manager."""

    def __init__(self, directory: Path, run: Run, *, resume: bool = False, begun: bool = False) -> None:
        """Opens `directory`, which is created where there is none, and writes `run.json`.

        With `resume` an earlier run's records are kept, and its `run.json` until the first record is appended. `begun`
        says that there is more than records to go on with, so that the first start is told of without one as well.

        Raises: UsageError where the directory cannot be written, is in use by another run, holds an earlier
        run (without `resume`) or a run of another suite, or has records of another schema.
        """
        self.directory = directory
        self._file = -1
        self._begun = begun
        try:
            with signals.deferred():
                self._file = _open(directory)
                self._begin(directory, run, resume)
        except BaseException:
            self.close()
            raise

    def _begin(self, directory: Path, run: Run, resume: bool) -> None:
        try:
            # Of a run that was killed as it wrote this; nobody else writes here now.
            files.part(directory / RUN).unlink(missing_ok=True)
            earlier = _earlier(directory, run, resume)
            stored = read(directory)
            self.messages = stored.messages
            self._records = {record.case(): record for record in stored.records}
            # What earlier starts measured and still stands; with the same fingerprint a record may get new times.
            self._older = {record.case(): record.fingerprint for record in stored.records}
            if resume and not self._records and not self._begun:
                self.messages = [*self.messages, f"nothing to go on with in {directory}: starting afresh"]
            files.end_line(self._file, _is_record)
            self._latest = msgspec.structs.replace(run, arguments=private.arguments(run.arguments))
            self._earlier = earlier if self._records or self._begun else None
            self.run = self._earlier or self._latest
            if self._earlier is None:
                self._describe()
        except OSError as error:
            raise _unwritable(directory, error) from error

    def append(self, record: Record) -> Record:
        """Adds a record, on the disk when this returns. Returns it as it was written: without private paths.

        Raises: UsageError where it cannot be written; the file is then as it was.
        """
        record = private.record(record)
        with signals.deferred():
            if self._older.get(record.case()) != record.fingerprint:
                self._older.pop(record.case(), None)
            try:
                if self._earlier is not None:
                    self._measured_after(self._earlier)
                files.append(self._file, msgspec.json.encode(record) + b"\n")
            except OSError as error:
                raise UsageError(
                    f"{self.directory / RESULTS}: {error.strerror}; make room, then go on with --resume"
                ) from error
            self._records[record.case()] = record
            if os.fstat(self._file).st_nlink == 0:
                raise UsageError(f"{self.directory / RESULTS} was deleted as the run went on; begin it again")
        return record

    def _measured_after(self, earlier: Run) -> None:
        """Has `run.json` tell of this start: beside the earlier ones or, where none of their records is left, alone."""
        run = starts.continued(earlier, self._latest, alone=not self._older and not self._begun)
        if run != self.run:
            self.run = run
            self._describe()

    def finish(self) -> None:
        """Has `run.json` tell that this start came to its end.

        Raises: UsageError where it cannot be written.
        """
        run = starts.ended(self.run, self._records)
        if run != self.run:
            self.run = run
            try:
                self._describe()
            except OSError as error:
                raise _unwritable(self.directory, error) from error

    def _describe(self) -> None:
        files.replace(self.directory / RUN, msgspec.json.format(msgspec.json.encode(self.run)) + b"\n")

    def records(self) -> list[Record]:
        """The records so far, the last of each case."""
        return list(self._records.values())

    def close(self) -> None:
        """Closes the file and lets go of the directory."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read(path: Path) -> Stored:
    """The records in a run's directory, or in a results file. A directory with a `run.json` and no records
    yet yields none.

    Raises: UsageError where there is no run, or a record is of another schema.
    """
    file = path / RESULTS if path.is_dir() else path
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        if (path / RUN).is_file():
            return Stored([], [])
        raise UsageError(f"{path}: no {RESULTS} there; give the directory of a run (its --out)") from None
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}; give the directory of a run (its --out)") from error
    records: dict[tuple[object, ...], Record] = {}
    messages: list[str] = []
    lines = content.split(b"\n")
    latest: str | None = None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{file} line {number}"
        try:
            record = _decode(line, where)
        except UNREADABLE as error:
            torn = number == len(lines)
            reason = "is torn: the run was cut off as it was written" if torn else f"is no record ({error})"
            messages.append(f"{where} {reason}; left out, the rest is kept")
        else:
            records[_CASE(record)] = record
            latest = record.code or latest
    # Of a record from before it was kept nothing is known, and nothing said.
    others = sum(record.code not in (None, latest) for record in records.values())
    if others:
        messages.append(
            f"{file}: {others} of {len(records)} cases were measured with other code than the latest; "
            "where that matters, measure them again with --resume"
        )
    return Stored(list(records.values()), messages)


def read_run(path: Path) -> Run | None:
    """What `run.json` in a run's directory says; None where there is no such file.

    Raises: UsageError where it is of another schema or not readable.
    """
    file = (path if path.is_dir() else path.parent) / RUN
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}; give the directory of a run (its --out)") from error
    try:
        _check_version(content, str(file))
        return msgspec.json.decode(content, type=Run)
    except UNREADABLE as error:
        raise UsageError(f"{file}: not a run's file ({error}); remove it, or give another --out") from error


class _Version(msgspec.Struct):
    schema_version: int


def _decode(line: bytes, where: str) -> Record:
    try:
        record = _RECORDS.decode(line)
    except UNREADABLE:
        # One of another version may well be no record of this one.
        _check_version(line, where)
        raise
    # A line that does not say its version has got this one's, as a default.
    if record.schema_version != SCHEMA_VERSION or b'"schema_version"' not in line:
        _check_version(line, where)
    return record


def _check_version(content: bytes, where: str) -> None:
    version = msgspec.json.decode(content, type=_Version).schema_version
    if version != SCHEMA_VERSION:
        raise UsageError(
            f"{where}: schema version {version}, this bdia-bench reads {SCHEMA_VERSION}; "
            f"use the version that wrote it, or measure again into another directory"
        )


def _open(directory: Path) -> int:
    """The results file, open for reading and appending, locked."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = os.open(directory / RESULTS, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise _unwritable(directory, error) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(file)
        raise UsageError(
            f"--out {str(directory)!r}: another run is writing there; wait for it, or give another --out"
        ) from error
    except OSError as error:
        os.close(file)
        raise UsageError(
            f"--out {str(directory)!r}: {error.strerror}, so it cannot be locked; give a directory on another disk"
        ) from error
    return file


def _unwritable(directory: Path, error: OSError) -> UsageError:
    return UsageError(f"--out {str(directory)!r}: {error.strerror}; give a directory that can be written")


def _earlier(directory: Path, run: Run, resume: bool) -> Run | None:
    """The run that the directory holds already, if it may be gone on with."""
    earlier = read_run(directory)
    if earlier is None and (directory / RESULTS).stat().st_size == 0:
        return None
    if earlier is not None and earlier.predicted != run.predicted:
        kinds = ("measured", "predicted")
        raise UsageError(
            f"--out {str(directory)!r} holds a run that is {kinds[earlier.predicted]}, and this one is "
            f"{kinds[run.predicted]}: what is measured and what is predicted go to directories of their own"
        )
    if not resume:
        raise UsageError(
            f"--out {str(directory)!r} holds another run; go on with it by --resume, or give another --out"
        )
    if earlier is not None and earlier.suite != run.suite:
        raise UsageError(
            f"--out {str(directory)!r} holds a run of suite {earlier.suite}, not {run.suite}; give another --out"
        )
    return earlier


def _is_record(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=Record)
    except UNREADABLE:
        return False
    return True
