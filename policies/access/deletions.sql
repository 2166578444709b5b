-- Deletions: a doctor sees those of the own recordings, compliance all of them. They are asked for and undone by
-- functions alone, and the worker takes them through their steps by functions alone.

select private.reset_access('resguardo.deletions');
alter table resguardo.deletions enable row level security;

grant select on resguardo.deletions to clinician, compliance;

create policy deletions_select_clinician on resguardo.deletions for select to clinician
using (doctor_id = (select private.person()));

create policy deletions_select_compliance on resguardo.deletions for select to compliance
using ((select private.person()) is not null);
