-- Quotas of requests. A doctor's read of the open rooms counts as one page.

grant execute on function private.count_page() to clinician;
