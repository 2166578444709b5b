"""The service with which patients read the report of who looked at their record, and the report of what was recorded. A
compliance officer reads both for the person who filed an approved access request.
"""

from collections.abc import Sequence

from app.identity import permissions
from app.patient_reports import store
from app.patient_reports.model import Look, ReportedRecording, ReportPage, ReportRequest
from app.postgres.database import Asker, Database
from app.postgres.paging import PageRequest


class PatientReports:
    """The service. With `with_names`, the reports name members of staff by the name that compliance has published, if
    there is one, and by their role otherwise.
    """

    def __init__(self, database: Database, *, with_names: bool) -> None:
        self._database = database
        self._with_names = with_names

    async def list_looks(
        self, asker: Asker, page: PageRequest, wanted: ReportRequest, fields: Sequence[str]
    ) -> ReportPage[Look]:
        """Return a page of the report of who looked at the patient's record, newest first. The audit row names the
        fields.

        Raises InvalidInput (report_of_whom, bad_time_zone), NotFound (consultation_not_found,
        access_request_not_found), Conflict (access_request_not_approved), RateLimited (quota_pages).
        """
        access = permissions.READ_ACCESS_REPORT.on(wanted.access_request_id, purpose="PATIENT_REQUEST")
        async with self._database.as_user(asker, access) as tx:
            return await store.read_looks(tx, page, wanted, fields, with_names=self._with_names)

    async def list_recordings(
        self, asker: Asker, page: PageRequest, wanted: ReportRequest, fields: Sequence[str]
    ) -> ReportPage[ReportedRecording]:
        """Return a page of the report of what was recorded of the patient, newest first. Raises like `list_looks`."""
        access = permissions.READ_RECORDING_REPORT.on(wanted.access_request_id, purpose="PATIENT_REQUEST")
        async with self._database.as_user(asker, access) as tx:
            return await store.read_recordings(tx, page, wanted, fields, with_names=self._with_names)
