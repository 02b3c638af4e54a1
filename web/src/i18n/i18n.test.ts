import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, expectTypeOf, it } from "vitest";
import { type Args, exactly, lang, loadLanguage, month, t, when } from ".";
import en from "./en";
import zh from "./zh-CN";

const names = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map((m) => m[1]).toSorted();

describe("locales", () => {
  it("have the same keys", () => expect(Object.keys(en).toSorted()).toEqual(Object.keys(zh).toSorted()));

  it("take the same values in each message", () => {
    for (const [key, text] of Object.entries(zh)) expect([key, names(en[key as keyof typeof zh])]).toEqual([key, names(text)]);
  });

  it("have no empty message and no exclamation mark", () => {
    for (const text of [...Object.values(zh), ...Object.values(en)]) {
      expect(text.trim()).not.toBe("");
      expect(text).not.toMatch(/[!！]/);
    }
  });

  it("hold nothing that no page uses", () => {
    const root = join(import.meta.dirname, "..");
    const source = readdirSync(root, { recursive: true, encoding: "utf8" })
      .filter((f) => /\.tsx?$/.test(f) && !f.includes("i18n/") && !f.endsWith(".test.tsx"))
      .map((f) => readFileSync(join(root, f), "utf8"))
      .join("\n");
    const made = /^(error|state|kind|role|theme)\./; // put together at run time
    const unused = Object.keys(zh).filter((k) => !made.test(k) && !source.includes(`"${k}"`));
    expect(unused).toEqual([]);
  });
});

describe("t", () => {
  it("fills names in and keeps braces that are none", async () => {
    await loadLanguage("zh-CN");
    expect(t("chat.placeholder", { model: "a{b}" })).toBe("写给 a{b}");
    await loadLanguage("en");
    expect(t("chat.placeholder", { model: "m" })).toBe("Write to m");
    expect(lang()).toBe("en");
    expect(document.documentElement.lang).toBe("en");
  });

  it("knows at compile time which names a message takes", () => {
    expectTypeOf<Args<"copy">>().toEqualTypeOf<[]>();
    expectTypeOf<Args<"chat.price">>().toEqualTypeOf<[values: Record<"in" | "out", string | number>]>();
  });
});

describe("times", () => {
  const now = new Date(2026, 5, 15, 12, 0);
  it("are short for today and longer before", () => {
    expect(when(new Date(2026, 5, 15, 8, 5).toISOString(), now)).toBe("08:05");
    expect(when(new Date(2026, 4, 1, 8, 5).toISOString(), now)).toBe("May 1 08:05");
    expect(when(new Date(2025, 4, 1, 8, 5).toISOString(), now)).toBe("May 1, 2025 08:05");
  });
  it("can be exact", () => {
    expect(exactly(new Date(2026, 5, 15, 8, 5, 9).toISOString())).toMatch(/Jun 15, 2026.*8:05:09/);
    expect(month(now)).toBe("June 2026");
  });
});
