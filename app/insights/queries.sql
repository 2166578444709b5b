-- name: retry
-- Begins FAILED or OFF insights again, and returns false if the caller may not see the recording.
select private.retry_insights(%(id)s);

-- name: refresh
-- Begins a new generation of STALE insights, and returns false if the caller may not see the recording.
select private.refresh_insights(%(id)s);

-- name: dismiss
-- Dismisses a line of the insights that were opened in this transaction.
select private.dismiss_insight(%(id)s, %(generation)s, %(line_number)s);

-- name: begin
-- Begins or resumes the writing of insights and returns the encrypted transcript and the stored answers, or no row if
-- the job has nothing to do now.
select
    b.generation,
    b.run,
    b.language,
    b.corrections_used,
    b.duration_seconds,
    b.is_truncated,
    b.is_interrupted,
    b.unused_track_count,
    b.ciphertext,
    b.corrections,
    b.wrapped,
    b.root_key,
    b.parts,
    b.rounds,
    b.answers
from private.begin_insights(%(id)s, %(is_charged)s) as b;

-- name: store_part_count
-- Stores into how many parts the transcript is divided.
select private.store_part_count(%(id)s, %(run)s, %(part_count)s);

-- name: count_request
-- Counts a request before it is sent, and returns whether it must be sent, or null if nothing is to be written
-- now.
select private.count_insight_request(%(id)s, %(run)s, %(part)s, %(round)s, %(is_charged)s);

-- name: take_back_request
-- Takes back the count of a request for which the service did not charge.
select private.take_back_insight_request(%(id)s, %(part)s, %(round)s);

-- name: store_answer
-- Stores the encrypted answer of the language service for a part.
select private.store_insight_answer(
    %(id)s, %(generation)s, %(corrections_used)s, %(part)s, %(round)s, %(ciphertext)s
);

-- name: count_tokens
-- Adds the tokens of an answer to the cost ledger.
select private.count_tokens(
    %(id)s, %(vendor)s, %(model)s, %(input_tokens)s, %(cached_tokens)s, %(output_tokens)s
);

-- name: finish
-- Stores the encrypted insights and sets them to READY or STALE.
select private.finish_insights(
    %(id)s, %(generation)s, %(run)s, %(ciphertext)s, %(topics)s, %(language)s, %(vendor)s, %(model)s, %(dropped_count)s
);

-- name: give_up
-- Ends insights that cannot be finished, with their reason.
select private.give_up_insights(%(id)s, %(status)s, %(reason)s, %(useless_parts)s);

-- name: resume
-- Queues a job for all unfinished insights without a job, and returns the number of queued jobs.
select private.resume_insights();
