import type { CombinedError } from "@urql/core";
import type { ErrorCode, ErrorExtensions, ErrorReason } from "./graphql/graphql.js";

/** A refusal of the API. `code` and `reason` are listed in docs/web-app.md; `message` is for people. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly code: ErrorCode,
    readonly reason: ErrorReason | undefined,
    readonly isRetryable: boolean,
    readonly requestId: string | undefined,
  ) {
    super(message);
  }
}

/** The errors of an answer by root field, so that a page shows each part that was not refused. */
export function errorsByPart(error: CombinedError | undefined): Map<string, ApiError> {
  const found = new Map<string, ApiError>();
  for (const one of error?.graphQLErrors ?? []) {
    found.set(String(one.path?.[0] ?? ""), toApiError(one.message, one.extensions));
  }
  return found;
}

/** The first refusal of an answer, or the network's error. */
export function firstError(error: CombinedError): Error {
  const [first] = errorsByPart(error).values();
  return first ?? error.networkError ?? error;
}

function toApiError(message: string, extensions: Partial<ErrorExtensions>): ApiError {
  return new ApiError(
    message,
    extensions.code ?? "INTERNAL",
    extensions.reason ?? undefined,
    extensions.retryable === true,
    extensions.requestId ?? undefined,
  );
}
