-- The topics of insights: a doctor reads those of their own recordings in a list. Compliance officers read the same
-- lists, in which the topics are null.

grant execute on function private.topics_of(uuid) to clinician, compliance;
