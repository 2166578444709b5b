-- The audit log: one insert-only table, and the functions that write rows into it.
--
-- Each partition of the audit log holds the rows of one year. The migration creates the partitions of twenty years. A
-- missing partition would stop every insert into the audit log, and every read of protected data inserts an audit
-- row.

create table audit.events (
    id uuid not null default gen_random_uuid(),
    recorded_at timestamptz not null default clock_timestamp(),
    occurred_at timestamptz,
    actor_id uuid,
    actor_role text not null,
    session_fingerprint text,
    aal text,
    action text not null,
    operation text not null constraint events_operation_is_known check (operation in ('C', 'R', 'U', 'D', 'E')),
    outcome text not null
    constraint events_outcome_is_known check (outcome in ('ALLOWED', 'DENIED', 'ABSENT', 'FAILED')),
    reason text,
    purpose text not null
    constraint events_purpose_is_known check (
        purpose in ('TREATMENT', 'PAYMENT', 'OPERATIONS', 'PATIENT_REQUEST', 'LEGAL')
    ),
    basis text not null,
    entities jsonb not null default '[]',
    patient_ids uuid[] not null default '{}',
    consultation_ids uuid[] not null default '{}',
    fields text[] not null default '{}',
    row_count integer not null default 0,
    byte_count bigint,
    digest text constraint events_digest_is_hex check (digest ~ '^[0-9a-f]{64}$'),
    request_id uuid,
    address inet,
    policy_version text not null,
    salt bytea not null default uuid_send(gen_random_uuid()),
    canonical_version smallint not null default 1,
    constraint events_pkey primary key (id, recorded_at)
) partition by range (recorded_at);

comment on table audit.events is
'Insert-only. A list writes one row that names every patient it shows. Rows hold ids and field names, no values.';
comment on column audit.events.recorded_at is
'The time of the insert by the database''s clock, not the start of the transaction.';
comment on column audit.events.occurred_at is
'When the event happened by the clock of the service that reported it, such as Supabase Auth. Null for our own events.';
comment on column audit.events.session_fingerprint is
'The SHA-256 of the session id, in hex. The session id itself is a secret and is not stored.';
comment on column audit.events.operation is 'Create, read, update, delete or execute: AuditEvent.action of FHIR R4.';
comment on column audit.events.entities is
'What the action was about, or what a read showed: for each type of entity an object with the type and the ids.';
comment on column audit.events.fields is
'The fields that were shown, as paths from the entity, such as patient.externalId.';
comment on column audit.events.digest is
'The SHA-256 of a signed note (its random salt keeps its text secret), an export, a final checkpoint or a new key.';
comment on column audit.events.salt is
'Random bytes in front of the row in its leaf hash. They keep the values of a removed row from being guessed.';
comment on column audit.events.canonical_version is
'The version of the canonical form of the row that its leaf hash covers (docs/audit-log.md).';
comment on column audit.events.basis is 'Why access was allowed, or the ground on which access was requested.';

-- The condition of this partial index is true for every event. Postgres uses this index only for a select that
-- repeats the index's condition. Without this condition, Postgres might read the whole audit log backwards to find
-- the events of an actor or an action that it expects to be frequent.
create index events_recorded_idx on audit.events (recorded_at desc, id desc) where outcome <> '';
create index events_actor_idx on audit.events (actor_id, recorded_at desc, id desc);
create index events_action_idx on audit.events (action, recorded_at desc, id desc);
create index events_digest_idx on audit.events (digest) where digest is not null;
create index events_pdf_idx on audit.events (recorded_at desc, id desc)
where action = 'note.read' and outcome = 'ALLOWED' and fields @> '{pdfBase64}';

create table audit.unindexed (
    recorded_at timestamptz not null,
    event_id uuid not null,
    constraint unindexed_pkey primary key (recorded_at, event_id)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
comment on table audit.unindexed is
'The events that are in no block yet. A trigger inserts rows, and private.index_audit_events() deletes them.';

create table audit.event_blocks (
    number integer not null constraint event_blocks_pkey primary key,
    started_at timestamptz not null,
    ended_at timestamptz not null,
    latest_at timestamptz not null,
    recorded_at timestamptz[] not null,
    event_ids uuid[] not null
);
comment on table audit.event_blocks is
'Blocks of 1,024 events in order of time. Blocks can overlap in time, because an event can be committed late.';
comment on column audit.event_blocks.latest_at is 'The latest time of an event in this block and all blocks before it.';
create index event_blocks_latest_idx on audit.event_blocks (latest_at);

create table audit.event_bitmaps (
    attribute text not null,
    value text not null,
    block integer not null,
    bits bit(1024) not null,
    constraint event_bitmaps_pkey primary key (attribute, value, block)
);
comment on table audit.event_bitmaps is
'For each value of an attribute in a block: which of the 1,024 events of the block have this value.';

-- Inserts a new event into audit.unindexed. Each event gets exactly one row, so that the duration of a refusal does not
-- reveal whether the requested row exists.
create function private.queue_event_for_index() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    insert into audit.unindexed (recorded_at, event_id) values (new.recorded_at, new.id) on conflict do nothing;
    return null;
end
$$;

create trigger events_queue_for_index after insert on audit.events
for each row execute function private.queue_event_for_index();

create function private.refuse_change() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception 'the audit log is insert only' using errcode = 'RG405';
end
$$;

create trigger events_refuse_change before update or delete on audit.events
for each row execute function private.refuse_change();

create trigger event_blocks_refuse_change before update or delete on audit.event_blocks
for each row execute function private.refuse_change();
create trigger event_blocks_refuse_truncate before truncate on audit.event_blocks
for each statement execute function private.refuse_change();
alter table audit.event_blocks enable always trigger event_blocks_refuse_change;
alter table audit.event_blocks enable always trigger event_blocks_refuse_truncate;

create trigger event_bitmaps_refuse_change before update or delete on audit.event_bitmaps
for each row execute function private.refuse_change();
create trigger event_bitmaps_refuse_truncate before truncate on audit.event_bitmaps
for each statement execute function private.refuse_change();
alter table audit.event_bitmaps enable always trigger event_bitmaps_refuse_change;
alter table audit.event_bitmaps enable always trigger event_bitmaps_refuse_truncate;

create trigger unindexed_refuse_change before update on audit.unindexed
for each row execute function private.refuse_change();
create trigger unindexed_refuse_truncate before truncate on audit.unindexed
for each statement execute function private.refuse_change();
alter table audit.unindexed enable always trigger unindexed_refuse_change;
alter table audit.unindexed enable always trigger unindexed_refuse_truncate;

-- A partition does not inherit the TRUNCATE trigger of its table, and ENABLE ALWAYS must be set for the row triggers
-- of each partition separately.
do $$
declare
    partition text;
begin
    for year in 2026..2046 loop
        partition := format('events_%s', year);
        execute format(
            'create table audit.%I partition of audit.events for values from (%L) to (%L)',
            partition, format('%s-01-01 00:00:00+00', year), format('%s-01-01 00:00:00+00', year + 1)
        );
        execute format(
            'create trigger events_refuse_truncate before truncate on audit.%I '
            'for each statement execute function private.refuse_change()',
            partition
        );
        execute format('alter table audit.%I enable always trigger events_queue_for_index', partition);
        execute format('alter table audit.%I enable always trigger events_refuse_change', partition);
        execute format('alter table audit.%I enable always trigger events_refuse_truncate', partition);
    end loop;
end
$$;

create trigger events_refuse_truncate before truncate on audit.events
for each statement execute function private.refuse_change();

alter table audit.events enable always trigger events_queue_for_index;
alter table audit.events enable always trigger events_refuse_change;
alter table audit.events enable always trigger events_refuse_truncate;

-- Besides ids, an audit row may contain only the words of this table. This list of permitted words protects the audit
-- log against free text: many people read the log, and anyone with the API's login can call the functions that write
-- it.
create table private.audit_terms (
    kind text not null
    constraint audit_terms_kind_is_known check (kind in ('reason', 'basis', 'entity_type', 'field')),
    term text not null constraint audit_terms_term_is_one_word check (term ~ '^[A-Za-z][A-Za-z0-9_>]{0,62}$'),
    constraint audit_terms_pkey primary key (kind, term)
);
comment on table private.audit_terms is
'Every reason, basis, entity type and field name that an audit row may contain. Only migrations write this table.';

insert into private.audit_terms (kind, term)
select 'reason', t.term from unnest(array[
    'breach_assessment_not_found', 'own_breach_assessment', 'bad_discovered_on', 'breach_decided',
    'breach_not_counted', 'breach_factors_missing', 'breach_closed', 'breach_delay_late', 'bad_delay',
    'breach_clock_run_out',
    'breach_residents_differ', 'breach_undecided', 'bad_sent_on', 'own_sanction', 'sanction_not_of_category',
    'bad_imposed_on', 'bad_month', 'attested_already', 'bad_findings', 'bad_rationale', 'bad_residents',
    'bad_notice_method', 'breach_range', 'evidence_folder_exists',
    'fetch_period', 'alerts_open', 'metrics_port_taken',
    'audit_export_unsealed', 'audit_export_ended', 'audit_export_in_progress', 'audit_export_not_ready',
    'audit_export_not_found', 'audit_export_of_another', 'audit_export_too_large', 'quota_exports',
    'audit_filter_not_found', 'officer_lost_access',
    'bad_syntax', 'not_one_field',
    'amendment_decided', 'amendment_not_denied', 'amendment_not_disputed', 'amendment_not_found',
    'amendment_stated_already', 'bad_amendment', 'bad_amendment_date',
    'accounting_request_closed', 'accounting_request_not_found', 'accounting_too_large', 'bad_accounting_dates',
    'accounting_unprintable', 'accounting_too_long_to_print',
    'agreement_signed_ahead', 'bad_agreement', 'vendor_agreement_missing',
    'authorization_expired', 'bad_disclosure', 'suspension_not_found', 'disclosed_on_ahead', 'suspension_not_written',
    'suspension_over', 'suspension_too_long', 'text_not_begun',
    'endpoint_address_forbidden', 'endpoint_busy', 'endpoint_gone', 'endpoint_not_tried', 'endpoint_redirects',
    'endpoint_refused', 'endpoint_removed', 'endpoint_timeout', 'endpoint_tls_failed', 'endpoint_unreachable',
    'endpoint_unresolved', 'webhook_delivery_not_found',
    'note_draft_not_found', 'signed_note_not_found', 'note_draft_changed', 'note_signed', 'note_not_signed',
    'note_flags_open', 'note_empty', 'note_section_in_progress', 'note_without_transcript',
    'note_line_characters', 'note_line_empty', 'note_line_too_long', 'note_line_twice', 'note_too_many_lines',
    'note_line_unknown', 'note_flag_gone', 'note_draft_malformed', 'note_draft_format_unknown',
    'signed_note_malformed', 'signed_note_format_unknown',
    'cloudflare_access_denied', 'cloudflare_account_suspended', 'cloudflare_account_unknown',
    'cloudflare_bucket_missing', 'cloudflare_limited', 'cloudflare_not_enabled', 'cloudflare_token_refused',
    'cloudflare_unavailable', 'email_exists', 'no_intent', 'not_its_recording',
    'deletion_not_requested',
    'quota_subtitles',
    'question_running',
    'question_characters', 'question_empty', 'question_too_long', 'quota_questions',
    'recording_lost',
    'recording_failed',
    'recording_aborted',
    'ABORTED', 'ABORTED>DELETED', 'DELETED', 'FAILED', 'FAILED>DELETED', 'LOST', 'LOST>DELETED', 'LOST>READY',
    'READY', 'READY>DELETED', 'RECORDING', 'RECORDING>ABORTED', 'RECORDING>FAILED', 'RECORDING>LOST',
    'RECORDING>STOPPING', 'RECORDING>VERIFYING', 'REQUESTED', 'REQUESTED>ABORTED', 'REQUESTED>FAILED',
    'REQUESTED>STARTING', 'STARTING', 'STARTING>ABORTED', 'STARTING>FAILED', 'STARTING>LOST', 'STARTING>RECORDING',
    'STARTING>STOPPING', 'STARTING>VERIFYING', 'STOPPING', 'STOPPING>ABORTED', 'STOPPING>FAILED', 'STOPPING>LOST',
    'STOPPING>VERIFYING', 'VERIFYING', 'VERIFYING>FAILED', 'VERIFYING>LOST', 'VERIFYING>READY', 'access_changed',
    'access_not_applied', 'access_request_closed', 'access_request_not_found', 'access_request_open_already',
    'add_clinician', 'add_compliance', 'already_exists', 'already_staff', 'and_more', 'attempt_overdue',
    'audit_log_moved', 'witness_failed', 'witness_timeout', 'witness_unreachable',
    'audit_event_not_found', 'audit_event_not_sealed', 'audit_event_redacted', 'audit_event_differs',
    'audit_event_about_log', 'audit_policy_malformed', 'court_order', 'erasure_request',
    'audit_log_differs', 'audit_log_counts_differ', 'audit_log_unsealed',
    'audit_log_unpublished', 'audit_log_second_bucket_behind', 'audit_log_not_cosigned',
    'auto_record', 'bad_argument', 'bad_birth_date', 'bad_cursor', 'bad_date', 'bad_determination', 'bad_email',
    'bad_extension', 'bad_external_id', 'bad_id', 'bad_input', 'bad_kind', 'bad_page_size', 'bad_received_on',
    'bad_literal', 'bad_published_name', 'bad_unused_days', 'bad_proposal_reason',
    'not_in_role_table', 'officer_proposal_not_found', 'officer_too_new', 'proposal_about_you', 'proposal_decided',
    'proposal_officer_gone', 'proposal_open_already', 'proposal_same_officer', 'second_factor_unknown',
    'access_review_about_you', 'access_review_not_found', 'access_review_same_officer', 'access_review_settled',
    'access_review_too_old',
    'reassignment_doctor_active', 'reassignment_recipient', 'reassignment_under_investigation',
    'reassignment_waits', 'sessions_not_ended', 'staff_login_gone', 'staff_not_suspended', 'suspended_again',
    'bad_representative', 'bad_sha256', 'bad_text', 'bad_variable', 'begun', 'birth_date_given', 'bucket_changed',
    'bucket_keys_missing', 'bucket_not_as_put', 'bucket_policy_malformed', 'bucket_policy_unreadable',
    'bucket_policy_unsafe', 'bucket_rules_busy', 'bad_address', 'bad_summary_range', 'summary_too_large',
    'certificate_impossible', 'certificate_malformed', 'certificate_not_found',
    'certificate_other_key', 'certificate_pdf_attachments', 'certificate_pdf_malformed', 'certificate_public_key',
    'certificate_signature', 'certificate_too_large', 'change_clinician', 'change_compliance', 'clinician_unknown',
    'cloudflare_failed', 'cloudflare_lock_unknown', 'cloudflare_timeout', 'cloudflare_token_missing',
    'cloudflare_unreachable', 'concurrent_change', 'consent_missing', 'consent_missing_to_join', 'consent_text',
    'consent_text_differs', 'consent_text_unknown', 'consent_withdrawn', 'consultation_not_found',
    'correction_characters', 'correction_empty', 'correction_order', 'correction_too_long', 'cors',
    'credentials_lifetime', 'custom_domain', 'data_key_missing', 'data_key_wrong', 'database_busy',
    'database_login_refused',
    'database_disk_full',
    'database_connections_used_up',
    'database_of_pre_release', 'database_slow', 'database_unavailable', 'database_unmigrated',
    'database_read_only',
    'database_out_of_memory',
    'database_unreachable', 'deleted_too_early', 'deletion_not_undoable',
    'deletion_refused',
    'duplicate', 'egress_aborted', 'egress_failed', 'egress_limit_before_start', 'egress_limit_reached',
    'egress_room_closed_before_start',
    'egress_lost', 'egress_resources_exhausted', 'egress_room_connection_lost', 'egress_start_not_received',
    'egress_start_unknown', 'egress_stopped_before_start', 'egress_upload_failed', 'email_not_authorized',
    'email_refused', 'email_sign_in_disabled', 'escrow_exists', 'escrow_unreadable', 'escrow_unwritable',
    'export_mismatch', 'export_not_there', 'export_secret_gone', 'extended_already', 'external_id_taken',
    'field_unreadable', 'filename', 'found_after_restore', 'hold_custodian', 'hold_dates', 'hold_left_behind',
    'hold_matter', 'hold_not_found', 'hold_released', 'hold_unprotected', 'holds_unprotected',
    'bucket_of_another_deployment', 'bucket_unmarked', 'bad_idempotency_key', 'idempotency_key_reused',
    'invitation_redeemed', 'turn_changed',
    'import_expired', 'import_not_found', 'import_not_prepared',
    'import_size', 'import_type', 'in_the_ledger', 'incomplete', 'insight_line_unknown', 'insights_changed',
    'insights_consent_text', 'insights_consent_withdrawn', 'insights_format_unknown', 'insights_malformed',
    'insights_not_failed', 'insights_not_found', 'insights_not_stale', 'insights_overtaken', 'insights_switched_off',
    'insights_unanswered', 'insights_unusable', 'internal_error', 'invitation_differs',
    'lead_lost',
    'language_budget_used_up', 'cost_minutes', 'cost_period', 'cost_sessions',
    'language_filtered', 'language_incomplete', 'language_key_refused', 'language_model_unknown',
    'language_nonsense', 'language_not_configured', 'language_quota_exceeded', 'language_rate_limited',
    'language_refused', 'language_request_rejected', 'language_timeout', 'language_unavailable',
    'invitation_unknown', 'jwks_empty', 'jwks_unavailable', 'ledger_entry_foreign', 'ledger_number_taken',
    'ledger_versions_unknown', 'lifecycle', 'lifecycle_rules_limit', 'limit_reached', 'live_recording_exists',
    'livekit_at_capacity', 'livekit_clock', 'livekit_credentials_refused', 'livekit_no_egress', 'livekit_not_found',
    'livekit_permission_denied', 'livekit_refused', 'livekit_timeout', 'livekit_unavailable', 'lock_rule_twice',
    'lock_rules_limit', 'locks', 'login_banned', 'login_is_patient', 'login_missing', 'login_password_failed',
    'login_unconfirmed', 'mail_refused', 'mail_slow', 'media_probe_ended', 'media_sound_ended', 'media_too_slow',
    'media_unreadable', 'microphone_gone', 'migration_failed', 'migration_name', 'migration_out_of_order',
    'migration_version_twice',
    'nobody_leads',
    'migrations_missing', 'nested_too_deep',
    'no_consent_to_withdraw', 'no_export_has_it', 'no_review_asked', 'no_valid_signature',
    'no_recording_has_it', 'operation_not_found', 'subscription_by_post',
    'no_valid_token', 'not_a_refusal', 'not_a_rejection', 'not_found',
    'colleague_not_found', 'colleague_suspended', 'shared_with_oneself', 'shared_already', 'share_term',
    'share_consent', 'share_not_authorized', 'too_many_shares', 'share_not_found', 'authorization_not_needed',
    'authorization_dates', 'signed_note_shared',
    'too_many_authorizations', 'authorization_not_found', 'authorization_withdrawn', 'emergency_own_patient',
    'quota_emergencies', 'medical_emergency', 'risk_of_harm', 'doctor_unreachable', 'disaster',
    'not_permitted', 'not_registered', 'not_reviewable', 'object_appeared',
    'object_digest_differs', 'object_is_back', 'object_key', 'object_key_of_another', 'object_missing',
    'object_move', 'object_move_undecided', 'object_size_differs', 'object_still_there', 'openai_key_refused',
    'openai_missing', 'openai_unreachable', 'other', 'own_hold', 'own_suspension', 'participant_not_found',
    'passphrase_short', 'passphrases_differ', 'past_due', 'past_quarantine', 'patient_asked',
    'patient_birth_date_ahead', 'patient_birth_date_differs', 'patient_not_found', 'patient_user_differs',
    'patient_user_unknown', 'policy_', 'policy_version', 'proven', 'quota_invitations', 'quota_pages', 'quota_urls',
    'clip_consent_text', 'clip_consent_withdrawn', 'clip_in_progress', 'clip_past_end',
    'bad_clip_range', 'media_clip_ended', 'too_many_clips', 'media_thumbnail_ended', 'thumbnail_not_found',
    'quota_playbacks', 'renewal', 'repeated', 'viewing_not_renewable',
    'quotas_malformed', 'pooler_keeps_no_session',
    'r2_account_id', 'r2_jurisdiction', 'r2dev_enabled', 'recorded_at_ahead', 'recorded_at_too_early',
    'recorded_in_error', 'recorder_key_reads', 'recorder_role_refused', 'recorder_role_unsupported',
    'recording_being_deleted', 'recording_deleted', 'recording_destroyed', 'recording_has_begun', 'recording_held',
    'recording_is_finished', 'recording_not_destroyed', 'recording_not_finished', 'recording_not_found',
    'recording_not_ready', 'refused', 'representative_differs', 'request_has_no_representative',
    'request_not_written', 'reserved_action', 'retention_below_floor', 'retention_jurisdiction_unknown',
    'retention_kinds_overlap', 'retention_malformed', 'retention_policy_not_found', 'retention_policy_settled',
    'retention_same_officer', 'retention_term_absurd', 'retention_unknown_key', 'review_pending',
    'reviewed_already', 'reviewer_took_part', 'role_unknown', 'root_key_id', 'root_key_missing', 'root_key_twice',
    'root_key_unknown', 'root_key_weak', 'root_key_wrong', 'root_keys_malformed', 'rule_differs', 'rule_foreign',
    'rule_missing', 'rule_surplus', 'rule_threatens', 'search_empty', 'search_too_long', 'search_too_many_terms',
    'signed_note_altered', 'signed_note_destroyed', 'signed_note_full', 'signed_note_unprintable',
    'signed_note_version_taken', 'signature_not_begun',
    'note_quotes_not_permitted',
    'second_factor_needed', 'separate_speakers', 'served', 'session_delegated', 'session_over', 'speech_access_denied',
    'sound_not_decodable',
    'server_busy',
    'speakers_with_guests', 'speech_account_suspended', 'speech_address_refused', 'speech_busy', 'speech_failed',
    'speech_format_unsupported', 'speech_key_refused', 'speech_model_unknown', 'speech_nonsense',
    'speech_not_configured', 'speech_quota', 'speech_refused', 'speech_timeout', 'staff_member_suspended',
    'staff_not_found', 'staff_suspended', 'start_overdue', 'stop_overdue', 'stopped_by_request',
    'still_there',
    'storage_access_denied', 'storage_account_suspended', 'storage_bucket_missing', 'storage_busy', 'storage_clock',
    'storage_credentials_refused', 'storage_encryption_key', 'storage_failed', 'storage_full',
    'storage_not_implemented', 'storage_not_s3', 'storage_object_archived', 'storage_object_changed',
    'storage_object_locked', 'storage_object_missing', 'storage_object_too_large', 'storage_of_another_deployment',
    'storage_overwrites', 'storage_path_style', 'storage_presigned_refused', 'storage_region_wrong',
    'storage_timeout', 'storage_token_expired', 'storage_unreachable', 'storage_versioned', 'subscriptions_only',
    'supabase_auth', 'supabase_busy', 'supabase_hook_failed', 'supabase_key_refused', 'supabase_mail_limit',
    'supabase_project_paused', 'supabase_project_restricted', 'supabase_refused', 'supabase_unreachable',
    'suspend_clinician', 'suspend_compliance', 'switched_off', 'token_algorithm', 'token_anonymous',
    'temp_role_unknown',
    'temp_role_is_ours',
    'temp_not_revoked',
    'token_audience', 'token_claims', 'token_clock', 'token_expired', 'token_issuer', 'token_key_unknown',
    'token_malformed', 'token_missing', 'token_role', 'token_signature', 'too_deep',
    'too_many_aliases', 'too_many_connections', 'too_many_tokens',
    'too_many_fragments', 'too_many_microphones', 'too_many_objects', 'too_many_operations',
    'too_many_root_fields',
    'too_many_page_objects', 'page_in_nested_page', 'field_not_for_guests',
    'too_many_at_once',
    'too_many_selections', 'too_many_subscriptions', 'totp_stale', 'transcript_changed',
    'transcript_format_unknown', 'transcript_malformed', 'transcript_not_found', 'transcription_not_failed',
    'transcription_consent_withdrawn', 'transcription_overtaken', 'transcription_switched_off', 'turn_unknown',
    'unknown_action',
    'unknown_input_field',
    'unfinished_upload',
    'access_request_not_approved', 'bad_label', 'bad_time_zone', 'report_of_whom',
    'session_note_changed', 'session_note_characters', 'session_note_empty', 'session_note_not_found',
    'session_note_time', 'session_note_too_long', 'session_note_versions_full', 'session_notes_full',
    'auth_entries_forbidden', 'auth_entries_missing', 'auth_entries_not_read', 'auth_entries_not_written',
    'auth_entry_unknown', 'auth_password_hook_missing', 'auth_second_factor_hook_missing',
    'wrong_code', 'wrong_password',
    'pair_unknown', 'pairs_malformed', 'review_malformed', 'review_policy_settled', 'review_policy_not_found',
    'review_same_officer', 'review_case_not_found', 'review_case_decided', 'reviewer_is_subject', 'officer_unknown',
    'disposition_characters', 'disposition_empty', 'disposition_too_long',
    'unknown_participant', 'unknown_task', 'upload_unfinished', 'url_lifetime', 'user_unknown',
    'verification_overdue', 'viewer_not_found', 'webhook_body', 'webhook_signature', 'webhook_status',
    'webhook_too_large', 'withdrawn_in_person', 'wrong_patient', 'wrong_role'
]) as t (term);

insert into private.audit_terms (kind, term)
select 'basis', t.term from unnest(array[
    'export_audit_events', 'keep_audit_exports', 'keep_alerts', 'import_fetches',
    'count_breach', 'make_evidence',
    'write_note_section', 'resume_note_sections',
    'ask_transcript',
    'make_clip', 'make_thumbnail', 'thumbnails',
    'reset_second_factor', 'reassign_consultations', 'apply_access_review', 'watch_access_reviews',
    'apply_bucket_policies', 'ban_user', 'check', 'check_bucket', 'count_rejections', 'delete_idempotency_keys',
    'destroy_recordings',
    'enforce_consent', 'expire_imports', 'export_access_request', 'follow_egress', 'health', 'index_audit_events',
    'invite_staff',
    'keep_exports', 'livekit_webhook', 'look_for_lost', 'look_for_missing', 'move_recording', 'prepare_import',
    'protect_held', 'reconcile', 'repair_jobs', 'restore_check', 'resume_insights',
    'resume_language_work', 'resume_transcriptions', 'retention_adopt', 'seal_audit_log', 'publish_audit_log',
    'read_sign_ins', 'supabase_auth', 'review_audit_log', 'review_adopt', 'review_propose', 'import_related_pairs',
    'retention_propose', 'retention_show', 'role_mapping', 'rotate_keys', 'staff_add', 'start_recording', 'start_up',
    'stop_recording', 'subtitles', 'sweep_bucket', 'transcribe', 'verify_recording', 'watch_leader', 'watch_room',
    'verify_audit_log', 'make_audit_receipt', 'redact_audit_event', 'send_webhooks', 'record_agreement',
    'watch_agreements',
    'write_insights'
]) as t (term);

insert into private.audit_terms (kind, term)
select 'entity_type', t.term from unnest(array[
    'audit_export', 'alert',
    'disclosure', 'disclosure_suspension', 'accounting_request', 'amendment',
    'breach_assessment', 'sanction', 'attestation', 'evidence_pack',
    'share', 'sharing_authorization', 'emergency_access',
    'access_request', 'audit_event', 'bucket', 'consent', 'consultation', 'cost', 'deletion', 'deployment', 'insights',
    'audit_log',
    'webhook_delivery', 'webhook_endpoint', 'vendor_agreement',
    'legal_hold', 'media', 'participant', 'patient', 'signed_note', 'recording', 'recording_import', 'request',
    'clip', 'viewing', 'retention_policy', 'room', 'session_note', 'staff', 'staff_invitation', 'storage', 'transcript',
    'second_factor', 'user', 'officer_proposal', 'access_review',
    'review_case', 'review_policy'
]) as t (term);

insert into private.audit_terms (kind, term)
select 'field', t.term from unnest(array[
    'objectFetches', 'evaluation', 'issuedCount', 'fetchedCount', 'findingCount',
    'entityId', 'fetchedAt', 'interface',
    'openedAt', 'seenAt', 'closedAt', 'entityType', 'entityIds', 'entityCount', 'remedy',
    'agency', 'authorization', 'description', 'disclosedOn', 'disclosureCount', 'endsAt', 'expiresOn', 'isAccounted',
    'isSuspended', 'isWritten', 'lastDisclosedOn', 'liftedAt', 'liftedBy', 'official', 'purposeStatement',
    'purposeText', 'recipient', 'redisclosureNotice', 'reference', 'signedOn',
    'disclosure', 'disclosureSuspension',
    'attestation', 'attestedBy', 'auditEventId', 'breachAssessment', 'category', 'countStatus',
    'decidedBy', 'delayEndsOn', 'delayStatement', 'discoveredOn', 'document', 'factor', 'factors',
    'findings', 'imposedOn', 'lateReason', 'measure', 'member', 'method', 'month', 'neededNotices', 'nextDueOn',
    'note', 'notices', 'openedBy', 'patientCount', 'patients', 'rationale', 'risk', 'sanction', 'sanctions', 'sentOn',
    'subject',
    'amendment', 'denialGround', 'inclusionAskedAt', 'isByRepresentative', 'madeAt', 'madeBy', 'part',
    'personsToInform', 'statements',
    'event', 'accounting', 'accountingRequest', 'csv', 'entryCount', 'isFree', 'issuedAt',
    'issuedBy', 'earliestDate', 'latestDate',
    'share', 'shares', 'sharingAuthorization', 'sharingAuthorizations', 'colleague', 'sharedBy', 'mayWriteNotes',
    'beganAt', 'endedBy', 'endReason', 'isSignedByRepresentative', 'withdrawnAt', 'emergencyAccess', 'clinician',
    'accessBasis',
    'auditExport', 'auditExportUrl', 'format', 'eventCount',
    'accessExportUrl', 'accessRequest', 'instructions', 'markdown', 'recording', 'consent', 'coveredRecordingCount',
    'coveredSignedNoteCount', 'heldSignedNoteCount', 'destroyedAt',
    'destroyingRecordingCount', 'downloadUrl', 'endSeconds', 'isDuplicate', 'isMatch', 'joinToken', 'languageCode',
    'legalHold', 'originalText', 'recordingImport', 'retentionPolicy', 'snippet', 'staffInvitation', 'startSeconds',
    'subtitleUrls', 'turnNumber', 'unreadableCount', 'access', 'action', 'activatedAt', 'actorRole',
    'address', 'ageFromDays', 'anonymous', 'appliesToExisting', 'approvedBy', 'asOf', 'attempt',
    'basis', 'byteCount', 'channel', 'consents',
    'consultation', 'consultationIds', 'contentType', 'correctedAt', 'correctedBy', 'corrections',
    'cors', 'createdAt', 'cursor', 'custodian', 'data_key', 'decidedAt', 'decision', 'deletion',
    'denial', 'determinedBy', 'domains', 'dueBytes', 'dueOn',
    'due_at', 'durationSeconds', 'edges', 'egressId',
    'email', 'endCursor', 'endedAt', 'exists', 'expiresAt',
    'expiresInSeconds', 'export', 'extendedAt', 'extension', 'externalId', 'fields', 'finishedAt',
    'confidence', 'fullText', 'wordCount',
    'actionItems', 'chapters', 'dismissedCount', 'generationNumber', 'highlights', 'isRefreshed', 'isStale',
    'keyPoints', 'noteLines', 'partCount', 'partsDone', 'section', 'summary', 'title',
    'topics', 'uncitedTurns', 'when', 'who',
    'answer', 'citations', 'coverage', 'coveredSeconds', 'droppedCount', 'flags', 'model',
    'unknownSpeakerCount', 'writer',
    'fulfilledAt', 'graceDays', 'ground', 'guestRole', 'hasConsented', 'hasNextPage', 'hasPreviousPage',
    'heldBytes', 'hits', 'holds', 'id',
    'index_key', 'insights', 'invitation', 'isActive', 'isCut', 'isOverdue', 'isRetried', 'isReviewable',
    'isTranscribed', 'isUncertain', 'isUnintelligible', 'joinedAt', 'json', 'jurisdiction', 'key', 'kind', 'kinds',
    'language', 'lifecycle', 'locks', 'matter', 'minorsUntilAgeYears', 'missing', 'missing_since',
    'months', 'name', 'node', 'number', 'object', 'object_key', 'operation',
    'outcome', 'pageInfo', 'participant', 'participantId', 'participants',
    'patientIds', 'placedAt', 'placedBy', 'policyVersion', 'problem', 'prices',
    'proposedAt', 'purpose', 'reason', 'receivedOn', 'recordedAt', 'recordedBy',
    'recordedUntil', 'recordingDays', 'recordingId', 'recordings', 'relationship',
    'lastUsedAt', 'publishedName', 'roleGivenAt',
    'conductedBy', 'officerProposal', 'proposedBy',
    'staffAccessReview', 'startedBy', 'isUnused', 'staffAccessReviewEntry',
    'reassignment', 'keptAsSensitiveCount', 'keptForConsentCount', 'movedCount',
    'releasedAt', 'releasedBy', 'representative', 'requestId', 'requestedAt', 'requestedBy',
    'retentionClass', 'retention_class', 'reviewAskedAt', 'reviewOutcome', 'reviewedAt',
    'reviewedBy', 'role', 'roomName', 'roomSid', 'rowCount', 'scheduledAt', 'scope', 'secret',
    'secretRevealedAt', 'sensitivity', 'sha256', 'sid',
    'signedNoteDays', 'sizeBytes', 'size_bytes', 'source', 'speaker', 'srt',
    'startCursor', 'startedAt', 'status', 'suspendedAt', 'terms', 'text',
    'textLanguage', 'textSha256', 'textVersion', 'token', 'trackSid', 'transcript', 'transcription',
    'turns', 'undoUntil', 'unintelligibleCount', 'unusedTrackCount', 'updatedAt',
    'uploadHeaders', 'uploadUrl', 'upload_url', 'uploads', 'user', 'url', 'value', 'version', 'webvtt',
    'assuranceLevel', 'code', 'message', 'patient', 'staffMember',
    'actor', 'allowedTypes', 'argument', 'attemptCount', 'count', 'details', 'earliest', 'expectedType', 'fileCount',
    'inputPath', 'limit', 'maximum', 'minimum', 'missingFileCount', 'pdfBase64', 'recordedFrom', 'retentionEndsAt',
    'retryAfterSeconds', 'retryable', 'sessionFingerprint', 'variable',
    'classAUsdPerMillion', 'classBUsdPerMillion', 'dueRecordingCount', 'firstDeletionAt', 'heldCount',
    'heldRecordingCount', 'objectCount', 'recordingCount', 'requestsUsdPerMonth', 'soonerCount', 'startsOn',
    'storageUsdPerGbMonth', 'storageUsdPerMonth', 'storedBytes',
    'playbackUrl', 'viewingId', 'clip', 'clips', 'percentDone', 'thumbnail', 'thumbnailStatus', 'thumbnailUrl', 'jpeg',
    'chunkCount', 'chunksDone', 'doctor', 'entities', 'ids', 'isHeld', 'isInterrupted', 'isTruncated', 'mediaFiles',
    'mustConsent', 'participantCount', 'recordingBlockers', 'recordsAutomatically', 'recordsSpeakersSeparately', 'type',
    'sections', 'flag', 'resolution', 'isBeingWritten', 'hasOpenFlags', 'isSigned', 'noteDraft', 'signature',
    'needsSecondApproval', 'shortenedTerms', 'supersededPolicy',
    'digest', 'signedNote', 'quotes', 'quote', 'addendum', 'versions', 'quoteCount', 'signedNoteCount',
    'signedAt', 'isDestroyed', 'isWrittenByModel', 'subjective', 'objective', 'assessment', 'plan',
    'vendorAgreement', 'service', 'signatory',
    'webhookDelivery', 'attempts', 'endpoint', 'eventType', 'messageId', 'nextAttemptAt', 'statusCode',
    'author', 'changedAt', 'changedBy', 'isDeleted', 'isIncomplete', 'lines', 'psychotherapyNote', 'psychotherapyNotes',
    'sessionNote', 'sessionNotes', 'writtenAt',
    'grouping', 'groups', 'totalUsd', 'vendor', 'modelName', 'egressMinutes', 'transcribedMinutes', 'storedGbMonths',
    'inputTokenCount', 'cachedTokenCount', 'outputTokenCount', 'egressUsd', 'speechUsd', 'storageUsd', 'languageUsd',
    'occurredAt', 'sessionUsd', 'monthUsd', 'egressUsdPerMinute', 'speechUsdPerMinute', 'inputUsdPerMillion',
    'cachedUsdPerMillion', 'outputUsdPerMillion', 'storageAsOf', 'languageBudget', 'liftedOn', 'dailyTokenCount',
    'usedTokenCount', 'costReport',
    'certificate', 'consultationId', 'fate', 'isRefused', 'keptUntil', 'label', 'patientExternalId', 'refusal',
    'relation', 'why',
    'eventCounts', 'interval', 'series', 'startsAt',
    'reviewCase', 'rule', 'rules', 'reviewPolicy', 'policies', 'matchedEventCount', 'evaluatedEventCount',
    'isMatchingTooMuch', 'listedEventCount', 'hasMorePatients', 'firstEventAt', 'lastEventAt',
    'assignedTo', 'disposition', 'dispositionText', 'events'
]) as t (term);

create type private.subjects as (patient_ids uuid[], consultation_ids uuid[]); -- noqa: LT01

create table private.audit_actions (
    action text primary key constraint audit_actions_action_is_dotted check (action ~ '^[a-z_]+[.][a-z_]+$'),
    operation text not null constraint audit_actions_operation_is_known check (operation in ('C', 'R', 'U', 'D', 'E')),
    is_reserved boolean not null
);
comment on column private.audit_actions.is_reserved is
'Whether only functions write this action. A statement of a person cannot use it (private.record_access).';

insert into private.audit_actions (action, operation, is_reserved)
values
('viewer.read', 'R', false),
('consultation.register', 'C', false),
('consultation.read', 'R', false),
('consultation.list', 'R', false),
('consultation.join', 'E', false),
('consultation.share', 'C', true),
('consultation.end_share', 'U', true),
('consultation.authorize_sharing', 'C', true),
('consultation.withdraw_authorization', 'U', true),
('patient.break_glass', 'E', true),
('emergency_access.list', 'R', false),
('consultation.watch', 'R', false),
('guest.invite', 'C', false),
('guest.join', 'E', true),
('consent.give', 'C', false),
('consent.withdraw', 'C', false),
('recording.list', 'R', false),
('recording.read', 'R', false),
('recording.watch', 'R', false),
('recording.start', 'C', false),
('recording.stop', 'U', false),
('recording.import', 'C', false),
('recording.issue_upload_url', 'R', true),
('recording.complete_import', 'C', false),
('recording.expire_import', 'U', true),
('recording.transition', 'U', true),
('recording.issue_url', 'R', true),
('recording.play', 'R', true),
('clip.create', 'C', true),
('clip.begin', 'R', true),
('clip.finish', 'C', true),
('clip.fail', 'U', true),
('thumbnail.begin', 'R', true),
('thumbnail.finish', 'C', true),
('thumbnail.fail', 'U', true),
('thumbnail.issue_url', 'R', true),
('thumbnail.read', 'R', true),
('recording.read_storage', 'R', true),
('recording.read_key', 'R', true),
('egress.stop_stray', 'E', true),
('object.report_orphan', 'R', true),
('object.sweep_orphan', 'D', true),
('object.abort_upload', 'D', true),
('breach.open', 'C', true),
('breach.list', 'R', false),
('breach.count', 'R', true),
('breach.recount', 'R', true),
('breach.record_factor', 'U', true),
('breach.delay', 'U', true),
('breach.decide', 'U', true),
('breach.seal', 'C', true),
('breach.record_notice', 'C', true),
('sanction.record', 'C', true),
('sanction.list', 'R', false),
('attestation.sign', 'C', true),
('attestation.seal', 'C', true),
('attestation.list', 'R', false),
('evidence.export', 'E', true),
('rooms.list', 'R', false),
('audit.list', 'R', true),
('audit.summarize', 'R', true),
('audit.export', 'E', true),
('audit.export_list', 'R', false),
('alert.list', 'R', false),
('fetch.import', 'C', true),
('fetch.report', 'R', true),
('audit.export_url', 'E', true),
('audit.export_secret', 'R', true),
('audit.export_content', 'R', true),
('audit.export_fail', 'U', true),
('audit.export_stop', 'U', true),
('audit.export_expire', 'D', true),
('amendment.list', 'R', false),
('amendment.request', 'C', true),
('amendment.extend', 'U', true),
('amendment.decide', 'U', true),
('amendment.dispute', 'U', true),
('amendment.rebut', 'U', true),
('amendment.include', 'U', true),
('accounting.list', 'R', false),
('accounting.file', 'C', true),
('accounting.withdraw', 'U', true),
('accounting.extend', 'U', true),
('accounting.issue', 'E', true),
('disclosure.list_copies', 'R', true),
('disclosure.record', 'C', true),
('disclosure.list', 'R', true),
('disclosure.suspend', 'C', true),
('disclosure.lift_suspension', 'U', true),
('disclosure.list_suspensions', 'R', true),
('staff.invite', 'C', true),
('staff.list_invitations', 'R', true),
('staff.list', 'R', false),
('staff.add', 'C', true),
('staff.map', 'U', true),
('staff.suspend', 'U', true),
('staff.publish_name', 'U', true),
('staff.ban', 'U', true),
('staff.unban', 'U', true),
('staff.reinstate', 'U', true),
('staff.reset_second_factor', 'U', true),
('proposal.make', 'C', true),
('proposal.approve', 'U', true),
('proposal.reject', 'U', true),
('proposal.withdraw', 'U', true),
('proposal.finish', 'U', true),
('proposal.list', 'R', false),
('access_review.start', 'C', true),
('access_review.decide_access', 'U', true),
('access_review.approve', 'U', true),
('access_review.reject', 'U', true),
('access_review.list', 'R', false),
('access_review.list_entries', 'R', false),
('consultation.reassign', 'U', true),
('recording.delete', 'D', true),
('recording.undo_delete', 'U', true),
('recording.destroy', 'D', true),
('recording.make_key', 'C', true),
('recording.rewrap_key', 'U', true),
('recording.date', 'U', true),
('deletion.list', 'R', false),
('deletion.fail', 'U', true),
('certificate.read', 'R', false),
('retention.propose', 'C', true),
('retention.approve', 'U', true),
('retention.reject', 'U', true),
('retention.activate', 'U', true),
('retention.list', 'R', false),
('retention.preview', 'R', true),
('cost.report', 'R', true),
('cost.estimate', 'R', false),
('language_budget.lift', 'U', true),
('hold.place', 'C', true),
('hold.release', 'U', true),
('hold.list', 'R', false),
('access_request.file', 'C', true),
('access_request.withdraw', 'U', true),
('access_request.approve', 'U', true),
('access_request.deny', 'U', true),
('access_request.extend', 'U', true),
('access_request.ask_review', 'U', true),
('access_request.review', 'U', true),
('access_request.list', 'R', false),
('access_request.export', 'E', true),
('access_request.issue_url', 'E', true),
('access_request.reveal_secret', 'R', true),
('access_request.expire_export', 'D', true),
('access_report.read', 'R', true),
('recording_report.read', 'R', true),
('storage.report', 'R', true),
('object.report_missing', 'R', true),
('object.keep', 'U', true),
('bucket.drift', 'R', true),
('bucket.apply', 'U', true),
('restore.repeat', 'D', true),
('audit_log.mark_hour', 'C', true),
('audit_log.close_year', 'C', true),
('audit_log.note_clock', 'C', true),
('audit_log.rotate_key', 'U', true),
('audit_log.redact', 'U', true),
('audit_log.adopt', 'U', true),
('request.reject', 'E', true),
('webhook.reject', 'E', true),
('vendor_agreement.list', 'R', false),
('vendor_agreement.record', 'C', true),
('webhook.configure', 'U', true),
('webhook.disable', 'U', true),
('webhook.list', 'R', false),
('webhook.redeliver', 'U', true),
('transcript.transition', 'U', true),
('transcript.begin', 'R', true),
('transcript.assemble', 'R', true),
('transcript.read', 'R', true),
('transcript.correct', 'U', true),
('transcript.search', 'R', true),
('transcript.retry', 'U', false),
('transcript.ask', 'R', true),
('transcript.issue_url', 'R', true),
('transcript.rewrap_index_key', 'U', true),
('patient.make_key', 'C', true),
('patient.rewrap_key', 'U', true),
('patient.destroy_key', 'D', true),
('note.sign', 'C', true),
('note.add_addendum', 'C', true),
('note.read', 'R', true),
('note.destroy', 'D', true),
('note.date', 'U', true),
('insights.transition', 'U', true),
('insights.begin', 'R', true),
('insights.read', 'R', true),
('insights.dismiss', 'U', true),
('insights.retry', 'U', false),
('insights.refresh', 'U', false),
('note_draft.read', 'R', true),
('note_draft.edit', 'U', true),
('note_draft.keep_flag', 'U', true),
('note_draft.rewrite', 'U', true),
('note_draft.begin', 'R', true),
('consultation.switch_transcription', 'U', false),
('consultation.set_label', 'U', true),
('session_note.read', 'R', true),
('session_note.watch', 'R', true),
('session_note.write', 'C', true),
('session_note.edit', 'U', true),
('session_note.delete', 'D', true),
('session_note.export', 'R', true),
('sign_in.attempt', 'E', true),
('sign_in.end', 'E', true),
('sign_in.create_user', 'C', true),
('sign_in.confirm_user', 'U', true),
('sign_in.invite_user', 'C', true),
('sign_in.change_user', 'U', true),
('sign_in.delete_user', 'D', true),
('sign_in.request_confirmation', 'E', true),
('sign_in.repeat_sign_up', 'E', true),
('sign_in.reauthenticate', 'E', true),
('sign_in.link_identity', 'C', true),
('sign_in.unlink_identity', 'D', true),
('sign_in.add_passkey', 'C', true),
('sign_in.change_passkey', 'U', true),
('sign_in.remove_passkey', 'D', true),
('sign_in.report_unknown', 'E', true),
('password.request_reset', 'E', true),
('password.change', 'U', true),
('second_factor.enrol', 'C', true),
('second_factor.verify', 'E', true),
('second_factor.change', 'U', true),
('second_factor.remove', 'D', true),
('psychotherapy_note.read', 'R', true),
('psychotherapy_note.write', 'C', true),
('psychotherapy_note.edit', 'U', true),
('review_case.open', 'C', true),
('review_rule.propose', 'C', true),
('review_rule.list', 'R', false),
('review_rule.activate', 'U', true),
('review_rule.approve', 'U', true),
('review_rule.reject', 'U', true),
('review_rule.import_pairs', 'C', true),
('review_case.list', 'R', false),
('review_case.read', 'R', false),
('review_case.assign', 'U', true),
('review_case.decide', 'U', true),
('psychotherapy_note.delete', 'D', true);

-- Returns FHIR's AuditEvent.action of an action: (C)reate, (R)ead, (U)pdate, (D)elete, (E)xecute.
create function private.operation_of(action text) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (select a.operation from private.audit_actions as a where a.action = operation_of.action);
end
$$;

-- Returns the given term if private.audit_terms contains it, else 'unregistered'; returns null for null. An
-- unregistered term does not stop the insert of the audit row, because the audit row is more important than the term.
create function private.audit_term(of_kind text, given text) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if given is null or exists (select from private.audit_terms as t where t.kind = of_kind and t.term = given) then
        return given;
    end if;
    return 'unregistered';
end
$$;

-- Returns the given reason if private.audit_terms contains it, else 'unregistered'. A reason may also consist of two
-- registered terms with a colon between them: the step of a recording, and the error of that step. A reason may name
-- a retention policy by its number.
create function private.audit_reason(given text) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if given is null or given ~ '^policy_[0-9]{1,10}$' then
        return given;
    elsif strpos(given, ':') = 0 then
        return private.audit_term('reason', given);
    end if;
    return private.audit_term('reason', split_part(given, ':', 1)) || ':'
        || private.audit_term('reason', substr(given, strpos(given, ':') + 1));
end
$$;

-- Returns the given paths of fields in the given order, such as `consultation.patient.externalId`. A path with a name
-- that private.audit_terms lacks becomes 'unregistered', and so does a path of more than 12 names.
create function private.audit_fields(given text[]) returns text[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select case
            when cardinality(n.names) <= 12 and not exists (
                select
                from unnest(n.names) as w (name)
                where not exists (select from private.audit_terms as t where t.kind = 'field' and t.term = w.name)
            ) then g.path
            else 'unregistered'
        end
        from unnest(given) with ordinality as g (path, place)
        cross join lateral (select string_to_array(g.path, '.')) as n (names)
        order by g.place
    );
end
$$;

-- Returns the given entities with one object for each type, in the order in which the types come first. Each id occurs
-- once. A type without ids is left out, except the first. A type that private.audit_terms lacks becomes
-- 'unregistered'. Raises an error for an id that is no UUID.
create function private.audit_entities(given jsonb) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce(
        (
            select jsonb_agg(jsonb_build_object('type', k.type, 'ids', k.ids) order by k.place)
            from (
                select
                    private.audit_term('entity_type', e.value ->> 'type') as type,
                    min(e.place) as place,
                    coalesce(jsonb_agg(distinct (i.id)::uuid) filter (where i.id is not null), '[]') as ids
                from jsonb_array_elements(given) with ordinality as e (value, place)
                left join lateral jsonb_array_elements_text(e.value -> 'ids') as i (id) on true
                group by 1
            ) as k
            where k.place = 1 or k.ids <> '[]'
        ),
        '[]'
    );
end
$$;

-- Returns the entities of one type for an audit row.
create function private.entities_of(entity_type text, ids uuid[]) returns jsonb
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return jsonb_build_array(jsonb_build_object('type', entity_type, 'ids', to_jsonb(coalesce(ids, '{}'))));
end
$$;

-- Writes one audit row about the current transaction, and returns its id. The actor of the audit row comes from the
-- claims, and its role is the role that the transaction has taken. For a refusal, the audit row names the role that
-- the person would have taken. The audit row's columns about the request contain the values that describe_request()
-- set. Only SECURITY DEFINER functions and triggers may execute this function.
create function private.write_audit_of_entities(
    action text, outcome text, reason text, entities jsonb, patient_ids uuid[], consultation_ids uuid[], fields text[],
    row_count integer, byte_count bigint, digest text default null
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    claims constant jsonb := private.claims();
    is_refusal constant boolean := current_setting('role') = 'none' and claims is not null;
    taken constant text := case
        when is_refusal then coalesce(private.known_role((claims ->> 'sub')::uuid), session_user)
        when current_setting('role') = 'none' then session_user
        else current_setting('role')
    end;
    clinician_basis text;
    event_id uuid;
begin
    if taken = 'clinician' then
        clinician_basis := case
            when action = 'patient.break_glass' then 'emergency'
            else private.basis_of_clinician((claims ->> 'sub')::uuid, consultation_ids)
        end;
        if clinician_basis = 'emergency' and action <> 'patient.break_glass' then
            perform private.note_emergency_use((claims ->> 'sub')::uuid, patient_ids);
        end if;
    end if;
    insert into audit.events (
        actor_id, actor_role, session_fingerprint, aal, action, operation, outcome, reason, purpose, basis,
        entities, patient_ids, consultation_ids, fields, row_count, byte_count, digest,
        request_id, address, policy_version
    ) values (
        (claims ->> 'sub')::uuid, taken, private.session_fingerprint((claims ->> 'session_id')::uuid),
        case
            when claims ->> 'aal' is null or claims ->> 'aal' in ('aal1', 'aal2', 'aal3') then claims ->> 'aal'
            else 'unregistered'
        end,
        action, private.operation_of(action), outcome, private.audit_reason(reason),
        coalesce(
            nullif(current_setting('resguardo.purpose', true), ''),
            case taken when 'clinician' then 'TREATMENT' when 'patient' then 'PATIENT_REQUEST' else 'OPERATIONS' end
        ),
        case
            when is_refusal then 'refused'
            when taken = 'clinician' then clinician_basis
            when taken = 'compliance' then 'compliance_review'
            when taken = 'patient' then 'self'
            else coalesce(
                private.audit_term('basis', nullif(current_setting('resguardo.service_reason', true), '')),
                'no_identity'
            )
        end,
        private.audit_entities(entities), coalesce(patient_ids, '{}'), coalesce(consultation_ids, '{}'),
        private.audit_fields(fields), row_count, byte_count, digest,
        nullif(current_setting('resguardo.request_id', true), '')::uuid,
        nullif(current_setting('resguardo.address', true), '')::inet,
        private.policy_version()
    )
    returning id into event_id;
    return event_id;
end
$$;

-- Writes one audit row that names entities of one type. Otherwise the function is like write_audit_of_entities().
create function private.write_audit(
    action text, outcome text, reason text, entity_type text, entity_ids uuid[], patient_ids uuid[],
    consultation_ids uuid[], fields text[], row_count integer, byte_count bigint
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.write_audit_of_entities(
        action, outcome, reason, private.entities_of(entity_type, entity_ids), patient_ids, consultation_ids, fields,
        row_count, byte_count
    );
end
$$;

-- Returns the patients and consultations that an entity concerns, even if the person cannot see the entity. Returns
-- nulls if the entity does not exist. The function reads only the table of the given entity type, so a lock on any
-- other table does not delay the function.
create function private.subjects_of(entity_type text, entity uuid) returns private.subjects
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    patient uuid;
    consultation uuid;
begin
    case entity_type
        when 'recording' then
            select r.patient_id, r.consultation_id into patient, consultation
            from resguardo.recordings as r where r.id = entity;
        when 'consultation' then
            select c.patient_id, c.id into patient, consultation from resguardo.consultations as c where c.id = entity;
        when 'patient' then
            select p.id into patient from resguardo.patients as p where p.id = entity;
        when 'participant' then
            select p.patient_id, p.consultation_id into patient, consultation
            from resguardo.participants as p where p.id = entity;
        when 'recording_import' then
            select i.patient_id, i.consultation_id into patient, consultation
            from resguardo.recording_imports as i where i.id = entity;
        when 'deletion' then
            select d.patient_id, d.consultation_id into patient, consultation
            from resguardo.deletions as d where d.id = entity;
        when 'legal_hold' then
            select coalesce(h.patient_id, c.patient_id), h.consultation_id into patient, consultation
            from resguardo.legal_holds as h
            left join resguardo.consultations as c on c.id = h.consultation_id
            where h.id = entity;
        when 'signed_note' then
            select n.patient_id, n.consultation_id into patient, consultation
            from resguardo.signed_notes as n where n.id = entity;
        when 'session_note' then
            select c.patient_id, c.id into patient, consultation
            from (
                select n.consultation_id from private.session_notes as n where n.id = entity
                union all
                select p.consultation_id from private.psychotherapy_notes as p where p.id = entity
            ) as n
            inner join resguardo.consultations as c on c.id = n.consultation_id;
        when 'disclosure' then
            select d.patient_id, d.consultation_id into patient, consultation
            from resguardo.disclosures as d where d.id = entity;
        when 'amendment' then
            select a.patient_id, a.consultation_id into patient, consultation
            from resguardo.amendments as a where a.id = entity;
        when 'accounting_request' then
            select a.patient_id into patient from resguardo.accounting_requests as a where a.id = entity;
        when 'disclosure_suspension' then
            select s.patient_id into patient from resguardo.disclosure_suspensions as s where s.id = entity;
        when 'access_request' then
            select a.patient_id, a.consultation_id into patient, consultation
            from resguardo.access_requests as a where a.id = entity;
        when 'review_case' then
            return (
                select row(c.patient_ids[:100], c.consultation_ids[:100])::private.subjects
                from resguardo.review_cases as c where c.id = entity
            );
        when 'share' then
            select s.patient_id, s.consultation_id into patient, consultation
            from resguardo.shares as s where s.id = entity;
        when 'sharing_authorization' then
            select a.patient_id, a.consultation_id into patient, consultation
            from resguardo.sharing_authorizations as a where a.id = entity;
        when 'emergency_access' then
            select e.patient_id into patient from resguardo.emergency_accesses as e where e.id = entity;
        else
            return null;
    end case;
    return case
        when found then row(
            array_remove(array[patient], null), array_remove(array[consultation], null)
        )::private.subjects
    end;
end
$$;

-- Returns the patients and consultations of an entity for the audit row of a refusal, or nulls if the entity's table
-- is locked. To read the patients of a refused entity, the function waits at most 0.1 s for a lock.
create function private.known_subjects(entity_type text, entity uuid) returns private.subjects
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set lock_timeout = '100ms'
as $$
begin
    return private.subjects_of(entity_type, entity);
exception when lock_not_available then
    return null;
end
$$;

-- Returns the patient or, for any other type of entity, the consultation with an external id for the audit row of a
-- refusal, or null if the table of the patients or of the consultations is locked.
create function private.known_id(entity_type text, of_external_id text) returns uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set lock_timeout = '100ms'
as $$
begin
    if entity_type = 'patient' then
        return (select p.id from resguardo.patients as p where p.external_id = of_external_id);
    end if;
    return (select c.id from resguardo.consultations as c where c.external_id = of_external_id);
exception when lock_not_available then
    return null;
end
$$;

-- Writes the audit row of a lookup. A lookup may name one entity by its id `asked` and its type `asked_type`. The
-- named entity is either the entity to return, or the entity by which a list is filtered. If the lookup found
-- nothing, the audit row records whether the named entity is visible to the person (ALLOWED, no rows), hidden
-- (DENIED) or absent (ABSENT). Returns only whether the outcome of the lookup is ALLOWED, because the person must not
-- be able to tell DENIED from ABSENT. Only SECURITY DEFINER functions may call this function.
create function private.write_lookup(
    action text, entity_type text, asked_type text, asked uuid, is_visible boolean, entities jsonb,
    patient_ids uuid[], consultation_ids uuid[], row_count integer, fields text[]
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    about private.subjects;
begin
    if asked is null or row_count > 0 then
        perform private.write_audit_of_entities(
            action, 'ALLOWED', null, entities, patient_ids, consultation_ids, fields, row_count, null
        );
        return true;
    end if;
    about := private.subjects_of(asked_type, asked);
    if about.patient_ids is null or is_visible is not true then
        perform private.write_audit(
            action, case when about.patient_ids is null then 'ABSENT' else 'DENIED' end, 'not_found',
            asked_type, array[asked], about.patient_ids, about.consultation_ids, fields, 0, null
        );
        return false;
    end if;
    if asked_type <> entity_type then  -- an empty list names no subjects
        asked := null;
        about := null;
    end if;
    perform private.write_audit(
        action, 'ALLOWED', null, entity_type, array_remove(array[asked], null), about.patient_ids,
        about.consultation_ids, fields, 0, null
    );
    return true;
end
$$;

create table private.pending_audit_rows (
    transaction_id xid8 not null default pg_current_xact_id(),
    action text not null,
    reason text,
    entity_type text not null,
    entity_id uuid not null,
    patient_id uuid,
    consultation_id uuid,
    fields text[] not null,
    byte_count bigint,
    digest text,
    constraint pending_audit_rows_pkey primary key (transaction_id, action)
);
comment on column private.pending_audit_rows.digest is 'The SHA-256 of the signed file.';
comment on table private.pending_audit_rows is
'The audit row of a change that the running transaction has not written yet. The table is empty between transactions.';

-- Writes the audit row of a change before the transaction commits. If a read in the same transaction has the same
-- action, that read writes the row instead, and names in it what it shows (private.record_lookup). A mutation and its
-- answer therefore have one audit row. A transaction can make only one change with the same action.
create function private.write_audit_later(
    action text, reason text, entity_type text, entity_id uuid, patient_id uuid, consultation_id uuid, fields text[],
    byte_count bigint
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    insert into private.pending_audit_rows (
        action, reason, entity_type, entity_id, patient_id, consultation_id, fields, byte_count
    ) values (action, reason, entity_type, entity_id, patient_id, consultation_id, fields, byte_count);
end
$$;

-- Writes a pending audit row before the commit, unless a read has written it.
create function private.write_pending_audit_row() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    pending private.pending_audit_rows;
begin
    delete from private.pending_audit_rows as p
    where p.transaction_id = new.transaction_id and p.action = new.action
    returning p.* into pending;
    if found then
        perform private.write_audit_of_entities(
            pending.action, 'ALLOWED', pending.reason,
            private.entities_of(pending.entity_type, array[pending.entity_id]),
            array_remove(array[pending.patient_id], null), array_remove(array[pending.consultation_id], null),
            pending.fields, 1, pending.byte_count, pending.digest
        );
    end if;
    return null;
end
$$;

create constraint trigger pending_audit_rows_write after insert on private.pending_audit_rows
deferrable initially deferred for each row execute function private.write_pending_audit_row();

-- The encrypted fields of a page that the running transaction has read. The statement that shows the page writes the
-- audit row, and not the function that returns a field, because one row names a whole page. At the commit, a trigger
-- checks that the row was written.
create table private.shown_fields (
    transaction_id xid8 not null default pg_current_xact_id(),
    field text not null,
    action text not null,
    entity_type text not null,
    entity_ids uuid[] not null,
    constraint shown_fields_pkey primary key (transaction_id, field)
);
comment on table private.shown_fields is
'The encrypted fields of a page that the running transaction has read. The table is empty between transactions.';

-- Requires that the running transaction writes an audit row which names the field. If the transaction writes none, the
-- commit writes one with the given action, which names the entities.
create function private.require_audit_of(field text, action text, entity_type text, entity uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    insert into private.shown_fields as s (field, action, entity_type, entity_ids)
    values (require_audit_of.field, require_audit_of.action, require_audit_of.entity_type, array[entity])
    on conflict (transaction_id, field) do update set entity_ids = s.entity_ids || excluded.entity_ids;
end
$$;

-- Writes an audit row about a field that the transaction has read, unless the transaction has already written a row
-- that names the field. No transaction can therefore read the field without an audit row.
create function private.audit_shown_field() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    shown private.shown_fields;
begin
    delete from private.shown_fields as s
    where s.transaction_id = new.transaction_id and s.field = new.field
    returning s.* into shown;
    if exists (
        select from (
            select e.fields, e.xmin as written_by from audit.events as e
            where e.actor_id = private.uid() order by e.recorded_at desc limit 20
        ) as n
        where n.written_by = pg_current_xact_id()::xid
            and exists (select from unnest(n.fields) as f (name) where f.name ~ ('(^|[.])' || shown.field || '$'))
    ) then
        return null;
    end if;
    perform private.write_audit(
        shown.action, 'ALLOWED', null, shown.entity_type, shown.entity_ids,
        array(
            select distinct p.id from unnest(shown.entity_ids) as e (id)
            cross join lateral private.subjects_of(shown.entity_type, e.id) as s
            cross join lateral unnest(s.patient_ids) as p (id)
        ),
        array(
            select distinct c.id from unnest(shown.entity_ids) as e (id)
            cross join lateral private.subjects_of(shown.entity_type, e.id) as s
            cross join lateral unnest(s.consultation_ids) as c (id)
        ),
        array[shown.field], cardinality(shown.entity_ids), null
    );
    return null;
end
$$;

create constraint trigger shown_fields_audit after insert on private.shown_fields
deferrable initially deferred for each row execute function private.audit_shown_field();
alter table private.shown_fields enable always trigger shown_fields_audit;

-- Writes the pending audit row of an action, with the entities and fields that a read of the changed entity shows.
-- Returns false if the transaction has no pending audit row of the action.
create function private.complete_audit_row(
    of_action text, entities jsonb, patient_ids uuid[], consultation_ids uuid[], row_count integer, fields text[]
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    pending private.pending_audit_rows;
begin
    delete from private.pending_audit_rows as p
    where p.transaction_id = pg_current_xact_id() and p.action = of_action
    returning p.* into pending;
    if pending.action is null then
        return false;
    end if;
    perform private.write_audit_of_entities(
        of_action, 'ALLOWED', pending.reason,
        entities || private.entities_of(pending.entity_type, array[pending.entity_id]),
        array(select distinct s.id from unnest(patient_ids || pending.patient_id) as s (id) where s.id is not null),
        array(
            select distinct s.id from unnest(consultation_ids || pending.consultation_id) as s (id)
            where s.id is not null
        ),
        fields, row_count, pending.byte_count, pending.digest
    );
    return true;
end
$$;

-- Writes the audit row of a lookup in a statement that runs with the person's role, and counts one use of a quota.
-- The outer query must use the result of this function, or Postgres does not call the function. An action that only
-- SQL functions may write into the audit log must have a pending audit row, which the lookup then writes. Raises RG403
-- (reserved_action) for such an action without a pending audit row.
create function private.record_lookup(
    action text, entity_type text, asked_type text, asked uuid, is_visible boolean, entities jsonb,
    patient_ids uuid[], consultation_ids uuid[], row_count integer, fields text[], meter text
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.require_person();
begin
    if exists (
        select from private.audit_actions as a where a.action = record_lookup.action and a.is_reserved
    ) then
        if private.complete_audit_row(action, entities, patient_ids, consultation_ids, row_count, fields) then
            return true;
        end if;
        raise exception 'reserved_action' using errcode = 'RG403';
    end if;
    if meter is not null then
        perform private.use_quota(person, meter);
    end if;
    return private.write_lookup(
        action, entity_type, asked_type, asked, is_visible, entities, patient_ids, consultation_ids, row_count, fields
    );
end
$$;

-- Writes the audit row of a lookup that names no entity (`asked` is null) or only the entity that it returns. Always
-- returns true.
create function private.record_access(
    action text, entity_type text, asked uuid, found_ids uuid[], patient_ids uuid[], consultation_ids uuid[],
    fields text[], meter text
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.record_lookup(
        action, entity_type, entity_type, asked, false, private.entities_of(entity_type, found_ids), patient_ids,
        consultation_ids, coalesce(cardinality(found_ids), 0), fields, meter
    );
    return true;
end
$$;

-- Returns whether a recording, if it exists, is visible to the person. Compliance sees every recording, and a doctor
-- sees the recordings that the row-level security policies show. The function runs with the rights of its caller
-- (SECURITY INVOKER), so the row-level security policies apply.
create function private.shows_recording(of_recording uuid) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.person();
    if current_setting('role') = 'compliance' then
        return true;
    end if;
    return exists (select from resguardo.recordings as r where r.id = of_recording);
end
$$;

-- Writes the audit row of an error in a separate transaction, because the rollback of the failed transaction would
-- also remove an audit row written in it. DENIED means that the person lacks the right, and FAILED means that a
-- condition other than the person's rights prevented the action. The audit row of an error names the requested entity
-- by its id, or a patient or a consultation by its external id. Locked tables do not stop the insert of the audit row,
-- which then lacks the data of these tables.
create function private.record_refusal(
    action text, outcome text, reason text, entity_type text, asked uuid, asked_external_id text
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    entity constant uuid := coalesce(asked, private.known_id(entity_type, asked_external_id));
    about constant private.subjects := private.known_subjects(entity_type, entity);
begin
    if outcome not in ('DENIED', 'FAILED') then
        raise exception 'not_a_refusal' using errcode = 'RG403';
    end if;
    perform private.write_audit(
        action, outcome, reason, entity_type, array_remove(array[entity], null),
        about.patient_ids, about.consultation_ids, '{}', 0, null
    );
end
$$;

-- Records how many requests without a valid token, and how many webhooks without a valid signature, one client
-- address sent within one minute.
create function private.record_rejections(
    action text, from_address inet, rejections integer
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if action not in ('request.reject', 'webhook.reject') then
        raise exception 'not_a_rejection' using errcode = 'RG403';
    end if;
    perform set_config('resguardo.address', coalesce(host(from_address), ''), true);
    perform private.write_audit(
        action, 'DENIED', case action when 'webhook.reject' then 'no_valid_signature' else 'no_valid_token' end,
        'request', '{}', '{}', '{}', '{}', rejections, null
    );
end
$$;

create function private.record_service(
    action text, outcome text, reason text, entity_type text, entity uuid
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.write_audit(action, outcome, reason, entity_type, array[entity], '{}', '{}', '{}', 1, null);
end
$$;
