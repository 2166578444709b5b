-- Invitations of staff: compliance writes and reads them, and the worker sends them.

grant execute on function
private.invite_staff(text, text),
private.read_staff_invitations()
to compliance;

grant execute on function
private.settle_staff_invitation(uuid, uuid),
private.fail_staff_invitation(uuid, text)
to resguardo_worker;
