// The shapes of the platform API (see /api/openapi.json). Amounts of credit are
// decimal strings, times RFC 3339.

export type Role = "user" | "support" | "finance" | "admin" | "owner";

export interface Site {
  name: string;
  currency: string;
  version: string;
  setup_needed: boolean;
  demo: boolean;
}

export interface Me {
  id: string;
  name: string;
  role: Role;
  credit: { balance: string; held: string };
}

export interface Price {
  in: string;
  out: string;
  in_cached?: string;
}

export interface Model {
  id: string;
  demo?: boolean;
  context?: number;
  max_output?: number;
  abilities?: string[] | null;
  price: Price | null;
}

export interface Conversation {
  id: string;
  title: string;
  model: string;
  created: string;
  updated: string;
}

export type TurnState = "running" | "done" | "failed" | "stopped" | "interrupted";

export interface Turn {
  id: string;
  conversation: string;
  text: string;
  reasoning?: string;
  answer?: string;
  model: string;
  state: TurnState;
  error?: { code: string; text: string } | null;
  usage?: { in: number; out: number } | null;
  cost?: string;
  request?: string;
  created: string;
  took_ms?: number;
}

export interface Key {
  id: string;
  name: string;
  tail: string;
  models?: string[] | null;
  limit?: string | null;
  spent: string;
  created: string;
  expires?: string | null;
  revoked?: string | null;
}

export type Usage = Partial<
  Record<
    | "in_text"
    | "in_cached"
    | "in_cache_write_5m"
    | "in_cache_write_1h"
    | "in_audio"
    | "in_image"
    | "out_text"
    | "out_reasoning"
    | "out_audio"
    | "out_image",
    number
  >
>;

export interface UsageRow {
  request: string;
  at: string;
  key?: string;
  key_name?: string;
  op: string;
  model: string;
  stream?: boolean;
  state: string;
  code?: string;
  usage: Usage;
  cost: string;
  took_ms: number;
}

export interface Movement {
  seq: number;
  kind: string;
  amount: string; // signed, seen from the owner
  after: string;
  ref: string;
  at: string;
  reason?: string;
  model?: string;
  usage?: Usage | null;
}

export interface Page<T> {
  data: T[];
  next: string;
}

/** tokensIn is the number of input tokens of a usage record. */
export function tokensIn(u: Usage): number {
  return (u.in_text ?? 0) + (u.in_cached ?? 0) + (u.in_cache_write_5m ?? 0) + (u.in_cache_write_1h ?? 0) + (u.in_audio ?? 0) + (u.in_image ?? 0);
}

/** tokensOut is the number of output tokens of a usage record. */
export function tokensOut(u: Usage): number {
  return (u.out_text ?? 0) + (u.out_reasoning ?? 0) + (u.out_audio ?? 0) + (u.out_image ?? 0);
}
