import type { SupabaseClient } from "@supabase/supabase-js";

/** Asks the person for the six digits of the authenticator app. */
export type AskCode = () => Promise<string>;

/** Signs in with password and second factor: the API answers staff at aal2 only. */
export async function signIn(
  supabase: SupabaseClient,
  email: string,
  password: string,
  askCode: AskCode,
): Promise<void> {
  const { error } = await supabase.auth.signInWithPassword({ email, password });
  if (error) throw error;
  await stepUp(supabase, askCode);
}

/** Verifies a fresh code, at sign-in and whenever the API refuses with `SECOND_FACTOR_NEEDED` or `TOTP_STALE`. */
export async function stepUp(supabase: SupabaseClient, askCode: AskCode): Promise<void> {
  const factors = await supabase.auth.mfa.listFactors();
  if (factors.error) throw factors.error;
  const factor = factors.data.totp[0];
  if (!factor) throw new Error("No authenticator app is enrolled: use supabase.auth.mfa.enroll first.");
  const challenge = await supabase.auth.mfa.challenge({ factorId: factor.id });
  if (challenge.error) throw challenge.error;
  const code = await askCode();
  const verified = await supabase.auth.mfa.verify({
    factorId: factor.id,
    challengeId: challenge.data.id,
    code,
  });
  if (verified.error) throw verified.error;
}

/** A token that is good for now: supabase-js refreshes one that is about to expire. */
export async function accessToken(supabase: SupabaseClient): Promise<string> {
  const { data, error } = await supabase.auth.getSession();
  if (error) throw error;
  if (!data.session) throw new Error("Nobody is signed in.");
  return data.session.access_token;
}
