-- name: request
-- Queues the job that writes a section of the caller's draft again.
select private.request_note_section(%(id)s, %(section)s, %(based_on)s);

-- name: begin
-- Begins to write the next section of a draft that the doctor asked for; no row if there is none.
select
    s.section,
    s.run,
    s.language,
    (s.opened).*,
    s.parts,
    s.rounds,
    s.answers
from private.begin_note_section(%(id)s) as s;

-- name: count_request
-- Counts a request, and returns whether to send it; null if the section may not be written now.
select private.count_note_request(%(id)s, %(section)s, %(run)s, %(part)s, %(round)s, %(is_charged)s);

-- name: take_back_request
-- Takes back the count of a request for which the service did not charge.
select private.take_back_note_request(%(id)s, %(section)s, %(part)s, %(round)s);

-- name: store_answer
-- Stores an encrypted answer.
select private.store_note_answer(%(id)s, %(section)s, %(part)s, %(round)s, %(ciphertext)s);

-- name: count_tokens
-- Adds the tokens of an answer to the ledger.
select private.count_tokens(
    %(id)s, %(vendor)s, %(model)s, %(input_tokens)s, %(cached_tokens)s, %(output_tokens)s
);

-- name: reopen
-- Returns the draft again, and locks it; no row if the section may no longer be written.
select d.* from private.reopen_note_draft(%(id)s, %(section)s) as d;

-- name: finish
-- Stores the draft with the new section; returns false if the draft has changed.
select private.finish_note_section(%(id)s, %(section)s, %(based_on)s, %(ciphertext)s);

-- name: fail
-- Ends a section that cannot be written, or all sections of a recording.
select private.fail_note_section(%(id)s, %(section)s, %(reason)s, %(is_useless)s);

-- name: resume
-- Queues a job for each recording with an unfinished section and without a job.
select private.resume_note_sections();
