-- Invitations of staff: compliance officers create and read the invitations, and the worker sends them.

grant execute on function
private.invite_staff(text, text),
private.read_staff_invitations(timestamptz, uuid, integer, text[])
to compliance;

grant execute on function
private.settle_staff_invitation(uuid, uuid),
private.fail_staff_invitation(uuid, text)
to resguardo_worker;
