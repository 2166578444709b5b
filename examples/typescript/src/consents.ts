import type { Api } from "./api.js";
import { graphql } from "./graphql/index.js";
import type { BeforeRecordingQuery, Language } from "./graphql/graphql.js";

const BEFORE_RECORDING = graphql(`
  query BeforeRecording($id: ID!) {
    consultation(by: { id: $id }) {
      id
      participants { id kind guestRole mustConsent hasConsented }
      recordingBlockers { reason participant { id } }
    }
  }
`);

const CONSENT_TEXT = graphql(`
  query ConsentText($language: Language!) {
    consentText(language: $language) { version language markdown sha256 }
  }
`);

const RECORD_CONSENT = graphql(`
  mutation RecordConsent($input: RecordConsentInput!) {
    recordConsent(input: $input) {
      consent { id decision source recordedAt }
      participant { id hasConsented }
      consultation { id recordingBlockers { reason participant { id } } }
      recording { id status }
    }
  }
`);

const REGISTER = graphql(`
  mutation RegisterConsultation($input: RegisterConsultationInput!) {
    registerConsultation(input: $input) { consultation { id externalId } }
  }
`);

export type BeforeRecording = NonNullable<BeforeRecordingQuery["consultation"]>;

/** Registers a consultation of the calling doctor for now. Idempotent by `externalId`. */
export async function registerConsultation(api: Api, externalId: string, patientExternalId: string) {
  const input = { externalId, patientExternalId, scheduledAt: new Date().toISOString() };
  const { registerConsultation: registered } = await api.change(REGISTER, { input });
  return registered.consultation;
}

/** Shows who must still consent, before the button to record can be pressed, and again after each consent. */
export function watchConsents(api: Api, id: string, onConsultation: (shown: BeforeRecording) => void): () => void {
  return api.watch(BEFORE_RECORDING, { id }, ({ data }) => {
    if (data?.consultation) onConsultation(data.consultation);
  });
}

/** The words to show before somebody consents. They are kept in the cache. */
export async function readConsentText(api: Api, language: Language) {
  return (await api.ask(CONSENT_TEXT, { language })).consentText;
}

/** Records that a participant agreed to the words that `readConsentText` returned. Repeat it with the same key. */
export async function recordConsent(
  api: Api,
  participantId: string,
  language: Language,
  idempotencyKey: string = crypto.randomUUID(),
) {
  const { version, sha256 } = await readConsentText(api, language);
  const input = { participantId, language, textVersion: version, textSha256: sha256, idempotencyKey };
  return (await api.change(RECORD_CONSENT, { input })).recordConsent;
}
