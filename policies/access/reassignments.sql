-- Reassignments: the worker moves the consultations of a doctor who left, after two officers have decided.

grant execute on function
private.reassign_consultations(uuid),
private.fail_reassignment(uuid, text)
to resguardo_worker;
