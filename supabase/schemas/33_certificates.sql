-- Certificates of destruction.

create table resguardo.certificates (
    recording_id uuid not null,
    number integer not null,
    deletion_id uuid not null constraint certificates_deletion_id_fkey references resguardo.deletions (id),
    doctor_id uuid not null,
    patient_id uuid not null,
    consultation_id uuid not null,
    document text not null,
    sha256 text not null constraint certificates_sha256_is_hex check (sha256 ~ '^[0-9a-f]{64}$'),
    kept_at timestamptz not null default private.now(),
    constraint certificates_pkey primary key (recording_id, number),
    constraint certificates_recording_fkey foreign key (recording_id, consultation_id)
    references resguardo.recordings (id, consultation_id),
    constraint certificates_consultation_fkey foreign key (consultation_id, doctor_id, patient_id)
    references resguardo.consultations (id, doctor_id, patient_id) on update cascade
);
alter table resguardo.certificates enable row level security;
comment on column resguardo.certificates.document is
'The signed file, equal to the file in the ledger: it holds only ids, sizes and hashes.';
create index certificates_deletion_idx on resguardo.certificates (deletion_id);
create index certificates_recording_idx on resguardo.certificates (recording_id, consultation_id);
create index certificates_consultation_idx on resguardo.certificates (consultation_id, doctor_id, patient_id);
create index certificates_doctor_idx on resguardo.certificates (doctor_id);
create index certificates_patient_idx on resguardo.certificates (patient_id);
