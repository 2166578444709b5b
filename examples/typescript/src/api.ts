import { type AnyVariables, Client, type CombinedError, type ExecutionResult, type TypedDocumentNode, fetchExchange, subscriptionExchange } from "@urql/core";
import type { Client as Connection } from "graphql-ws";
import { makeCache } from "./cache.js";
import { ApiError, errorsByPart, firstError } from "./errors.js";

/** Data without an error: a root field is null only if it was refused. */
export type Whole<TData> = { [Field in keyof TData]-?: NonNullable<TData[Field]> };

export type Token = () => Promise<string>;

/** An answer of several parts: a refused part is null in `data`, and `refused` says why. */
export interface Answer<TData> {
  data: TData | undefined;
  refused: ReadonlyMap<string, ApiError>;
}

export interface ApiOptions {
  url: string;
  token: Token;
  connection: Connection;
  language?: string;
  fetch?: typeof fetch;
}

/** Queries, mutations and subscriptions with one normalised cache. Make a new one when somebody else signs in. */
export class Api {
  private readonly client: Client;

  constructor({ url, token, connection, language = "en", fetch: send = fetch }: ApiOptions) {
    this.client = new Client({
      url,
      preferGetMethod: false, // proxies log URLs
      fetchOptions: { headers: { "accept-language": language } },
      fetch: async (to, init) => {
        const headers = new Headers(init?.headers);
        headers.set("authorization", `Bearer ${await token()}`);
        return send(to, { ...init, headers });
      },
      exchanges: [
        makeCache(),
        fetchExchange,
        subscriptionExchange({
          forwardSubscription: ({ query = "", variables }) => ({
            subscribe: ({ next, error, complete }) => ({
              unsubscribe: connection.subscribe(
                { query, ...(variables ? { variables } : {}) },
                { next: (result) => next(result as ExecutionResult), error, complete },
              ),
            }),
          }),
        }),
      ],
    });
  }

  /** The data of one query, from the cache if it is there. Throws ApiError for the first refusal. */
  async ask<TData, TVariables extends AnyVariables>(
    document: TypedDocumentNode<TData, TVariables>,
    variables: TVariables,
    requestPolicy: "cache-first" | "network-only" = "cache-first",
  ): Promise<Whole<TData>> {
    return dataOf(await this.client.query(document, variables, { requestPolicy }).toPromise());
  }

  /** The payload of one mutation, whose objects the cache keeps. Throws ApiError if it is refused. */
  async change<TData, TVariables extends AnyVariables>(
    document: TypedDocumentNode<TData, TVariables>,
    variables: TVariables,
  ): Promise<Whole<TData>> {
    return dataOf(await this.client.mutation(document, variables).toPromise());
  }

  /** The same; where the API wants a fresh second factor, `stepUp` gets one, and the mutation is sent again. */
  async changeAtAal2<TData, TVariables extends AnyVariables>(
    document: TypedDocumentNode<TData, TVariables>,
    variables: TVariables,
    stepUp: () => Promise<void>,
  ): Promise<Whole<TData>> {
    try {
      return await this.change(document, variables);
    } catch (error) {
      if (!(error instanceof ApiError) || !WANTS_STEP_UP.has(error.reason ?? "")) throw error;
      await stepUp();
      return await this.change(document, variables);
    }
  }

  /** Answers a query now, and again whenever an object of the answer changes in the cache. Returns a stop. */
  watch<TData, TVariables extends AnyVariables>(
    document: TypedDocumentNode<TData, TVariables>,
    variables: TVariables,
    onAnswer: (answer: Answer<TData>) => void,
  ): () => void {
    return this.client.query(document, variables).subscribe(({ data, error }) => {
      onAnswer({ data, refused: errorsByPart(error) });
    }).unsubscribe;
  }

  /** Keeps the cache current with each change that a subscription tells. */
  follow<TData, TVariables extends AnyVariables>(
    document: TypedDocumentNode<TData, TVariables>,
    variables: TVariables,
    onChange: (data: TData) => void = () => undefined,
    onError: (error: Error) => void = () => undefined,
  ): () => void {
    return this.client.subscription(document, variables).subscribe(({ data, error }) => {
      if (error) onError(firstError(error));
      else if (data) onChange(data);
    }).unsubscribe;
  }
}

const WANTS_STEP_UP: ReadonlySet<string> = new Set(["SECOND_FACTOR_NEEDED", "TOTP_STALE"]);

function dataOf<TData>({ data, error }: { data?: TData; error?: CombinedError }): Whole<TData> {
  if (error) throw firstError(error);
  if (!data) throw new Error("The API answered without data.");
  return data as Whole<TData>;
}
