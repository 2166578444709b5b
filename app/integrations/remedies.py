"""The remedy for each reason of a vendor's refusal, for operators."""

from collections.abc import Mapping
from typing import Final

REMEDIES: Final[Mapping[str, str]] = {
    "storage_access_denied": "The bucket key is known, and may not do this. Give it rights on this bucket: to read "
    "objects for the API; to read, write, list and delete them for the worker.",
    "storage_account_suspended": "The object store has suspended this account, or it has no subscription: look at its "
    "dashboard and its bills.",
    "storage_bucket_missing": "Create the bucket, or correct R2_BUCKET_NAME.",
    "storage_busy": "The object store asks for fewer requests: wait, and look at its status page if it goes on.",
    "storage_clock": "This machine's clock and the object store's differ by more than signatures allow: set the clock "
    "(NTP). The keys need no change.",
    "storage_credentials_refused": "The object store does not accept this key: are key id and secret a pair, of this "
    "endpoint? On R2 make a token for this bucket (Object Read for the API, Object Read & Write for the worker).",
    "storage_encryption_key": "The bucket's encryption key is disabled or missing: enable it in the key service.",
    "storage_failed": "The object store refused the request. The code in brackets is its own: its documentation says "
    "more.",
    "storage_full": "The object store has no room left, or the account's quota is used up: enlarge it.",
    "storage_not_implemented": "This S3 server does not offer the call: see docs/s3.md for what must be done another "
    "way.",
    "storage_not_s3": "Something that is no S3 server answers there: is the endpoint the address of the S3 API?",
    "storage_object_archived": "The object is in an archive class: restore it there, and keep recordings in a class "
    "that can be read at once.",
    "storage_object_locked": "A lock of the bucket keeps the object. `resguardo policies check` says which locks are "
    "not ours.",
    "storage_of_another_deployment": "DEPLOYMENT or R2_BUCKET_NAME is another practice's: correct one of them.",
    "storage_path_style": "The bucket answers only to the other form of address: turn S3_FORCE_PATH_STYLE round.",
    "storage_presigned_refused": "The object store refuses presigned URLs, which doctors download by, and accepts the "
    "same key in a header: does a proxy before it remove or change the query? Does a policy forbid query signatures?",
    "storage_region_wrong": "Set S3_REGION to the bucket's region (in brackets, if the object store named it), and "
    "S3_ENDPOINT_URL to that region's address.",
    "storage_versioned": "The bucket keeps old versions, so a destroyed recording would stay in one: suspend its "
    "versioning (an object lock needs versioning: leave it off), and delete the versions that are there.",
    "storage_overwrites": "This S3 server ignores `If-None-Match: *` and overwrites: use one that honours conditional "
    "writes.",
    "recorder_role_refused": "The worker's key may not take the role of S3_RECORDER_ROLE_ARN for 12 hours: look at the "
    "role's trust policy and its maximum session duration (docs/s3.md). A code in brackets is the server's own.",
    "recorder_role_unsupported": "This S3 server has no token service: leave S3_RECORDER_ROLE_ARN out, and set "
    "R2_RECORDER_ACCESS_KEY_ID to a key that can only write.",
    "recorder_key_reads": "The recorder's key reads recordings: it must only write objects (s3:PutObject, "
    "s3:AbortMultipartUpload).",
    "storage_timeout": "The object store did not answer in time: is the network open?",
    "storage_token_expired": "The temporary credentials are over: set a key that does not expire, or a new one.",
    "storage_unreachable": "Is R2_ACCOUNT_ID right (and R2_JURISDICTION), or S3_ENDPOINT_URL? Is the network open?",
    "cloudflare_access_denied": "CLOUDFLARE_API_TOKEN lacks a right: it needs Workers R2 Storage Write (to look alone: "
    "Read) on this account.",
    "cloudflare_account_suspended": "Cloudflare has suspended this account: look at its dashboard and its bills.",
    "cloudflare_account_unknown": "Cloudflare knows no such account or route: is R2_ACCOUNT_ID right?",
    "cloudflare_bucket_missing": "Cloudflare knows no such bucket: are R2_BUCKET_NAME and R2_JURISDICTION right?",
    "cloudflare_failed": "Cloudflare refused the request. The number in brackets is its own code: its documentation "
    "says more.",
    "cloudflare_limited": "Cloudflare answers no more requests for now: wait five minutes.",
    "cloudflare_lock_unknown": "The bucket has a lock of a kind that this release does not know, and would undo: "
    "remove it in Cloudflare's dashboard, or use the newest release.",
    "cloudflare_not_enabled": "This account has no R2 subscription: enable R2 in Cloudflare's dashboard.",
    "cloudflare_timeout": "Cloudflare's API did not answer in time. What was put may have been taken: look again.",
    "cloudflare_token_refused": "CLOUDFLARE_API_TOKEN must be a token of this account with Workers R2 Storage Write "
    "(to look alone: Read).",
    "cloudflare_unavailable": "Cloudflare's API is away for now: look at its status page.",
    "cloudflare_unreachable": "Cloudflare's API did not answer: is the network open?",
    "livekit_at_capacity": "LiveKit has no room for one more: start another egress server, or raise the plan's limit.",
    "livekit_clock": "This machine's clock and LiveKit's differ by more than a minute: set the clock (NTP). The keys "
    "need no change.",
    "livekit_credentials_refused": "LIVEKIT_API_KEY and LIVEKIT_API_SECRET must be a pair of that project.",
    "livekit_no_egress": "The LiveKit server has no egress service: recordings cannot start. Run livekit/egress, too.",
    "livekit_no_recorder": "The LiveKit server asked for a recording service and none took the work for 22 s. Start "
    "livekit/egress with the same Redis, or give it more processors: a video takes 4, a sound 1.",
    "livekit_not_found": "LiveKit knows no such room or egress: it may have just ended.",
    "livekit_permission_denied": "The key of LIVEKIT_API_KEY is known, and may not do this: look at the project's "
    "plan and the key's rights.",
    "livekit_refused": "LiveKit refused the request. The code in brackets is its own: its documentation says more.",
    "livekit_timeout": "LiveKit did not answer in time: is the network open, and is the server overloaded?",
    "livekit_unavailable": "LiveKit did not answer, or answered that it cannot: is LIVEKIT_URL right?",
    "livekit_unreachable": "Is LIVEKIT_URL right, and the server up?",
    "email_not_authorized": "Without SMTP of your own Supabase Auth mails to the members of the project's organization "
    "alone: set up SMTP under Auth.",
    "email_refused": "Supabase Auth takes this for no address that can be mailed to: is it spelt right?",
    "email_sign_in_disabled": "Enable the Email provider under Auth, Sign In / Providers.",
    "mail_refused": "The mail server did not take the mail to this address: is the address right, does its mailbox "
    "exist? If every address is refused, look at SMTP under Auth.",
    "mail_slow": "The mail server took longer than Supabase Auth waits (10 s), so the mail that may have arrived has "
    "a link that does not work: make SMTP faster, or use another server under Auth, then invite again.",
    "supabase_auth": "Supabase Auth answered something unexpected; the code in brackets is its own. Is SUPABASE_URL "
    "the project's own address?",
    "supabase_busy": "Supabase Auth asks for fewer requests: wait some minutes, or raise the limits under Auth.",
    "supabase_hook_failed": "An Auth hook of the project failed or was too slow: look at Auth, Hooks.",
    "supabase_key_refused": "SUPABASE_SECRET_KEY must be a secret key (sb_secret_...) of that project.",
    "supabase_mail_limit": "Supabase Auth has sent its mails for this hour: wait, or set up SMTP of your own.",
    "supabase_project_paused": "The Supabase project is paused: restore it in the dashboard.",
    "supabase_project_restricted": "Supabase has restricted the project, for a quota or a bill: look at its dashboard.",
    "supabase_refused": "Supabase Auth did not accept the request: use the newest release of Resguardo and of Auth.",
    "supabase_unreachable": "Is SUPABASE_URL https://<project ref>.supabase.co, and the project running?",
    "openai_key_refused": "OPENAI_API_KEY is not accepted: make a new one.",
    "openai_missing": "Set OPENAI_API_KEY: recordings are kept, but not transcribed, without it.",
    "openai_unreachable": "Is OPENAI_BASE_URL right, and the network open?",
    "speech_access_denied": "OPENAI_API_KEY is known, and may not transcribe: give the key, or its project, the right.",
    "speech_account_suspended": "The speech service has suspended the account: ask its support.",
    "speech_address_refused": "The speech service refuses this address or country: look at the project's allowed "
    "addresses, or run the worker elsewhere.",
    "speech_busy": "The speech service asks for fewer requests: wait, or raise its rate limits.",
    "speech_failed": "The speech service failed: look at its status page.",
    "speech_format_unsupported": "SPEECH_API names an answer that WHISPER_MODEL does not give: see .env.example.",
    "speech_key_refused": "OPENAI_API_KEY is not accepted: make a new one.",
    "speech_model_unknown": "The speech service has no such model, or this project may not use it: WHISPER_MODEL.",
    "speech_quota": "The speech service's credit or monthly limit is used up: add credit or raise the limit under its "
    "billing, then `retryTranscription`.",
    "speech_refused": "The speech service did not accept the sound. The code in brackets is its own.",
    "speech_timeout": "The speech service did not answer in time: SPEECH_TIMEOUT_SECONDS, or another service.",
}
