import type { TypedDocumentNode } from "@graphql-typed-document-node/core";
import { ClientError, request } from "graphql-request";

/** Data without an error: a root field is null only if it was refused. */
export type Whole<TData> = { [Field in keyof TData]-?: NonNullable<TData[Field]> };

export type Token = () => Promise<string>;

/** A refusal of the API. `code` and `reason` are listed in docs/web-app.md; `message` is for people. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly code: string,
    readonly reason: string | undefined,
    readonly isRetryable: boolean,
    readonly requestId: string | undefined,
  ) {
    super(message);
  }
}

export class Api {
  constructor(
    private readonly url: string,
    private readonly token: Token,
    private readonly language = "en",
  ) {}

  /** The data of one operation. Throws ApiError for the first error of the answer. */
  async ask<TData, TVariables extends object>(
    document: TypedDocumentNode<TData, TVariables>,
    variables: TVariables,
  ): Promise<Whole<TData>> {
    const requestHeaders = {
      authorization: `Bearer ${await this.token()}`,
      "accept-language": this.language,
    };
    try {
      return await request<Whole<TData>>({ url: this.url, document, variables, requestHeaders });
    } catch (error) {
      throw toApiError(error);
    }
  }

  /** The same; where the API wants a fresh second factor, `stepUp` gets one, and the operation is sent again. */
  async askAtAal2<TData, TVariables extends object>(
    document: TypedDocumentNode<TData, TVariables>,
    variables: TVariables,
    stepUp: () => Promise<void>,
  ): Promise<Whole<TData>> {
    try {
      return await this.ask(document, variables);
    } catch (error) {
      if (!(error instanceof ApiError) || !WANTS_STEP_UP.has(error.reason ?? "")) throw error;
      await stepUp();
      return await this.ask(document, variables);
    }
  }
}

const WANTS_STEP_UP = new Set(["SECOND_FACTOR_NEEDED", "TOTP_STALE"]);

function toApiError(error: unknown): unknown {
  const first = error instanceof ClientError ? error.response.errors?.[0] : undefined;
  if (!first) return error;
  const { code, reason, retryable, requestId } = first.extensions;
  return new ApiError(
    first.message,
    typeof code === "string" ? code : "INTERNAL",
    typeof reason === "string" ? reason : undefined,
    retryable === true,
    typeof requestId === "string" ? requestId : undefined,
  );
}
