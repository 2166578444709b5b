-- The topics of insights: a clinician reads those of the recordings that the clinician sees, in a list. Compliance
-- officers read the same lists, in which the topics are null.

grant execute on function private.topics_of(uuid) to clinician, compliance;
