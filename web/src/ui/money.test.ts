import { describe, expect, it } from "vitest";
import { balance, cost, exact, movement, nano, price } from "./money";

describe("money", () => {
  it.each([
    ["12.345", "¥12.3450"],
    ["0", "¥0.0000"],
    ["1234567.89", "¥1,234,567.8900"],
    ["0.00009", "¥0.0000"],
    ["9.99999", "¥9.9999"],
    ["-0.00001", "−¥0.0001"],
    ["-3", "−¥3.0000"],
    ["9223372036.854775807", "¥9,223,372,036.8547"],
  ])("balance %s is %s, never more than there is", (amount, want) => expect(balance(amount, "CNY")).toBe(want));

  it.each([
    ["0.0011", "¥0.0011"],
    ["0.00015", "¥0.0002"],
    ["0.000099999", "<¥0.0001"],
    ["0.000000001", "<¥0.0001"],
    ["0", "¥0.0000"],
    ["2.99996", "¥3.0000"],
  ])("cost %s is %s", (amount, want) => expect(cost(amount, "CNY")).toBe(want));

  it.each([
    ["10", "+¥10.0000"],
    ["-0.0011", "−¥0.0011"],
    ["-0.00001", "−<¥0.0001"],
    ["0", "¥0.0000"],
  ])("movement %s is %s, its sign first", (amount, want) => expect(movement(amount, "CNY")).toBe(want));

  it.each([
    ["2", "¥2"],
    ["0.50", "¥0.5"],
    ["0.000001", "¥0.000001"],
    ["1000", "¥1,000"],
  ])("price %s is %s", (amount, want) => expect(price(amount, "CNY")).toBe(want));

  it("writes all nine decimals where asked", () => expect(exact("-1234.5", "CNY")).toBe("−¥1,234.500000000"));
  it("writes other currencies", () => expect([balance("1", "USD"), balance("1", "CHF")]).toEqual(["$1.0000", "CHF 1.0000"]));
  it("is exact where floats are not", () => expect(nano("0.1") + nano("0.2")).toBe(nano("0.3")));
  it.each(["", "1.", ".5", "1e5", "1.0000000001", "a", "--1"])("refuses %j", (text) => expect(() => nano(text)).toThrow());
});
