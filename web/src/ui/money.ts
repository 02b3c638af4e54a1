// Amounts are decimal strings with up to nine decimals; no float comes near.

const decimals = 9;
const minus = "−"; // the sign of a movement, as wide as "+"

/** nano reads a decimal string as a whole number of billionths. */
export function nano(amount: string): bigint {
  const m = /^([-+]?)(\d+)(?:\.(\d{1,9}))?$/.exec(amount);
  if (!m) throw new Error(`not an amount: ${amount}`);
  const n = BigInt(m[2] + (m[3] ?? "").padEnd(decimals, "0"));
  return m[1] === "-" ? -n : n;
}

/** symbol is what stands before an amount of a currency. */
export function symbol(currency: string): string {
  return { CNY: "¥", USD: "$", EUR: "€", GBP: "£", JPY: "¥", HKD: "HK$", TWD: "NT$" }[currency] ?? `${currency} `;
}

function fixed(n: bigint, places: number): string {
  const unit = 10n ** BigInt(places);
  return `${(n / unit).toString().replace(/\B(?=(\d{3})+$)/g, ",")}.${(n % unit).toString().padStart(places, "0")}`;
}

/** Rounding: "down" for what one has, "near" for what something cost. */
type Rounding = "down" | "near";

function four(n: bigint, rounding: Rounding): string {
  const cut = 10n ** BigInt(decimals - 4);
  return fixed((rounding === "near" ? n + cut / 2n : n) / cut, 4);
}

/** balance writes what someone has: ¥12.3450. It never shows more than is there. */
export function balance(amount: string, currency: string): string {
  const n = nano(amount);
  const owed = n < 0n;
  const cut = 10n ** BigInt(decimals - 4);
  const shown = owed ? fixed((-n + cut - 1n) / cut, 4) : four(n, "down");
  return `${owed ? minus : ""}${symbol(currency)}${shown}`;
}

/** cost writes what something cost: ¥0.0123, or <¥0.0001 when it is less than that. */
export function cost(amount: string, currency: string): string {
  const n = nano(amount);
  if (n > 0n && n < 10n ** BigInt(decimals - 4)) return `<${symbol(currency)}0.0001`;
  return `${n < 0n ? minus : ""}${symbol(currency)}${four(n < 0n ? -n : n, "near")}`;
}

/** movement writes a change of the balance, its sign first: +¥10.0000. */
export function movement(amount: string, currency: string): string {
  const n = nano(amount);
  const abs = n < 0n ? -n : n;
  const sign = n < 0n ? minus : n > 0n ? "+" : "";
  if (abs > 0n && abs < 10n ** BigInt(decimals - 4)) return `${sign}<${symbol(currency)}0.0001`;
  return `${sign}${symbol(currency)}${four(abs, "near")}`;
}

/** exact writes all nine decimals. */
export function exact(amount: string, currency: string): string {
  const n = nano(amount);
  return `${n < 0n ? minus : ""}${symbol(currency)}${fixed(n < 0n ? -n : n, decimals)}`;
}

/** price writes a price as short as it is: ¥2, ¥0.5. Its unit belongs beside it. */
export function price(amount: string, currency: string): string {
  const [whole = "0", frac = ""] = fixed(nano(amount), decimals).split(".");
  const rest = frac.replace(/0+$/, "");
  return symbol(currency) + whole + (rest ? `.${rest}` : "");
}
